//! The log of what happened to this node, in memory: bounded, and told to whoever follows it.

use std::collections::VecDeque;

use proto::id::EndpointName;
use tokio::sync::mpsc;

use crate::api::events::{EventLine, MISSED};
use crate::api::stream::{Lease, line};
use crate::wall_time::{self, Digits};

/// Events that are kept: days of a quiet node, and some 150 KB when full.
const MAX_EVENTS: usize = 1_024;

/// Clients that follow at a time; each holds a connection.
const MAX_FOLLOWERS: usize = 8;

/// Lines that wait for a follower, beyond what its socket holds. Who is so far behind is cut off: it may ask again from where
/// it was.
const MAX_BEHIND: usize = 64;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// The daemon has started.
    Started,
    /// The daemon stops.
    Stopping,
    /// A session is up where there was none.
    Connected,
    /// A peer is reached another way.
    Moved,
    /// A peer is reached another way, for the one before does not work any more.
    PathLost,
    /// A peer does not answer.
    Unreachable,
    /// No session is left with a peer.
    Disconnected,
    /// A handshake was refused.
    Refused,
    /// A spray is over.
    Spray,
    /// A prefix that several announce is carried by another of them.
    Owner,
    /// A neighbour is heard on the LAN, or no longer.
    Neighbour,
    /// What the NAT before this node does is known, or has changed.
    Nat,
    /// A gateway maps a port, or no longer does.
    PortMapping,
    /// The machine's own addresses have changed.
    Addresses,
    /// The machine slept, or the daemon was stopped.
    Resume,
    /// The node runs, or does not, though the daemon does.
    Node,
    /// The configuration was read anew.
    Reload,
    /// Routes are left out of the machine, or no longer.
    Routes,
}

impl EventKind {
    /// Its name, which scripts rely on.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Connected => "connected",
            Self::Moved => "moved",
            Self::PathLost => "path_lost",
            Self::Unreachable => "unreachable",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
            Self::Spray => "spray",
            Self::Owner => "owner",
            Self::Neighbour => "neighbour",
            Self::Nat => "nat",
            Self::PortMapping => "port_mapping",
            Self::Addresses => "addresses",
            Self::Resume => "resume",
            Self::Node => "node",
            Self::Reload => "reload",
            Self::Routes => "routes",
        }
    }
}

/// The newest events, and who follows them.
pub(crate) struct EventLog {
    /// The number of this daemon's first event.
    first: u64,
    /// The number of the oldest one that is kept.
    oldest: u64,
    entries: VecDeque<Entry>,
    followers: Vec<Follower>,
}

struct Entry {
    unix_micros: u64,
    kind: EventKind,
    peer: Option<EndpointName>,
    text: Box<str>,
}

struct Follower {
    lines: mpsc::Sender<String>,
    lease: Lease,
}

/// Why not everything is told that happened after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    /// So many events are not kept any more.
    Counted(u64),
    /// The event was of another run of the daemon.
    OtherRun,
}

/// What a new follower gets.
pub(crate) struct Following {
    /// What happened since it looked last.
    pub(crate) first: Vec<String>,
    /// What happens from now on.
    pub(crate) then: mpsc::Receiver<String>,
}

impl EventLog {
    /// An empty one. Numbers begin with the time, so that they rise from one run of the daemon to the next.
    pub(crate) fn new() -> Self {
        let first = wall_time::unix_micros();
        Self { first, oldest: first, entries: VecDeque::new(), followers: Vec::new() }
    }

    /// Notes what happened, and to which peer.
    pub(crate) fn note(&mut self, kind: EventKind, peer: Option<&EndpointName>, text: impl Into<Box<str>>) {
        if self.entries.len() >= MAX_EVENTS {
            self.entries.pop_front();
            self.oldest += 1;
        }
        let entry = Entry { unix_micros: wall_time::unix_micros(), kind, peer: peer.cloned(), text: text.into() };
        if !self.followers.is_empty() {
            let text = line(&entry.line(self.oldest + self.entries.len() as u64));
            self.followers.retain(|follower| follower.tell(&text));
        }
        self.entries.push_back(entry);
    }

    /// What happened after the event `since`, oldest first. Before it, where that is not all: how many events are not kept any
    /// more, or that the number is one of another run of the daemon.
    pub(crate) fn since(&self, since: Option<u64>) -> Vec<EventLine> {
        let next = self.oldest + self.entries.len() as u64;
        let (wanted, gap) = match since {
            None => (self.oldest, None),
            Some(since) if (self.first..next).contains(&since) => {
                let wanted = since.saturating_add(1);
                let missed = self.oldest.saturating_sub(wanted);
                (wanted, (missed > 0).then_some(Gap::Counted(missed)))
            }
            Some(_) => (self.oldest, Some(Gap::OtherRun)),
        };
        let skip = usize::try_from(wanted.saturating_sub(self.oldest)).unwrap_or(usize::MAX);
        let lines = (self.oldest..).zip(&self.entries).skip(skip).map(|(seq, entry)| entry.line(seq));
        gap.map(|gap| self.missed(gap)).into_iter().chain(lines).collect()
    }

