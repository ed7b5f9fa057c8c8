//! Key files: one key in base64, in a regular file that nobody but its owner may touch.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use proto::id::{PresharedKey, SecretKey};
use zeroize::Zeroizing;

use crate::file::cause;
use crate::owner::give_to_owner;
use crate::plain;

/// Longest key file in bytes: a key has 44 characters, and blanks around it do no harm.
const LONGEST: u64 = 512;

/// Why a key file cannot be used or made. Never shows what is in the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no such private key file.
    #[error("there is no key file {}", .0.display())]
    NoSecret(PathBuf),
    /// There is no such pre-shared key file.
    #[error("there is no key file {}", .0.display())]
    NoPsk(PathBuf),
    /// A key file to be made is there already.
    #[error("{} exists already; it is left as it is", .0.display())]
    Exists(PathBuf),
    /// The path names a symbolic link, which someone else may own.
    #[error("{} is a symbolic link", .0.display())]
    Symlink(PathBuf),
    /// The path names a folder, a device, a socket or a pipe.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The group or others have some access.
    #[error("{} is open to group or others (mode {mode:04o})", path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{} does not hold a key: 32 bytes in base64, 44 characters ending in =", .0.display())]
    Content(PathBuf),
    /// The system refused.
    #[error("cannot {action} {}: {}", path.display(), cause(source))]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The key file, or its folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl KeyFileError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoSecret(path) => Some(format!("make one: meshd key generate --out {}", path.display())),
            Self::NoPsk(path) => Some(format!("copy it from another node of the mesh to {}", path.display())),
            Self::Exists(_) => Some("remove it first if no node uses its key any more".to_owned()),
            Self::Symlink(_) => Some("name the file itself".to_owned()),
            Self::NotAFile(_) => Some("name a file that holds a key".to_owned()),
            Self::Exposed { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::Content(_) => Some("restore it, or make a new one with `meshd key generate`".to_owned()),
            Self::Io { action: "read", path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(format!("it must belong to the user that runs this: chown meshd {}", path.display()))
            }
            Self::Io { .. } => None,
        }
    }
}

/// Writes a new private key file with mode 0600, and makes its folder with mode 0700 where there is none. Both are on
/// disk when this returns. Made by root in another user's folder, the file is that user's.
///
/// # Errors
/// [`KeyFileError::Exists`] where there is something of this name; [`KeyFileError::Io`] where the system refuses. No
/// partial file is left behind.
pub fn generate_file(path: &Path, secret: &SecretKey) -> Result<(), KeyFileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder_error = |source| KeyFileError::Io { action: "make the folder", path: folder.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(folder_error)?;
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(KeyFileError::Exists(path.to_owned()));
        }
        Err(source) => return Err(KeyFileError::Io { action: "create", path: path.to_owned(), source }),
    };
    let mut text = secret.to_base64();
    text.push('\n');
    let given = give_to_owner(&file, folder);
    let written = given.and_then(|()| file.write_all(text.as_bytes())).and_then(|()| file.sync_all());
    // Without the folder's fsync, a power cut may take the name and leave the node without the key that its mesh knows.
    written.and_then(|()| File::open(folder)?.sync_all()).map_err(|source| {
        let _ignored = std::fs::remove_file(path);
        KeyFileError::Io { action: "write", path: path.to_owned(), source }
    })
}

/// Reads a private key file.
///
/// # Errors
/// Every [`KeyFileError`] but [`KeyFileError::Exists`].
pub fn read_secret(path: &Path) -> Result<SecretKey, KeyFileError> {
    let text = read(path, KeyFileError::NoSecret)?;
    text.parse().map_err(|_| KeyFileError::Content(path.to_owned()))
}

/// Reads a pre-shared key file.
///
/// # Errors
/// Every [`KeyFileError`] but [`KeyFileError::Exists`].
pub fn read_psk(path: &Path) -> Result<PresharedKey, KeyFileError> {
    let text = read(path, KeyFileError::NoPsk)?;
    text.parse().map_err(|_| KeyFileError::Content(path.to_owned()))
}

