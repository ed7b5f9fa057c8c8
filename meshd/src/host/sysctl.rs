//! Forwarding, as the kernel couples it: one switch that changes many values, all of which must come back.
//!
//! Measured on Linux 6.18 in a namespace (`net/ipv4/devinet.c: inet_forward_change`, `net/ipv6/addrconf.c`):
//! - `net.ipv4.ip_forward` 0→1 sets `forwarding` of `default` and of every interface to 1 and `all.accept_redirects` to 0;
//!   1→0 sets all `forwarding` to 0 and `all.accept_redirects` to 1, whatever they were before.
//! - `net.ipv6.conf.all.forwarding` sets `forwarding` of `default` and of every interface in both directions. On 0→1 the kernel
//!   also removes default routes learned from router advertisements, and ignores further ones, except where `accept_ra` is 2.
//!
//! So before IPv6 forwarding goes on, `accept_ra` goes from 1 to 2 on every interface that listens to advertisements now
//! (forwarding 0), and on `default`, because a modem that is plugged in later must still find its default route.

use std::io;
use std::path::{Path, PathBuf};
use std::{fs, iter};

use serde::{Deserialize, Serialize};

use super::plan::HostNote;

/// Where sysctls are files.
const PROC_SYS: &str = "/proc/sys";

/// One value that changes. Read from a journal, it is one that meshd changes: whoever wrote the journal, what is undone by it is bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Journaled")]
pub(super) struct Sysctl {
    /// Path below `/proc/sys`.
    pub(super) key: String,
    pub(super) before: String,
    pub(super) set: String,
}

/// A [`Sysctl`] as a journal has it.
#[derive(Deserialize)]
struct Journaled {
    key: String,
    before: String,
    set: String,
}

impl TryFrom<Journaled> for Sysctl {
    type Error = String;

    fn try_from(Journaled { key, before, set }: Journaled) -> Result<Self, String> {
        if !is_changed_by_us(&key) {
            return Err(format!("{key:?} is no sysctl that meshd changes"));
        }
        if let Some(value) = [&before, &set].into_iter().find(|value| value.parse::<i32>().is_err()) {
            return Err(format!("{value:?} is no value of {key}"));
        }
        Ok(Self { key, before, set })
    }
}

/// What turning on forwarding of one family changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Forwarding {
    /// Written first on the way in and undone last: values that stand alone.
    pub(super) alone: Vec<Sysctl>,
    /// The switch; `None` where it was on already.
    pub(super) switch: Option<Sysctl>,
    /// What the kernel changes by itself when the switch turns.
    pub(super) coupled: Vec<Sysctl>,
}

/// The tree of sysctls; a directory like any other in tests.
#[derive(Clone, Debug)]
pub(super) struct Sysctls {
    root: PathBuf,
}

impl Sysctls {
    pub(super) fn new() -> Self {
        Self { root: PROC_SYS.into() }
    }

