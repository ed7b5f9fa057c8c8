//! Those who come with an invitation: whether they are let in, and how they come into the mesh file.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::edit::{EditError, MeshFile};
use proto::event::Event;
use proto::id::{PeerId, PublicKey};
use proto::invitation::{Invited, UnixTime};
use proto::wire::EnrolAnswer;

use crate::daemon;
use crate::driver::Driver;
use crate::setup::files::socket_text;
use crate::sys::heap;

/// Knocks that wait: each peer's question is answered before its next is read, and there are few invitations.
const MAX_KNOCKS: usize = 16;

/// What becomes of those who come with an invitation.
pub(crate) struct Door {
    accepts: bool,
    /// `meshd.toml`.
    node_file: PathBuf,
    mesh_file: Option<PathBuf>,
    /// Of the device, for the routes of who was let in.
    mtu: u16,
    knocks: VecDeque<Knock>,
}

/// Somebody who wants to come in.
struct Knock {
    peer: PeerId,
    key: PublicKey,
    addresses: Vec<SocketAddr>,
}

impl Door {
    pub(crate) fn new(config: &config::Config, mtu: u16) -> Self {
        Self {
            accepts: config.invite.accept,
            node_file: config.files.first().cloned().unwrap_or_default(),
            mesh_file: config.node.mesh_file.clone(),
            mtu,
            knocks: VecDeque::new(),
        }
    }

    /// Notes who wants to come in. Who finds no room asks again.
    pub(crate) fn note(&mut self, event: &Event) {
        if let Event::EnrolWanted { peer, key, addresses } = event
            && self.knocks.len() < MAX_KNOCKS
        {
            self.knocks.push_back(Knock { peer: *peer, key: *key, addresses: addresses.clone() });
        }
    }
}

/// Writes who was invited into the mesh file as a member.
fn admit(node: &Path, mesh: Option<&Path>, invited: &Invited, knock: &Knock) -> Result<(), EditError> {
    let mut file = MeshFile::open(node, mesh)?;
    let addresses: Vec<String> = knock.addresses.iter().map(|address| socket_text(*address)).collect();
    file.enrol(invited, knock.key, &addresses)?;
    file.save()
}

impl Driver {
    /// Answers all who knock.
    pub(crate) async fn answer_knocks(&mut self) {
        while let Some(knock) = self.door.knocks.pop_front() {
            let answer = self.decide(&knock);
            self.node.answer_enrolment(knock.peer, knock.key, answer, self.clock.now());
            // Before the session ends with its key.
            self.drain();
            if answer == EnrolAnswer::Accepted {
                self.enrolled().await;
            }
        }
    }

    fn decide(&self, knock: &Knock) -> EnrolAnswer {
        let Some(status) = self.node.peer_status(knock.peer) else { return EnrolAnswer::Void };
        let name = status.name.as_str();
        if !self.door.accepts {
            let help = "put it into the mesh file, or set accept = true below [invite]";
            tracing::warn!(name, key = %knock.key, "an invitation is used, and this node takes nobody by itself: {help}");
            return EnrolAnswer::NotByItself;
        }
        // The file knows until when; the core has looked at that.
        let invited = Invited { name: status.name.clone(), key: status.key, until: UnixTime(0) };
        match admit(&self.door.node_file, self.door.mesh_file.as_deref(), &invited, knock) {
            Ok(()) => {
                tracing::info!(name, key = %knock.key, "a new member has used its invitation");
                EnrolAnswer::Accepted
            }
            Err(error) => {
                tracing::error!(name, key = %knock.key, %error, "a new member cannot be written into the mesh file");
                EnrolAnswer::Failed
            }
        }
    }

    /// Takes the mesh as its file has it now.
    async fn enrolled(&mut self) {
        let config = match config::load(&self.door.node_file) {
            Ok(config) => config,
            Err(problems) => return tracing::error!(%problems, "the changed mesh cannot be read"),
        };
        self.node.handle_registry(&config.members, self.clock.now());
        self.node.handle_invitations(&config.invited, self.clock.now());
        self.reporter.know(&config.members);
        self.drain();
        if let Err(error) = self.host.configure(&daemon::plan(&config, self.door.mtu)).await {
            tracing::error!(%error, "routes could not be brought up to date");
        }
        drop(config);
        heap::trim();
    }
}
