//! The site that most tests begin with, and the demo: the cluster `beijing` on one switch.

use crate::daemon::Family;
use crate::host::Host;
use crate::lab::{Lab, Switch};
use crate::mesh::Mesh;

/// The site's connector.
pub const CONNECTOR: &str = "beijing.connector";

/// The last part of the connector's addresses, in decimal.
const CONNECTOR_NUMBER: usize = 254;

/// The community of the site's edges.
pub const COMMUNITY: &str = "all-edge-nodes";

/// The cluster `beijing`: a connector and edges, each in a host of its own, all on one switch. Nothing runs yet.
#[derive(Clone, Debug)]
pub struct Site {
    /// The switch.
    pub lan: Switch,
    /// The mesh: `beijing.connector` and `beijing.edge1` to `beijing.edge<n>`, in no community.
    pub mesh: Mesh,
}

/// The name of the edge with this number.
#[must_use]
pub fn edge(number: usize) -> String {
    format!("beijing.edge{number}")
}

/// The address of the edge with this number on the switch.
#[must_use]
pub fn underlay(number: usize, family: Family) -> String {
    match family {
        Family::V4 => format!("192.0.2.{number}"),
        Family::V6 => format!("2001:db8::{number}"),
    }
}

/// The connector's address on the switch.
#[must_use]
pub fn connector_underlay(family: Family) -> String {
    underlay(CONNECTOR_NUMBER, family)
}

impl Site {
    /// The connector and `edges` edges, dialled over IPv4.
    #[must_use]
    pub fn new(lab: &Lab, edges: usize) -> Self {
        Self::over(lab, edges, Family::V4)
    }

    /// The connector and `edges` edges, whose hosts have addresses of this family only.
    #[must_use]
    pub fn over(lab: &Lab, edges: usize, family: Family) -> Self {
        let (lan, mut mesh) = (lab.switch("lan"), Mesh::new(lab, "demo"));
        let connector = Self::host(lab, &lan, "connector", CONNECTOR_NUMBER, family);
        mesh.connector(CONNECTOR, &connector, &connector_underlay(family)).address(&mesh_v4(CONNECTOR_NUMBER));
        for number in 1..=edges {
            let host = Self::host(lab, &lan, &format!("edge{number}"), number, family);
            mesh.edge(&edge(number), &host, &underlay(number, family)).address(&mesh_v4(number));
        }
        Self { lan, mesh }
    }

    fn host(lab: &Lab, lan: &Switch, name: &str, number: usize, family: Family) -> Host {
        let (host, length) = (lab.host(name), if family == Family::V4 { 24 } else { 64 });
        lab.plug(&host, lan, &[&format!("{}/{length}", underlay(number, family))]);
        host
    }

    /// The same site with the edges of these numbers in the community [`COMMUNITY`].
    #[must_use]
    pub fn with_members(mut self, members: impl IntoIterator<Item = usize>) -> Self {
        let names: Vec<String> = members.into_iter().map(edge).collect();
        self.mesh.communities.push((COMMUNITY.to_owned(), names));
        self
    }

    /// The host of the edge with this number.
    #[must_use]
    pub fn edge_host(&self, number: usize) -> &Host {
        &self.mesh.endpoint(&edge(number)).host
    }

    /// The mesh address of the edge with this number.
    #[must_use]
    pub fn address(&self, number: usize, family: Family) -> String {
        self.mesh.address(&edge(number), family)
    }
}

fn mesh_v4(number: usize) -> String {
    format!("10.99.0.{number}")
}