    /// The value without its line end; `None` where there is no such sysctl.
    pub(super) fn read(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.root.join(key)).ok().map(|text| text.trim_end().to_owned())
    }

    fn write(&self, key: &str, value: &str) -> io::Result<()> {
        fs::write(self.root.join(key), value)
    }

    /// Whether an interface can have IPv6 addresses. Where sysctls cannot be read at all, it is taken to be so.
    pub(super) fn has_ipv6(&self, interface: &str) -> bool {
        let off = self.read(&format!("net/ipv6/conf/{interface}/disable_ipv6"));
        off.map_or_else(|| !self.root.join("net").is_dir(), |value| value == "0")
    }

    /// Whether an interface drops packets whose source would be reached elsewhere (RFC 3704 §2.2). The mark of received
    /// packets is 0 in that lookup, so it goes through our table.
    pub(super) fn is_strict(&self, interface: &str) -> bool {
        let value = |name: &str| self.read(&format!("net/ipv4/conf/{name}/rp_filter"));
        value("all").max(value(interface)).as_deref() == Some("1")
    }

    /// What would change; [`Sysctls::apply`] does it once this is in the journal.
    pub(super) fn plan_forwarding(&self, v6: bool, own_interface: &str) -> Forwarding {
        let conf = if v6 { "net/ipv6/conf" } else { "net/ipv4/conf" };
        let switch = if v6 { "net/ipv6/conf/all/forwarding" } else { "net/ipv4/ip_forward" };
        let forwarding = |name: &str| format!("{conf}/{name}/forwarding");
        if self.read(switch).as_deref() == Some("1") {
            // Interfaces inherit `default`, which may be off while the switch is on.
            let own = self.change(&forwarding(own_interface), "1").filter(|own| own.before != own.set);
            return Forwarding { alone: own.into_iter().collect(), ..Forwarding::default() };
        }
        let mut plan = Forwarding { switch: self.change(switch, "1"), ..Forwarding::default() };
        if !v6 {
            plan.coupled.extend(self.change("net/ipv4/conf/all/accept_redirects", "0"));
        }
        for name in iter::once("default".to_owned()).chain(self.interfaces(conf)) {
            let forward = self.change(&forwarding(&name), "1");
            let listens = v6 && name != own_interface && forward.as_ref().is_some_and(|forward| forward.before == "0");
            let accept = listens.then(|| self.change(&format!("{conf}/{name}/accept_ra"), "2")).flatten();
            plan.alone.extend(accept.filter(|accept| accept.before == "1"));
            plan.coupled.extend(forward);
        }
        plan
    }

    /// Writes; a value that cannot be written becomes a note, and nothing of this family stays half done.
    pub(super) fn apply(&self, plan: &Forwarding) -> Result<(), HostNote> {
        for change in plan.alone.iter().chain(&plan.switch) {
            if let Err(error) = self.write(&change.key, &change.set) {
                let key = dotted(plan.switch.as_ref().map_or(&change.key, |switch| &switch.key));
                self.restore(plan);
                return Err(HostNote::Sysctl { key, value: "1".to_owned(), reason: error.to_string() });
            }
        }
        Ok(())
    }

    /// Puts values back that are still as meshd set them; what someone else changed since stays as they set it.
    ///
    /// Turning the switch changes coupled values anew, so each is decided before it and written after.
    pub(super) fn restore(&self, plan: &Forwarding) {
        let is_ours = |change: &Sysctl| self.read(&change.key).as_deref() == Some(change.set.as_str());
        if let Some(switch) = plan.switch.as_ref().filter(|switch| is_ours(switch)) {
            let target = |change: &Sysctl| {
                let now = self.read(&change.key)?;
                Some((change.key.clone(), if now == change.set { change.before.clone() } else { now }))
            };
            let targets: Vec<_> = plan.coupled.iter().filter_map(target).collect();
            self.put(&switch.key, &switch.before);
            for (key, value) in targets {
                self.put(&key, &value);
            }
        }
        for change in plan.alone.iter().filter(|change| is_ours(change)) {
            self.put(&change.key, &change.before);
        }
    }

    fn put(&self, key: &str, value: &str) {
        if self.read(key).is_some_and(|now| now != value)
            && let Err(error) = self.write(key, value)
        {
            tracing::warn!(sysctl = dotted(key), value, %error, "cannot restore sysctl");
        }
    }

    fn change(&self, key: &str, set: &str) -> Option<Sysctl> {
        self.read(key).map(|before| Sysctl { key: key.to_owned(), before, set: set.to_owned() })
    }

    fn interfaces(&self, conf: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(conf)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name != "all" && name != "default").collect()
    }
}

/// Whether [`Sysctls::plan_forwarding`] may name it.
fn is_changed_by_us(key: &str) -> bool {
    match key.split('/').collect::<Vec<_>>()[..] {
        ["net", "ipv4", "ip_forward"] => true,
        ["net", "ipv4", "conf", "all", "accept_redirects"] => true,
        ["net", "ipv4" | "ipv6", "conf", name, "forwarding"] | ["net", "ipv6", "conf", name, "accept_ra"] => {
            !matches!(name, "" | "." | "..")
        }
        _ => false,
    }
}

