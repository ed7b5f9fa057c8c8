//! What one peer may cause, in however many sessions: a new one fills nothing up again.

use crate::bucket::{Bucket, Rate};
use crate::time::Instant;

/// Datagrams to places that a peer only tells of, so that whoever names a victim's address as its own has us send it this much and no
/// more: as many at once as eight candidates get after a start, then two a second, so at most 216 in a minute. A peer that was met gets
/// as many as it needs, for what answered inside the session is there.
const PLACES: Rate = Rate { per_second: 2, burst: 96 };

/// Questions that are answered: a person asks a few. Each has the shell look at the machine's routes, and may cost a handshake.
const QUESTIONS: Rate = Rate { per_second: 1, burst: 8 };

/// The allowance of one peer. Most peers never need theirs.
#[derive(Debug, Default)]
pub(crate) struct Allowance(Option<Box<Credit>>);

#[derive(Debug)]
struct Credit {
    places: Bucket,
    questions: Bucket,
}

impl Allowance {
    /// Takes one datagram to a place that the peer only tells of; `false` where there is none.
    pub(crate) fn take_place(&mut self, now: Instant) -> bool {
        self.credit(now).places.take(PLACES, now)
    }

    /// Takes one answer to a question; `false` where there is none.
    pub(crate) fn take_question(&mut self, now: Instant) -> bool {
        self.credit(now).questions.take(QUESTIONS, now)
    }

    fn credit(&mut self, now: Instant) -> &mut Credit {
        let full = || Credit { places: Bucket::new(PLACES, now), questions: Bucket::new(QUESTIONS, now) };
        self.0.get_or_insert_with(|| Box::new(full()))
    }
}
