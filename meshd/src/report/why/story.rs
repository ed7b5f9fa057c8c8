//! All that is known of one question, and the report that it makes.

use proto::explain::{Cause, Explanation, Side};

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
    /// Of sender and receiver.
    pub(super) communities: [Vec<String>; 2],
    /// The prefix next to an address that nobody has, and whose it is.
    pub(super) nearest: Option<(String, String)>,
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
            Side::Both => [near, far],
            Side::Between => [None, None],
        };
        sides.into_iter().flatten().collect()
    }

    /// The receiver's name, or what was asked for where nobody has it.
    pub(super) fn to(&self) -> &str {
        self.receiver.as_deref().unwrap_or(&self.wanted)
    }

    /// How the sender is spoken of.
    pub(super) fn of(&self) -> &str {
        if self.sender == self.own { "this node" } else { &self.sender }
    }
}

/// A name that is nobody's here.
pub(super) struct Missing {
    pub(super) name: String,
    pub(super) is_sender: bool,
    pub(super) miss: Miss,
}

/// How a name is missing.
pub(super) enum Miss {
    /// The mesh file does not have it.
    Unknown { nearest: Option<String> },
    /// The mesh file has it, and this node leaves it out.
    Unselected,
}

impl Missing {
    /// What stands for a question that could not begin.
    pub(super) fn nobody() -> Self {
        Self { name: String::new(), is_sender: false, miss: Miss::Unknown { nearest: None } }
    }

    /// The report.
    pub(super) fn report(&self, query: &WhyQuery, own: &str) -> WhyReport {
        let name = &self.name;
        let (cause, verdict, next) = match &self.miss {
            Miss::Unknown { nearest } => (
                if self.is_sender { "unknown_sender" } else { "unknown_name" },
                format!("the mesh file of this node has no endpoint {name}"),
                nearest.as_ref().map_or("meshd status    # the names that there are".to_owned(), |near| {
                    let again = if self.is_sender { format!("{} --from {near}", query.target) } else { near.clone() };
                    format!("meshd why {again}    # if that was meant")
                }),
            ),
            Miss::Unselected => (
                "not_selected",
                format!("the mesh file has {name}, and this node's selection leaves it out"),
                format!("let the selection in meshd.toml of {own} take {name} in"),
            ),
        };
        WhyReport {
            version: 1,
            target: query.target.clone(),
            address: None,
            peer: None,
            from: query.from.clone().unwrap_or_else(|| own.to_owned()),
            reaches: false,
            cause: cause.to_owned(),
            sides: vec![own.to_owned()],
            steps: vec![StepLine {
                side: own.to_owned(),
                step: "target".to_owned(),
                mark: Mark::Fails,
                text: verdict.clone(),
            }],
            verdict,
            next: Some(next),
            is_final: true,
        }
    }
}
