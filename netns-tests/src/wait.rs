//! Waiting by polling with a deadline: the only places in the suite where a thread sleeps.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks: short against every limit in the suite, long against the cost of a look.
const POLL: Duration = Duration::from_millis(10);

/// Polls until `condition` holds.
///
/// # Panics
/// When it does not hold within `limit`, with `what` in the text.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(limit, what, || condition().then_some(()));
}

/// Polls until `look` finds something, and returns it.
///
/// # Panics
/// When it finds nothing within `limit`, with `what` in the text.
#[track_caller]
pub fn wait_for<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        // Looked at after the deadline too: a machine that stalled must not fail what came true meanwhile.
        let late = start.elapsed() >= limit;
        if let Some(found) = look() {
            return found;
        }
        assert!(!late, "not within {limit:?}: {what}");
        thread::sleep(POLL);
    }
}

/// Lets `window` pass: for claims about what must *not* happen meanwhile, and for measurements over time.
pub fn observe(window: Duration) {
    thread::sleep(window);
}
