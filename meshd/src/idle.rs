//! A daemon whose machine is not selected to run the node: it answers questions, and waits to be selected.

use config::Config;

use crate::api::model::{NodeStatus, Status};
use crate::api::netcheck::NetCheck;
use crate::api::reload::ReloadReport;
use crate::api::server::Call;
use crate::api::why::{WhyQuery, WhyReport};
use crate::daemon::Life;
use crate::driver::End;
use crate::reload::{Cause, Reloads};
use crate::settings;
use crate::signals::Order;
use crate::supervisor;

/// What is said to whoever wants something of the node.
const NOT_SELECTED: &str = "this machine is not selected to run the node, so nothing runs; select it in the configuration, then `meshd reload`";

/// Rests until a signal stops the daemon, or the configuration selects this machine.
pub(crate) async fn rest(config: Config, life: &mut Life) -> End {
    let resting = Resting::of(&config);
    // What was done to the machine has been undone; the mesh is of no use meanwhile.
    drop(config);
    life.reloads.finish_if_open();
    tracing::info!("not selected: nothing runs until the configuration selects this machine");
    resting.rest(life).await
}

/// What a daemon at rest tells of its node.
pub(crate) struct Resting {
    node: NodeStatus,
    warnings: Vec<String>,
}

impl Resting {
    /// The node of this configuration, without a device.
    pub(crate) fn of(config: &Config) -> Self {
        Self { node: settings::idle_status(config), warnings: config.warnings.clone() }
    }

    /// As [`rest`], of a node that could not start, perhaps.
    pub(crate) async fn rest(mut self, life: &mut Life) -> End {
        let mut watchdog = supervisor::watchdog();
        supervisor::ready();
        loop {
            tokio::select! {
                order = life.signals.next() => match order {
                    Order::Stop(signal) => {
                        tracing::info!(signal, "stopping");
                        return End::Stopped;
                    }
                    Order::Reload => life.reloads.begin(Cause::Signal, None),
                },
                Some(call) = life.calls.recv() => self.answer(call, &mut life.reloads),
                () = watchdog.due() => watchdog.ping(supervisor::Doing::Resting),
                loaded = life.reloads.loaded() => match loaded {
                    Err(error) => life.reloads.finish(Err(error)),
                    Ok(config) if config.selected => {
                        life.reloads.outcome(ReloadReport::of("selected: the node starts"), &config);
                        return End::Other(config);
                    }
                    Ok(config) => {
                        self = Self::of(&config);
                        life.reloads.watch(&config);
                        life.reloads.outcome(ReloadReport::of("still not selected: nothing runs"), &config);
                        life.reloads.finish_if_open();
                    }
                },
            }
        }
    }

    fn answer(&self, call: Call, reloads: &mut Reloads) {
        match call {
            Call::Status(answer) => drop(answer.send(self.status(reloads))),
            Call::Peer { answer, .. } => drop(answer.send(Err(NOT_SELECTED.to_owned()))),
            Call::Ping { answer, .. } => drop(answer.send(Err(NOT_SELECTED.to_owned()))),
            Call::NetCheck(answer) => drop(answer.send(NetCheck::unknown(&self.node.name))),
            Call::Metrics(answer) => drop(answer.send(Err(NOT_SELECTED.to_owned()))),
            Call::Events { answer, .. } => drop(answer.send(Vec::new())),
            Call::Follow { answer, .. } => drop(answer.send(Err(NOT_SELECTED.to_owned()))),
            Call::Trace { answer, .. } => drop(answer.send(Err(NOT_SELECTED.to_owned()))),
            Call::Why { query, answer } => drop(answer.send((self.why(&query), query))),
            Call::Measure => {}
            Call::Reload(answer) => reloads.begin(Cause::Call, Some(answer)),
        }
    }

    fn why(&self, query: &WhyQuery) -> WhyReport {
        WhyReport {
            version: 1,
            target: query.target.clone(),
            address: None,
            peer: None,
            from: query.from.clone().unwrap_or_else(|| self.node.name.clone()),
            reaches: false,
            cause: "not_selected".to_owned(),
            sides: vec![self.node.name.clone()],
            verdict: format!("{} is not selected to run the node, so nothing runs here", self.node.name),
            next: Some(
                "give its [[endpoint]] the labels of [selector] in the mesh file, then `meshd reload`".to_owned(),
            ),
            steps: Vec::new(),
            is_final: true,
        }
    }

    fn status(&self, reloads: &Reloads) -> Status {
        let mut status = Status::idle(self.node.clone(), &self.warnings);
        status.note_reloads(reloads);
        status
    }
}
