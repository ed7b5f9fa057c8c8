//! Whole configurations on disk: `load` with its mesh and key files.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::Duration;

use proto::id::{PresharedKey, SecretKey};
use proto::wire::{Suite, Suites};
use tempfile::TempDir;

use crate::{Config, LogLevel, Offload, Problem, Problems};

/// A folder with a `meshd.toml`, a mesh of `a.b` and `a.c`, and the key of `a.b`.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        site.write("meshd.toml", "[node]\nname = \"a.b\"\nkey_file = \"private.key\"\n");
        site.write("mesh.toml", mesh());
        crate::key::generate_file(&site.path("private.key"), &secret()).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn load(&self) -> Result<Config, Problems> {
        crate::load(&self.path("meshd.toml"))
    }

    /// The texts of all problems, with the folder's name taken out.
    fn problems(&self) -> Vec<String> {
        let folder = format!("{}/", self.0.path().display());
        let Problems(list) = self.load().unwrap_err();
        // Whether help has a line of its own depends on the length of the folder's name.
        let text = |problem: &Problem| problem.to_string().replace(&folder, "").replace("\n    help: ", "; ");
        list.iter().map(text).collect()
    }
}

pub(super) fn example(more: &str) -> Config {
    let site = Site::new();
    site.write("meshd.toml", format!("[node]\nname = \"a.b\"\nkey_file = \"private.key\"\n{more}"));
    site.load().unwrap()
}

fn secret() -> SecretKey {
    SecretKey::from_bytes([9; 32])
}

fn mesh() -> String {
    let key = secret().public_key();
    let other = super::endpoint("a.c", 1, "");
    format!(
        "[[endpoint]]\nname = \"a.b\"\npublic_key = \"{key}\"\n{other}[[community]]\nname = \"c\"\nmembers = [\"a.b\", \"a.c\"]\n"
    )
}

