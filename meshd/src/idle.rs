//! A daemon whose node does not run: it answers questions, and waits until this machine is selected, or the node can start.

use std::pin::pin;
use std::time::Duration;

use config::Config;
use tokio::time::Instant;

use crate::api::model::{Health, Mode, NodeStatus, Severity, Status};
use crate::api::netcheck::NetCheck;
use crate::api::reload::ReloadReport;
use crate::api::server::Call;
use crate::api::why::{WhyQuery, WhyReport};
use crate::daemon::Life;
use crate::driver::End;
use crate::reload::{Cause, Refusal, told};
use crate::report::Absence;
use crate::report::events::EventKind;
use crate::settings;
use crate::signals::Order;
use crate::supervisor::{self, Doing};
use crate::trace::TraceRefusal;

/// Between two attempts to start the node: short for who waits for it, long for the machine, to which each adds an interface for a moment.
const AGAIN: Duration = Duration::from_secs(5);

/// Rests until a signal stops the daemon, or the configuration selects this machine.
pub(crate) async fn rest(config: Config, life: &mut Life) -> End {
    let resting = Resting::of(&config, Hindrance::not_selected(&config));
    // What was done to the machine has been undone; the mesh is of no use meanwhile.
    drop(config);
    life.hindrance = None;
    life.events.note(EventKind::Node, None, "not selected: nothing runs");
    life.reloads.finish_if_open();
    tracing::info!("not selected: nothing runs until the configuration selects this machine");
    resting.rest(life).await
}

/// Rests for as long as the node is better left alone that could not start because of `error`. A reload that selected it has failed, and
/// the configuration is returned again after a while, for nobody tells when the cause is gone.
pub(crate) async fn wait_to_start(config: Config, error: String, life: &mut Life) -> End {
    let again = format!("{error}; the node does not run, and its start is tried again every {} s", AGAIN.as_secs());
    if life.reloads.is_open() {
        life.events.note(EventKind::Reload, None, told(&Err(error.clone().into())));
        life.reloads.finish(Err(again.clone().into()));
    } else if life.hindrance.as_ref() != Some(&error) {
        tracing::error!("{again}");
    }
    if life.hindrance.as_ref() != Some(&error) {
        life.events.note(EventKind::Node, None, format!("cannot start: {error}"));
        life.hindrance = Some(error.clone());
    }
    let mut resting = Resting::of(&config, Hindrance::CannotStart { error, again });
    resting.config = Some(Box::new(config));
    resting.rest(life).await
}

/// What a daemon at rest tells of its node.
struct Resting {
    node: NodeStatus,
    warnings: Vec<String>,
    hindrance: Hindrance,
    /// To start the node by.
    config: Option<Box<Config>>,
}

/// Why the node does not run.
enum Hindrance {
    /// This machine is not selected: it has not all of these labels.
    NotSelected(Vec<String>),
    /// It is, and something stands in the way of the node: what, without and with what is done about it.
    CannotStart { error: String, again: String },
}

impl Resting {
    /// The node of this configuration, without a device.
    fn of(config: &Config, hindrance: Hindrance) -> Self {
        Self { node: settings::idle_status(config), warnings: config.warnings.clone(), hindrance, config: None }
    }

    async fn rest(mut self, life: &mut Life) -> End {
        let mut watchdog = supervisor::watchdog();
        let mut again = pin!(tokio::time::sleep(AGAIN));
        life.reloads.tell_ready();
        loop {
            tokio::select! {
                order = life.signals.next() => match order {
                    Order::Stop(signal) => {
                        tracing::info!(signal, "stopping");
                        life.events.note(EventKind::Stopping, None, format!("on {signal}"));
                        return End::Stopped;
                    }
                    Order::Reload => life.reloads.begin(Cause::Signal, None),
                },
                Some(call) = life.calls.recv() => self.answer(call, life),
                () = watchdog.due() => watchdog.ping(self.hindrance.doing()),
                () = &mut again, if self.config.is_some() => {
                    // Of what is being read now the end will tell.
                    if !life.reloads.is_open() && let Some(config) = self.config.take() {
                        return End::Other(config);
                    }
                    again.as_mut().reset(Instant::now() + AGAIN);
                }
                loaded = life.reloads.loaded() => {
                    if let Some(config) = self.take_over(loaded, life) {
                        return End::Other(config);
                    }
                }
            }
        }
    }

    /// Takes what was loaded; returns what selects this machine.
    fn take_over(&mut self, loaded: Result<Box<Config>, Refusal>, life: &mut Life) -> Option<Box<Config>> {
        let mut config = match loaded {
            Ok(config) => config,
            Err(error) => {
                let result = Err(error);
                life.events.note(EventKind::Reload, None, told(&result));
                life.reloads.finish(result);
                return None;
            }
        };
        let text = if config.selected { "selected: the node starts" } else { "not selected: nothing runs" };
        let report = ReloadReport::of(text);
        life.events.note(EventKind::Reload, None, text);
        life.reloads.outcome(report, &mut config);
        if config.selected {
            return Some(config);
        }
        *self = Self::of(&config, Hindrance::not_selected(&config));
        life.hindrance = None;
        life.reloads.watch(&config);
        life.reloads.finish_if_open();
        None
    }

