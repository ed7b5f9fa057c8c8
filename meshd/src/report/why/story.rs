//! All that is known of one question, and the report that it makes.

use ipnet::IpNet;
use proto::explain::{Cause, Explanation, Side};

use super::super::names::{Absence, Unclear};
use crate::api::model::PathLine;
use crate::api::shared::SharedLine;
use crate::api::why::{Mark, StepLine, WhyQuery, WhyReport};
use crate::host::Way;

/// What is known; names and texts where the core has numbers.
pub(super) struct Story {
    /// As it was asked for.
    pub(super) wanted: String,
    pub(super) own: String,
    pub(super) mesh: String,
    /// The node's own.
    pub(super) interface: String,
    pub(super) sender: String,
    pub(super) receiver: Option<String>,
    /// Of sender and receiver, by this node's mesh file.
    pub(super) communities: [Vec<String>; 2],
    /// The prefix next to an address that nobody has, and whose it is.
    pub(super) nearest: Option<(String, String)>,
    /// What that one may announce to have the address.
    pub(super) room: Option<IpNet>,
    pub(super) shared: Option<SharedLine>,
    /// Where this machine sends packets for the address.
    pub(super) way: Way,
    /// What the host says of the prefix's route.
    pub(super) note: Option<String>,
    /// The path in use, in words.
    pub(super) path: Option<String>,
    /// Every candidate.
    pub(super) others: Vec<PathLine>,
    pub(super) tried: Option<Tried>,
    /// A public address that does not resolve, and why.
    pub(super) unresolved: Option<String>,
    /// Who was asked about the two.
    pub(super) helper: Option<String>,
    /// What the NAT before this node does.
    pub(super) nat: Option<&'static str>,
    /// What was dropped meanwhile, by reason.
    pub(super) drops: Vec<(String, u64)>,
    /// The receiver's, in this node's records.
    pub(super) key: Option<String>,
    pub(super) own_key: String,
    pub(super) told: Explanation,
}

/// A handshake without an answer.
pub(super) struct Tried {
    pub(super) count: u32,
    pub(super) seconds: u64,
    /// Where it went.
    pub(super) places: Vec<String>,
}

impl Story {
    /// The report.
    pub(super) fn report(&self) -> WhyReport {
        let cause = self.told.cause();
        WhyReport {
            version: 1,
            target: self.wanted.clone(),
            address: Some(self.told.address.to_string()),
            peer: self.receiver.clone(),
            from: self.sender.clone(),
            reaches: cause.is_good(),
            cause: cause.name().to_owned(),
            sides: self.sides(cause),
            verdict: self.verdict(cause),
            next: self.next(cause),
            steps: self.steps(cause),
            is_final: self.told.is_final,
        }
    }

    fn sides(&self, cause: Cause) -> Vec<String> {
        let (near, far) = (Some(self.sender.clone()), self.receiver.clone());
        let sides = match cause.side() {
            Side::Near => [near, None],
            Side::Far => [None, far],
            Side::Both if self.lacks_ours(cause) => [near, None],
            Side::Both => [near, far],
            Side::Between => [None, None],
        };
        sides.into_iter().flatten().collect()
    }

    /// The receiver's name, or what was asked for where nobody has it.
    pub(super) fn to(&self) -> &str {
        self.receiver.as_deref().unwrap_or(&self.wanted)
    }

    /// The communities that have both, by this node's mesh file.
    pub(super) fn common(&self) -> Vec<&str> {
        let [ours, theirs] = &self.communities;
        ours.iter().filter(|name| theirs.contains(name)).map(String::as_str).collect()
    }

    /// Whether another sender's mesh file is the cause for what it lacks, and this node's has it.
    pub(super) fn lacks_ours(&self, cause: Cause) -> bool {
        let has_address = cause == Cause::Unannounced && self.receiver.is_some();
        let has_community = cause == Cause::NoCommunity && !self.common().is_empty();
        self.sender != self.own && (has_address || has_community)
    }

    /// How the sender is spoken of.
    pub(super) fn of(&self) -> &str {
        if self.sender == self.own { "this node" } else { &self.sender }
    }
}

/// A name that means no member here.
pub(super) struct Missing {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) miss: Miss,
}

/// Whom a question names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Whose packets are meant.
    Sender,
    /// Where to.
    Target,
}

/// How a name is missing.
pub(super) enum Miss {
    /// It means no endpoint of the mesh file.
    Unclear(Unclear),
    /// The mesh file has it, and it takes no part.
    Absent(Absence),
}

impl Missing {
    pub(super) fn unclear(wanted: &str, role: Role, unclear: Unclear) -> Self {
        Self { name: wanted.to_owned(), role, miss: Miss::Unclear(unclear) }
    }

    /// What stands for a question that could not begin.
    pub(super) fn nobody() -> Self {
        Self::unclear("", Role::Target, Unclear::Nobody(None))
    }

    /// The report.
    pub(super) fn report(&self, query: &WhyQuery, own: &str) -> WhyReport {
        let verdict = self.verdict();
        WhyReport {
            version: 1,
            target: query.target.clone(),
            address: None,
            peer: None,
            from: query.from.clone().unwrap_or_else(|| own.to_owned()),
            reaches: false,
            cause: self.cause().to_owned(),
            sides: vec![self.side(own)],
            steps: vec![StepLine {
                side: own.to_owned(),
                step: "target".to_owned(),
                mark: Mark::Fails,
                text: verdict.clone(),
            }],
            verdict,
            next: Some(self.next(query)),
            is_final: true,
        }
    }

    const fn cause(&self) -> &'static str {
        match (&self.miss, self.role) {
            (Miss::Unclear(_), Role::Sender) => "unknown_sender",
            (Miss::Unclear(_), Role::Target) => "unknown_name",
            (Miss::Absent(Absence::Invited(_) | Absence::Expired(_)), _) => "invited",
            (Miss::Absent(Absence::LeftOut(_)), _) => "not_selected",
        }
    }

    /// Who may join, has to; all else is up to this node's mesh file.
    fn side(&self, own: &str) -> String {
        if matches!(self.miss, Miss::Absent(Absence::Invited(_))) { self.name.clone() } else { own.to_owned() }
    }

    fn verdict(&self) -> String {
        let name = &self.name;
        match &self.miss {
            Miss::Unclear(Unclear::Several(all)) => format!("{name} may be {}", all.join(" or ")),
            Miss::Unclear(Unclear::Nobody(_)) => format!("the mesh file of this node has no endpoint {name}"),
            Miss::Absent(absence) => absence.text(name),
        }
    }

    fn next(&self, query: &WhyQuery) -> String {
        let again = |name: &str| match self.role {
            Role::Sender => format!("meshd why {} --from {name}", query.target),
            Role::Target => format!("meshd why {name}"),
        };
        match &self.miss {
            Miss::Unclear(Unclear::Several(all)) => again(all.first().map_or("", String::as_str)),
            Miss::Unclear(Unclear::Nobody(Some(near))) => {
                format!("{}    # if that was meant{}", again(near), self.elsewhere())
            }
            Miss::Unclear(Unclear::Nobody(None)) => {
                format!("meshd status    # the names that there are{}", self.elsewhere())
            }
            Miss::Absent(absence) => absence.remedy(&self.name),
        }
    }

    /// A node that has joined has the mesh file that its invitation made: it knows who invited it, and nobody else.
    fn elsewhere(&self) -> String {
        let name = &self.name;
        format!("\nif another node's mesh file has {name}: copy that file to this node, then meshd reload")
    }
}
