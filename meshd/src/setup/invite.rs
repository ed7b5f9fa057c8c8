//! Issuing an invitation: a record in the mesh file, and the text for who is invited.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::Config;
use config::edit::MeshFile;
use proto::id::EndpointName;
use proto::invitation::{Invitation, Inviter, UnixTime};
use proto::member::Endpoint;

use super::{COMMUNITY, Error, new_key};

/// How long an invitation is good unless said otherwise.
pub(crate) const EXPIRES: Duration = Duration::from_secs(24 * 3600);

/// How long whoever changes the mesh file at the same time is waited for: each takes some milliseconds.
const WAIT: Duration = Duration::from_secs(5);

/// An invitation that the mesh file knows.
pub(crate) struct Issued {
    pub(crate) invitation: Invitation,
    /// The file that was changed.
    pub(crate) file: PathBuf,
    /// Of the daemon that is to be told.
    pub(crate) socket: PathBuf,
    /// Whether that takes the invited without its operator.
    pub(crate) accepts: bool,
    /// Whether an invitation of the same name could be used until now.
    pub(crate) has_voided: bool,
}

/// Invites somebody into the mesh of the node that is configured at `path`; without a name, under the next that is free.
///
/// # Errors
/// When the configuration cannot be read or written, the node cannot be dialled, or the name is a member's.
pub(crate) fn issue(path: &Path, name: Option<&str>, expires: Duration) -> Result<Issued, Error> {
    let config = config::load(path)?;
    let own = config.members.endpoints.iter().find(|endpoint| endpoint.name == config.node.name);
    let own = own.ok_or("the mesh does not have this node")?;
    check(&config, own)?;
    // Names and addresses are taken by what stands there once nobody else changes it.
    let mut file = MeshFile::open(path, config.node.mesh_file.as_deref(), WAIT)?;
    let name = match name {
        Some(name) => wanted_name(name, &config, &file)?,
        None => free_name(config.node.name.cluster(), &file)?,
    };
    let known = file.addresses_of(&name);
    let addresses = if known.is_empty() { free_address(own, &file.addresses()).into_iter().collect() } else { known };
    let has_voided = config.invited.iter().any(|one| one.name == name && one.until > config::unix_now());
    let invitation = Invitation {
        mesh: config.mesh_name.clone(),
        inviter: inviter(own),
        name,
        addresses,
        until: UnixTime(config::unix_now().0.saturating_add(expires.as_secs())),
        secret: new_key()?,
    };
    file.invite(&invitation.invited(), &invitation.addresses, COMMUNITY, &own.name)?;
    file.save()?;
    let (file, socket) = (file.path().to_owned(), config.api.socket);
    Ok(Issued { invitation, file, socket, accepts: config.invite.accept, has_voided })
}

fn check(config: &Config, own: &Endpoint) -> Result<(), Error> {
    let file = config.node.mesh_file.as_deref().or(config.files.first().map(PathBuf::as_path));
    let file = file.map(|file| file.display().to_string()).unwrap_or_default();
    if own.public_addresses.is_empty() {
        let help = format!("give {} public_addresses in {file}, or invite from a node that has some", own.name);
        return Err(format!("nobody can dial this node, so an invitation of it would lead nowhere; {help}").into());
    }
    if config.node.psk_file.is_some() {
        let why = "this mesh has a psk_file, which must not travel in an invitation";
        return Err(format!("{why}: copy that and {file} to the new node by hand").into());
    }
    Ok(())
}

fn inviter(own: &Endpoint) -> Inviter {
    Inviter {
        name: own.name.clone(),
        kind: own.kind,
        key: own.public_key,
        public_addresses: own.public_addresses.clone(),
        addresses: own.addresses.clone(),
        subnets: own.subnets.clone(),
    }
}

/// A name as it was asked for, in this node's cluster where it names none. One that is invited may be invited again.
fn wanted_name(text: &str, config: &Config, file: &MeshFile) -> Result<EndpointName, Error> {
    let text = if text.contains('.') { text.to_owned() } else { format!("{}.{text}", config.node.name.cluster()) };
    let name: EndpointName = text.parse().map_err(|error| format!("{text}: {error}"))?;
    if file.has_member(&name) {
        return Err(format!("{name} is a member of mesh {} already; choose another name", config.mesh_name).into());
    }
    Ok(name)
}

/// The first of `node2`, `node3` and so on that nobody has, whom this node leaves out included.
fn free_name(cluster: &str, file: &MeshFile) -> Result<EndpointName, Error> {
    for number in 2..=u32::MAX {
        let name: EndpointName = format!("{cluster}.node{number}").parse()?;
        if !file.has(&name) {
            return Ok(name);
        }
    }
    Err("no name is free; give one".into())
}

