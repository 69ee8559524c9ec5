//! With the feature `desktop`: what tauri needs to know at build time (its configuration, our permissions, icons on Windows).

fn main() {
    #[cfg(feature = "desktop")]
    desktop();
}

#[cfg(feature = "desktop")]
#[allow(clippy::panic, reason = "a build script says what is wrong by failing")]
fn desktop() {
    use tauri_build::{AppManifest, Attributes, try_build};

    for folder in ["src-tauri/capabilities", "src-tauri/permissions", "ui/dist"] {
        println!("cargo:rerun-if-changed={folder}");
    }
    assert!(
        std::path::Path::new("ui/dist/index.html").is_file(),
        "the window's pages are not built: `cargo xtask demo` builds them, or `npm ci && npm run build` in ui/"
    );
    let attributes = Attributes::new()
        .capabilities_path_pattern("./src-tauri/capabilities/**/*")
        .app_manifest(AppManifest::new().permissions_path_pattern("./src-tauri/permissions/**/*"));
    if let Err(error) = try_build(attributes) {
        panic!("tauri.conf.json, a capability or a permission is not as tauri expects: {error:#}");
    }
}
