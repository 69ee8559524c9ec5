//! The window's pages, which are part of the program: they are built before it.

use crate::run::{npm, npm_ci, root, works};
use std::{fs, io, path::Path, time::SystemTime};

/// Builds the pages if they are older than what they are made of.
pub(crate) fn build() -> bool {
    let folder = root().join("ui");
    if let Some(mut install) = npm_ci(&folder)
        && !works(&mut install)
    {
        return false;
    }
    let made_of = ["src", "index.html", "package-lock.json", "svelte.config.js", "tsconfig.json", "vite.config.ts"];
    let newest = made_of.iter().filter_map(|path| newest(&folder.join(path)).ok()).max();
    let built = folder.join("dist/index.html").metadata().and_then(|found| found.modified()).ok();
    if built.is_some() && built >= newest {
        return true;
    }
    println!("Building the window's pages ...");
    works(npm(&folder).args(["run", "--silent", "build"]))
}

/// When the newest file in there was written.
fn newest(path: &Path) -> io::Result<SystemTime> {
    let found = path.metadata()?;
    let mut time = found.modified()?;
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            time = time.max(newest(&entry?.path())?);
        }
    }
    Ok(time)
}