fn read(path: &Path, absent: fn(PathBuf) -> KeyFileError) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |source| KeyFileError::Io { action: "read", path: path.to_owned(), source };
    let file = plain::open(path).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            absent(path.to_owned())
        } else if source.raw_os_error() == Some(Errno::ELOOP as i32) && path.is_symlink() {
            KeyFileError::Symlink(path.to_owned())
        } else if source.kind() == io::ErrorKind::InvalidInput {
            KeyFileError::NotAFile(path.to_owned())
        } else {
            failed(source)
        }
    })?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    // Room for all of it at once: a buffer that grows leaves unwiped copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) if bytes.len() as u64 <= LONGEST => Ok(Zeroizing::new(text.to_owned())),
        Ok(_) | Err(_) => Err(KeyFileError::Content(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, Instant};

    const SECRET: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    fn secret() -> SecretKey {
        SecretKey::from_bytes([1; 32])
    }

    fn write(path: &Path, text: &[u8], mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refused(path: &Path) -> KeyFileError {
        read_secret(path).err().expect("refused")
    }

    #[test]
    fn a_generated_file_is_private_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/deep/private.key");
        generate_file(&path, &secret()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{SECRET}\n"));
        assert_eq!(read_secret(&path).unwrap().as_bytes(), secret().as_bytes());
        assert_eq!(read_psk(&path).unwrap().as_bytes(), secret().as_bytes());
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("private.key");
        write(&path, b"mine", 0o644);
        let error = generate_file(&path, &secret()).unwrap_err();
        assert!(matches!(error, KeyFileError::Exists(_)), "{error}");
        let dangling = dir.path().join("link");
        symlink(dir.path().join("nowhere"), &dangling).unwrap();
        assert!(matches!(generate_file(&dangling, &secret()), Err(KeyFileError::Exists(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_file_that_others_may_touch_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("private.key");
        for mode in [0o640, 0o604, 0o620, 0o601, 0o610] {
            write(&path, SECRET.as_bytes(), mode);
            let error = refused(&path);
            assert!(matches!(&error, KeyFileError::Exposed { mode: m, .. } if *m == mode), "{error}");
            assert_eq!(error.help(), Some(format!("chmod 600 {}", path.display())));
        }
        for mode in [0o600, 0o400] {
            write(&path, SECRET.as_bytes(), mode);
            assert!(read_secret(&path).is_ok());
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn only_regular_files_are_opened_and_a_pipe_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link, pipe) = (dir.path().join("real"), dir.path().join("link"), dir.path().join("pipe"));
        write(&real, SECRET.as_bytes(), 0o600);
        symlink(&real, &link).unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(matches!(refused(&link), KeyFileError::Symlink(_)));
        let started = Instant::now();
        assert!(matches!(refused(&pipe), KeyFileError::NotAFile(_)));
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(matches!(refused(dir.path()), KeyFileError::NotAFile(_)));
    }

    #[test]
    fn a_missing_file_says_how_to_make_it() {
        let path = Path::new("/nonexistent/private.key");
        let help = refused(path).help().unwrap();
        assert!(help.contains("meshd key generate --out /nonexistent/private.key"), "{help}");
        assert!(matches!(read_psk(path), Err(KeyFileError::NoPsk(_))));
    }

    #[test]
    fn what_is_in_a_bad_file_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("private.key");
        let long = SECRET.repeat(20);
        for content in ["hunter2", "", "AQEBAQ==", &long] {
            write(&path, content.as_bytes(), 0o600);
            let error = refused(&path);
            assert!(matches!(error, KeyFileError::Content(_)), "{error}");
            let shown = format!("{error} {error:?} {:?}", error.help());
            assert!(content.is_empty() || !shown.contains(content), "{shown}");
        }
        write(&path, &[0xff; 44], 0o600);
        assert!(matches!(refused(&path), KeyFileError::Content(_)));
        write(&path, format!("  {SECRET}\n\n").as_bytes(), 0o600);
        assert!(read_secret(&path).is_ok());
    }
}
