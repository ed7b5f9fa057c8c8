//! What concerns every peer at once: done for those in use first, and for thousands not in the same moment.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Node;
use crate::id::PeerId;
use crate::time::Instant;
use crate::timer::Timer;

/// Peers in one go.
const BATCH: usize = 128;

/// Between two goes: ten thousand peers have had their turn after less than two seconds.
const PAUSE: Duration = Duration::from_millis(20);

/// What a peer is to get. The greater does what the lesser does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Errand {
    /// Our candidates.
    Tell,
    /// Those, and probes on all paths.
    Probe,
}

/// Peers that wait for their turn, each at most once: those in use, and the others.
#[derive(Debug, Default)]
pub(super) struct Round {
    first: BTreeMap<PeerId, Errand>,
    others: BTreeMap<PeerId, Errand>,
    /// When the next go is; `None`: nobody waits, and the last go was a while ago.
    at: Option<Instant>,
}

impl Node {
    /// Begins an errand to every live peer: to as many as one go takes now, to the others soon.
    pub(super) fn send_round(&mut self, errand: Errand, now: Instant) {
        for id in &self.live {
            let round = &mut self.round;
            let waiting = if self.watched.contains(id) { &mut round.first } else { &mut round.others };
            let known = waiting.entry(*id).or_insert(errand);
            *known = (*known).max(errand);
        }
        if self.round.at.is_none() {
            self.handle_round_due(now);
        }
    }

    /// The next go.
    pub(super) fn handle_round_due(&mut self, now: Instant) {
        self.round.at = None;
        let mut done = 0;
        while done < BATCH
            && let Some((id, errand)) = self.round.first.pop_first().or_else(|| self.round.others.pop_first())
        {
            self.run_errand(id, errand, now);
            done += 1;
        }
        // After a small round too: the next may come at once.
        if done > 0 {
            let at = now + PAUSE;
            self.round.at = Some(at);
            self.timers.set(at, Timer::Round);
        }
    }

    fn run_errand(&mut self, id: PeerId, errand: Errand, now: Instant) {
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        if errand == Errand::Probe {
            live.paths.restart(now);
            if let Some(attempt) = &mut live.attempt {
                // Its waits grew in the network that was.
                attempt.tries = 0;
                self.repeat(id, now);
            }
        }
        self.send_candidates(id, now);
        self.tend_paths(id, now);
    }
}
