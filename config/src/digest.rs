//! A short number for a mesh, by which two nodes tell whether they run the same one.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use proto::id::EndpointName;
use proto::member::{Community, Endpoint, Host, Kind, Members, PublicAddress};
use ring::digest::{Context, SHA256};

/// Bytes of the hash that are kept: nobody chooses meshes to collide, and eight are quickly compared by eye.
const LENGTH: usize = 8;

type Hash = [u8; 32];

/// The beginning of SHA-256 (FIPS 180-4) over the members of a mesh, as 16 hexadecimal digits.
///
/// It covers the mesh's name, its endpoints that are members and selected, with all that their records say of them, and its
/// communities; not who is invited, nor labels, arguments and comments. The order of records counts for nothing, nor does that in
/// lists, save for the addresses to dial, of which the first is the best. It is the same on every machine and with every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeshDigest([u8; LENGTH]);

impl MeshDigest {
    /// Of a mesh, without those of its endpoints that are not selected.
    #[must_use]
    pub fn of(members: &Members, unselected: &[EndpointName]) -> Self {
        let left_out: BTreeSet<&EndpointName> = unselected.iter().collect();
        let endpoints = members.endpoints.iter().filter(|endpoint| !left_out.contains(&endpoint.name));
        let communities = members.communities.iter().map(|one| community(one, &left_out));
        let mut records: Vec<Hash> = endpoints.map(endpoint).chain(communities).collect();
        records.sort_unstable();
        let mut whole = Context::new(&SHA256);
        whole.update(&members.mesh.0);
        records.iter().for_each(|record| whole.update(record));
        let mut digest = Self([0; LENGTH]);
        digest.0.iter_mut().zip(whole.finish().as_ref()).for_each(|(byte, hashed)| *byte = *hashed);
        digest
    }
}

impl fmt::Display for MeshDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A record being hashed: texts, each behind the name of its key and both behind their lengths. What a record does not name is
/// absent, so that a key of a later version changes nothing for who does not use it.
struct Record(Context);

impl Record {
    fn new(table: &str, name: &impl fmt::Display) -> Self {
        let mut record = Self(Context::new(&SHA256));
        record.text(table, name);
        record
    }

    fn text(&mut self, key: &str, value: &impl fmt::Display) {
        for part in [key.to_owned(), value.to_string()] {
            self.0.update(&(part.len() as u64).to_be_bytes());
            self.0.update(part.as_bytes());
        }
    }

    /// A list whose order means something.
    fn list(&mut self, key: &str, values: impl IntoIterator<Item = impl fmt::Display>) {
        values.into_iter().for_each(|value| self.text(key, &value));
    }

    /// A list whose order means nothing.
    fn set(&mut self, key: &str, values: impl IntoIterator<Item = impl fmt::Display>) {
        let sorted: BTreeSet<String> = values.into_iter().map(|value| value.to_string()).collect();
        self.list(key, sorted);
    }

    fn finish(self) -> Hash {
        let mut hash = Hash::default();
        hash.iter_mut().zip(self.0.finish().as_ref()).for_each(|(byte, hashed)| *byte = *hashed);
        hash
    }
}

fn endpoint(endpoint: &Endpoint) -> Hash {
    let mut record = Record::new("endpoint", &endpoint.name);
    record.text("public_key", &endpoint.public_key);
    record.list("kind", (endpoint.kind == Kind::Connector).then_some("connector"));
    record.list("public_addresses", endpoint.public_addresses.iter().map(place));
    record.list("tls_addresses", endpoint.tls_addresses.iter().map(place));
    record.set("address", &endpoint.addresses);
    record.set("subnets", &endpoint.subnets);
    record.set("node_subnets", &endpoint.node_subnets);
    record.list("priority", (endpoint.priority != 0).then_some(endpoint.priority));
    record.list("relay", endpoint.relay);
    record.list("zone", endpoint.zone.iter());
    record.list("region", endpoint.region.iter());
    record.finish()
}

fn place(address: &PublicAddress) -> String {
    match &address.host {
        Host::Ip(ip) => SocketAddr::new(*ip, address.port).to_string(),
        Host::Name(name) => format!("{name}:{}", address.port),
    }
}

