//! What is known of this machine, as plain data: gathered in one place, judged in another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use config::{Outline, Problem};
use serde_json::Value;

use crate::dataplane::device::OffloadLevel;
use crate::host::{Leftover, Survey};

/// Something looked at, or in words why it could not be: that is no failure of what was to be looked at.
pub(crate) type Look<T> = Result<T, String>;

/// Everything that is judged.
pub(crate) struct Facts {
    /// Whether root looks.
    pub(crate) is_root: bool,
    pub(crate) config: ConfigFacts,
    pub(crate) kernel: KernelFacts,
    pub(crate) daemon: DaemonFacts,
    pub(crate) clock: ClockFacts,
    pub(crate) keys: Vec<KeyFacts>,
    /// The folder in which the mesh file is written anew when an invitation is used; `None` where none is accepted.
    pub(crate) mesh_folder: Option<Look<FolderFacts>>,
    pub(crate) state: Look<StateFacts>,
    pub(crate) network: Look<Survey>,
    /// By path below `/proc/sys`; those that there are.
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) firewall: FirewallFacts,
    /// Who receives on the UDP port that is configured; empty where nobody does.
    pub(crate) port_holders: Look<Vec<PortHolder>>,
    pub(crate) managers: ManagerFacts,
}

/// The configuration.
pub(crate) struct ConfigFacts {
    pub(crate) path: PathBuf,
    pub(crate) outline: Result<Box<Outline>, Vec<Problem>>,
    /// Whether it cannot be read for want of permission only.
    pub(crate) is_barred: bool,
}

impl ConfigFacts {
    /// The configuration where it is good.
    pub(crate) fn good(&self) -> Option<&Outline> {
        self.outline.as_deref().ok()
    }

    /// Name of the mesh's interface.
    pub(crate) fn interface(&self) -> &str {
        self.good().map_or("mesh0", |outline| outline.interface.name.as_str())
    }
}

/// The kernel and this process.
pub(crate) struct KernelFacts {
    /// As `uname -r` says it.
    pub(crate) release: Look<String>,
    pub(crate) has_udp_segment: Look<bool>,
    pub(crate) has_udp_gro: Look<bool>,
    /// Whether `/dev/net/tun` opens.
    pub(crate) tun: Result<(), std::io::ErrorKind>,
    /// What a TUN interface made for a moment could do.
    pub(crate) tun_level: Look<OffloadLevel>,
    /// Of this process.
    pub(crate) capabilities: Look<Capabilities>,
}

/// Effective capabilities of a process (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities(pub(crate) u64);

impl Capabilities {
    /// Whether permissions of files do not count for it.
    pub(crate) const fn has_dac_override(self) -> bool {
        self.0 & 1 << 1 != 0
    }

    pub(crate) const fn has_net_admin(self) -> bool {
        self.0 & 1 << 12 != 0
    }

    pub(crate) const fn has_net_bind_service(self) -> bool {
        self.0 & 1 << 10 != 0
    }
}

/// A folder as the daemon sees it.
#[derive(Clone, Debug)]
pub(crate) struct FolderFacts {
    pub(crate) path: PathBuf,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Its permissions (inode(7)).
    pub(crate) mode: u32,
    /// Whether it is mounted read-only, be it for the daemon alone.
    pub(crate) is_read_only: bool,
}

/// The daemon behind the API socket.
pub(crate) struct DaemonFacts {
    pub(crate) socket: PathBuf,
    /// Whether there is a file of that name.
    pub(crate) has_socket_file: bool,
    pub(crate) life: Life,
}

/// Whether there is a daemon.
pub(crate) enum Life {
    /// Nobody listens.
    Absent,
    /// We may not ask.
    Barred,
    /// It listens and does not answer.
    Silent { pid: Option<i32> },
    /// It answers.
    Alive(Box<Alive>),
}

/// A daemon that answers.
pub(crate) struct Alive {
    /// `None` where it is in a PID namespace that is invisible from here.
    pub(crate) pid: Option<i32>,
    pub(crate) version: String,
    pub(crate) port: u16,
    /// Whether it runs no node, for this machine is not selected to.
    pub(crate) is_resting: bool,
    pub(crate) offloads: Vec<String>,
    /// Errors and warnings that its status tells.
    pub(crate) health: Vec<String>,
    pub(crate) process: Look<ProcessFacts>,
}

/// What `/proc` says of the daemon.
pub(crate) struct ProcessFacts {
    /// Effective user id.
    pub(crate) uid: u32,
    /// Effective and supplementary group ids.
    pub(crate) groups: Vec<u32>,
    pub(crate) capabilities: Capabilities,
    /// Open descriptors.
    pub(crate) descriptors: Look<usize>,
    /// Soft limit of descriptors.
    pub(crate) descriptor_limit: u64,
}

/// The wall clock. Times since the Unix epoch.
pub(crate) struct ClockFacts {
    pub(crate) now: Duration,
    /// When the file of this program was written.
    pub(crate) built: Option<Duration>,
    pub(crate) is_synchronised: Look<bool>,
    /// The greatest timestamp that handshakes may have used; zero where none was kept.
    pub(crate) floor: Look<Duration>,
}

/// A key file.
pub(crate) struct KeyFacts {
    pub(crate) kind: KeyKind,
    pub(crate) path: PathBuf,
    /// Its owner's user id, if it could be asked for.
    pub(crate) owner: Option<u32>,
    pub(crate) content: KeyContent,
}

/// Which key a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Private,
    Preshared,
}

/// What is in a key file. Never the key itself.
pub(crate) enum KeyContent {
    /// A key; of a private one the public half.
    Good { public_key: Option<String> },
    /// It cannot be used, and what to do about it.
    Bad { reason: String, help: Option<String> },
    /// We may not read it.
    Barred,
}

/// The state folder.
pub(crate) struct StateFacts {
    pub(crate) dir: PathBuf,
    /// Whether we may write in it, or why not.
    pub(crate) writable: Result<(), std::io::ErrorKind>,
    /// Bytes that an unprivileged process may still write; `None` where it cannot be told.
    pub(crate) free: Option<u64>,
    /// What a killed daemon left.
    pub(crate) leftover: Look<Option<Leftover>>,
}

/// Packet filters.
pub(crate) struct FirewallFacts {
    /// What `nft -j list ruleset` says.
    pub(crate) ruleset: Look<Value>,
    /// Tables of the older iptables, which `nft` does not show.
    pub(crate) legacy_tables: Look<Vec<String>>,
}

/// A process, or at least a user, with a socket on our port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortHolder {
    pub(crate) uid: u32,
    /// Its id and name, if we may see them.
    pub(crate) process: Option<(i32, String)>,
}

/// Programs that configure interfaces, and what they were told of ours.
pub(crate) struct ManagerFacts {
    /// Names of all processes, as far as they are visible, cut to 15 bytes.
    pub(crate) processes: BTreeSet<String>,
    /// What networkd says it does with our interface: `unmanaged`, `configured`, …; `None` where it does not know it.
    pub(crate) networkd_link: Option<String>,
    /// Whether networkd was told to leave routes of others alone.
    pub(crate) keeps_foreign_routes: bool,
    /// Whether NetworkManager was told to leave our interface alone.
    pub(crate) is_unmanaged_by_nm: bool,
}
