//! What the host should look like, and what an operator should read about why it does not quite.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use proto::id::EndpointName;

/// Route protocol number that marks every route and rule of meshd's own; free in iproute2's `rt_protos`.
pub(crate) const ROUTE_PROTOCOL: u8 = 109;

/// Priority of our rules, mark of our datagrams and metric of our routes where the configuration names none (MESH on a
/// telephone). As a metric it is larger than those of network managers, so that whoever else has a route for a prefix wins.
pub(crate) const DEFAULT_NUMBER: u32 = 6374;

/// The kernel's table main.
pub(crate) const MAIN_TABLE: u32 = 254;

/// What stays the same for the life of the process.
#[derive(Clone, Debug)]
pub(crate) struct HostSettings {
    /// Name of the TUN interface.
    pub(crate) interface: String,
    /// Routing table of our routes: [`MAIN_TABLE`], or one of our own behind a rule.
    pub(crate) table: u32,
    /// Priority of the rule; must be below 32766, where the kernel looks at table main.
    pub(crate) priority: u32,
    /// Firewall mark that meshd's own UDP datagrams carry, so that they bypass a table of our own.
    pub(crate) mark: u32,
    /// Where the journal lives.
    pub(crate) state_dir: PathBuf,
}

impl HostSettings {
    /// Table main, and the default priority and mark.
    #[must_use]
    pub(crate) fn new(interface: impl Into<String>, state_dir: impl Into<PathBuf>) -> Self {
        let (table, priority, mark) = (MAIN_TABLE, DEFAULT_NUMBER, DEFAULT_NUMBER);
        Self { interface: interface.into(), table, priority, mark, state_dir: state_dir.into() }
    }

    /// Whether the routes have a table of their own, which needs rules. Rules cost every packet of the machine: without any
    /// the kernel skips most of the work of finding a route.
    pub(super) const fn has_own_table(&self) -> bool {
        self.table != MAIN_TABLE
    }

    /// What no other instance may have.
    pub(super) fn claim(&self) -> Claim {
        if self.has_own_table() { Claim::Table(self.table) } else { Claim::Interface(self.interface.clone()) }
    }
}

/// What can have one owner only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// All routes of a table.
    Table(u32),
    /// All routes of table main through an interface.
    Interface(String),
}

impl Claim {
    /// What kind of thing it is.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Table(_) => "table",
            Self::Interface(_) => "interface",
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(table) => write!(f, "table {table}"),
            Self::Interface(name) => write!(f, "interface {name}"),
        }
    }
}

/// What the interface, the routing table and forwarding should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Our mesh addresses; only the address of each is used, as /32 or /128. The first of a family is its preferred source.
    pub(crate) addresses: Vec<IpNet>,
    /// Interface MTU in bytes; below 1280 the kernel turns IPv6 off on the interface.
    pub(crate) mtu: u32,
    /// Transmit queue length of the interface in packets.
    pub(crate) txqueuelen: u32,
    /// Upper bound of segments in a super-packet; skipped where the kernel refuses it.
    pub(crate) gso_max_segs: Option<u32>,
    /// What is reached through the mesh.
    pub(crate) routes: Vec<PlannedRoute>,
    /// Outer addresses of peers that are known beforehand; only to tell of filters that would drop their datagrams.
    pub(crate) underlay: Vec<IpAddr>,
    /// Whether this node forwards IPv4 for subnets that it announces.
    pub(crate) forward_v4: bool,
    /// Whether this node forwards IPv6 for subnets that it announces.
    pub(crate) forward_v6: bool,
}

/// A prefix behind another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedRoute {
    /// Where to.
    pub(crate) prefix: IpNet,
    /// Name of the endpoint that announces it, for notes.
    pub(crate) owner: EndpointName,
}

impl Plan {
    /// The address that packets into the mesh should come from.
    pub(super) fn source(&self, v6: bool) -> Option<IpAddr> {
        self.addresses.iter().map(IpNet::addr).find(|address| address.is_ipv6() == v6)
    }

    pub(super) fn has_ipv6(&self) -> bool {
        let routes = self.routes.iter().map(|route| route.prefix.addr());
        self.forward_v6 || self.addresses.iter().map(IpNet::addr).chain(routes).any(|address| address.is_ipv6())
    }

