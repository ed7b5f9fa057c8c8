//! Taking over a configuration that was loaded anew, as one transaction: what can fail is done first, and is undone where it did.

use config::{Changes, Config, Key};
use proto::id::PeerId;

use super::{Refusal, Reloads, told};
use crate::api::exporter;
use crate::api::reload::ReloadReport;
use crate::driver::Driver;
use crate::lan::Lan;
use crate::nat::{Pace, Port};
use crate::report::events::EventKind;
use crate::settings;
use crate::sys::heap;
use crate::tls::Prepared;

/// What was said of a configuration for another node.
const ANOTHER_NODE: &str = "this node is another one by its new configuration, so nothing of that was applied: restart meshd, which then starts as that";

/// What is ready to be taken over without a failure.
struct Ready {
    tls: Prepared,
    metrics: exporter::Prepared,
    /// For what asks servers, and for beacons.
    seeds: [[u8; 32]; 2],
    /// For STUN, where other servers are to be asked.
    port: Option<Port>,
}

impl Driver {
    /// Takes over what was loaded, and ends the reload. What is returned deselects this machine; the reload ends when that is done.
    pub(crate) async fn take_over(
        &mut self,
        loaded: Result<Box<Config>, Refusal>,
        reloads: &mut Reloads,
    ) -> Option<Box<Config>> {
        let mut config = match loaded {
            Ok(config) => config,
            Err(error) => {
                self.note_reload(&Err(error.clone()));
                reloads.finish(Err(error));
                return None;
            }
        };
        if !config.selected {
            let report = ReloadReport::of("not selected any more: the node stops");
            self.note_reload(&Ok(report.clone()));
            reloads.outcome(report, &mut config);
            return Some(config);
        }
        let changes = self.baseline.changes(&config, |name| self.reporter.is_member(name));
        if !changes.identity.is_empty() {
            let needs_restart = names(changes.restart.iter().chain(&changes.hot));
            let text =
                format!("held back, for it makes this node another one; needs a restart: {}", needs_restart.join(", "));
            self.reporter.note(EventKind::Reload, None, text);
            reloads.finish(Ok(ReloadReport {
                needs_restart,
                notes: vec![ANOTHER_NODE.to_owned()],
                ..ReloadReport::default()
            }));
            return None;
        }
        let config = Box::new(self.baseline.settle(*config));
        let result = self.transact(config, &changes, reloads).await;
        // It has listed every route of the machine and the mesh.
        heap::trim();
        self.note_reload(&result);
        reloads.finish(result);
        None
    }

    fn note_reload(&mut self, result: &Result<ReloadReport, Refusal>) {
        self.reporter.note(EventKind::Reload, None, told(result));
    }

    async fn transact(
        &mut self,
        config: Box<Config>,
        changes: &Changes,
        reloads: &mut Reloads,
    ) -> Result<ReloadReport, Refusal> {
        let mut report =
            ReloadReport { applied: changes.hot_lines(), needs_restart: names(&changes.restart), notes: Vec::new() };
        if !changes.is_any_hot() {
            // Where they stand in the file may have changed all the same, and so may the names of files.
            report.notes = self.reporter.set_warnings(settings::warnings(&config, &self.facts));
            reloads.watch(&config);
            return Ok(report);
        }
        let ready = self.prepare(&config, changes)?;
        let plan = settings::plan(&config, self.facts.mtu);
        self.host.reconfigure(&plan).await.map_err(|error| format!("{error}; nothing is changed"))?;
        self.commit(&config, changes, ready).await;
        report.notes = self.reporter.note_withheld(&self.host.notes());
        report.notes.extend(self.reporter.set_warnings(settings::warnings(&config, &self.facts)));
        report.notes.extend(reloads.set_level(config.log.level));
        reloads.watch(&config);
        self.baseline = config::Baseline::of(*config);
        Ok(report)
    }