#[test]
fn the_defaults_are_those_of_the_reference() {
    let site = Site::new();
    let config = site.load().unwrap();
    assert_eq!(config.node.name.as_str(), "a.b");
    assert_eq!(config.node.secret_key.as_bytes(), secret().as_bytes());
    assert_eq!(config.node.preshared_key.as_bytes(), PresharedKey::NONE.as_bytes());
    assert_eq!(config.node.mesh_file, Some(site.path("mesh.toml")));
    assert_eq!((config.interface.name.as_str(), config.interface.mtu), ("mesh0", None));
    assert_eq!((config.interface.table, config.interface.mark, config.listen.port), (254, 6374, 6374));
    let seconds = Duration::from_secs;
    let session = config.session;
    assert_eq!((session.rekey, session.idle, session.keepalive), (seconds(120), seconds(180), Some(seconds(120))));
    assert_eq!(
        (config.dataplane.workers, config.dataplane.offload, config.dataplane.ciphers),
        (1, true, Suites::DEFAULT)
    );
    assert!(Offload::ALL.into_iter().all(|offload| config.dataplane.uses(offload)));
    assert_eq!(config.api.socket, PathBuf::from("/run/meshd/meshd.sock"));
    assert_eq!(config.state.dir, PathBuf::from("/var/lib/meshd"));
    assert_eq!((config.log.level, config.mesh_name.as_str()), (LogLevel::Info, "default"));
    assert_eq!((config.members.endpoints.len(), config.members.communities.len()), (2, 1));
    assert_eq!(config.files, ["meshd.toml", "mesh.toml", "private.key"].map(|name| site.path(name)));
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn every_setting_is_taken_over() {
    let site = Site::new();
    site.write(
        "meshd.toml",
        "[node]\nname = \"a.b\"\nkey_file = \"private.key\"\npsk_file = \"psk\"\nmesh = \"sub/m.toml\"\n\
        [interface]\nname = \"m1\"\nmtu = 1300\ntable = 7\nmark = 8\n[listen]\nport = 0\n\
        [relay]\nrate = \"2 Gbit/s\"\nmember_rate = \"8 Mbit/s\"\n\
        [session]\nrekey = \"1m\"\nidle = \"1h\"\nkeepalive = \"off\"\n\
        [dataplane]\nworkers = 4\noffload = false\nwithout = [\"udp-gro\"]\ncipher = \"chacha20-poly1305\"\n\
        [api]\nsocket = \"/s\"\n[state]\ndir = \"state\"\n[log]\nlevel = \"trace\"\n",
    );
    std::fs::create_dir(site.path("sub")).unwrap();
    site.write("sub/m.toml", mesh());
    crate::key::generate_file(&site.path("psk"), &SecretKey::from_bytes([5; 32])).unwrap();
    let config = site.load().unwrap();
    assert_eq!(config.node.preshared_key.as_bytes(), &[5; 32]);
    assert_eq!((config.interface.name.as_str(), config.interface.mtu), ("m1", Some(1300)));
    assert_eq!((config.interface.table, config.interface.mark, config.listen.port), (7, 8, 0));
    assert_eq!((config.relay.rate.bytes(), config.relay.member_rate.bytes()), (250_000_000, 1_000_000));
    let session = config.session;
    assert_eq!((session.rekey.as_secs(), session.idle.as_secs(), session.keepalive), (60, 3600, None));
    assert_eq!((config.dataplane.workers, config.dataplane.offload), (4, false));
    assert_eq!(config.dataplane.ciphers, Suites::of(&[Suite::ChaCha20Poly1305]));
    assert_eq!(config.dataplane.without, [Offload::UdpGro]);
    assert!(!Offload::ALL.into_iter().any(|offload| config.dataplane.uses(offload)));
    assert_eq!(config.log.level, LogLevel::Trace);
    assert_eq!((config.api.socket, config.state.dir), (PathBuf::from("/s"), site.path("state")));
    assert_eq!(config.files, ["meshd.toml", "sub/m.toml", "private.key", "psk"].map(|name| site.path(name)));
}

#[test]
fn a_cipher_is_one_name_or_a_list_in_which_auto_is_the_default_offer() {
    let site = Site::new();
    let ciphers = |value: &str| {
        let text = format!("[node]\nname = \"a.b\"\nkey_file = \"private.key\"\n[dataplane]\ncipher = {value}\n");
        site.write("meshd.toml", text);
        site.load().unwrap().dataplane.ciphers
    };
    for suite in Suite::ALL {
        assert_eq!(ciphers(&format!("{:?}", suite.name())), Suites::of(&[suite]));
        assert_eq!(ciphers(&format!("[\"auto\", {:?}]", suite.name())), Suites::DEFAULT.or(Suites::of(&[suite])));
    }
    assert_eq!(ciphers("\"auto\""), Suites::DEFAULT);
    assert_eq!(ciphers("[\"auto\"]"), Suites::DEFAULT);
    let pair = [Suite::Aegis128L, Suite::Aes128Gcm];
    assert_eq!(ciphers("[\"aes-128-gcm\", \"aegis-128l\", \"aes-128-gcm\"]"), Suites::of(&pair));
}

#[test]
fn a_loaded_configuration_shows_no_key() {
    let config = Site::new().load().unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains(secret().to_base64().as_str()) && !shown.contains("9, 9, 9"), "{shown}");
}

#[test]
fn all_problems_of_both_files_and_the_keys_come_at_once() {
    let site = Site::new();
    site.write("meshd.toml", "[node]\nname = \"a.x\"\nkey_file = \"nowhere.key\"\n[log]\nlevel = \"warning\"\n");
    site.write("mesh.toml", mesh().replace("members", "member"));
    assert_eq!(
        site.problems(),
        [
            "meshd.toml:2:8: [node] name: \"a.x\" is no endpoint of mesh.toml; did you mean \"a.b\"?",
            "meshd.toml:3:12: [node] key_file: there is no key file nowhere.key; make one: meshd key generate --out nowhere.key",
            "meshd.toml:5:9: [log] level: unknown value \"warning\"; use \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
            "mesh.toml:8:1: [[community]] has no \"members\"; add members = [\"<cluster>.<node>\", …]",
            "mesh.toml:10:1: unknown key \"member\" in [[community]]; did you mean \"members\"?",
        ]
    );
    assert!(site.load().unwrap_err().to_string().ends_with("\n5 problems in 2 files"));
}

#[test]
fn the_key_file_is_that_of_the_endpoint() {
    let site = Site::new();
    site.write("mesh.toml", mesh().replace(&secret().public_key().to_string(), &super::key(7)));
    let problems = site.problems();
    let (here, there) = (secret().public_key(), super::key(7));
    assert_eq!(
        problems,
        [format!(
            "meshd.toml:3:12: [node] key_file: the public key of private.key is {here}, but \"a.b\" has {there} in mesh.toml:3:14; \
             put into the mesh what `meshd key show` prints here, or name the key file of that endpoint"
        )]
    );
}

