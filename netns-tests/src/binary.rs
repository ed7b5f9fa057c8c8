//! Where the binary under test is.

use std::env;
use std::path::{Path, PathBuf};

/// The binary under test: `MESHD_BIN`, or `release/meshd` in the target directory that this program was built in.
///
/// # Panics
/// When there is none, with how to build it.
#[must_use]
pub fn meshd() -> PathBuf {
    if let Some(path) = env::var_os("MESHD_BIN") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "MESHD_BIN names {}, which is no file; build it with `make build`", path.display());
        return path;
    }
    let exe = env::current_exe().expect("a program knows its path");
    let found = exe.ancestors().skip(1).map(|folder| folder.join("release/meshd")).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        let target = exe.ancestors().find(|folder| folder.ends_with("target")).unwrap_or(Path::new("target"));
        panic!(
            "there is no {}/release/meshd to test; build it with `make build` (cargo build --release -p meshd), or name \
             one in MESHD_BIN",
            target.display()
        )
    })
}
