//! Where the binary under test is.

use std::env;
use std::path::PathBuf;

/// The binary under test: `MESHD_BIN`, or `release/meshd` in the target directory that this program was built in.
///
/// # Panics
/// When there is none, with how to build it.
#[must_use]
pub fn meshd() -> PathBuf {
    find().unwrap_or_else(|reason| panic!("{reason}"))
}

/// [`meshd`] for those who can say in their own way that it is missing.
///
/// # Errors
/// A text for the user: where it was looked for, and how to build it.
pub fn find() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os("MESHD_BIN").map(PathBuf::from) {
        let is_file = path.is_file();
        return if is_file {
            Ok(path)
        } else {
            Err(format!("MESHD_BIN names {}, which is no file; build it with `make build`", path.display()))
        };
    }
    let exe = env::current_exe().map_err(|error| format!("this program does not find itself: {error}"))?;
    let found = exe.ancestors().skip(1).map(|folder| folder.join("release/meshd")).find(|path| path.is_file());
    found.ok_or_else(|| {
        "there is no target/release/meshd to run; build it with `make build` (cargo build --release -p meshd), or name \
         one in MESHD_BIN"
            .to_owned()
    })
}