/// As `sysctl` spells it: an interface name keeps its dots by turning them into slashes.
fn dotted(key: &str) -> String {
    Path::new(key).iter().map(|part| part.to_string_lossy().replace('.', "/")).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(values: &[(&str, &str)]) -> (tempfile::TempDir, Sysctls) {
        let directory = tempfile::tempdir().unwrap();
        for (key, value) in values {
            let path = directory.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        let sysctls = Sysctls { root: directory.path().to_owned() };
        (directory, sysctls)
    }

    #[test]
    fn a_switch_that_is_on_already_stays_untouched() {
        let values = [
            ("net/ipv4/ip_forward", "1\n"),
            ("net/ipv4/conf/t0/forwarding", "1"),
            ("net/ipv4/conf/eth0/forwarding", "0"),
        ];
        let (_directory, sysctls) = tree(&values);
        assert_eq!(sysctls.plan_forwarding(false, "t0"), Forwarding::default());
    }

    #[test]
    fn what_someone_changed_since_is_not_put_back() {
        let (_directory, sysctls) = tree(&[("net/ipv4/ip_forward", "0"), ("net/ipv4/conf/eth0/forwarding", "0")]);
        let plan = sysctls.plan_forwarding(false, "t0");
        sysctls.apply(&plan).unwrap();
        sysctls.write("net/ipv4/ip_forward", "0").unwrap();
        sysctls.write("net/ipv4/conf/eth0/forwarding", "1").unwrap();
        sysctls.restore(&plan);
        assert_eq!(sysctls.read("net/ipv4/conf/eth0/forwarding").unwrap(), "1");
    }

    #[test]
    fn interfaces_that_listen_to_router_advertisements_go_on_listening() {
        let (_directory, sysctls) = tree(&[
            ("net/ipv6/conf/all/forwarding", "0"),
            ("net/ipv6/conf/wwan0/forwarding", "0"),
            ("net/ipv6/conf/wwan0/accept_ra", "1"),
            ("net/ipv6/conf/lan0/forwarding", "1"),
            ("net/ipv6/conf/lan0/accept_ra", "1"),
            ("net/ipv6/conf/wan0/forwarding", "0"),
            ("net/ipv6/conf/wan0/accept_ra", "0"),
        ]);
        let plan = sysctls.plan_forwarding(true, "t0");
        let keys: Vec<_> = plan.alone.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(keys, ["net/ipv6/conf/wwan0/accept_ra"]);
        sysctls.apply(&plan).unwrap();
        assert_eq!(sysctls.read("net/ipv6/conf/wwan0/accept_ra").unwrap(), "2");
        sysctls.restore(&plan);
        assert_eq!(sysctls.read("net/ipv6/conf/wwan0/accept_ra").unwrap(), "1");
    }

    #[test]
    fn a_sysctl_that_cannot_be_written_becomes_a_note_that_names_it() {
        let plan = Forwarding {
            switch: Some(Sysctl { key: "net/ipv4/ip_forward".into(), before: "0".into(), set: "1".into() }),
            ..Forwarding::default()
        };
        let note = Sysctls { root: "/nonexistent".into() }.apply(&plan).unwrap_err();
        assert!(note.to_string().starts_with("set net.ipv4.ip_forward=1 yourself"), "{note}");
        assert_eq!(dotted("net/ipv4/conf/eth0.100/forwarding"), "net.ipv4.conf.eth0/100.forwarding");
    }

    #[test]
    fn a_journal_names_what_is_planned_and_nothing_else() {
        let (_directory, sysctls) = tree(&[
            ("net/ipv4/ip_forward", "0"),
            ("net/ipv4/conf/all/accept_redirects", "1"),
            ("net/ipv4/conf/eth0.100/forwarding", "0"),
            ("net/ipv6/conf/all/forwarding", "0"),
            ("net/ipv6/conf/wwan0/forwarding", "0"),
            ("net/ipv6/conf/wwan0/accept_ra", "1"),
        ]);
        for v6 in [false, true] {
            let plan = sysctls.plan_forwarding(v6, "t0");
            assert!(plan.switch.is_some() && !plan.coupled.is_empty());
            let text = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<Forwarding>(&text).unwrap(), plan);
        }
        let read = |key: &str, before: &str| {
            let text = serde_json::json!({ "key": key, "before": before, "set": "1" }).to_string();
            serde_json::from_str::<Sysctl>(&text)
        };
        assert!(read("net/ipv4/ip_forward", "0").is_ok());
        for key in [
            "/etc/passwd",
            "../../etc/passwd",
            "net/ipv4/conf/../forwarding",
            "net/ipv4/conf/a/b/forwarding",
            "net/ipv4/conf//forwarding",
            "//net/ipv4/ip_forward",
            "kernel/core_pattern",
            "net/ipv4/conf/eth0/rp_filter",
            "",
        ] {
            assert!(read(key, "0").is_err(), "{key}");
        }
        for value in ["", "0\n1", "root::0:0", "|/bin/sh"] {
            assert!(read("net/ipv4/ip_forward", value).is_err(), "{value}");
        }
    }
}
