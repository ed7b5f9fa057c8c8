//! Which endpoint a name means, and of those in the mesh file that take no part, why not.

use config::{Config, nearest, time_text, unix_now};
use proto::id::EndpointName;
use proto::invitation::{Invited, UnixTime};

use super::Reporter;

/// Endpoints of one name that are told.
const MAX_TOLD: usize = 4;

/// Those whom the mesh file has, and who are no members.
pub(super) struct Absent {
    invited: Vec<Invited>,
    /// By the mesh's `[selector]`.
    left_out: Vec<EndpointName>,
    /// The labels that it asks for.
    selector: Vec<String>,
}

/// Why an endpoint of the mesh file takes no part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// It has not joined, and may until then.
    Invited(UnixTime),
    /// It has not joined in time, which was then.
    Expired(UnixTime),
    /// It has not all of these labels.
    LeftOut(Vec<String>),
}

/// Why a name means no endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unclear {
    /// None is called so; the one that is called nearly so.
    Nobody(Option<String>),
    /// Several clusters have a node of this name.
    Several(Vec<String>),
}

impl Reporter {
    /// The endpoint of the mesh file that a name means, perhaps without its cluster.
    pub(super) fn meant(&self, wanted: &str) -> Result<&EndpointName, Unclear> {
        meant(wanted, self.addresses.keys().chain(self.absent.names()))
    }

    /// The answer to a name that is no peer's, with the nearest that is.
    pub(super) fn no_peer(&self, wanted: &str) -> String {
        match self.meant(wanted) {
            Ok(name) if name.as_str() == self.node.name => format!("{name} is this node"),
            Ok(name) => match self.absent.reason(name) {
                Some(absence) => absence.text(name.as_str()),
                None => format!("{name} is no endpoint any more"),
            },
            Err(Unclear::Nobody(Some(near))) => {
                format!("{wanted} is no endpoint of this node's mesh file; did you mean {near}?")
            }
            Err(Unclear::Nobody(None)) => format!("{wanted} is no endpoint of this node's mesh file"),
            Err(Unclear::Several(names)) => format!("{wanted} may be {}", names.join(" or ")),
        }
    }
}

impl Absent {
    pub(super) fn of(config: &Config) -> Self {
        Self { invited: config.invited.clone(), left_out: config.unselected.clone(), selector: config.selector.clone() }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &EndpointName> + Clone {
        self.invited.iter().map(|one| &one.name).chain(&self.left_out)
    }

    /// Why this endpoint takes no part; `None`: it does, or is none.
    pub(super) fn reason(&self, name: &EndpointName) -> Option<Absence> {
        if self.left_out.contains(name) {
            return Some(Absence::LeftOut(self.selector.clone()));
        }
        let until = self.until(name)?;
        Some(if until <= unix_now() { Absence::Expired(until) } else { Absence::Invited(until) })
    }

    /// Until when an endpoint is invited, or was.
    pub(super) fn until(&self, name: &EndpointName) -> Option<UnixTime> {
        self.invited.iter().find(|one| one.name == *name).map(|one| one.until)
    }
}

impl Absence {
    /// What is so about the endpoint.
    pub(crate) fn text(&self, name: &str) -> String {
        match self {
            Self::Invited(until) => format!("{name} is invited until {}, and has not joined", time_text(*until)),
            Self::Expired(until) => format!("{name} was invited until {}, and has not joined", time_text(*until)),
            Self::LeftOut(_) => format!("{name} is left out by [selector] of the mesh file"),
        }
    }

    /// What to do about it.
    pub(crate) fn remedy(&self, name: &str) -> String {
        match self {
            Self::Invited(_) => format!("on the machine that is to be {name}: meshd join INVITATION"),
            Self::Expired(_) => format!("meshd invite {name}    # makes another"),
            Self::LeftOut(labels) => format!(
                "in the mesh file, give {name} the labels of [selector] ({}), then meshd reload",
                labels.join(", ")
            ),
        }
    }
}

/// The endpoint that is called so; its cluster may be left out where no other has a node of that name.
pub(super) fn meant<'n>(
    wanted: &str,
    known: impl Iterator<Item = &'n EndpointName> + Clone,
) -> Result<&'n EndpointName, Unclear> {
    if let Some(whole) = known.clone().find(|name| name.as_str() == wanted) {
        return Ok(whole);
    }
    let mut short: Vec<&EndpointName> = known.clone().filter(|name| name.node() == wanted).collect();
    short.sort();
    short.dedup();
    match short.as_slice() {
        [one] => Ok(one),
        [] => Err(Unclear::Nobody(nearest_of(wanted, known).map(ToString::to_string))),
        several => Err(Unclear::Several(several.iter().take(MAX_TOLD).map(ToString::to_string).collect())),
    }
}

fn nearest_of<'n>(wanted: &str, mut known: impl Iterator<Item = &'n EndpointName> + Clone) -> Option<&'n EndpointName> {
    if wanted.contains('.') {
        let near = nearest(wanted, known.clone().map(EndpointName::as_str))?;
        return known.find(|name| name.as_str() == near);
    }
    let near = nearest(wanted, known.clone().map(EndpointName::node))?;
    known.find(|name| name.node() == near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(wanted: &str) -> Result<String, Unclear> {
        let known: Vec<EndpointName> =
            ["lab.till7", "lab.till8", "shop.till8", "lab.vm"].map(|name| name.parse().unwrap()).into();
        meant(wanted, known.iter()).map(ToString::to_string)
    }

    #[test]
    fn a_name_without_its_cluster_means_the_only_node_that_is_called_so() {
        assert_eq!(told("lab.till7").unwrap(), "lab.till7");
        assert_eq!(told("till7").unwrap(), "lab.till7");
        let both = ["lab.till8", "shop.till8"].map(str::to_owned).into();
        assert_eq!(told("till8"), Err(Unclear::Several(both)));
    }

    #[test]
    fn a_name_that_is_nobodys_is_told_the_nearest_with_and_without_a_cluster() {
        for wanted in ["lab.tlil7", "tlil7"] {
            assert_eq!(told(wanted), Err(Unclear::Nobody(Some("lab.till7".to_owned()))), "{wanted}");
        }
        assert_eq!(told("camera"), Err(Unclear::Nobody(None)));
    }

    #[test]
    fn who_takes_no_part_is_told_why_and_what_to_do() {
        let name = |text: &str| text.parse::<EndpointName>().unwrap();
        let invited = |text: &str, until| Invited { name: name(text), key: proto::id::PublicKey([1; 32]), until };
        let absent = Absent {
            invited: vec![invited("lab.soon", UnixTime(253_402_300_799)), invited("lab.late", UnixTime(0))],
            left_out: vec![name("lab.out")],
            selector: vec!["site=hq".to_owned(), "edge".to_owned()],
        };
        let told = |text: &str| {
            let reason = absent.reason(&name(text)).unwrap();
            format!("{}\n> {}", reason.text(text), reason.remedy(text))
        };
        insta::assert_snapshot!(["lab.soon", "lab.late", "lab.out"].map(told).join("\n"), @r#"
        lab.soon is invited until 9999-12-31T23:59:59Z, and has not joined
        > on the machine that is to be lab.soon: meshd join INVITATION
        lab.late was invited until 1970-01-01T00:00:00Z, and has not joined
        > meshd invite lab.late    # makes another
        lab.out is left out by [selector] of the mesh file
        > in the mesh file, give lab.out the labels of [selector] (site=hq, edge), then meshd reload
        "#);
        assert_eq!(absent.reason(&name("lab.vm")), None);
    }
}
