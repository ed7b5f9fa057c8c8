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

/// How long a change waits at most while others follow it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Links on the way to a file that are followed: as many as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A folder that is not what it was at this place any more.
const GONE: AddWatchFlags = AddWatchFlags::IN_DELETE_SELF
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_UNMOUNT)
    .union(AddWatchFlags::IN_IGNORED);

/// A watch on some files, present or not.
pub(super) struct FileWatch {
    spots: Spots,
    notices: Notices,
    sight: Sight,
    /// When a change counts that was seen.
    due: Option<Due>,
}

/// Where something could change that concerns the files: names, and the folders that they are in.
#[derive(Debug, Default, PartialEq, Eq)]
struct Spots {
    names: BTreeSet<OsString>,
    folders: BTreeSet<PathBuf>,
}

/// What of the changes is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// All.
    Whole,
    /// Not those in a folder that has been replaced.
    Part,
    /// None: the queue has failed.
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    latest: Instant,
}

impl FileWatch {
    /// Watches from now on.
    ///
    /// # Errors
    /// Those of `inotify_init1(2)` and `inotify_add_watch(2)`: too many watches on this machine, or a folder that may not be read.
    pub(super) fn on(files: &[PathBuf]) -> io::Result<Self> {
        let (notices, spots) = (Notices::new()?, Spots::of(files));
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        for folder in &spots.folders {
            notices.add(folder, changes)?;
        }
        Ok(Self { spots, notices, sight: Sight::Whole, due: None })
    }

    /// Whether changes of these files would go unseen, or others are watched than these.
    pub(super) fn is_outdated(&self, files: &[PathBuf]) -> bool {
        self.sight != Sight::Whole || self.spots != Spots::of(files)
    }

    /// Waits until the last change is a while ago, or the first one a longer while. Safe to cancel.
    pub(super) async fn changed(&mut self) {
        if self.sight == Sight::Lost {
            return std::future::pending().await;
        }
        loop {
            let due = self.due.map(|due| due.at);
            tokio::select! {
                () = until(due) => {
                    self.due = None;
                    return;
                }
                events = self.notices.next() => match events {
                    Ok(events) => self.take(&events),
                    Err(error) => {
                        tracing::error!(%error, "changes of the configuration's files are not seen before the next reload");
                        self.sight = Sight::Lost;
                        return std::future::pending().await;
                    }
                }
            }
        }
    }

    fn take(&mut self, events: &[InotifyEvent]) {
        if events.iter().any(|event| event.mask.intersects(GONE)) {
            self.sight = Sight::Part;
        }
        if events.iter().any(|event| self.spots.concern(event)) {
            let now = Instant::now();
            let latest = self.due.map_or(now + PATIENCE, |due| due.latest);
            self.due = Some(Due { at: latest.min(now + QUIET), latest });
        }
    }
}

impl Spots {
    fn of(files: &[PathBuf]) -> Self {
        let mut spots = Self::default();
        for mut place in files.iter().flat_map(|file| places(file)) {
            // Of a folder that is not there, its appearance is what there is to see.
            while let Some(folder) = place.parent().filter(|folder| !is_there(folder)) {
                place = folder.to_owned();
            }
            spots.names.extend(place.file_name().map(ToOwned::to_owned));
            spots.folders.extend(place.parent().map(here));
        }
        spots
    }

    /// A change of one of the names or folders; where notices were lost, any may have changed.
    fn concern(&self, event: &InotifyEvent) -> bool {
        let is_whole = event.mask.intersects(GONE.union(AddWatchFlags::IN_Q_OVERFLOW));
        is_whole || event.name.as_ref().is_some_and(|name| self.names.contains(name))
    }
}

/// The file as it is named, each link on the way to it, and where that leads.
fn places(file: &Path) -> Vec<PathBuf> {
    let (mut all, mut open) = (Vec::new(), file.to_owned());
    for _ in 0..MAX_LINKS {
        all.push(open.clone());
        let ancestors: Vec<&Path> = open.ancestors().collect();
        let link = ancestors.into_iter().rev().find_map(|part| Some((part.to_owned(), part.read_link().ok()?)));
        let Some((link, target)) = link else { break };
        let rest = open.strip_prefix(&link).unwrap_or(Path::new("")).components();
        let begin = link.parent().unwrap_or(Path::new("")).join(target);
        open = rest.fold(begin, |all, part| all.join(part));
        all.push(link);
    }
    all
}

