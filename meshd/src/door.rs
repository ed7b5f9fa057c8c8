//! Those who come with an invitation: whether they are let in, and how they come into the mesh file.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::edit::{EditError, Enrolment, MeshFile};
use proto::event::Event;
use proto::id::{EndpointName, PeerId, PublicKey};
use proto::wire::EnrolAnswer;

use crate::driver::{Driver, Often};
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
    /// Notes who wants to come in, once. Who finds no room asks again.
    pub(crate) fn note(&mut self, event: &Event) {
        if let Event::EnrolWanted { peer, key, addresses } = event
            && self.knocks.len() < MAX_KNOCKS
            && !self.knocks.iter().any(|knock| (knock.peer, knock.key) == (*peer, *key))
        {
            self.knocks.push_back(Knock { peer: *peer, key: *key, addresses: addresses.clone() });
        }
    }
}

/// Writes who was invited with the key `invitation` into the mesh file as a member. Does not wait for whoever else changes that: the
/// driver has more to do.
fn admit(
    files: (&Path, Option<&Path>),
    name: &EndpointName,
    invitation: PublicKey,
    knock: &Knock,
) -> Result<(), EditError> {
    let mut file = MeshFile::open(files.0, files.1, Duration::ZERO)?;
    let places: Vec<String> = knock.addresses.iter().map(|address| socket_text(*address)).collect();
    let enrolment = Enrolment { name, invitation, key: knock.key, public_addresses: &places };
    // By the clock as it is now: the core's has run by itself since the mesh was loaded.
    file.enrol(&enrolment, config::unix_now())?;
    file.save()
}

impl Driver {
    /// Answers all who knock. Who is let in is a member when the mesh has been loaded anew.
    pub(crate) fn answer_knocks(&mut self, reloads: &mut Reloads) {
        while let Some(knock) = self.door.knocks.pop_front() {
            let Some(answer) = self.decide(&knock) else { continue };
            self.node.answer_enrolment(knock.peer, knock.key, answer, self.clock.now());
            // Before the session ends with its key.
            self.drain();
            if answer == EnrolAnswer::Accepted {
                reloads.begin(Cause::Enrolment, None);
            }
        }
    }

    /// What to say; `None` where it cannot be told yet.
    fn decide(&mut self, knock: &Knock) -> Option<EnrolAnswer> {
        let Some(status) = self.node.peer_status(knock.peer) else { return Some(EnrolAnswer::Void) };
        let config = self.baseline.config();
        let result = if config.invite.accept {
            let file = config.files.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
            Some(admit((file, config.node.mesh_file.as_deref()), &status.name, status.key, knock))
        } else {
            None
        };
        self.tell(&status.name, knock, result.as_ref());
        answer(result.as_ref())
    }

    /// Says in the log what became of a knock: a line where somebody came in, otherwise as often as the holder of an invitation may fill it.
    fn tell(&mut self, name: &EndpointName, knock: &Knock, result: Option<&Result<(), EditError>>) {
        let (peer, key) = (name.as_str(), &knock.key);
        if let Some(Ok(())) = result {
            tracing::info!(peer, %key, "a new member has used its invitation");
            return;
        }
        let Some(left_out) = self.often.pass(Often::Knocked(knock.peer)) else { return };
        match result {
            Some(Err(error)) => {
                tracing::error!(peer, %key, %error, left_out, "a new member cannot be written into the mesh file");
            }
            Some(Ok(())) | None => {
                let help = "put it into the mesh file, or set accept = true below [invite]";
                tracing::warn!(peer, %key, left_out, "an invitation is used, and this node takes nobody by itself: {help}");
            }
        }
    }
}

/// The answer to what became of a knock; who finds the mesh file in use has none yet, and asks again.
fn answer(result: Option<&Result<(), EditError>>) -> Option<EnrolAnswer> {
    match result {
        None => Some(EnrolAnswer::NotByItself),
        Some(Ok(())) => Some(EnrolAnswer::Accepted),
        Some(Err(EditError::Busy(_))) => None,
        Some(Err(EditError::Expired { .. })) => Some(EnrolAnswer::Void),
        Some(Err(_)) => Some(EnrolAnswer::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_twice_before_the_answer_waits_once_and_no_more_wait_than_there_is_room_for() {
        let mut door = Door::default();
        let wanted = |peer: u32, byte: u8| Event::EnrolWanted {
            peer: PeerId(peer),
            key: PublicKey([byte; 32]),
            addresses: Vec::new(),
        };
        for _ in 0..2 {
            door.note(&wanted(1, 1));
        }
        door.note(&wanted(1, 2));
        assert_eq!(door.knocks.len(), 2);
        (0..40).for_each(|peer| door.note(&wanted(peer, 3)));
        assert_eq!(door.knocks.len(), MAX_KNOCKS);
    }

    #[test]
    fn who_finds_the_file_in_use_is_not_refused_and_an_expired_invitation_is_void() {
        let (path, name) = (PathBuf::from("mesh.toml"), "lab.two".parse().unwrap());
        assert_eq!(answer(Some(&Err(EditError::Busy(path.clone())))), None);
        assert_eq!(answer(Some(&Err(EditError::Expired { path, name }))), Some(EnrolAnswer::Void));
        assert_eq!(answer(None), Some(EnrolAnswer::NotByItself));
    }
}
