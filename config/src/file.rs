//! Reads a configuration file into a text.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;

use crate::error::Problem;
use crate::owner::is_anothers;
use crate::plain;
use crate::source::{Place, Source};

/// Largest file in bytes: a mesh of 10,000 endpoints has about 4 MiB; beyond this it is the wrong file.
const LARGEST: u64 = 64 << 20;

/// Reads a file whole. In a folder of another user root follows no link, by which that user would choose what is read.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !is_anothers(path.parent().unwrap_or(Path::new("/"))) {
        return plain::read_named(path, LARGEST);
    }
    plain::read(path, LARGEST).map_err(|error| {
        let is_link = error.raw_os_error() == Some(Errno::ELOOP as i32);
        if is_link { io::Error::other("it is a link in another user's folder") } else { error }
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    #[test]
    fn what_is_no_file_is_told_in_words() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cause(&read(dir.path()).unwrap_err()), "it is a folder");
        assert_eq!(cause(&read(&dir.path().join("none")).unwrap_err()), "no such file");
    }

    #[test]
    fn a_link_is_followed_but_not_by_root_in_a_folder_of_another_user() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::write(&real, "text").unwrap();
        symlink(&real, &link).unwrap();
        assert_eq!(read(&link).unwrap(), b"text");
        // Who has no second user has no folder of another.
        if nix::unistd::geteuid().is_root() && chown(dir.path(), Some(6374), Some(6374)).is_ok() {
            assert_eq!(cause(&read(&link).unwrap_err()), "it is a link in another user's folder");
            assert_eq!(read(&real).unwrap(), b"text");
        }
    }
}
