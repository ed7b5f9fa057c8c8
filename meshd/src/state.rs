//! What must outlast the process: the greatest handshake timestamp it may have used.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use config::plain;

/// How far ahead the file is written: it is touched once per this span of handshakes, not once per handshake.
const MARGIN_NANOS: u64 = 10_000_000_000;

/// More than the digits of a number, in bytes.
const MAX_LENGTH: u64 = 64;

/// The file behind [`proto::node::WallClock::floor`].
///
/// Peers refuse a timestamp that is not greater than the last. A node without a battery-backed clock may come up in the
/// past; with the floor it still is let in.
pub(crate) struct TimestampFile {
    path: PathBuf,
    reserved: u64,
}

impl TimestampFile {
    /// Reads the file; one that is missing or unreadable means zero, which is right wherever the clock is.
    pub(crate) fn open(folder: &Path) -> Self {
        let path = folder.join("timestamp");
        let text = plain::read(&path, MAX_LENGTH).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let reserved = text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Self { path, reserved }
    }

    /// No timestamp up to this may be used.
    pub(crate) const fn floor(&self) -> u64 {
        self.reserved
    }

    /// Makes sure that the file covers `used`; returns whether it had to be written.
    pub(crate) fn cover(&mut self, used: u64) -> io::Result<bool> {
        if used <= self.reserved {
            return Ok(false);
        }
        let reserved = used.saturating_add(MARGIN_NANOS);
        let temporary = self.path.with_extension("new");
        plain::create_anew(&temporary)?.write_all(format!("{reserved}\n").as_bytes())?;
        std::fs::rename(&temporary, &self.path)?;
        self.reserved = reserved;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_starts_above_everything_that_was_used() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = TimestampFile::open(folder.path());
        assert_eq!(file.floor(), 0);
        file.cover(5).unwrap();
        file.cover(1_000).unwrap();
        assert!(TimestampFile::open(folder.path()).floor() >= 1_000);
        std::fs::write(folder.path().join("timestamp"), "damaged").unwrap();
        assert_eq!(TimestampFile::open(folder.path()).floor(), 0);
    }

    #[test]
    fn a_link_in_its_place_is_neither_written_nor_read_through() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let victim = elsewhere.path().join("victim");
        std::fs::write(&victim, "77").unwrap();
        let link = |name: &str| std::os::unix::fs::symlink(&victim, folder.path().join(name)).unwrap();
        link("timestamp");
        link("timestamp.new");
        let mut file = TimestampFile::open(folder.path());
        assert_eq!(file.floor(), 0);
        file.cover(5).unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "77");
        assert!(TimestampFile::open(folder.path()).floor() >= 5);
    }
}
