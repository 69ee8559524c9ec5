//! The packages for Linux, made of the program that the other tests run, installed into a root of their own, and looked at. They need
//! `npm ci` in ui/.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_chart-relay");
/// What both install, and nothing else.
const FILES: [&str; 6] = [
    "usr/bin/chart-relay",
    "usr/share/applications/Chart Relay.desktop",
    "usr/share/icons/hicolor/32x32/apps/chart-relay.png",
    "usr/share/icons/hicolor/128x128/apps/chart-relay.png",
    "usr/share/icons/hicolor/256x256@2/apps/chart-relay.png",
    "usr/share/icons/hicolor/512x512/apps/chart-relay.png",
];
const DEB_LICENCE: &str = "usr/share/doc/chart-relay/copyright";
const RPM_LICENCE: &str = "usr/share/licenses/chart-relay/LICENSE";

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Makes one kind of package, without what the debugger needs, as a release is.
fn bundle(kind: &str, folder: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = folder.join("debug");
    fs::create_dir_all(&built).unwrap();
    // A copy: the bundler writes into the program what it was bundled as.
    run(Command::new("strip").arg("-o").arg(built.join("chart-relay")).arg(PROGRAM));
    let tauri = root.join("ui/node_modules/@tauri-apps/cli/tauri.js");
    assert!(tauri.is_file(), "`npm ci` in ui/ brings the bundler");
    let mut bundler = Command::new("node");
    bundler.arg(tauri).args(["bundle", "--ci", "--debug", "--bundles", kind]);
    run(bundler.current_dir(root).env("CARGO_TARGET_DIR", folder));
    let made: Vec<PathBuf> = fs::read_dir(built.join("bundle").join(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some(OsStr::new(kind)))
        .collect();
    let [package] = made.try_into().unwrap();
    package
}

fn as_root() -> bool {
    run(Command::new("id").arg("-u")).trim() == "0"
}

/// Every file below `root`, named from there.
fn files(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// What was installed is all that was to be installed, starts, and can be found in the menu of a desktop.
fn check(root: &Path, licence: &str) {
    let installed: BTreeSet<String> = files(root).into_iter().filter(|file| file.starts_with("usr/")).collect();
    let expected: BTreeSet<String> = FILES.into_iter().chain([licence]).map(str::to_owned).collect();
    assert_eq!(installed, expected);

    let program = root.join("usr/bin/chart-relay");
    let mut version = Command::new(&program);
    assert_eq!(run(version.arg("--version")).trim(), format!("chart-relay {}", env!("CARGO_PKG_VERSION")));
    // It has the tray and the window in it.
    let window = Command::new(&program).args(["window", "--help"]).output().unwrap();
    assert!(window.status.success(), "{}", String::from_utf8_lossy(&window.stderr));

    let entry = fs::read_to_string(root.join(FILES[1])).unwrap();
    for line in ["Name=Chart Relay", "Exec=chart-relay", "Icon=chart-relay", "Terminal=false", "Type=Application"] {
        assert!(entry.lines().any(|there| there == line), "{line} is missing in\n{entry}");
    }
    for icon in &FILES[2..] {
        assert_eq!(fs::read(root.join(icon)).unwrap()[..4], *b"\x89PNG", "{icon}");
    }
    let kept = fs::read_to_string(root.join(licence)).unwrap();
    assert_eq!(kept, fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("LICENSE")).unwrap());
}

#[test]
fn the_deb_installs_what_it_should_and_asks_for_what_it_needs() {
    let work = tempfile::tempdir().unwrap();
    let package = bundle("deb", work.path());
    let field = |name: &str| run(Command::new("dpkg-deb").arg("-f").arg(&package).arg(name)).trim().to_owned();
    assert_eq!((field("Package"), field("Version")), ("chart-relay".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
    let depends = field("Depends");
    let depends: BTreeSet<&str> = depends.split(", ").collect();
    assert_eq!(depends, ["libayatana-appindicator3-1", "libgtk-3-0", "libwebkit2gtk-4.1-0"].into());

    let root = work.path().join("root");
    let dpkg = root.join("var/lib/dpkg");
    for folder in ["info", "updates", "triggers"] {
        fs::create_dir_all(dpkg.join(folder)).unwrap();
    }
    if as_root() {
        // A machine that has what is asked for, and nothing else.
        let status = |name: &str| {
            format!(
                "Package: {name}\nStatus: install ok installed\nVersion: 1\nArchitecture: {}\nMaintainer: none\n\
                 Description: stands in\n\n",
                field("Architecture")
            )
        };
        fs::write(dpkg.join("status"), depends.into_iter().map(status).collect::<String>()).unwrap();
        run(Command::new("dpkg").arg("--root").arg(&root).arg("-i").arg(&package));
        let there = run(Command::new("dpkg").arg("--root").arg(&root).args(["-s", "chart-relay"]));
        assert!(there.contains("Status: install ok installed"), "{there}");
    } else {
        println!("not as root: unpacked instead of installed");
        run(Command::new("dpkg").arg("-x").arg(&package).arg(&root));
    }
    check(&root, DEB_LICENCE);
}

#[test]
fn the_rpm_installs_what_it_should_and_asks_for_what_it_needs() {
    let work = tempfile::tempdir().unwrap();
    let package = bundle("rpm", work.path());
    let needs = run(Command::new("rpm").args(["-qpR"]).arg(&package));
    for library in ["libwebkit2gtk-4.1.so.0", "libgtk-3.so.0", "libayatana-appindicator3.so.1"] {
        assert!(needs.contains(library), "{library} is not asked for:\n{needs}");
    }

    let root = work.path().join("root");
    fs::create_dir_all(&root).unwrap();
    if as_root() {
        let rpm = || {
            let mut rpm = Command::new("rpm");
            rpm.arg("--root").arg(&root);
            rpm
        };
        run(rpm().arg("--initdb"));
        // There is no other package in there that could bring the libraries.
        run(rpm().args(["-i", "--nodeps"]).arg(&package));
        assert_eq!(
            run(rpm().args(["-q", "--qf", "%{NAME} %{VERSION} %{LICENSE}", "chart-relay"])),
            format!("chart-relay {} Apache-2.0", env!("CARGO_PKG_VERSION"))
        );
        run(rpm().args(["-V", "--nodeps", "chart-relay"]));
    } else {
        println!("not as root: unpacked instead of installed");
        let archive = Command::new("rpm2cpio").arg(&package).output().unwrap();
        let mut cpio = Command::new("cpio")
            .args(["-idm", "--quiet"])
            .current_dir(&root)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut cpio.stdin.take().unwrap(), &archive.stdout).unwrap();
        assert!(cpio.wait().unwrap().success());
    }
    check(&root, RPM_LICENCE);
}

/// Installers of Windows and macOS are made there; what they are made of is checked here.
#[test]
fn the_installers_of_windows_and_macos_are_configured() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tauri.conf.json")).unwrap();
    let bundle = &serde_json::from_str::<serde_json::Value>(&text).unwrap()["bundle"];
    let list = |name: &str| -> BTreeSet<String> {
        bundle[name].as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list("targets"), ["deb", "rpm", "msi", "nsis", "dmg"].map(str::to_owned).into());
    for icon in list("icon") {
        let found =
            fs::metadata(Path::new(env!("CARGO_MANIFEST_DIR")).join(&icon)).unwrap_or_else(|_| panic!("{icon}"));
        assert!(found.len() > 0, "{icon} is empty");
    }
    assert!(list("icon").contains("icons/icon.ico") && list("icon").contains("icons/icon.icns"));
}
