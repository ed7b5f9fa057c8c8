//! Loading the configuration anew while the daemon runs: from the wish to the answer.
//!
//! A reload begins in [`Reloads::begin`], whoever asks for it, and ends in [`Reloads::finish`]. In between the files are read on a
//! thread of their own, while everything goes on, and then `apply` takes over what they say, as one transaction.

mod apply;
mod refusal;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Instant;

use config::{Config, Fixed, LogLevel, Problems};
use tokio::sync::oneshot;

use crate::api::model::{Health, Severity, Status};
use crate::api::reload::{LastReload, ReloadReport};
use crate::log::{self, Above};
use crate::metrics::Reloads as Counts;
use crate::supervisor;
use watch::FileWatch;

pub(crate) use refusal::Refusal;

/// Where the answer to a reload goes.
pub(crate) type Answer = oneshot::Sender<Result<ReloadReport, String>>;

/// Who wants the configuration loaded anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody at the API.
    Call,
    /// SIGHUP.
    Signal,
    /// One of the files changed.
    Files,
    /// Somebody used an invitation, and is in the mesh file now.
    Enrolment,
}

impl Cause {
    const fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Signal => "signal",
            Self::Files => "files",
            Self::Enrolment => "enrolment",
        }
    }
}

/// Reads the configuration on a thread of its own, whose heap (glibc's are per thread) is left as good as empty when the mesh
/// has been handed out: in the main heap what stays would lie scattered where the text was parsed, some ten times as large.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn load(path: &Path) -> Result<Config, Problems> {
    let loaded = std::thread::scope(|scope| scope.spawn(|| config::load(path)).join());
    loaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Loading anew: what goes on, who waits for it, and what came of it last.
pub(crate) struct Reloads {
    path: PathBuf,
    log: log::Handle,
    fixed: Fixed,
    /// To be watched; none where the configuration does not say so.
    files: Vec<PathBuf>,
    /// `None` also where that has failed.
    watch: Option<FileWatch>,
    open: Option<Open>,
    /// Wished for while one goes on, which may have read the files before they were what they are now. As many wait as the API
    /// lets through.
    next: Option<(Cause, Vec<Answer>)>,
    last: Option<(Instant, Cause, Result<ReloadReport, Refusal>)>,
    counts: Counts,
}

/// The reload that goes on.
struct Open {
    cause: Cause,
    answers: Vec<Answer>,
    /// `None` when the files have been read.
    loading: Option<oneshot::Receiver<Result<Config, Problems>>>,
    /// What is to be told when all is done.
    report: ReloadReport,
}

impl Reloads {
    /// None goes on. `config` is what the process began with.
    pub(crate) fn new(path: PathBuf, log: log::Handle, config: &Config) -> Self {
        let (fixed, counts) = (Fixed::of(config), Counts::default());
        Self { path, log, fixed, files: Vec::new(), watch: None, open: None, next: None, last: None, counts }
    }

    /// Begins a reload; one that is wished for while another goes on begins after that.
    pub(crate) fn begin(&mut self, cause: Cause, answer: Option<Answer>) {
        if self.open.is_some() {
            let (_, answers) = self.next.get_or_insert((cause, Vec::new()));
            answers.extend(answer);
        } else {
            self.open(cause, answer.into_iter().collect());
        }
    }

    /// The configuration as it was read, once it is; a change of its files begins a reload by itself. Pends for ever while there is
    /// no reason for one. Safe to cancel.
    ///
    /// # Errors
    /// Everything that is wrong with it, as `meshd config check` says it.
    pub(crate) async fn loaded(&mut self) -> Result<Box<Config>, Refusal> {
        loop {
            let loading = self.open.as_mut().and_then(|open| open.loading.as_mut());
            tokio::select! {
                loaded = wait(loading) => {
                    self.open.iter_mut().for_each(|open| open.loading = None);
                    return match loaded {
                        Ok(Ok(config)) => Ok(Box::new(config)),
                        Ok(Err(problems)) => Err(problems.into()),
                        Err(_) => Err("the thread that reads the configuration came to its end".to_owned().into()),
                    };
                }
                () = changed(self.watch.as_mut()) => self.begin(Cause::Files, None),
            }
        }
    }

    /// Whether a reload goes on that has not been answered.
    pub(crate) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Says that all is as it is to be, unless a reload goes on, of which its end says so.
    pub(crate) fn tell_ready(&self) {
        if !self.is_open() {
            supervisor::ready();
        }
    }

    /// Takes the level of the log; what is to be told of that, where it does not show.
    pub(crate) fn set_level(&self, level: LogLevel) -> Option<String> {
        let above = self.log.set_level(level)?;
        Some(match above {
            Above::Environment => "log.level does not show, for MESHD_LOG stands above it".to_owned(),
            Above::Change => {
                "log.level does not show before `meshd log reset`, for `meshd log` has changed it".to_owned()
            }
        })
    }

