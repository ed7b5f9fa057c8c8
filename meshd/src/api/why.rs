//! What the API says of why packets get to an address, or do not.

use std::time::Duration;

use proto::node::Inquiry;
use proto::stats::DropReason;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::server::Call;

/// `GET /v1/why?target=NAME|ADDRESS[&from=NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WhyReport {
    /// Version of this shape: 1.
    pub(crate) version: u32,
    /// What was asked for.
    pub(crate) target: String,
    /// The address that it means.
    pub(crate) address: Option<String>,
    /// Who has that address.
    pub(crate) peer: Option<String>,
    /// Whose packets are meant.
    pub(crate) from: String,
    /// Whether packets get through.
    pub(crate) reaches: bool,
    /// What decides, as a code.
    pub(crate) cause: String,
    /// Who has to look after it: names of endpoints; none where it is the network between them.
    pub(crate) sides: Vec<String>,
    /// The same in words.
    pub(crate) verdict: String,
    /// What to do next: a command, or a line and the file that it belongs into.
    pub(crate) next: Option<String>,
    /// What a packet meets, in this order.
    pub(crate) steps: Vec<StepLine>,
    /// Whether nothing more is to be expected.
    #[serde(skip)]
    pub(crate) is_final: bool,
}

/// One thing that a packet meets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepLine {
    /// Name of the endpoint that says so.
    pub(crate) side: String,
    /// `target`, `route`, `policy`, `machine`, `session`, `path`, `size`, `answer` or `drops`.
    pub(crate) step: String,
    pub(crate) mark: Mark,
    pub(crate) text: String,
}

/// What a step does to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    /// Nothing speaks against it.
    Ok,
    /// It decides how the packet goes.
    Decides,
    /// It ends here.
    Fails,
    /// Nobody can tell.
    Unknown,
}

/// A question, and how far its answer is.
#[derive(Clone, Debug)]
pub(crate) struct WhyQuery {
    /// Name or address.
    pub(crate) target: String,
    /// Name of the member whose packets are meant; `None`: this node.
    pub(crate) from: Option<String>,
    /// Begun when the target and the sender are known to be somebody.
    pub(crate) inquiry: Option<Inquiry>,
    /// What had been dropped when it began.
    pub(crate) drops: Vec<(DropReason, u64)>,
}

/// Between two looks at an inquiry that is under way.
const LOOK: Duration = Duration::from_millis(150);

impl WhyQuery {
    /// Reads the part of a URL behind the question mark. Names and addresses have no character that would have to be escaped, and
    /// other parameters are ignored; `None` without a target.
    pub(crate) fn parse(query: &str) -> Option<Self> {
        let value = |key: &str| {
            let pair = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == key);
            pair.map(|(_, value)| value.to_owned()).filter(|value| !value.is_empty())
        };
        Some(Self { target: value("target")?, from: value("from"), inquiry: None, drops: Vec::new() })
    }
}

/// Asks the driver until nothing more is to be expected; `None` when it stops.
pub(super) async fn ask(calls: &mpsc::Sender<Call>, mut query: WhyQuery) -> Option<WhyReport> {
    loop {
        let (answer, result) = oneshot::channel();
        calls.send(Call::Why { query, answer }).await.ok()?;
        let (report, unfinished) = result.await.ok()?;
        if report.is_final {
            return Some(report);
        }
        query = unfinished;
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_needs_a_target_and_may_name_a_sender() {
        let read = |query| WhyQuery::parse(query).map(|query| (query.target, query.from));
        assert_eq!(read("from=a.b&target=fd00::1"), Some(("fd00::1".to_owned(), Some("a.b".to_owned()))));
        assert_eq!(read("target=a.b&x"), Some(("a.b".to_owned(), None)));
        assert_eq!((read(""), read("target=")), (None, None));
    }
}