/// The lowest address of the inviter's /24 that nobody has; `None` where it has no IPv4 address, or the network is full.
fn free_address(own: &Endpoint, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let v4 = own.addresses.iter().find_map(|ip| match ip {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let [a, b, c, _] = v4?.octets();
    (1..255).map(|host| IpAddr::V4(Ipv4Addr::new(a, b, c, host))).find(|ip| !taken.contains(ip))
}

#[cfg(test)]
mod tests {
    use super::super::files::{Folder, NewNode, Record};
    use super::*;
    use proto::id::SecretKey;
    use proto::member::Kind;
    use std::fs;

    fn node(places: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (name, secret): (EndpointName, _) = ("lab.one".parse().unwrap(), SecretKey::from_bytes([1; 32]));
        let endpoints = [Record {
            name: name.clone(),
            kind: Kind::Connector,
            key: secret.public_key(),
            public_addresses: places.iter().map(|place| (*place).to_owned()).collect(),
            addresses: vec!["10.57.3.1".parse().unwrap()],
            subnets: Vec::new(),
        }];
        let node = NewNode { mesh: "lab", name: &name, port: 6374, accepts: true, endpoints: &endpoints };
        Folder::new(dir.path()).write(&node, &secret).unwrap();
        dir
    }

    fn invite(dir: &tempfile::TempDir, name: Option<&str>) -> Result<Invitation, String> {
        let issued = issue(&dir.path().join("meshd.toml"), name, EXPIRES);
        issued.map(|issued| issued.invitation).map_err(|error| error.to_string())
    }

    #[test]
    fn each_invitation_has_a_name_and_an_address_of_its_own_and_the_file_stays_a_mesh() {
        let dir = node(&["192.0.2.1"]);
        for (asked, name, address) in [
            (None, "lab.node2", "10.57.3.2"),
            (Some("till"), "lab.till", "10.57.3.3"),
            (None, "lab.node3", "10.57.3.4"),
        ] {
            let invitation = invite(&dir, asked).unwrap();
            assert_eq!(invitation.name.as_str(), name);
            assert_eq!(invitation.addresses, [address.parse::<IpAddr>().unwrap()]);
        }
        let config = config::load(&dir.path().join("meshd.toml")).unwrap();
        assert_eq!((config.members.endpoints.len(), config.invited.len(), config.warnings.len()), (1, 3, 0));
        let again = invite(&dir, Some("till")).unwrap();
        assert_eq!(again.addresses, ["10.57.3.3".parse::<IpAddr>().unwrap()]);
        let config = config::load(&dir.path().join("meshd.toml")).unwrap();
        assert!(config.invited.contains(&again.invited()) && config.invited.len() == 3);
    }

    #[test]
    fn a_members_name_a_bad_name_and_a_node_that_nobody_can_dial_are_refused_in_words() {
        let dir = node(&["192.0.2.1"]);
        assert!(invite(&dir, Some("one")).unwrap_err().contains("lab.one is a member"));
        assert!(invite(&dir, Some("No Name")).unwrap_err().contains("lower-case"));
        assert!(invite(&node(&[]), None).unwrap_err().contains("public_addresses"));
    }

    #[test]
    fn a_member_that_this_node_leaves_out_keeps_its_key_and_who_joins_is_selected() {
        let dir = node(&["192.0.2.1"]);
        let mesh = dir.path().join("mesh.toml");
        let selecting = fs::read_to_string(&mesh).unwrap().replacen("address =", "labels = [\"a\"]\naddress =", 1);
        let others = [("lab.till", 7), ("lab.node2", 8)].map(|(name, byte)| {
            let key = SecretKey::from_bytes([byte; 32]).public_key();
            format!("\n[[endpoint]]\nname = \"{name}\"\npublic_key = \"{key}\"\n")
        });
        fs::write(&mesh, format!("{selecting}{}\n[selector]\nlabels = [\"a\"]\n", others.concat())).unwrap();
        let before = fs::read_to_string(&mesh).unwrap();
        assert!(invite(&dir, Some("till")).unwrap_err().contains("lab.till is a member"));
        assert_eq!(fs::read_to_string(&mesh).unwrap(), before);
        let invitation = invite(&dir, None).unwrap();
        assert_eq!(invitation.name.as_str(), "lab.node3");
        let config = config::load(&dir.path().join("meshd.toml")).unwrap();
        assert!(!config.unselected.contains(&invitation.name) && config.invited == [invitation.invited()]);
    }

    #[test]
    fn those_who_invite_at_the_same_time_get_a_name_and_an_address_each() {
        let dir = node(&["192.0.2.1"]);
        let all: Vec<Invitation> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..12).map(|_| scope.spawn(|| invite(&dir, None).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let config = config::load(&dir.path().join("meshd.toml")).unwrap();
        assert_eq!(config.invited.len(), 12);
        assert!(all.iter().all(|one| config.invited.contains(&one.invited())));
        let addresses: BTreeSet<_> = all.iter().flat_map(|one| &one.addresses).collect();
        assert_eq!(addresses.len(), 12);
    }

    #[test]
    fn an_expired_invitation_is_said_when_the_configuration_is_read() {
        let dir = node(&["192.0.2.1"]);
        issue(&dir.path().join("meshd.toml"), None, Duration::ZERO).unwrap();
        let config = config::load(&dir.path().join("meshd.toml")).unwrap();
        assert!(config.warnings.iter().any(|text| text.contains("has expired; run `meshd invite lab.node2`")));
    }
}
