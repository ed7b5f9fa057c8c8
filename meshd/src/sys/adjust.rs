//! Whether somebody keeps the clock right (`adjtimex(2)`).

use std::io;

/// Whether the kernel's clock is synchronised to a reference, as its NTP client last said; needs no privilege.
///
/// # Errors
/// Those of `adjtimex(2)`: `ENOSYS` or `EPERM` where a sandbox forbids the call.
pub(crate) fn is_synchronised() -> io::Result<bool> {
    // SAFETY: all fields are integers, for which zero is a value; with `modes` zero nothing is set.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes one timex, which is ours.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    match state {
        -1 => Err(io::Error::last_os_error()),
        libc::TIME_ERROR => Ok(false),
        _ => Ok(timex.status & libc::STA_UNSYNC == 0),
    }
}
