//! The log: where it goes, and what of it is written, which can be changed while the daemon runs.
//!
//! It goes to the journal where systemd has connected standard error to it, with fields of its own; else to standard error.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use config::{LogConfig, LogFormat, LogLevel};
use nix::sys::stat::fstat;
use tokio::time::Instant;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// A filter that stands above the configured level.
const ENVIRONMENT: &str = "MESHD_LOG";

/// What the journal and whoever filters it know the daemon by.
const IDENTIFIER: &str = "meshd";

/// Longest text of a filter, in bytes: some ten directives.
const MAX_FILTER: usize = 512;

/// Longest change that ends by itself, that of the command line too: what is to last longer has no end. Clocks do not reach much further.
const MAX_PERIOD: Duration = Duration::from_secs(365 * 24 * 3600);
/// What may stand first in a directive.
const PARTS: [&str; 3] = ["meshd", "proto", "config"];

/// What is written, for who wants to change it. Copies change the same.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Shared>);

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What is written now, as [`Targets`] has it.
    pub(crate) filter: String,
    /// What is written unless somebody changes it.
    pub(crate) configured: String,
    /// Whether that is from the environment (`MESHD_LOG`) and not from the configuration.
    pub(crate) is_from_environment: bool,
    /// Whether it was changed.
    pub(crate) is_changed: bool,
    /// After which time the change ends by itself.
    pub(crate) reverts_after: Option<Duration>,
    /// Where it goes: `journal` or `stderr`.
    pub(crate) output: &'static str,
}

/// What stands above the configured level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Above {
    /// `MESHD_LOG`, as long as the process lives.
    Environment,
    /// A change that is in force.
    Change,
}

/// Why a filter is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// It cannot be read.
    #[error("{filter:?} is neither a level (error, warn, info, debug, trace) nor like meshd::driver=trace: {reason}")]
    Unreadable {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is for what is no part of meshd.
    #[error("no part of meshd is called {name}; there are {}", PARTS.join(", "))]
    Stranger {
        /// What it is for.
        name: String,
    },
    /// It is too long.
    #[error("a filter has at most {MAX_FILTER} characters")]
    TooLong,
    /// The change would last for longer than a year.
    #[error("for_seconds is longer than a year; leave it out for a change that lasts")]
    TooFar,
    /// There is no subscriber any more.
    #[error("the log cannot be changed: {0}")]
    Gone(#[from] reload::Error),
}

/// Begins to log. To be called once.
pub(crate) fn init(config: &LogConfig) -> Handle {
    let environment = std::env::var(ENVIRONMENT).ok();
    let environment = environment.filter(|text| !text.trim().is_empty() && parse(text).is_ok());
    let (output, name) = output(config.format);
    let (handle, filter) = Handle::new(environment, config.level, name);
    tracing_subscriber::registry().with(filter).with(output).init();
    handle
}

/// `Targets` and not `EnvFilter`, which would bring regular expressions along, and take them from whoever may change the log.
type Filter = reload::Layer<Targets, Registry>;

type Output = Box<dyn Layer<Layered<Filter, Registry>> + Send + Sync>;

struct Shared {
    filter: reload::Handle<Targets, Registry>,
    state: Mutex<State>,
    output: &'static str,
}

struct State {
    environment: Option<String>,
    level: LogLevel,
    change: Option<Change>,
    /// How many changes there were: a timer must not end a later one than its own.
    changes: u64,
}

struct Change {
    filter: String,
    until: Option<Instant>,
}

impl State {
    /// The configured level is for meshd; of its libraries only warnings are of use.
    fn configured(&self) -> String {
        self.environment.clone().unwrap_or_else(|| of_level(self.level))
    }

    fn filter(&self) -> String {
        self.change.as_ref().map_or_else(|| self.configured(), |change| change.filter.clone())
    }

    /// The filter; each that comes here has been read before.
    fn targets(&self) -> Targets {
        self.filter().parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::WARN))
    }
}

impl Handle {
    fn new(environment: Option<String>, level: LogLevel, output: &'static str) -> (Self, Filter) {
        let state = State { environment, level, change: None, changes: 0 };
        let (layer, filter) = reload::Layer::new(state.targets());
        (Self(Arc::new(Shared { filter, state: Mutex::new(state), output })), layer)
    }

    /// One whose changes nobody sees, for tests of what is given one.
    #[cfg(test)]
    pub(crate) fn unheard() -> Self {
        Self::new(None, LogLevel::Info, "stderr").0
    }

    /// Takes another configured level. Returns what stands above it, where that keeps it from showing.
    pub(crate) fn set_level(&self, level: LogLevel) -> Option<Above> {
        let mut state = self.state();
        let is_other = std::mem::replace(&mut state.level, level) != level;
        // A filter of ours is always readable, and the subscriber is there as long as the process.
        let _ = self.apply(&state);
        let change = state.change.is_some().then_some(Above::Change);
        state.environment.as_ref().map(|_| Above::Environment).or(change).filter(|_| is_other)
    }

