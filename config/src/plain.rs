//! Plain files in folders of which root need not be the owner: what stands there under a name must not lead root elsewhere, nor hold
//! it up.
//!
//! The daemon has a user of its own, and commands that root runs (`sudo meshd up`, `doctor`) read and write in that user's folder.
//! Whoever has taken the daemon over may put links and pipes there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::owner::give_to_owner;

/// Opens a regular file to be read. Neither follows a link in its place nor waits for who would write into a pipe.
///
/// # Errors
/// `ELOOP` where there is a link, [`io::ErrorKind::InvalidInput`] where there is something else that is no regular file, and
/// whatever the system answers.
pub fn open(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().read(true), path)
}

/// Reads a file, opened as by [`open`], of at most so many bytes.
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::FileTooLarge`] where there are more.
pub fn read(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    up_to(longest, open(path)?)
}

/// Reads what an operator named, of at most so many bytes: links are followed, and the operator's own pipes are waited for.
///
/// # Errors
/// As [`read`]; [`io::ErrorKind::InvalidInput`] where it is a pipe of another user.
pub fn read_named(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let facts = file.metadata()?;
    if facts.is_file() || facts.is_dir() {
        return up_to(longest, file);
    }
    if facts.file_type().is_fifo() && facts.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe of another user"));
    }
    // The same one again, now to be waited for.
    up_to(longest, File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?)
}

fn up_to(longest: u64, file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(longest.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {longest} bytes")));
    }
    Ok(bytes)
}

/// Makes an empty file with mode 0600 in place of whatever has its name, to be written. It belongs to the owner of its folder.
///
/// # Errors
/// What the system answers, as where a folder has the name.
pub fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => create_new(path),
    }
}

/// Opens a file that stays, such as one to be locked, to be read and written, and makes it as [`create_anew`] does where there is
/// none. One that was there keeps its owner, and must have no other name.
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::InvalidInput`] where it has another name.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    match create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = regular(OpenOptions::new().read(true).write(true), path)?;
            if file.metadata()?.nlink() > 1 {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has another name too"));
            }
            Ok(file)
        }
        created => created,
    }
}

/// Never follows a link: what has the name already is an error.
fn create_new(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    give_to_owner(&file, folder)?;
    Ok(file)
}

fn regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
    // O_NONBLOCK: opening a pipe must not wait for its other end.
    let opened = options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(path);
    let is_socket = |error: &io::Error| error.raw_os_error() == Some(Errno::ENXIO as i32);
    let file = opened.map_err(|error| if is_socket(&error) { no_file() } else { error })?;
    // Of the open file, not of the path: nobody can exchange it in between.
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::{chown, symlink};
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    #[test]
    fn only_a_regular_file_is_read_and_nothing_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "text").unwrap();
        symlink(path("file"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        let started = Instant::now();
        assert_eq!(read(&path("file"), 4).unwrap(), b"text");
        assert_eq!(read(&path("file"), 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(&path("link"), 4).unwrap_err().raw_os_error(), Some(Errno::ELOOP as i32));
        for name in ["pipe", "socket", "."] {
            assert_eq!(open(&path(name)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        assert_eq!(open_or_create(&path("pipe")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn what_an_operator_names_may_be_a_link_or_a_pipe_but_not_another_users() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "text").unwrap();
        symlink(path("file"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert_eq!(read_named(&path("link"), 4).unwrap(), b"text");
        let pipe = path("pipe");
        let writer = std::thread::spawn(move || fs::write(pipe, "late"));
        assert_eq!(read_named(&path("pipe"), 4).unwrap(), b"late");
        writer.join().unwrap().unwrap();
        // Who has no second user cannot make a pipe of one.
        if chown(path("pipe"), Some(6374), Some(6374)).is_ok() {
            assert_eq!(read_named(&path("pipe"), 4).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn what_is_made_or_kept_is_nobody_elses_file_under_another_name() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, victim) = (folder.path().join("file"), elsewhere.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        let links: [fn(&Path, &Path) -> io::Result<()>; 2] =
            [|from, to| symlink(from, to), |from, to| fs::hard_link(from, to)];
        for link in links {
            link(&victim, &path).unwrap();
            assert!(open_or_create(&path).is_err());
            create_anew(&path).unwrap().write_all(b"new").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "new");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
            fs::remove_file(&path).unwrap();
        }
        symlink(elsewhere.path().join("absent"), &path).unwrap();
        assert!(open_or_create(&path).is_err());
        assert!(!elsewhere.path().join("absent").exists());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }
}
