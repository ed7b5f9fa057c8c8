//! Those who come with an invitation: whether they are let in, and how they come into the mesh file.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::edit::{EditError, MeshFile};
use proto::event::Event;
use proto::id::{PeerId, PublicKey};
use proto::invitation::{Invited, UnixTime};
use proto::wire::EnrolAnswer;

use crate::driver::Driver;
use crate::reload::{Cause, Reloads};
use crate::setup::files::socket_text;

/// Knocks that wait: each peer's question is answered before its next is read, and there are few invitations.
const MAX_KNOCKS: usize = 16;

/// Those who knock and have no answer yet.
#[derive(Default)]
pub(crate) struct Door {
    knocks: VecDeque<Knock>,
}

/// Somebody who wants to come in.
struct Knock {
    peer: PeerId,
    key: PublicKey,
    addresses: Vec<SocketAddr>,
}

impl Door {
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
    /// Answers all who knock. Who is let in is a member when the mesh has been loaded anew.
    pub(crate) fn answer_knocks(&mut self, reloads: &mut Reloads) {
        while let Some(knock) = self.door.knocks.pop_front() {
            let answer = self.decide(&knock);
            self.node.answer_enrolment(knock.peer, knock.key, answer, self.clock.now());
            // Before the session ends with its key.
            self.drain();
            if answer == EnrolAnswer::Accepted {
                reloads.begin(Cause::Enrolment, None);
            }
        }
    }

    fn decide(&self, knock: &Knock) -> EnrolAnswer {
        let Some(status) = self.node.peer_status(knock.peer) else { return EnrolAnswer::Void };
        let name = status.name.as_str();
        let config = self.baseline.config();
        if !config.invite.accept {
            let help = "put it into the mesh file, or set accept = true below [invite]";
            tracing::warn!(peer = name, key = %knock.key, "an invitation is used, and this node takes nobody by itself: {help}");
            return EnrolAnswer::NotByItself;
        }
        // The file knows until when; the core has looked at that.
        let invited = Invited { name: status.name.clone(), key: status.key, until: UnixTime(0) };
        let file = config.files.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
        match admit(file, config.node.mesh_file.as_deref(), &invited, knock) {
            Ok(()) => {
                tracing::info!(peer = name, key = %knock.key, "a new member has used its invitation");
                EnrolAnswer::Accepted
            }
            Err(error) => {
                tracing::error!(peer = name, key = %knock.key, %error, "a new member cannot be written into the mesh file");
                EnrolAnswer::Failed
            }
        }
    }
}