#[test]
fn key_files_that_others_may_touch_are_refused() {
    let site = Site::new();
    let mode =
        |bits| std::fs::set_permissions(site.path("private.key"), std::fs::Permissions::from_mode(bits)).unwrap();
    mode(0o644);
    assert_eq!(
        site.problems(),
        ["meshd.toml:3:12: [node] key_file: private.key is open to group or others (mode 0644); chmod 600 private.key"]
    );
    mode(0o600);
    site.write("meshd.toml", "[node]\nname = \"a.b\"\nkey_file = \"private.key\"\npsk_file = \"psk\"\n");
    symlink(site.path("private.key"), site.path("psk")).unwrap();
    assert_eq!(site.problems(), ["meshd.toml:4:12: [node] psk_file: psk is a symbolic link; name the file itself"]);
    std::fs::remove_file(site.path("psk")).unwrap();
    assert!(site.problems()[0].contains("psk_file: there is no key file psk; copy it from another node"));
}

#[test]
fn checking_needs_no_key() {
    let site = Site::new();
    std::fs::remove_file(site.path("private.key")).unwrap();
    assert_eq!(crate::check(&site.path("meshd.toml")), Ok(Vec::new()));
    assert!(site.load().is_err());
}

#[test]
fn files_that_cannot_be_read_say_so() {
    let site = Site::new();
    std::fs::remove_file(site.path("mesh.toml")).unwrap();
    assert_eq!(
        site.problems(),
        ["meshd.toml:1:1: [node] mesh: cannot read mesh.toml: no such file; \
             set it to the mesh file's path, or write the [[endpoint]] tables in this file"]
    );
    site.write("mesh.toml", b"[mesh]\nname = \"\xff\"\n");
    assert_eq!(site.problems(), ["mesh.toml:2:9: not UTF-8 text; save it as UTF-8"]);
    std::fs::remove_file(site.path("meshd.toml")).unwrap();
    assert_eq!(
        site.problems(),
        ["meshd.toml: cannot read it: no such file; \
          make one: `meshd init --mesh NAME`, or `meshd join` with an invitation; or name it: --config"]
    );
    std::fs::create_dir(site.path("meshd.toml")).unwrap();
    assert_eq!(site.problems(), ["meshd.toml: cannot read it: it is a folder; name the right file"]);
}

#[test]
fn a_broken_mesh_file_does_not_make_the_node_a_stranger() {
    let site = Site::new();
    site.write("mesh.toml", format!("[[endpoint]\n{}", mesh()));
    let problems = site.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("mesh.toml:1:"), "{problems:?}");
}

#[test]
fn settings_that_contradict_the_mesh_are_warnings() {
    let site = Site::new();
    site.write("mesh.toml", mesh().replacen("public_key", "public_addresses = [\"192.0.2.1\"]\npublic_key", 1));
    site.write(
        "meshd.toml",
        "[node]\nname = \"a.b\"\nkey_file = \"private.key\"\n[session]\nkeepalive = \"9s\"\n[listen]\nport = 0\n",
    );
    let warnings = site.load().unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("meshd.toml:5:13: [session] keepalive has no effect"));
    assert!(warnings[1].contains("meshd.toml:7:8: [listen] port is 0"));
}

#[test]
fn a_token_that_every_user_can_read_is_a_warning() {
    let site = Site::new();
    let lan = "[lan]\nmulticast_token = \"000102030405060708090a0b0c0d0e0f\"\n";
    site.write("meshd.toml", format!("[node]\nname = \"a.b\"\nkey_file = \"private.key\"\n{lan}"));
    let warnings = |mode| {
        std::fs::set_permissions(site.path("meshd.toml"), std::fs::Permissions::from_mode(mode)).unwrap();
        site.load().unwrap().warnings
    };
    let said = warnings(0o644);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("meshd.toml:5:19: [lan] multicast_token: every user of this machine can read it; chmod 640 ")
    );
    assert_eq!(warnings(0o640), [""; 0]);
}

#[test]
fn direct_routes_that_rules_for_a_table_would_pass_by_are_a_warning() {
    let site = Site::new();
    let node = "[node]\nname = \"a.b\"\nkey_file = \"private.key\"\n[interface]\ntable = 6374\n";
    let lan = "[lan]\nmode = \"direct\"\nmulticast_token = \"000102030405060708090a0b0c0d0e0f\"\n";
    site.write("meshd.toml", format!("{node}{lan}"));
    std::fs::set_permissions(site.path("meshd.toml"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let said = site.load().unwrap().warnings;
    assert!(said.len() == 1 && said[0].contains("\"direct\" has no effect"), "{said:?}");
}
