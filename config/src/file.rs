//! Reads a configuration file into a text.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::error::Problem;
use crate::plain;
use crate::source::{Place, Source};

/// Largest file in bytes: a mesh of 10,000 endpoints has about 4 MiB; beyond this it is the wrong file.
const LARGEST: u64 = 64 << 20;

/// Reads a file whole.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    plain::read_named(path, LARGEST)
}

/// Whether every user of the machine may read a file.
pub(crate) fn is_open_to_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o004 != 0)
}

/// Takes the bytes of a file as text, or says where they are none.
pub(crate) fn text(path: &Path, bytes: Vec<u8>) -> Result<String, Problem> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default()).into_owned();
        let Place { line, column } = Source::new(path, &before).place(valid);
        let help = Some("save it as UTF-8".to_owned());
        let message = "not UTF-8 text".to_owned();
        Problem { file: path.to_owned(), line, column, key: String::new(), message, help }
    })
}

/// What the system answered, in plain words.
pub(crate) fn cause(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        "no such file".to_owned()
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "permission denied".to_owned()
    } else if error.kind() == io::ErrorKind::IsADirectory {
        "it is a folder".to_owned()
    } else {
        error.to_string()
    }
}
