//! Where a mesh file is: one at a time may change it, and what is written takes its place at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Between two tries to get the lock.
const AGAIN: Duration = Duration::from_millis(20);

/// The place of a file that nobody else changes, until it is dropped.
pub(super) struct Place {
    path: PathBuf,
    /// Of the folder: the file itself is another after each change, and a file for the lock alone would stay for ever.
    _lock: Flock<File>,
}

impl Place {
    /// Takes the place of a file; `None` where somebody else has it for longer than `wait`.
    ///
    /// # Errors
    /// When its folder cannot be opened or locked.
    pub(super) fn claim(path: &Path, wait: Duration) -> io::Result<Option<Self>> {
        let until = Instant::now() + wait;
        let mut folder = File::open(folder_of(path))?;
        loop {
            folder = match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Some(Self { path: path.to_owned(), _lock: lock })),
                Err((folder, Errno::EWOULDBLOCK)) => folder,
                Err((_, error)) => return Err(error.into()),
            };
            if Instant::now() >= until {
                return Ok(None);
            }
            thread::sleep(AGAIN);
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a new file beside it, with its owner and mode, and renames that: whoever reads sees the one or the other, and so does the
    /// next start after a power cut.
    ///
    /// # Errors
    /// When the system refuses; the file is as it was then.
    pub(super) fn replace(&self, text: &str) -> io::Result<()> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let fresh = self.path.with_file_name(name);
        // What a killed predecessor left: nobody else can be writing it. It is made anew, never opened, for it may be a link.
        let _absent = fs::remove_file(&fresh);
        let written = self.write(&fresh, text).and_then(|()| fs::rename(&fresh, &self.path));
        if written.is_err() {
            let _gone = fs::remove_file(&fresh);
        }
        written.and_then(|()| File::open(folder_of(&self.path))?.sync_all())
    }

    fn write(&self, fresh: &Path, text: &str) -> io::Result<()> {
        let before = fs::symlink_metadata(&self.path)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
        file.write_all(text.as_bytes())?;
        keep_owner(&file, &before)?;
        file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o777))?;
        file.sync_all()
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Gives the new file the owner of the one before, as far as this user may: the packaged daemon may not call chown(2) at all, and
/// what it replaces is its own.
fn keep_owner(file: &File, before: &fs::Metadata) -> io::Result<()> {
    let facts = file.metadata()?;
    if (facts.uid(), facts.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    match fchown(file, Some(before.uid()), Some(before.gid())) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}