    /// Writes by another filter for `period`, or until it is told otherwise: a level for all of meshd, or directives beside what is
    /// configured (`meshd::driver=trace`). Must be called within the runtime.
    ///
    /// # Errors
    /// When the filter cannot be read, or the period is longer than a year; nothing changes then.
    pub(crate) fn set(&self, filter: &str, period: Option<Duration>) -> Result<(), FilterError> {
        if filter.len() > MAX_FILTER {
            return Err(FilterError::TooLong);
        }
        if period.is_some_and(|period| period > MAX_PERIOD) {
            return Err(FilterError::TooFar);
        }
        let mut state = self.state();
        let filter = match filter.trim().parse::<tracing::Level>() {
            Ok(level) => of_level_name(&level.as_str().to_lowercase()),
            Err(_) => {
                parse(filter)?;
                no_strangers(filter)?;
                format!("{},{}", state.configured(), filter.trim())
            }
        };
        parse(&filter)?;
        state.changes += 1;
        let number = state.changes;
        state.change = Some(Change { filter, until: period.map(|period| Instant::now() + period) });
        self.apply(&state)?;
        if let Some(period) = period {
            let handle = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(period).await;
                handle.revert(Some(number));
            });
        }
        Ok(())
    }

    /// Writes what is configured again.
    pub(crate) fn reset(&self) {
        self.revert(None);
    }

    /// How things stand.
    pub(crate) fn standing(&self) -> Standing {
        let state = self.state();
        let until = state.change.as_ref().and_then(|change| change.until);
        Standing {
            filter: state.filter(),
            configured: state.configured(),
            is_from_environment: state.environment.is_some(),
            is_changed: state.change.is_some(),
            reverts_after: until.map(|until| until.saturating_duration_since(Instant::now())),
            output: self.0.output,
        }
    }

    /// Ends a change: the one of this number, or any.
    fn revert(&self, number: Option<u64>) {
        let mut state = self.state();
        if number.is_none_or(|number| number == state.changes) && state.change.take().is_some() {
            let _ = self.apply(&state);
            tracing::info!(filter = state.configured(), "the log is as configured again");
        }
    }

    fn apply(&self, state: &State) -> Result<(), reload::Error> {
        self.0.filter.reload(state.targets())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_level(level: LogLevel) -> String {
    of_level_name(level.as_str())
}

fn of_level_name(level: &str) -> String {
    format!("warn,meshd={level},proto={level},config={level}")
}

/// Reads a filter strictly: levels, and modules with a level. `Targets` would take a level that is spelt wrong for a module of which
/// everything is wanted, and much else for one of which nothing is.
fn parse(filter: &str) -> Result<Targets, FilterError> {
    let unreadable = |reason: String| FilterError::Unreadable { filter: filter.to_owned(), reason };
    for part in filter.split(',').map(str::trim) {
        let (module, level) = part.split_once('=').unwrap_or(("meshd", part));
        let is_module = !module.is_empty() && module.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b));
        if !is_module {
            return Err(unreadable(format!("{module:?} is no module")));
        }
        if level.is_empty() || level.parse::<LevelFilter>().is_err() {
            return Err(unreadable(format!("{level:?} is no level")));
        }
    }
    filter.trim().parse().map_err(|error: tracing_subscriber::filter::ParseError| unreadable(error.to_string()))
}

/// Refuses directives for what is no part of meshd, which would change nothing: mostly a name that is spelt wrong.
fn no_strangers(filter: &str) -> Result<(), FilterError> {
    let modules = filter.split(',').filter_map(|part| part.split_once('=')).map(|(module, _)| module.trim());
    let mut names = modules.map(|module| module.split("::").next().unwrap_or_default());
    let stranger = names.find(|name| !PARTS.contains(name));
    stranger.map_or(Ok(()), |name| Err(FilterError::Stranger { name: name.to_owned() }))
}

/// Where the log goes, and the word for it.
fn output(format: LogFormat) -> (Output, &'static str) {
    let stream = std::env::var("JOURNAL_STREAM").ok();
    if stream.is_some_and(|stream| is_stream(&stream, std::io::stderr()))
        && let Ok(journal) = journal()
    {
        return (journal.boxed(), "journal");
    }
    // A log that cannot be written (full disk, closed pipe) cannot be told of in the log: trying would panic.
    let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    match format {
        LogFormat::Text => (lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(), "stderr"),
        LogFormat::Json => (lines.with_ansi(false).json().flatten_event(true).boxed(), "stderr"),
    }
}

/// Whether a stream is the one that `JOURNAL_STREAM` names by device and inode (systemd.exec(5)): it may be inherited by a process
/// whose standard error goes elsewhere since.
fn is_stream(named: &str, stream: impl AsFd) -> bool {
    let Some((device, inode)) = named.split_once(':') else { return false };
    let named = device.parse::<u64>().ok().zip(inode.parse::<u64>().ok());
    named.is_some_and(|named| fstat(stream).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == named))
}

