//! The first minutes: `meshd init`, `meshd join`, `meshd invite`, and what must not come of them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use netns_tests::nat::{Class, Internet, NatKind};
use netns_tests::{Daemon, Done, Family, Host, Lab, binary, in_lab, observe, ping, wait_until};

/// A machine with a folder of its own for the files of its node.
struct Machine {
    host: Host,
    folder: PathBuf,
}

impl Machine {
    fn new(lab: &Lab, host: &Host) -> Self {
        Self { host: host.clone(), folder: lab.directory().join(host.name()) }
    }

    fn meshd(&self, arguments: &[&str]) -> Done {
        self.host.output(Command::new(binary::meshd()).args(arguments))
    }

    fn init(&self, more: &[&str]) -> Done {
        let folder = self.folder.to_string_lossy().into_owned();
        self.meshd(&[&["init", "--mesh", "lab", "--name", "lab.one", "--config", &folder], more].concat())
    }

    fn join(&self, invitation: &str) -> Done {
        // Not as an argument, where all users of the machine would see it.
        let file = self.folder.with_extension("invitation");
        assert!(fs::write(&file, invitation).is_ok(), "write the invitation");
        self.meshd(&["join", &file.to_string_lossy(), "--config", &self.folder.to_string_lossy()])
    }

    fn invite(&self, more: &[&str]) -> Done {
        let file = self.folder.join("meshd.toml").to_string_lossy().into_owned();
        self.meshd(&[&["invite", "--config", &file], more].concat())
    }

    fn mesh(&self) -> String {
        fs::read_to_string(self.folder.join("mesh.toml")).unwrap_or_default()
    }

    /// Starts its daemon. Hosts of a lab share their files, so each is a node beside others, with socket and state of its own.
    fn up(&self, name: &str) -> Daemon {
        let file = self.folder.join("meshd.toml");
        let text = fs::read_to_string(&file).unwrap_or_default();
        if !text.contains("[log]") {
            assert!(fs::write(&file, text + "\n[log]\nlevel = \"debug\"\n").is_ok(), "write meshd.toml");
        }
        let mut daemon = Daemon::spawn(name, &self.host, &self.folder);
        daemon.wait_ready();
        daemon
    }
}

/// Machines on one switch, the first of which has begun a mesh, and the invitation for the second.
fn lab_of(lab: &Lab, count: usize) -> (Vec<Machine>, String) {
    let switch = lab.switch("switch");
    let machine = |number: usize| {
        let host = lab.host(&format!("m{number}"));
        lab.plug(&host, &switch, &[&format!("192.0.2.{number}/24")]);
        Machine::new(lab, &host)
    };
    let machines: Vec<Machine> = (1..=count).map(machine).collect();
    let said = machines[0].init(&[]).text();
    let invitation = invitation_in(&said);
    (machines, invitation)
}

fn invitation_in(said: &str) -> String {
    let text = said.split_whitespace().find(|word| word.starts_with("meshd-invite-1:"));
    assert!(text.is_some(), "no invitation in\n{said}");
    text.unwrap_or_default().to_owned()
}

#[track_caller]
fn assert_meet(one: &Daemon, two: &Daemon) {
    for family in Family::BOTH {
        assert_eq!(ping(one.host(), &two.address(family), 3).lost(), 0, "{family:?}");
        assert_eq!(ping(two.host(), &one.address(family), 3).lost(), 0, "{family:?} back");
    }
}

#[test]
fn two_machines_meet_by_init_join_and_up() {
    in_lab(|lab| {
        let (machines, invitation) = lab_of(lab, 2);
        let one = machines[0].up("lab.one");
        let said = machines[1].join(&invitation).text();
        assert!(said.contains("lab.one has taken it in"), "{said}\n{}", one.log());
        let mesh = machines[0].mesh();
        assert!(!mesh.contains("invited_until") && mesh.contains("# All of these may talk"), "{mesh}");
        wait_until(Duration::from_secs(5), "an enrolment is counted as a member that is new", || {
            let last = one.status().json()["last_reload"].clone();
            last["cause"] == "enrolment" && last["applied"][0] == "endpoints: 1 added"
        });
        let two = machines[1].up("lab.node2");
        assert_meet(&one, &two);
        two.wait_connected("lab.one");
        // As the next start reads it.
        one.stop();
        assert_meet(&machines[0].up("lab.one"), &two);
    });
}

#[test]
fn a_third_machine_joins_and_all_meet_once_they_have_the_same_mesh_file() {
    in_lab(|lab| {
        let (machines, second) = lab_of(lab, 3);
        let third = machines[0].invite(&["till"]);
        assert!(third.stderr.contains("lab.till is invited") && third.stderr.contains("a secret"), "{third}");
        let one = machines[0].up("lab.one");
        for (machine, invitation) in machines[1..].iter().zip([second, invitation_in(&third.text())]) {
            let said = machine.join(&invitation).text();
            assert!(said.contains("has taken it in") && said.contains("knows only lab.one"), "{said}");
        }
        for machine in &machines[1..] {
            fs::write(machine.folder.join("mesh.toml"), machines[0].mesh()).expect("write mesh.toml");
        }
        let (two, three) = (machines[1].up("lab.node2"), machines[2].up("lab.till"));
        assert_meet(&one, &two);
        assert_meet(&two, &three);
    });
}

