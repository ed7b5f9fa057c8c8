//! The file that packets are written into, which nobody but its owner reads.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;

/// Opens a file for packets, with mode 0600 and nothing in it. Devices, and pipes of the same user, are taken as they are.
///
/// # Errors
/// What the system answers; [`io::ErrorKind::InvalidInput`] where another user chose what stands there: by a link, which is not followed, by a
/// file or pipe of that user, or by a second name of a file.
pub(super) fn create(path: &Path) -> io::Result<File> {
    // Emptied only when it is known to be the right one.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    let file = options.open(path).map_err(|error| {
        if error.raw_os_error() == Some(Errno::ELOOP as i32) { refused("it is a symbolic link") } else { error }
    })?;
    let facts = file.metadata()?;
    if facts.file_type().is_char_device() {
        return Ok(file);
    }
    if facts.uid() != geteuid().as_raw() {
        return Err(refused("it belongs to another user"));
    }
    if facts.is_file() {
        if facts.nlink() > 1 {
            return Err(refused("it has another name too"));
        }
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.set_len(0)?;
    }
    Ok(file)
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn packets_go_into_a_file_that_only_its_owner_reads_and_not_where_a_link_leads() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mode = |name: &str| fs::metadata(path(name)).unwrap().mode() & 0o7777;
        create(&path("new")).unwrap().write_all(b"packets").unwrap();
        assert_eq!(mode("new"), 0o600);
        fs::write(path("old"), "a long capture of before").unwrap();
        fs::set_permissions(path("old"), Permissions::from_mode(0o644)).unwrap();
        create(&path("old")).unwrap().write_all(b"packets").unwrap();
        assert_eq!((mode("old"), fs::read_to_string(path("old")).unwrap().as_str()), (0o600, "packets"));
        symlink(path("old"), path("link")).unwrap();
        symlink(path("absent"), path("dangling")).unwrap();
        fs::hard_link(path("old"), path("second")).unwrap();
        for name in ["link", "dangling", "second"] {
            assert_eq!(create(&path(name)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        assert_eq!(fs::read_to_string(path("old")).unwrap(), "packets");
        assert!(create(Path::new("/dev/null")).is_ok());
        // Who has no second user finds no file of one.
        if chown(path("new"), Some(6374), Some(6374)).is_ok() {
            assert_eq!(create(&path("new")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
