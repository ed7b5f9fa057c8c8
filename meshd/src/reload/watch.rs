//! Watching the files of a configuration, by the folders that they are in: editors put a new file in the place of the old one.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InotifyEvent};
use tokio::time::Instant;

use crate::sys::notices::Notices;

/// Quiet after the last change before it counts: who writes several files, or one in several steps, is done by then.
const QUIET: Duration = Duration::from_millis(500);

/// The link in a mounted folder of Kubernetes that is set anew when what the folder holds changes.
const MOUNTED: &str = "..data";

/// A watch on some files, present or not.
pub(super) struct FileWatch {
    files: Vec<PathBuf>,
    names: BTreeSet<OsString>,
    notices: Notices,
    /// When a change counts that was seen.
    due: Option<Instant>,
}

impl FileWatch {
    /// Watches from now on.
    ///
    /// # Errors
    /// Those of `inotify_init1(2)` and `inotify_add_watch(2)`: too many watches on this machine, or a folder that may not be read.
    pub(super) fn on(files: &[PathBuf]) -> io::Result<Self> {
        let notices = Notices::new()?;
        let (mut folders, mut names) = (BTreeSet::new(), BTreeSet::from([OsString::from(MOUNTED)]));
        for file in files.iter().flat_map(|file| places(file)) {
            names.extend(file.file_name().map(ToOwned::to_owned));
            folders.extend(file.parent().map(ToOwned::to_owned));
        }
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB;
        for folder in &folders {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            notices.add(folder, changes)?;
        }
        Ok(Self { files: files.to_vec(), names, notices, due: None })
    }

    /// Whether it watches others than these.
    pub(super) fn is_outdated(&self, files: &[PathBuf]) -> bool {
        self.files != files
    }

    /// Waits until the last change is a while ago. Safe to cancel.
    pub(super) async fn changed(&mut self) {
        loop {
            let due = self.due;
            tokio::select! {
                () = until(due) => {
                    self.due = None;
                    return;
                }
                events = self.notices.next() => match events {
                    Ok(events) if events.iter().any(|event| concerns(&self.names, event)) => {
                        self.due = Some(Instant::now() + QUIET);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(%error, "changes of the configuration's files are not seen any more");
                        return std::future::pending().await;
                    }
                }
            }
        }
    }
}

/// A change of one of the names; where notices were lost, any may have changed.
fn concerns(names: &BTreeSet<OsString>, event: &InotifyEvent) -> bool {
    let is_overflow = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
    is_overflow || event.name.as_ref().is_some_and(|name| names.contains(name))
}

/// The file as it is named, and where the links on its way lead.
fn places(file: &Path) -> Vec<PathBuf> {
    let real = file.canonicalize().ok().filter(|real| real != file);
    [file.to_owned()].into_iter().chain(real).collect()
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_written_renamed_over_or_removed_is_a_change_once_it_is_quiet_and_others_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mesh.toml");
        std::fs::write(&file, "a").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut watch = FileWatch::on(std::slice::from_ref(&file)).unwrap();
            let patience = Duration::from_secs(20);
            std::fs::write(&file, "b").unwrap();
            std::fs::write(&file, "c").unwrap();
            tokio::time::timeout(patience, watch.changed()).await.unwrap();
            std::fs::write(folder.path().join("4913"), "x").unwrap();
            assert!(
                tokio::time::timeout(QUIET * 2, watch.changed()).await.is_err(),
                "another file, or the same change"
            );
            std::fs::write(folder.path().join("new"), "d").unwrap();
            std::fs::rename(folder.path().join("new"), &file).unwrap();
            tokio::time::timeout(patience, watch.changed()).await.unwrap();
            std::fs::remove_file(&file).unwrap();
            tokio::time::timeout(patience, watch.changed()).await.unwrap();
        });
    }
}