#[test]
fn an_invitation_is_of_no_use_to_a_second_machine() {
    in_lab(|lab| {
        let (machines, invitation) = lab_of(lab, 3);
        let one = machines[0].up("lab.one");
        assert!(machines[1].join(&invitation).text().contains("has taken it in"));
        let mesh = machines[0].mesh();
        let said = machines[2].join(&invitation).text();
        assert!(said.contains("lab.one has not answered") && said.contains("[[endpoint]]"), "{said}");
        assert_eq!(machines[0].mesh(), mesh);
        let thief = machines[2].up("lab.node2");
        assert_eq!(ping(thief.host(), &one.address(Family::V4), 2).received, 0);
    });
}

#[test]
fn an_expired_invitation_is_refused_where_it_is_used() {
    in_lab(|lab| {
        let (machines, _) = lab_of(lab, 2);
        let short = invitation_in(&machines[0].invite(&["--expires", "1s"]).text());
        observe(Duration::from_secs(2));
        let refused = machines[1].join(&short);
        assert!(!refused.is_ok() && refused.stderr.contains("expired"), "{refused}");
        assert!(!machines[1].folder.exists(), "nothing is written");
        let file = machines[0].folder.join("meshd.toml").to_string_lossy().into_owned();
        let checked = machines[0].meshd(&["config", "check", "--config", &file]);
        assert!(checked.is_ok() && checked.stderr.contains("the invitation of \"lab.node3\" has expired"), "{checked}");
    });
}

#[test]
fn an_inviter_that_takes_nobody_by_itself_is_told_what_to_add_and_that_is_enough() {
    in_lab(|lab| {
        let (machines, invitation) = lab_of(lab, 2);
        let file = machines[0].folder.join("meshd.toml");
        let text = fs::read_to_string(&file).expect("meshd.toml");
        fs::write(&file, text.replace("accept = true", "accept = false")).expect("write meshd.toml");
        let one = machines[0].up("lab.one");
        let mesh = machines[0].mesh();
        let said = machines[1].join(&invitation).text();
        assert!(said.contains("does not take new members by itself"), "{said}");
        assert_eq!(machines[0].mesh(), mesh);
        one.stop();
        let stanza: String = said
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .fold(String::new(), |all, line| all + line + "\n");
        let (before, rest) = mesh.split_at(mesh.rfind("[[endpoint]]").expect("its record"));
        let after = &rest[rest.find("# All").expect("the community")..];
        fs::write(machines[0].folder.join("mesh.toml"), format!("{before}{stanza}\n{after}")).expect("write mesh.toml");
        let (one, two) = (machines[0].up("lab.one"), machines[1].up("lab.node2"));
        assert_meet(&one, &two);
    });
}

#[test]
fn where_no_daemon_answers_join_says_so_and_what_remains() {
    in_lab(|lab| {
        let (machines, invitation) = lab_of(lab, 2);
        let said = machines[1].join(&invitation).text();
        assert!(said.contains("lab.one has not answered") && said.contains("meshd reload"), "{said}");
        assert!(machines[1].folder.join("private.key").exists());
    });
}

#[test]
fn files_that_exist_are_never_replaced_and_a_members_name_is_not_given_again() {
    in_lab(|lab| {
        let (machines, invitation) = lab_of(lab, 1);
        let (mesh, key) = (machines[0].mesh(), fs::read(machines[0].folder.join("private.key")).expect("the key"));
        for refused in [machines[0].init(&[]), machines[0].join(&invitation)] {
            assert!(!refused.is_ok() && refused.stderr.contains("exists already"), "{refused}");
        }
        let clash = machines[0].invite(&["lab.one"]);
        assert!(!clash.is_ok() && clash.stderr.contains("lab.one is a member of mesh lab already"), "{clash}");
        assert_eq!(
            (machines[0].mesh(), fs::read(machines[0].folder.join("private.key")).expect("the key")),
            (mesh, key)
        );
    });
}

#[test]
fn a_machine_behind_a_nat_joins_and_is_reached() {
    in_lab(|lab| {
        let internet = Internet::new(lab);
        let (hub, _link) = internet.host("hub", 1);
        let premises = internet.premises("shop", Class::v4(NatKind::PortRestricted));
        let (one, till) = (Machine::new(lab, &hub.host), Machine::new(lab, &premises.host("till").host));
        let invitation = invitation_in(&one.init(&["--address", &hub.v4[0].to_string()]).text());
        let first = one.up("lab.one");
        let said = till.join(&invitation).text();
        assert!(said.contains("has taken it in") && !said.contains("reached at"), "{said}");
        let second = till.up("lab.node2");
        second.wait_connected("lab.one");
        wait_until(Duration::from_secs(5), "the first knows it", || {
            first.status().find("lab.node2").is_some_and(|peer| peer.state() == "connected")
        });
        assert_meet(&second, &first);
    });
}
