//! `meshd init`: a new mesh with this machine as its first node.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use ipnet::IpNet;
use proto::id::{EndpointName, MeshId};
use proto::member::{DEFAULT_PORT, Kind, derived_address};

use super::invite::{self, SECRET};
use super::{Result, block_on, print};
use crate::setup::files::{DEFAULT_FOLDER, Folder, NewNode, Record, socket_text};
use crate::setup::invite::{EXPIRES, Issued, issue};
use crate::setup::machine::{self, Places};
use crate::setup::new_key;

#[derive(Args)]
pub(super) struct InitArgs {
    /// Name of the mesh, equal on all of its nodes
    #[arg(long, value_name = "NAME")]
    mesh: String,
    /// Name of this node [default: mesh and hostname]
    #[arg(long, value_name = "CLUSTER.NODE")]
    name: Option<EndpointName>,
    #[command(flatten)]
    folder: FolderArgs,
    /// Where others reach this node: IP address or DNS name, with a UDP port if not 6374; may stand several times [default: the
    /// machine's addresses]
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<String>,
    /// Prefix behind this node that others may reach; may stand several times
    #[arg(long, value_name = "PREFIX")]
    subnet: Vec<IpNet>,
}

#[derive(Args)]
pub(super) struct FolderArgs {
    /// Folder for the node's files
    #[arg(long, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    pub(super) config: PathBuf,
}

/// How others reach the node, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// As the operator says.
    Told,
    /// By addresses that lead here from anywhere.
    Global,
    /// From within its network only.
    Private,
    /// The machine has no address.
    Nowhere,
}

/// Writes the files and an invitation, and says what is next.
pub(super) fn main(args: &InitArgs) -> Result {
    let folder = Folder::new(&args.folder.config);
    folder.check_free()?;
    let (seen, network) = block_on(machine::look())?;
    let port = machine::free_port()?;
    let secret = new_key()?;
    let (public_addresses, reach) = reached(&args.address, &seen, port);
    let own = Record {
        name: args.name.clone().map_or_else(|| machine::own_name(&args.mesh), Ok)?,
        kind: Kind::Connector,
        key: secret.public_key(),
        public_addresses,
        addresses: network.and_then(|net| net.hosts().next()).map(IpAddr::V4).into_iter().collect(),
        subnets: args.subnet.clone(),
    };
    let endpoints = [own];
    let [own] = &endpoints;
    let node = NewNode { mesh: &args.mesh, name: &own.name, port, accepts: true, endpoints: &endpoints };
    folder.write(&node, &secret)?;
    let issued = if reach == Reach::Nowhere { None } else { Some(issue(&folder.node(), None, EXPIRES)?) };
    print(&told(&args.mesh, own, reach, port, &folder, issued.as_ref()))?;
    Ok(ExitCode::SUCCESS)
}

fn reached(asked: &[String], seen: &Places, port: u16) -> (Vec<String>, Reach) {
    let texts = |all: &[IpAddr]| all.iter().map(|ip| socket_text(SocketAddr::new(*ip, port))).collect();
    match (asked, &*seen.global, &*seen.private) {
        ([_, ..], ..) => (asked.iter().map(|text| with_port(text, port)).collect(), Reach::Told),
        (_, global @ [_, ..], _) => (texts(global), Reach::Global),
        (_, _, private @ [_, ..]) => (texts(private), Reach::Private),
        _ => (Vec::new(), Reach::Nowhere),
    }
}

/// An address to be dialled with the node's port, unless it has one or needs none.
fn with_port(text: &str, port: u16) -> String {
    match text.parse::<IpAddr>() {
        Ok(ip) => socket_text(SocketAddr::new(ip, port)),
        Err(_) if port == DEFAULT_PORT || text.contains(':') => text.to_owned(),
        Err(_) => format!("{text}:{port}"),
    }
}

fn told(mesh: &str, own: &Record, reach: Reach, port: u16, folder: &Folder, issued: Option<&Issued>) -> String {
    let mut out = format!("mesh {mesh} begins with this node, {}\n", own.name);
    facts(&mut out, mesh, own, folder);
    let hint = match reach {
        Reach::Told | Reach::Global => "",
        Reach::Private => {
            "\nThese addresses lead here from within their network only. For nodes elsewhere, add to public_addresses in mesh.toml an\n\
             address or DNS name that leads here from outside, and invite again: meshd invite\n"
        }
        Reach::Nowhere => {
            "\nThis machine has no address that others could reach. Connect it, add public_addresses to its endpoint in mesh.toml,\n\
             and invite the next node: meshd invite\n"
        }
    };
    out.push_str(hint);
    if port != DEFAULT_PORT {
        let _ = writeln!(out, "\nUDP port {DEFAULT_PORT} is taken on this machine, so this node uses {port}.");
    }
    let _ = write!(out, "\nnext:\n  1. on this machine:  {}\n", start(folder));
    if let Some(issued) = issued {
        let text = issued.invitation.to_text();
        let _ = write!(
            out,
            "  2. on the next one, {}:  meshd join\n     and paste this there:\n\n{}\n\n{SECRET}\nMore nodes: meshd invite{}\n",
            invite::within(EXPIRES),
            *text,
            if folder.socket().is_some() { format!(" --config {}", folder.node().display()) } else { String::new() }
        );
    }
    out
}

