//! Keeps one gateway's mapping: asks, renews at half of its lifetime, asks less and less often where there is none.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::asker::Asker;
use super::{Backoff, Mapping, Pace};
use crate::nat::NatEvent;
use crate::nat::public::is_public;
use crate::nat::status::Outlet;

/// What to do with the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Keep a mapping on it; sent again: ask now.
    Keep,
    /// It is no gateway any more: forget it.
    Leave,
    /// Delete the mapping, and end.
    Delete,
}

/// Works until it is told to leave or to delete.
pub(super) async fn run(asker: Asker, mut task: watch::Receiver<Task>, outlet: Outlet) {
    let pace = asker.pace();
    let mut keeper = Keeper { asker, pace, backoff: Backoff::new(pace), held: None, outlet };
    let end = loop {
        task.mark_unchanged();
        let asked = tokio::select! {
            biased;
            end = ended(&mut task) => Err(end),
            wait = keeper.ask() => Ok(wait),
        };
        let wait = match asked {
            Ok(wait) => wait,
            Err(end) => break end,
        };
        // A timer far away costs nothing; a change of the network ends it.
        let changed = tokio::time::timeout(wait, task.changed()).await;
        if let Ok(changed) = changed {
            keeper.backoff.reset();
            let end = if changed.is_ok() { *task.borrow_and_update() } else { Task::Leave };
            if end != Task::Keep {
                break end;
            }
        }
    };
    keeper.end(end).await;
}

/// Waits for the order to leave or to delete. An order to ask is not lost by it: it asks what the keeper is at anyway.
async fn ended(task: &mut watch::Receiver<Task>) -> Task {
    task.wait_for(|task| *task != Task::Keep).await.map_or(Task::Leave, |task| *task)
}

struct Keeper {
    asker: Asker,
    pace: Pace,
    backoff: Backoff,
    /// The mapping, and when it ends.
    held: Option<(Mapping, Instant)>,
    outlet: Outlet,
}

impl Keeper {
    /// Asks once, all protocols if need be, and returns how long to wait before the next time.
    async fn ask(&mut self) -> Duration {
        match self.asker.map(self.held.map(|(mapping, _)| mapping)).await {
            Ok(mapping) => {
                self.backoff.reset();
                self.hold(mapping).await;
                (mapping.lifetime.min(self.pace.lifetime) / 2).max(self.pace.soonest)
            }
            Err(error) => {
                tracing::debug!(gateway = %self.asker.gateway().address, error, "no port mapping");
                self.outlet.show_gateway(self.asker.gateway(), |shown| shown.last_error = Some(error));
                self.after_failure().await
            }
        }
    }

    async fn hold(&mut self, mapping: Mapping) {
        let before = self.held.replace((mapping, Instant::now() + mapping.lifetime.min(self.pace.lifetime)));
        let Mapping { protocol, external, lifetime } = mapping;
        let is_public = is_public(external.ip());
        if before.map(|(before, _)| before.external) != Some(external) {
            let gateway = self.asker.gateway().address;
            tracing::info!(%gateway, %protocol, address = %external, is_public, "port mapped");
            if let Some((before, _)) = before {
                self.tell_unmapped(before).await;
            }
        }
        self.outlet.show_gateway(self.asker.gateway(), |shown| {
            (shown.protocol, shown.external, shown.is_public) = (Some(protocol), Some(external), is_public);
            shown.last_error = None;
        });
        // What another NAT hides would only make peers wait.
        if is_public {
            self.outlet.tell(NatEvent::Mapped { protocol, external, lifetime }).await;
        }
    }

    /// While a mapping has time left, it is tried again at half of that.
    async fn after_failure(&mut self) -> Duration {
        let left = self.held.map_or(Duration::ZERO, |(_, end)| end.saturating_duration_since(Instant::now()));
        if left > self.pace.soonest {
            return left / 2;
        }
        if !left.is_zero() {
            return left;
        }
        self.forget().await;
        self.backoff.next()
    }

    async fn forget(&mut self) {
        let Some((mapping, _)) = self.held.take() else { return };
        tracing::info!(gateway = %self.asker.gateway().address, address = %mapping.external, "port mapping is gone");
        self.outlet.show_gateway(self.asker.gateway(), |shown| {
            (shown.protocol, shown.external, shown.is_public) = (None, None, false);
        });
        self.tell_unmapped(mapping).await;
    }

    async fn tell_unmapped(&self, Mapping { external, .. }: Mapping) {
        if is_public(external.ip()) {
            self.outlet.tell(NatEvent::Unmapped { external }).await;
        }
    }

    async fn end(mut self, task: Task) {
        let held = self.held.map(|(mapping, _)| mapping);
        if let (Task::Delete, Some(mapping)) = (task, held)
            && let Err(error) = self.asker.unmap(mapping).await
        {
            tracing::debug!(gateway = %self.asker.gateway().address, %error, "port mapping not deleted");
        }
        self.forget().await;
        self.outlet.hide_gateway(self.asker.gateway());
    }
}