    /// What can fail, without changing anything.
    fn prepare(&mut self, config: &Config, changes: &Changes) -> Result<Ready, String> {
        let seeds = [settings::seed()?, settings::seed()?];
        let port = if has(changes, "nat", "stun_servers") {
            let sender =
                self.sender.try_clone().map_err(|error| format!("no socket to ask STUN servers by: {error}"))?;
            Some(Port { sender, awaited: self.published.load().awaited.clone(), clock: self.clock })
        } else {
            None
        };
        let tls = self.tls.prepare(&settings::tls_places(config));
        let tls = tls.map_err(|(at, error)| settings::tls_error(at, &error))?;
        let metrics = self.exporter.prepare(config.metrics.listen)?;
        Ok(Ready { tls, metrics, seeds, port })
    }

    /// What cannot. The core comes first, and the table that it makes is out before anything waits.
    async fn commit(&mut self, config: &Config, changes: &Changes, ready: Ready) {
        let now = self.clock.now();
        if let Some(settings) = settings::node(config, &self.facts) {
            self.node.handle_settings(settings, now);
        }
        if changes.is_mesh_other {
            self.commit_mesh(config);
        }
        self.drain();
        self.tls.serve(ready.tls);
        self.exporter.serve(ready.metrics);
        self.health.renew(&config.health);
        self.commit_nat(config, changes, ready.port, ready.seeds[0]);
        self.commit_lan(config, ready.seeds[1]);
        self.drain();
        self.route_neighbours().await;
        self.tell_lans().await;
        self.tell_reach().await;
    }

    fn commit_mesh(&mut self, config: &Config) {
        let now = self.clock.now();
        let gone = self.node.handle_registry(&config.members, now);
        self.end_pings(&gone);
        let endpoints = || config.members.endpoints.iter();
        for relay in self.tls.know(endpoints(), |name| self.node.peer_id(name)) {
            self.node.handle_carrier(relay, None, now);
        }
        self.resolver.renew(endpoints(), |name| self.node.peer_id(name));
        // Before anybody else has a number that is free now: what is still to be said is of those who had it.
        self.drain();
        let status = settings::node_status(config, &self.facts);
        self.reporter.renew(status, config, |name| self.node.peer_id(name));
        self.end_trace_of_others();
        self.node.handle_invitations(&config.invited, config::unix_now(), now);
        self.replay_neighbours();
    }

    fn end_pings(&mut self, gone: &[PeerId]) {
        let over: Vec<u64> =
            self.pings.iter().filter(|(_, (peer, _))| gone.contains(peer)).map(|(token, _)| *token).collect();
        for (_, answer) in over.into_iter().filter_map(|token| self.pings.remove(&token)) {
            let _ = answer.send(Err("it was removed from the mesh meanwhile".to_owned()));
        }
    }

    fn commit_nat(&mut self, config: &Config, changes: &Changes, port: Option<Port>, seed: [u8; 32]) {
        let settings = settings::nat(config, self.facts.port, seed);
        let is_mapping = has(changes, "nat", "port_mapping");
        if is_mapping {
            self.nat.ask_gateways(settings.mapped_port, Pace::default());
            self.outer.forget_mapped();
            self.reporter.forget_mapped();
        }
        if let Some(port) = port {
            self.nat.ask_servers(settings, port);
            self.outer.forget_seen();
        } else if !is_mapping {
            return;
        }
        self.node.handle_outer(&self.outer.addresses(), self.clock.now());
    }

    fn commit_lan(&mut self, config: &Config, seed: [u8; 32]) {
        if Lan::is_same_task(&self.baseline.config().lan, &config.lan) {
            return self.lan.set_config(&config.lan);
        }
        let settings = settings::lan(config, self.facts.port, seed);
        self.replace_lan(Lan::start(settings, self.node.drops(), self.clock));
    }
}

fn has(changes: &Changes, table: &str, key: &str) -> bool {
    changes.hot.iter().any(|changed| changed.table == table && changed.key == key)
}

fn names<'k>(keys: impl IntoIterator<Item = &'k Key>) -> Vec<String> {
    keys.into_iter().map(Key::to_string).collect()
}