    /// Notes what is to be told of the reload that goes on, when the daemon has done it: with this configuration the node is stopped
    /// or started. What the process keeps for life is put into that.
    pub(crate) fn outcome(&mut self, mut report: ReloadReport, config: &mut Config) {
        report.needs_restart.extend(self.fixed.settle(config).iter().map(ToString::to_string));
        report.notes.extend(self.set_level(config.log.level));
        if let Some(open) = &mut self.open {
            open.report = report;
        }
    }

    /// Ends the reload that goes on, if one does, with what was noted of it.
    pub(crate) fn finish_if_open(&mut self) {
        if let Some(open) = &mut self.open {
            let report = std::mem::take(&mut open.report);
            self.finish(Ok(report));
        }
    }

    /// Ends the reload that goes on: everybody who waits for it is told, and so is the log.
    pub(crate) fn finish(&mut self, result: Result<ReloadReport, Refusal>) {
        let Some(Open { cause, answers, .. }) = self.open.take() else { return };
        match &result {
            Ok(report) => {
                self.counts.succeeded += 1;
                tracing::info!(
                    cause = cause.name(),
                    applied = report.applied.join("; "),
                    needs_restart = report.needs_restart.join(", "),
                    notes = report.notes.join("; "),
                    "configuration loaded anew"
                );
            }
            Err(refusal) => {
                self.counts.failed += 1;
                let error = refusal.line();
                tracing::error!(cause = cause.name(), error, "configuration not loaded, nothing is changed");
            }
        }
        for answer in answers {
            let _ = answer.send(result.clone().map_err(|refusal| refusal.to_string()));
        }
        self.last = Some((Instant::now(), cause, result));
        supervisor::ready();
        if let Some((cause, answers)) = self.next.take() {
            self.open(cause, answers);
        }
    }

    /// What came of the last one.
    pub(crate) fn last(&self) -> Option<LastReload> {
        let (at, cause, result) = self.last.as_ref()?;
        let (report, error) = match result {
            Ok(report) => (report.clone(), None),
            Err(refusal) => (ReloadReport::default(), Some(refusal.to_string())),
        };
        let (seconds_ago, cause) = (at.elapsed().as_secs_f64(), cause.name().to_owned());
        Some(LastReload { seconds_ago, cause, error, report })
    }

    /// What an operator should know of the last one.
    pub(crate) fn health(&self) -> Option<Health> {
        let (_, _, result) = self.last.as_ref()?;
        let brief = result.as_ref().err()?.brief();
        let text = format!(
            "the configuration on disk is refused, and the one before goes on: {brief}; mend it, then `meshd reload`"
        );
        Some(Health { severity: Severity::Warning, text })
    }

    /// How many there were.
    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Watches the files of a configuration from now on, where it says so.
    pub(crate) fn watch(&mut self, config: &Config) {
        self.files = if config.reload.watch { config.files.clone() } else { Vec::new() };
        self.renew_watch();
    }

    fn renew_watch(&mut self) {
        if self.files.is_empty() {
            self.watch = None;
        } else if self.watch.as_ref().is_none_or(|watch| watch.is_outdated(&self.files)) {
            self.watch = FileWatch::on(&self.files)
                .inspect_err(|error| tracing::warn!(%error, "the configuration's files cannot be watched"))
                .ok();
        }
    }

    fn open(&mut self, cause: Cause, answers: Vec<Answer>) {
        supervisor::reloading();
        // Before they are read, so that no change falls between: whatever comes of it, links and folders may be others.
        self.renew_watch();
        let (sender, loading) = oneshot::channel();
        let path = self.path.clone();
        let work = move || drop(sender.send(config::load(&path)));
        // Without a thread the sender is gone, which is told as any failure.
        let _ = std::thread::Builder::new().name("reload".to_owned()).spawn(work);
        self.open = Some(Open { cause, answers, loading: Some(loading), report: ReloadReport::default() });
    }
}

/// What came of a reload, as an event tells it.
pub(crate) fn told(result: &Result<ReloadReport, Refusal>) -> String {
    match result {
        Ok(report) if report.applied.is_empty() => "nothing changed".to_owned(),
        Ok(report) => report.applied.join("; "),
        Err(refusal) => format!("refused: {}", refusal.brief()),
    }
}

impl Status {
    /// Takes what came of the last reload.
    pub(crate) fn note_reloads(&mut self, reloads: &Reloads) {
        self.last_reload = reloads.last();
        self.health.extend(reloads.health());
        self.health.sort_by_key(|health| health.severity);
    }
}

async fn wait<T>(waited: Option<&mut oneshot::Receiver<T>>) -> Result<T, oneshot::error::RecvError> {
    match waited {
        Some(waited) => waited.await,
        None => std::future::pending().await,
    }
}

async fn changed(files: Option<&mut FileWatch>) {
    match files {
        Some(files) => files.changed().await,
        None => std::future::pending().await,
    }
}