    /// Follows from after the event `since`.
    ///
    /// # Errors
    /// Where as many follow as may.
    pub(crate) fn follow(&mut self, since: Option<u64>, lease: Lease) -> Result<Following, String> {
        self.followers.retain(|follower| !follower.lines.is_closed());
        if self.followers.len() >= MAX_FOLLOWERS {
            return Err(format!("{MAX_FOLLOWERS} clients follow the events already"));
        }
        let (lines, then) = mpsc::channel(MAX_BEHIND);
        self.followers.push(Follower { lines, lease });
        Ok(Following { first: self.since(since).iter().map(line).collect(), then })
    }

    /// The line that stands for what is not there, as old as the first that is.
    fn missed(&self, gap: Gap) -> EventLine {
        let unix_micros = self.entries.front().map_or_else(wall_time::unix_micros, |first| first.unix_micros);
        let (missed, text) = match gap {
            Gap::Counted(missed) => (Some(missed), format!("{missed} events before this are not kept any more")),
            Gap::OtherRun => {
                (None, "the daemon was started since; what it had not told before that is lost".to_owned())
            }
        };
        let kind = MISSED.to_owned();
        EventLine { kind, text, missed, ..of_node(self.oldest.saturating_sub(1), unix_micros) }
    }
}

impl Entry {
    fn line(&self, seq: u64) -> EventLine {
        EventLine {
            kind: self.kind.name().to_owned(),
            peer: self.peer.as_ref().map(ToString::to_string),
            text: self.text.to_string(),
            ..of_node(seq, self.unix_micros)
        }
    }
}

/// A line of the node itself, in which nothing is said yet.
fn of_node(seq: u64, unix_micros: u64) -> EventLine {
    EventLine {
        seq,
        time: wall_time::text(unix_micros, Digits::Three),
        unix_ms: unix_micros / 1_000,
        kind: String::new(),
        peer: None,
        text: String::new(),
        missed: None,
    }
}

impl Follower {
    /// Returns whether it goes on.
    fn tell(&self, line: &str) -> bool {
        let told = self.lines.try_send(line.to_owned());
        if let Err(mpsc::error::TrySendError::Full(_)) = &told {
            tracing::debug!("a client that followed the events and did not read them is cut off");
            self.lease.cut();
        }
        told.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(count: usize) -> EventLog {
        let mut log = EventLog::new();
        (0..count).for_each(|number| log.note(EventKind::Resume, None, number.to_string()));
        log
    }

    #[test]
    fn events_are_numbered_without_a_gap_and_asked_for_by_the_last_one_seen() {
        let log = noted(5);
        let all = log.since(None);
        assert!(all.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq));
        assert_eq!(log.since(Some(all[2].seq)), all[3..]);
        assert_eq!(log.since(Some(all[4].seq)), []);
    }

    #[test]
    fn who_saw_an_event_of_another_run_gets_everything_after_a_line_that_says_so_wherever_the_clock_stood_then() {
        let log = noted(3);
        let all = log.since(None);
        for of_another in [0, log.first - 1, all[2].seq + 1, u64::MAX] {
            let lines = log.since(Some(of_another));
            let gap = (lines[0].kind.as_str(), lines[0].missed, lines[0].seq, lines[0].unix_ms);
            assert_eq!(gap, ("missed", None, all[0].seq - 1, all[0].unix_ms), "{of_another}");
            assert_eq!(lines[1..], all, "{of_another}");
            assert_eq!(log.since(Some(lines[0].seq))[1..], all, "who saw that line and nothing more");
        }
        assert_eq!(noted(0).since(Some(7)).len(), 1, "also where nothing has happened yet");
    }

    #[test]
    fn what_is_not_kept_any_more_is_counted() {
        let log = noted(MAX_EVENTS + 10);
        let seen = log.oldest - 5;
        let lines = log.since(Some(seen));
        assert_eq!((lines[0].kind.as_str(), lines[0].missed, lines[0].seq), ("missed", Some(4), log.oldest - 1));
        assert_eq!(lines.len(), MAX_EVENTS + 1);
        assert_eq!(log.since(Some(log.oldest - 1))[0].missed, None);
    }

    #[test]
    fn a_follower_that_does_not_read_is_cut_off_and_the_others_go_on() {
        let mut log = noted(1);
        let mut slow = log.follow(None, Lease::default()).unwrap();
        let mut quick = log.follow(None, Lease::default()).unwrap();
        assert_eq!((slow.first.len(), quick.first.len()), (1, 1));
        for _ in 0..2 * MAX_BEHIND {
            log.note(EventKind::Resume, None, "again");
            assert!(quick.then.try_recv().is_ok());
        }
        assert_eq!(log.followers.len(), 1);
        let read = std::iter::from_fn(|| slow.then.try_recv().ok()).count();
        assert_eq!(read, MAX_BEHIND);
    }

    #[test]
    fn no_more_follow_than_may_and_who_left_makes_room() {
        let mut log = noted(1);
        let mut following: Vec<_> = (0..MAX_FOLLOWERS).map(|_| log.follow(None, Lease::default()).unwrap()).collect();
        assert!(log.follow(None, Lease::default()).is_err());
        following.pop();
        assert!(log.follow(None, Lease::default()).is_ok());
    }
}