/// The addresses, places and files of a node.
pub(super) fn facts(out: &mut String, mesh: &str, own: &Record, folder: &Folder) {
    let mut addresses: Vec<String> = own.addresses.iter().map(ToString::to_string).collect();
    if !own.addresses.iter().any(IpAddr::is_ipv6) {
        addresses.push(derived_address(&MeshId::from_name(mesh), &own.key).to_string());
    }
    let _ = writeln!(out, "  addresses  {}", addresses.join("  "));
    if !own.public_addresses.is_empty() {
        let _ = writeln!(out, "  reached at {}", own.public_addresses.join("  "));
    }
    let files = [folder.node(), folder.mesh(), folder.key()].map(|file| file.display().to_string());
    let _ = writeln!(out, "  files      {}", files.join("  "));
}

/// How the daemon is started here.
pub(super) fn start(folder: &Folder) -> String {
    const UNITS: [&str; 3] = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    let has_unit = UNITS.into_iter().any(|folder| Path::new(folder).join("meshd.service").exists());
    match (folder.socket(), has_unit) {
        (None, true) => "systemctl start meshd".to_owned(),
        (None, false) => "meshd up".to_owned(),
        (Some(_), _) => format!("meshd up --config {}", folder.node().display()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proto::id::SecretKey;
    use proto::invitation::{Invitation, Inviter, UnixTime};

    pub(in crate::cli) fn record(name: &str, byte: u8, places: &[&str]) -> Record {
        Record {
            name: name.parse().unwrap(),
            kind: Kind::Connector,
            key: SecretKey::from_bytes([byte; 32]).public_key(),
            public_addresses: places.iter().map(|place| (*place).to_owned()).collect(),
            addresses: vec![IpAddr::from([10, 57, 3, byte])],
            subnets: Vec::new(),
        }
    }

    pub(in crate::cli) fn invitation() -> Invitation {
        Invitation {
            mesh: "lab".to_owned(),
            inviter: Inviter {
                name: "lab.one".parse().unwrap(),
                kind: Kind::Connector,
                key: SecretKey::from_bytes([1; 32]).public_key(),
                public_addresses: Vec::new(),
                addresses: vec!["10.57.3.1".parse().unwrap()],
                subnets: Vec::new(),
            },
            name: "lab.node2".parse().unwrap(),
            addresses: vec!["10.57.3.2".parse().unwrap()],
            until: UnixTime(1_795_348_800),
            secret: SecretKey::from_bytes([2; 32]),
        }
    }

    #[test]
    fn init_says_what_it_made_and_what_is_next() {
        let folder = Folder::new(Path::new("/srv/lab"));
        let (invitation, file) = (invitation(), folder.mesh());
        let issued = Issued { invitation, file, socket: PathBuf::new(), accepts: true, has_voided: false };
        let own = record("lab.one", 1, &["203.0.113.7:6375"]);
        insta::assert_snapshot!(told("lab", &own, Reach::Global, 6375, &folder, Some(&issued)), @r#"
        mesh lab begins with this node, lab.one
          addresses  10.57.3.1  fdaf:27f8:e427:be23:74db:3894:9223:6efb
          reached at 203.0.113.7:6375
          files      /srv/lab/meshd.toml  /srv/lab/mesh.toml  /srv/lab/private.key

        UDP port 6374 is taken on this machine, so this node uses 6375.

        next:
          1. on this machine:  meshd up --config /srv/lab/meshd.toml
          2. on the next one, within 24 hours:  meshd join
             and paste this there:

        meshd-invite-1:AwBsYWIHAGxhYi5vbmUBpOCSkrZRwni5dyxWn1-puxPZBrRqtoyd-dwrRAn4ogkAAQAAAAAAAAAAAAD__wo5AwEACQBsYWIubm9kZTIBAAAAAAAAAAAAAP__CjkDAkDZAmsAAAAAAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgJbwrrF3GFc0g

        The invitation is a secret until it is used: whoever uses it first becomes this member. Send it as you would a password.
        More nodes: meshd invite --config /srv/lab/meshd.toml
        "#);
    }

    #[test]
    fn init_says_when_others_can_reach_it_from_nearby_only_or_not_at_all() {
        let folder = Folder::new(Path::new("/srv/lab"));
        let own = record("lab.one", 1, &["192.168.1.5"]);
        let near = told("lab", &own, Reach::Private, 6374, &folder, None);
        assert!(near.contains("from within their network only") && near.contains("public_addresses"), "{near}");
        let alone = told("lab", &record("lab.one", 1, &[]), Reach::Nowhere, 6374, &folder, None);
        assert!(alone.contains("no address that others could reach") && !alone.contains("meshd join"), "{alone}");
    }

    #[test]
    fn what_the_operator_says_goes_before_what_the_machine_has() {
        let seen = Places { global: vec!["203.0.113.7".parse().unwrap()], private: vec!["10.0.0.1".parse().unwrap()] };
        let asked = ["gw.example:7000".to_owned()];
        assert!(reached(&asked, &seen, 6374) == (asked.to_vec(), Reach::Told));
        let asked = ["gw.example", "198.51.100.1", "2001:db8::1", "[2001:db8::2]:9", "gw.example:1"].map(str::to_owned);
        let with = ["gw.example:6375", "198.51.100.1:6375", "[2001:db8::1]:6375", "[2001:db8::2]:9", "gw.example:1"];
        assert!(reached(&asked, &seen, 6375).0 == with, "they are this node's, not those of who has the default port");
        assert!(reached(&asked, &seen, 6374).0 == asked);
        assert!(reached(&[], &seen, 6375) == (vec!["203.0.113.7:6375".to_owned()], Reach::Global));
        let inside = Places { global: Vec::new(), ..seen };
        assert!(reached(&[], &inside, 6374) == (vec!["10.0.0.1".to_owned()], Reach::Private));
        assert!(reached(&[], &Places::default(), 6374).1 == Reach::Nowhere);
    }
}