    pub(super) fn remove_ipv6(&mut self) {
        self.addresses.retain(|address| address.addr().is_ipv4());
        self.routes.retain(|route| route.prefix.addr().is_ipv4());
        self.forward_v6 = false;
    }
}

/// Something an operator should read; none of it stops meshd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostNote {
    /// A route was left out: its prefix is on a network that this machine is directly connected to.
    Connected {
        /// The prefix left out.
        prefix: IpNet,
        /// Who announces it.
        owner: EndpointName,
        /// The connected network around it.
        network: IpNet,
        /// The interface of that network.
        interface: String,
    },
    /// A route was left out: this machine has its own route for exactly this prefix.
    LocalRoute {
        /// The prefix left out.
        prefix: IpNet,
        /// Who announces it.
        owner: EndpointName,
        /// The interface of the local route, if it has one.
        interface: Option<String>,
    },
    /// A route was left out: someone else has an entry for it in our table.
    RouteTaken {
        /// The prefix left out.
        prefix: IpNet,
        /// Our table.
        table: u32,
    },
    /// The kernel refused a route.
    RouteRefused {
        /// The prefix left out.
        prefix: IpNet,
        /// The kernel's words.
        reason: String,
    },
    /// Routes of others are in our table; they are left alone.
    TableShared {
        /// Our table.
        table: u32,
        /// How many routes of others it holds.
        others: usize,
    },
    /// The interface has no IPv6, so that IPv6 addresses and routes were left out.
    Ipv6Off {
        /// Our interface.
        interface: String,
    },
    /// The interface disappeared, or someone set it down: routes return when it does.
    InterfaceDown {
        /// Our interface.
        interface: String,
    },
    /// Datagrams from a peer will be dropped: its outer address is in a mesh prefix, so the kernel expects it at our interface.
    StrictReversePath {
        /// The interface with `rp_filter` 1.
        interface: String,
        /// The peer's outer address.
        address: IpAddr,
    },
    /// A sysctl could not be set; the operator must.
    Sysctl {
        /// Its dotted name.
        key: String,
        /// The value it needs.
        value: String,
        /// Why meshd could not.
        reason: String,
    },
    /// The journal of a predecessor could not be read: routes and rules were removed, sysctls could not be restored.
    JournalUnreadable {
        /// Where it was kept for inspection.
        kept: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for HostNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { prefix, owner, network, interface } => {
                write!(
                    f,
                    "route {prefix} to {owner} left out: it is inside {network}, which is connected at {interface}"
                )
            }
            Self::LocalRoute { prefix, owner, interface } => {
                let device = interface.as_deref().unwrap_or("no interface");
                write!(f, "route {prefix} to {owner} left out: this machine has its own route for {prefix} ({device})")
            }
            Self::RouteTaken { prefix, table } => {
                write!(f, "route {prefix} left out: another program has an entry for it in table {table}")
            }
            Self::RouteRefused { prefix, reason } => write!(f, "route {prefix} left out: the kernel says: {reason}"),
            Self::TableShared { table, others } => {
                write!(f, "table {table} holds {others} routes of other programs; choose another routing.table")
            }
            Self::Ipv6Off { interface } => write!(
                f,
                "IPv6 addresses and routes left out: {interface} has no IPv6 \
                 (net.ipv6.conf.{interface}.disable_ipv6, ipv6.disable on the kernel command line, or an MTU below 1280)"
            ),
            Self::InterfaceDown { interface } => {
                write!(f, "interface {interface} is down or gone: its routes return when it does")
            }
            Self::StrictReversePath { interface, address } => write!(
                f,
                "{interface} will drop datagrams from the peer at {address}, which is inside a mesh prefix: \
                 set net.ipv4.conf.{interface}.rp_filter=2 (and net.ipv4.conf.all.rp_filter, if it is 1, to 0)"
            ),
            Self::Sysctl { key, value, reason } => write!(f, "set {key}={value} yourself; meshd cannot: {reason}"),
            Self::JournalUnreadable { kept, reason } => write!(
                f,
                "the journal of the previous run is unreadable ({reason}): routes and rules were removed, sysctls were \
                 not restored; the file is kept as {}",
                kept.display()
            ),
        }
    }
}
