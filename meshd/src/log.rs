//! The log on standard error, and its level, which may change while the daemon runs.

use config::LogConfig;
use tracing_subscriber::EnvFilter;

/// The variable that, where it is set, says what is logged instead of the configuration (`meshd=debug,proto=trace`).
const VARIABLE: &str = "MESHD_LOG";

/// Changes what is logged.
pub(crate) struct Level(Box<dyn Fn(EnvFilter)>);

impl Level {
    /// Takes what the configuration says, unless the environment says otherwise.
    pub(crate) fn set(&self, log: LogConfig) {
        if std::env::var_os(VARIABLE).is_none() {
            (self.0)(filter(log));
        }
    }
}

/// Begins to log; to be called once.
pub(crate) fn init(log: LogConfig) -> Level {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| filter(log));
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    // A log that cannot be written (full disk, closed pipe) cannot be told of in the log: trying would panic.
    let log = log.log_internal_errors(false).with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    // It can only fail when there is no log any more.
    Level(Box::new(move |filter| drop(handle.reload(filter))))
}

/// The configured level is for meshd, warnings for the rest.
fn filter(log: LogConfig) -> EnvFilter {
    EnvFilter::new(format!("warn,meshd={level},proto={level},config={level}", level = log.level.as_str()))
}