    fn answer(&self, call: Call, life: &mut Life) {
        let refusal = || self.hindrance.refusal();
        match call {
            Call::Status(answer) => drop(answer.send(self.status(life))),
            Call::Peer { answer, .. } => drop(answer.send(Err(refusal()))),
            Call::Ping { answer, .. } => drop(answer.send(Err(refusal()))),
            Call::NetCheck(answer) => drop(answer.send(NetCheck::unknown(&self.node.name))),
            Call::Metrics(answer) => drop(answer.send(Err(refusal()))),
            Call::Events { since, answer } => drop(answer.send(life.events.since(since))),
            Call::Follow { since, lease, answer } => drop(answer.send(life.events.follow(since, lease))),
            Call::Trace { answer, .. } => drop(answer.send(Err(TraceRefusal::Unavailable(refusal())))),
            Call::Why { query, answer } => drop(answer.send((self.why(&query), query))),
            Call::Measure => {}
            Call::Reload(answer) => life.reloads.begin(Cause::Call, Some(answer)),
        }
    }

    fn why(&self, query: &WhyQuery) -> WhyReport {
        let name = &self.node.name;
        let (cause, verdict, next) = self.hindrance.explained(name);
        WhyReport {
            version: 1,
            target: query.target.clone(),
            address: None,
            peer: None,
            from: query.from.clone().unwrap_or_else(|| name.clone()),
            reaches: false,
            cause: cause.to_owned(),
            sides: vec![name.clone()],
            verdict,
            next: Some(next),
            steps: Vec::new(),
            is_final: true,
        }
    }

    fn status(&self, life: &Life) -> Status {
        let uptime = life.clock.now() - life.clock.started();
        let node = NodeStatus { uptime_seconds: uptime.as_secs(), ..self.node.clone() };
        let warning = |text: &String| Health { severity: Severity::Warning, text: text.clone() };
        let health = self.hindrance.health().into_iter().chain(self.warnings.iter().map(warning)).collect();
        let mut status = Status::idle(node, self.hindrance.mode(), health);
        status.note_reloads(&life.reloads);
        status
    }
}

impl Hindrance {
    fn not_selected(config: &Config) -> Self {
        Self::NotSelected(config.selector.clone())
    }

    const fn mode(&self) -> Mode {
        match self {
            Self::NotSelected(_) => Mode::NotSelected,
            Self::CannotStart { .. } => Mode::CannotStart,
        }
    }

    const fn doing(&self) -> Doing {
        match self {
            Self::NotSelected(_) => Doing::Resting,
            Self::CannotStart { .. } => Doing::Waiting,
        }
    }

    /// What is said to whoever wants something of the node.
    fn refusal(&self) -> String {
        match self {
            Self::NotSelected(_) => {
                "not selected: this node is left out by [selector] of the mesh file, so nothing runs; \
                                     give it the labels that it asks for, then `meshd reload`"
                    .to_owned()
            }
            Self::CannotStart { again, .. } => again.clone(),
        }
    }

    fn health(&self) -> Option<Health> {
        match self {
            Self::NotSelected(_) => None,
            Self::CannotStart { again, .. } => Some(Health { severity: Severity::Error, text: again.clone() }),
        }
    }

    /// The cause, the verdict and the next step of a question why.
    fn explained(&self, name: &str) -> (&'static str, String, String) {
        match self {
            Self::NotSelected(labels) => {
                let absence = Absence::LeftOut(labels.clone());
                ("not_selected", format!("{}, so nothing runs here", absence.text(name)), absence.remedy(name))
            }
            Self::CannotStart { error, .. } => (
                "cannot_start",
                format!("{name} cannot start, so nothing runs here: {error}"),
                "remove what stands in its way: the start is tried again by itself".to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_cannot_start_says_what_stands_in_its_way_and_not_that_it_is_not_selected() {
        let hindrance =
            Hindrance::CannotStart { error: "the port is taken".to_owned(), again: "taken; again".to_owned() };
        assert_eq!((hindrance.mode(), hindrance.doing()), (Mode::CannotStart, Doing::Waiting));
        assert_eq!(hindrance.refusal(), "taken; again");
        assert_eq!(
            hindrance.health().map(|health| (health.severity, health.text)),
            Some((Severity::Error, hindrance.refusal()))
        );
        let (cause, verdict, _) = hindrance.explained("lab.one");
        assert_eq!(
            (cause, verdict.as_str()),
            ("cannot_start", "lab.one cannot start, so nothing runs here: the port is taken")
        );
    }
}
