//! The task: beacons out when a round is due, beacons in at a bounded pace, and news to the driver.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::id::{MeshId, PublicKey};
use proto::lan::{BeaconKey, Settings, Token, WallTime};
use proto::stats::DropCounters;
use proto::wire::BEACON_LEN;
use tokio::sync::{mpsc, oneshot, watch};

use super::sockets::{Groups, Received, Sockets};
use super::{LanNews, LanPicture, LanSettings, Place};
use crate::clock::Clock;
use crate::host::LanLink;

/// Datagrams read in one go; then the task rests for [`PAUSE`]. Together 3,200 a second: more than all neighbours send, and
/// for a flood 1 % of a core.
const READ_BATCH: u32 = 32;

/// How long the sockets are left alone after a batch. What does not fit their buffers meanwhile the kernel drops.
const PAUSE: Duration = Duration::from_millis(10);

/// The task's ends of what connects it with its handle.
pub(super) struct Ends {
    pub(super) links: watch::Receiver<Vec<LanLink>>,
    pub(super) news: mpsc::Sender<LanNews>,
    pub(super) picture: watch::Sender<LanPicture>,
}

struct Task {
    machine: proto::lan::Lan,
    sockets: Sockets,
    ends: Ends,
    clock: Clock,
    told: BTreeMap<PublicKey, Vec<Place>>,
    /// Something was heard, or lost, that has not been told.
    is_news: bool,
    /// Datagrams that may still be read before a rest, and when that is over.
    credit: u32,
    rest_until: Option<tokio::time::Instant>,
}

/// Runs until its handle is dropped.
pub(super) async fn run(settings: LanSettings, ends: Ends, drops: Arc<DropCounters>, clock: Clock) {
    let LanSettings { config, token, mesh, public_key, port, seed } = settings;
    let Some(key) = derive(token, mesh).await else {
        return tracing::error!(
            "no key could be made of [lan] multicast_token: this node does not look for neighbours"
        );
    };
    let settings = Settings { key, public_key, mesh, port, interval: config.interval, ttl: config.ttl };
    let machine = proto::lan::Lan::new(settings, drops, seed, clock.now());
    let sockets = Sockets::new(Groups { v4: config.group4, v6: config.group6 });
    let told = BTreeMap::new();
    Task { machine, sockets, ends, clock, told, is_news: false, credit: READ_BATCH, rest_until: None }.run().await;
}

/// Eight hex digits take up to a second, and the thread of the control plane has other things to do.
async fn derive(token: Token, mesh: MeshId) -> Option<BeaconKey> {
    let (sender, key) = oneshot::channel();
    let work = move || drop(sender.send(token.key(&mesh)));
    std::thread::Builder::new().name("lan-token".to_owned()).spawn(work).ok()?;
    key.await.ok().flatten()
}

impl Task {
    async fn run(mut self) {
        let mut buffer = [0; BEACON_LEN + 1];
        self.set_links();
        loop {
            let due = self.clock.at(self.machine.poll_timeout());
            let rest = self.rest_until;
            tokio::select! {
                changed = self.ends.links.changed() => match changed {
                    Ok(()) => self.set_links(),
                    Err(_) => return,
                },
                received = self.sockets.receive(&mut buffer), if rest.is_none() => self.handle(&buffer, &received),
                () = tokio::time::sleep_until(rest.unwrap_or(due)), if rest.is_some() => {
                    (self.credit, self.rest_until) = (READ_BATCH, None);
                }
                () = tokio::time::sleep_until(due) => {
                    self.machine.handle_timeout(self.clock.now());
                    self.is_news = true;
                }
            }
            self.send_round();
            if self.tell().await.is_none() {
                return;
            }
        }
    }

    fn set_links(&mut self) {
        let links = self.ends.links.borrow_and_update().clone();
        let before = self.sockets.count();
        self.sockets.set_links(&links);
        if self.sockets.count() > before {
            // Who is there already need not wait for a round.
            self.send_each();
        }
        self.show_interfaces();
    }

    fn handle(&mut self, buffer: &[u8], received: &Received) {
        self.credit -= 1;
        if self.credit == 0 {
            self.rest_until = Some(tokio::time::Instant::now() + PAUSE);
        }
        let Some(datagram) = buffer.get(..received.len) else { return };
        let (source, interface) = (received.source, received.interface);
        let heard = self.machine.handle_beacon(datagram, source, interface, self.clock.now(), wall());
        self.is_news |= matches!(heard, Ok(Some(_)));
        if heard.is_ok() {
            self.ends.picture.send_modify(|picture| picture.heard += 1);
        }
    }

    fn send_round(&mut self) {
        if self.machine.poll_round() {
            self.sockets.join();
            self.show_interfaces();
            self.send_each();
        }
    }

    fn send_each(&mut self) {
        let machine = &mut self.machine;
        self.sockets.send_each(|| machine.beacon(wall()));
    }

    fn show_interfaces(&self) {
        self.ends.picture.send_modify(|picture| picture.interfaces = self.sockets.picture());
    }

    /// Tells what is not as it was told last. Only where a neighbour's own beacons came from counts: what else it named is no
    /// place on this LAN, and comes inside the session from who has proven its key. `None`: nobody is there any more.
    async fn tell(&mut self) -> Option<()> {
        while self.machine.poll_event().is_some() {}
        if !std::mem::take(&mut self.is_news) {
            return Some(());
        }
        let places = |neighbour: proto::lan::Neighbour<'_>| {
            let place = |seen: &proto::lan::Sighting| Place { address: seen.address, interface: seen.interface };
            let mut places: Vec<Place> = neighbour.sightings.iter().map(place).collect();
            places.sort_by_key(|place| (place.address, place.interface));
            (neighbour.key, places)
        };
        let near: BTreeMap<PublicKey, Vec<Place>> = self.machine.neighbours().map(places).collect();
        if near == self.told {
            return Some(());
        }
        let lost = self.told.keys().filter(|key| !near.contains_key(key)).map(|key| (*key, Vec::new()));
        let news = near.iter().filter(|(key, places)| self.told.get(key) != Some(places));
        let news: Vec<_> = lost.chain(news.map(|(key, places)| (*key, places.clone()))).collect();
        self.ends.picture.send_modify(|picture| picture.neighbours.clone_from(&near));
        self.told = near;
        for (key, places) in news {
            self.ends.news.send(LanNews { key, places }).await.ok()?;
        }
        Some(())
    }
}

fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