/// The journal, with the names of fields as the code has them, in capitals.
fn journal() -> std::io::Result<tracing_journald::Layer> {
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    let layer = tracing_journald::layer()?.with_field_prefix(None).with_priority_mappings(priorities);
    Ok(layer.with_syslog_identifier(IDENTIFIER.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn handle(environment: Option<&str>) -> (Handle, Filter) {
        Handle::new(environment.map(str::to_owned), LogLevel::Info, "stderr")
    }

    const CONFIGURED: &str = "warn,meshd=info,proto=info,config=info";

    #[tokio::test]
    async fn the_end_of_a_change_does_not_end_a_later_one() {
        let (handle, _filter) = handle(None);
        handle.set("debug", Some(Duration::from_secs(3600))).unwrap();
        assert_eq!(handle.standing().filter, "warn,meshd=debug,proto=debug,config=debug");
        assert!(handle.standing().reverts_after > Some(Duration::from_secs(3000)));
        handle.set("meshd::driver=trace", Some(Duration::from_secs(3600))).unwrap();
        handle.revert(Some(1));
        assert_eq!(handle.standing().filter, format!("{CONFIGURED},meshd::driver=trace"));
        handle.revert(Some(2));
        let standing = handle.standing();
        assert_eq!((standing.filter.as_str(), standing.is_changed, standing.reverts_after), (CONFIGURED, false, None));
    }

    #[tokio::test]
    async fn another_configured_level_shows_when_a_change_ends() {
        let (handle, _filter) = handle(None);
        handle.set("trace", None).unwrap();
        assert_eq!(handle.set_level(LogLevel::Warn), Some(Above::Change));
        assert_eq!(handle.set_level(LogLevel::Warn), None, "it is no other");
        assert_eq!(handle.standing().filter, "warn,meshd=trace,proto=trace,config=trace");
        handle.reset();
        assert_eq!(handle.standing().filter, "warn,meshd=warn,proto=warn,config=warn");
        assert_eq!(handle.set_level(LogLevel::Info), None);
        assert_eq!(handle.standing().filter, CONFIGURED);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_refused_and_changes_nothing() {
        let (handle, _filter) = handle(None);
        for bad in ["loud", "meshd=loud", "meshd=debug,,=", "a b"] {
            let result = handle.set(bad, None);
            assert!(matches!(result, Err(FilterError::Unreadable { .. })), "{bad}: {result:?}");
        }
        let stranger = handle.set("meshd::driver=trace,nothere=debug", None).map_err(|error| error.to_string());
        assert_eq!(stranger, Err("no part of meshd is called nothere; there are meshd, proto, config".to_owned()));
        assert!(matches!(handle.set(&"a=info,".repeat(100), None), Err(FilterError::TooLong)));
        assert_eq!(handle.standing().filter, CONFIGURED);
    }

    #[tokio::test]
    async fn a_period_without_an_end_is_refused_and_the_change_before_it_still_ends() {
        let (handle, _filter) = handle(None);
        handle.set("debug", Some(Duration::from_secs(3600))).unwrap();
        for seconds in [10_000_000_000_000_000_000, u64::MAX, MAX_PERIOD.as_secs() + 1] {
            let refused = handle.set("trace", Some(Duration::from_secs(seconds)));
            assert!(matches!(refused, Err(FilterError::TooFar)), "{refused:?}");
        }
        let standing = handle.standing();
        assert_eq!(standing.filter, "warn,meshd=debug,proto=debug,config=debug");
        assert!(standing.reverts_after.is_some());
        handle.revert(Some(1));
        assert_eq!(handle.standing().filter, CONFIGURED);
    }

    #[tokio::test]
    async fn the_environment_stands_above_the_configuration_and_below_a_change() {
        let (handle, _filter) = handle(Some("meshd=warn"));
        assert!(handle.standing().is_from_environment);
        assert_eq!(handle.set_level(LogLevel::Debug), Some(Above::Environment));
        handle.set("trace", None).unwrap();
        assert_eq!(handle.standing().filter, "warn,meshd=trace,proto=trace,config=trace");
        handle.reset();
        assert_eq!(handle.standing().filter, "meshd=warn");
    }

    #[test]
    fn the_journal_is_used_only_where_the_stream_is_the_one_that_is_named() {
        let file = tempfile::tempfile().unwrap();
        let meta = file.metadata().unwrap();
        assert!(is_stream(&format!("{}:{}", meta.dev(), meta.ino()), &file));
        for other in [format!("{}:{}", meta.dev(), meta.ino() + 1), meta.ino().to_string(), String::new()] {
            assert!(!is_stream(&other, &file), "{other}");
        }
    }
}