fn community(community: &Community, left_out: &BTreeSet<&EndpointName>) -> Hash {
    let mut record = Record::new("community", &community.name);
    record.set("members", community.members.iter().filter(|name| !left_out.contains(name)));
    record.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_mesh;
    use proptest::prelude::*;
    use std::path::Path;

    const ENDPOINTS: [&str; 3] = [
        "[[endpoint]]\nname = \"lab.a\"\nkind = \"connector\"\npublic_key = \"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\"\n\
         public_addresses = [\"192.0.2.1\", \"gw.example:7000\"]\nsubnets = [\"10.1.0.0/16\", \"10.2.0.0/16\"]\npriority = 7\n",
        "[[endpoint]]\nname = \"lab.b\"\npublic_key = \"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\"\naddress = \"10.99.0.2\"\n",
        "[[endpoint]]\nname = \"lab.c\"\npublic_key = \"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\"\nrelay = true\nzone = \"z\"\n",
    ];
    const COMMUNITIES: [&str; 2] = [
        "[[community]]\nname = \"all\"\nmembers = [\"lab.a\", \"lab.b\", \"lab.c\"]\n",
        "[[community]]\nname = \"two\"\nmembers = [\"lab.a\", \"lab.b\"]\n",
    ];

    fn whole() -> String {
        format!("[mesh]\nname = \"lab\"\n{}{}", ENDPOINTS.concat(), COMMUNITIES.concat())
    }

    fn digest(text: &str) -> String {
        let mesh = parse_mesh(Path::new("mesh.toml"), text).unwrap();
        MeshDigest::of(&mesh.members, &mesh.unselected).to_string()
    }

    #[test]
    fn the_digest_of_a_mesh_is_this_one_on_every_machine_and_with_every_version() {
        assert_eq!(digest(&whole()), "a8408bdc0a10e334");
    }

    #[test]
    fn all_that_a_record_says_counts() {
        let changes = [
            ("name = \"lab\"", "name = \"lap\""),
            ("lab.c", "lab.d"),
            ("AwMD", "BwMD"),
            ("kind = \"connector\"\n", ""),
            ("[\"192.0.2.1\", \"gw.example:7000\"]", "[\"gw.example:7000\", \"192.0.2.1\"]"),
            ("gw.example:7000", "gw.example:7001"),
            ("10.2.0.0/16", "10.3.0.0/16"),
            ("subnets = [\"10.1", "node_subnets = [\"10.1"),
            ("priority = 7", "priority = 8"),
            ("10.99.0.2", "10.99.0.3"),
            ("relay = true", "relay = false"),
            ("zone", "region"),
            ("\"two\"", "\"tow\""),
            ("\"lab.b\"]", "\"lab.c\"]"),
        ];
        for (from, to) in changes {
            let changed = whole().replace(from, to);
            assert_ne!(changed, whole(), "{from}");
            assert_ne!(digest(&changed), digest(&whole()), "{from} to {to}");
        }
    }

    #[test]
    fn who_is_not_selected_or_only_invited_counts_for_nothing() {
        let guest = "[[endpoint]]\nname = \"lab.g\"\npublic_key = \"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=\"\n\
                     invited_until = \"2100-01-01T00:00:00Z\"\n";
        assert_eq!(digest(&(whole() + guest)), digest(&whole()));
        let mesh = parse_mesh(Path::new("mesh.toml"), &whole()).unwrap();
        let unselected = ["lab.c".parse().unwrap()];
        let without = whole().replace(ENDPOINTS[2], "").replace(", \"lab.c\"", "");
        assert_eq!(MeshDigest::of(&mesh.members, &unselected).to_string(), digest(&without));
    }

    proptest! {
        #[test]
        fn the_order_of_records_and_of_members_counts_for_nothing(
            endpoints in Just(ENDPOINTS.to_vec()).prop_shuffle(),
            communities in Just(COMMUNITIES.to_vec()).prop_shuffle(),
            members in Just(vec!["\"lab.a\"", "\"lab.b\"", "\"lab.c\""]).prop_shuffle(),
        ) {
            let text = format!("[mesh]\nname = \"lab\"\n# moved\n{}{}", communities.concat(), endpoints.concat());
            let text = text.replace("\"lab.a\", \"lab.b\", \"lab.c\"", &members.join(", "));
            let text = text.replace("\"10.1.0.0/16\", \"10.2.0.0/16\"", "\"10.2.0.0/16\", \"10.1.0.0/16\"");
            prop_assert_eq!(digest(&text), digest(&whole()));
        }
    }
}