fn is_there(folder: &Path) -> bool {
    here(folder).is_dir()
}

/// The folder by a name that has one.
fn here(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const PATIENT: Duration = Duration::from_secs(20);

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    async fn is_seen(watch: &mut FileWatch) -> bool {
        tokio::time::timeout(PATIENT, watch.changed()).await.is_ok()
    }

    #[test]
    fn a_file_written_renamed_over_or_removed_is_a_change_once_it_is_quiet_and_others_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mesh.toml");
        std::fs::write(&file, "a").unwrap();
        run(async {
            let mut watch = FileWatch::on(std::slice::from_ref(&file)).unwrap();
            std::fs::write(&file, "b").unwrap();
            std::fs::write(&file, "c").unwrap();
            assert!(is_seen(&mut watch).await);
            std::fs::write(folder.path().join("4913"), "x").unwrap();
            assert!(
                tokio::time::timeout(QUIET * 2, watch.changed()).await.is_err(),
                "another file, or the same change"
            );
            std::fs::write(folder.path().join("new"), "d").unwrap();
            std::fs::rename(folder.path().join("new"), &file).unwrap();
            assert!(is_seen(&mut watch).await);
            std::fs::remove_file(&file).unwrap();
            assert!(is_seen(&mut watch).await);
            assert!(!watch.is_outdated(&[file]));
        });
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_a_change_and_makes_the_watch_outdated() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["one", "two"] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("mesh.toml"), version).unwrap();
        }
        // As mounted folders of Kubernetes have it: the file is a link through a link.
        symlink("one", at("..data")).unwrap();
        symlink("..data/mesh.toml", at("mesh.toml")).unwrap();
        let files = [at("mesh.toml")];
        run(async {
            let mut watch = FileWatch::on(&files).unwrap();
            symlink("two", at("new")).unwrap();
            std::fs::rename(at("new"), at("..data")).unwrap();
            assert!(is_seen(&mut watch).await && watch.is_outdated(&files));
            let mut watch = FileWatch::on(&files).unwrap();
            std::fs::write(at("two").join("mesh.toml"), "2").unwrap();
            assert!(is_seen(&mut watch).await && !watch.is_outdated(&files));
        });
    }

    #[test]
    fn a_folder_that_is_replaced_or_away_for_a_while_is_a_change_and_makes_the_watch_outdated() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, file) = (folder.path().join("etc"), folder.path().join("etc/mesh.toml"));
        let files = [file.clone()];
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(&file, "a").unwrap();
        run(async {
            let mut watch = FileWatch::on(&files).unwrap();
            std::fs::rename(&inner, folder.path().join("old")).unwrap();
            std::fs::create_dir(&inner).unwrap();
            assert!(is_seen(&mut watch).await && watch.is_outdated(&files), "renamed");
            let mut watch = FileWatch::on(&files).unwrap();
            std::fs::remove_dir(&inner).unwrap();
            assert!(is_seen(&mut watch).await && watch.is_outdated(&files), "removed");
            let mut watch = FileWatch::on(&files).unwrap();
            std::fs::create_dir(&inner).unwrap();
            std::fs::write(&file, "b").unwrap();
            assert!(is_seen(&mut watch).await && watch.is_outdated(&files), "there again");
        });
    }

    #[test]
    fn changes_without_end_are_a_change_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mesh.toml");
        run(async {
            let mut watch = FileWatch::on(std::slice::from_ref(&file)).unwrap();
            let writing = async {
                loop {
                    std::fs::write(&file, "x").unwrap();
                    tokio::time::sleep(QUIET / 5).await;
                }
            };
            tokio::select! {
                () = writing => {}
                is_seen = is_seen(&mut watch) => assert!(is_seen),
            }
        });
    }

    #[test]
    fn links_in_a_circle_come_to_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        assert!(places(&at("a")).len() <= 2 * MAX_LINKS);
        assert!(places(Path::new("mesh.toml")).starts_with(&[PathBuf::from("mesh.toml")]));
    }
}
