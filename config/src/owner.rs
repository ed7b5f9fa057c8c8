//! Whose the files are that root makes in another user's folder.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;

/// Gives a file that root has just made in `folder` to the folder's owner and group: the daemon has a user of its own, and what
/// `sudo meshd …` leaves in its folder must not be closed to it. Does nothing for other users, where the folder is root's, and where
/// this namespace or file system knows no other owner.
///
/// # Errors
/// When the folder cannot be looked at, or the system refuses for another reason.
pub fn give_to_owner(file: &File, folder: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(folder)?;
    if owner.uid() == 0 {
        return Ok(());
    }
    let unknown =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied);
    fchown(file, Some(owner.uid()), Some(owner.gid()))
        .or_else(|error| if unknown(&error) { Ok(()) } else { Err(error) })
}

/// Whether this is root and `folder` another user's, who may put there what he likes.
#[must_use]
pub fn is_anothers(folder: &Path) -> bool {
    nix::unistd::geteuid().is_root() && fs::metadata(folder).is_ok_and(|facts| facts.uid() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;

    #[test]
    fn what_root_makes_in_a_users_folder_is_the_users() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        let before = fs::metadata(&path).unwrap();
        give_to_owner(&file, folder.path()).unwrap();
        let owner = |path: &Path| fs::metadata(path).map(|facts| (facts.uid(), facts.gid())).unwrap();
        assert_eq!(owner(&path), (before.uid(), before.gid()), "the folder is the user's own");
        // Who has no second user has nothing to give away to.
        if chown(folder.path(), Some(6374), Some(6374)).is_ok() {
            give_to_owner(&file, folder.path()).unwrap();
            assert_eq!(owner(&path), (6374, 6374));
        }
    }
}
