//! What can go wrong on this machine, with the object it went wrong on and what to do about it.

use std::io;
use std::path::PathBuf;

use super::plan::Claim;

/// Why a side effect could not be applied or undone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// The kernel refused a request about links, addresses, routes or rules.
    #[error("cannot {action} {object}: {source}{}", hint(source))]
    Kernel {
        /// What was asked, as a verb: `add route`.
        action: &'static str,
        /// On what: a prefix, an interface, a table.
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no interface of this name; the TUN device must exist before it is configured.
    #[error("there is no interface {0}: create the TUN device first")]
    NoInterface(String),
    /// Another live process holds the journal, the routing table or the interface.
    #[error("another meshd ({}) is using {claim}: stop it, or give this one its own {} and state directory", process(*pid), claim.kind())]
    InUse {
        /// Its process id; `None` where it runs in a PID namespace that is invisible from here.
        pid: Option<i32>,
        /// What both want.
        claim: Claim,
    },
    /// The journal of changes could not be kept, so nothing was changed.
    #[error("cannot {action} {}: {source}{}", path.display(), hint(source))]
    Journal {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Adds to an [`io::Error`] what was being done to what.
pub(super) trait During<T> {
    /// `action` is a verb with its kind of object (`add route`), `object` names which one.
    fn during(self, action: &'static str, object: impl ToString) -> Result<T, HostError>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, action: &'static str, object: impl ToString) -> Result<T, HostError> {
        self.map_err(|source| HostError::Kernel { action, object: object.to_string(), source })
    }
}

fn process(pid: Option<i32>) -> String {
    pid.map_or_else(|| "in another container".to_owned(), |pid| format!("pid {pid}"))
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (needs CAP_NET_ADMIN: run as root, or see docs)",
        Some(libc::EEXIST) => " (someone else made one: choose another routing.table, or remove theirs)",
        Some(libc::ENODEV | libc::ENXIO) => " (the interface is gone)",
        Some(libc::ENETDOWN) => " (the interface is down)",
        Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {
            " (this kernel lacks it; meshd needs Linux 4.17 with policy routing)"
        }
        Some(libc::EROFS) => " (the file system is read-only: choose another state directory)",
        Some(libc::ENOSPC) => " (the disk is full)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_failed_on_which_object_and_what_to_do() {
        let refused: io::Result<()> = Err(io::Error::from_raw_os_error(libc::EPERM));
        let text = refused.during("add route", "10.1.0.0/16").unwrap_err().to_string();
        assert!(text.starts_with("cannot add route 10.1.0.0/16: "), "{text}");
        assert!(text.contains("CAP_NET_ADMIN"), "{text}");
        let text = HostError::InUse { pid: Some(7), claim: Claim::Table(6374) }.to_string();
        assert!(text.starts_with("another meshd (pid 7) is using table 6374"), "{text}");
    }
}
