//! Whether anything can be drawn here. Asked before the toolkit is: it would end the process without a sentence.

/// What to say where nothing can be drawn.
pub const MISSING: &str = "There is no display here, so neither a tray icon nor a window can be shown. \
    `chart-relay run` does the same work without them.";

/// Windows and macOS: whoever can start a program has one.
#[cfg(not(target_os = "linux"))]
pub fn is_there() -> bool {
    true
}

/// Somebody answers where the session says that its display is.
#[cfg(target_os = "linux")]
pub fn is_there() -> bool {
    let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let wayland = var("WAYLAND_DISPLAY").is_some_and(|name| {
        let folder = var("XDG_RUNTIME_DIR").unwrap_or_default();
        std::os::unix::net::UnixStream::connect(std::path::Path::new(&folder).join(name)).is_ok()
    });
    wayland || var("DISPLAY").is_some_and(|name| x_answers(&name))
}

/// `:7`, `:7.0`, `unix:7`, and `host:10.0` as a shell from afar sets it.
#[cfg(target_os = "linux")]
fn x_answers(display: &str) -> bool {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixStream},
    };

    let Some((host, number)) = display.rsplit_once(':') else { return false };
    let Ok(number) = number.split('.').next().unwrap_or_default().parse::<u16>() else { return false };
    if host.is_empty() || host == "unix" {
        let path = format!("/tmp/.X11-unix/X{number}");
        return UnixStream::connect(&path).is_ok()
            || SocketAddr::from_abstract_name(&path).and_then(|address| UnixStream::connect_addr(&address)).is_ok();
    }
    number.checked_add(6000).is_some_and(|port| std::net::TcpStream::connect((host, port)).is_ok())
}

/// Whether a tray icon can be shown. The library for it is loaded by name when the icon is made, and its absence would end the process.
/// That nobody on the session bus shows icons is not seen here: then the icon simply stays unseen.
#[cfg(target_os = "linux")]
pub fn tray_is_there() -> bool {
    const NAMES: [&str; 2] = ["libayatana-appindicator3.so.1", "libappindicator3.so.1"];
    // The loader's own list, in which names stand as they are.
    let cache = std::fs::read("/etc/ld.so.cache").unwrap_or_default();
    let folders = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders: Vec<_> =
        std::env::split_paths(&folders).chain(["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(Into::into)).collect();
    NAMES.iter().any(|name| {
        cache.windows(name.len()).any(|part| part == name.as_bytes())
            || folders.iter().any(|folder| folder.join(name).exists())
    })
}

#[cfg(not(target_os = "linux"))]
pub fn tray_is_there() -> bool {
    true
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_display_is_believed_only_if_somebody_answers() {
        for nobody in ["", "7", ":", ":x", ":60999", ":70000", "unix:60999.0", "localhost:59998.0"] {
            assert!(!x_answers(nobody), "{nobody}");
        }
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(x_answers(&format!("127.0.0.1:{}.0", port - 6000)));
    }
}
