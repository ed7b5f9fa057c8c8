//! `meshd join`: makes this machine the member that an invitation is for.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal as _, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use clap::Args;
use ipnet::IpNet;
use proto::invitation::{Invitation, PREFIX};
use proto::member::{DEFAULT_PORT, Kind};
use proto::wire::EnrolAnswer;
use zeroize::Zeroizing;

use super::init::{FolderArgs, facts, start};
use super::{Result, block_on, print};
use crate::setup::enrol::{Outcome, enrol};
use crate::setup::files::{Folder, NewNode, Record, socket_text};
use crate::setup::machine::{self, Places};
use crate::setup::new_key;

#[derive(Args)]
pub(super) struct JoinArgs {
    /// File with the invitation; - and nothing read it from standard input
    #[arg(value_name = "INVITATION", default_value = "-", hide_default_value = true)]
    invitation: String,
    #[command(flatten)]
    folder: FolderArgs,
    /// IP address where others reach this node, with a UDP port if not its own; may stand several times [default: those of the
    /// machine that lead here from anywhere]
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<String>,
}

/// Longest file that is looked at, in bytes.
const LONGEST: u64 = 64 << 10;

/// Writes the files, tells the inviter the new key, and says what is next.
pub(super) fn main(args: &JoinArgs) -> Result {
    let folder = Folder::new(&args.folder.config);
    folder.check_free()?;
    let text = read(&args.invitation)?;
    let invitation = Invitation::parse(&text).map_err(|error| format!("this is no invitation: {error}"))?;
    if invitation.until <= config::unix_now() {
        let at = config::time_text(invitation.until);
        let help = format!("ask for another: on {}, meshd invite {}", invitation.inviter.name, invitation.name);
        return Err(format!("the invitation has expired at {at}; {help}").into());
    }
    let (seen, _) = block_on(machine::look())?;
    check_addresses(&invitation, &seen)?;
    let port = machine::free_port()?;
    let places = places(&args.address, &seen, port)?;
    let secret = new_key()?;
    let own = Record {
        name: invitation.name.clone(),
        kind: Kind::Edge,
        key: secret.public_key(),
        public_addresses: places.iter().map(|place| socket_text(*place)).collect(),
        addresses: invitation.addresses.clone(),
        subnets: Vec::new(),
    };
    let endpoints = [Record::from(&invitation.inviter), own];
    let [_, own] = &endpoints;
    let node = NewNode { mesh: &invitation.mesh, name: &own.name, port, accepts: false, endpoints: &endpoints };
    folder.write(&node, &secret)?;
    let outcome = block_on(enrol(&invitation, own.key, &places))?;
    print(&told(&invitation, own, port, &folder, outcome))?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses an invitation whose mesh addresses are addresses of this machine: in the mesh they would be somebody else's.
fn check_addresses(invitation: &Invitation, seen: &Places) -> Result<()> {
    let Some(ip) = invitation.addresses.iter().find(|ip| seen.contains(**ip)) else { return Ok(()) };
    let (inviter, name) = (&invitation.inviter.name, &invitation.name);
    let help = format!("on {inviter}, give {name} another address in the mesh file and invite it again");
    Err(format!("the invitation gives this machine {ip}, which it has already on one of its networks; {help}").into())
}

/// The text of an invitation, in a file or on standard input. Given as an argument, where every user of the machine can see it, it had
/// better be used at once than refused.
fn read(given: &str) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    if given.starts_with(PREFIX) {
        text.push_str(given);
    } else if given == "-" {
        let input = std::io::stdin();
        if input.is_terminal() {
            eprintln!("Paste the invitation:");
        }
        return Ok(pasted(input.lock())?);
    } else {
        let file =
            std::fs::File::open(given).map_err(|error| format!("cannot read the invitation {given}: {error}"))?;
        file.take(LONGEST).read_to_string(&mut text)?;
    }
    Ok(text)
}

/// Lines up to the end of an invitation, be it broken into several, or up to the first blank one after anything else.
fn pasted(input: impl BufRead) -> io::Result<Zeroizing<String>> {
    let mut input = input.take(LONGEST);
    let mut text = Zeroizing::new(String::new());
    loop {
        let before = text.len();
        let is_end = input.read_line(&mut text)? == 0;
        let is_blank = text.get(before..).unwrap_or_default().trim().is_empty();
        if is_end || is_blank && !text.trim().is_empty() || Invitation::parse(&text).is_ok() {
            return Ok(text);
        }
    }
}

fn places(asked: &[String], seen: &Places, port: u16) -> Result<Vec<SocketAddr>> {
    let read = |text: &String| {
        let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
        alone.or_else(|_| text.parse()).map_err(|_| format!("{text} is no IP address, alone or with a port"))
    };
    if asked.is_empty() {
        return Ok(seen.global.iter().map(|ip| SocketAddr::new(*ip, port)).collect());
    }
    Ok(asked.iter().map(read).collect::<std::result::Result<_, _>>()?)
}

fn told(invitation: &Invitation, own: &Record, port: u16, folder: &Folder, outcome: Outcome) -> String {
    let (inviter, mesh) = (&invitation.inviter.name, &invitation.mesh);
    let mut out = format!("this machine is {} of mesh {mesh}\n", own.name);
    facts(&mut out, mesh, own, folder);
    if port != DEFAULT_PORT {
        let _ = writeln!(out, "\nUDP port {DEFAULT_PORT} is taken on this machine, so this node uses {port}.");
    }
    let _ = match outcome {
        Outcome::Answered(EnrolAnswer::Accepted) => writeln!(out, "\n{inviter} has taken it in."),
        Outcome::Answered(refusal) => {
            writeln!(out, "\n{inviter} has not taken it in: {refusal}.\n{}", by_hand(inviter.as_str(), own))
        }
        Outcome::Unsure => writeln!(
            out,
            "\n{inviter} may have taken it in, but its answer was lost. If `meshd status` does not show it connected:\n{}",
            by_hand(inviter.as_str(), own)
        ),
        Outcome::Silent => writeln!(
            out,
            "\n{inviter} has not answered: its daemon does not run, does not know of the invitation yet (`meshd reload` there), or\n\
             UDP does not get through; or this invitation was replaced by a later one or withdrawn: `meshd invite {}` there.\n\
             Otherwise this remains to be done:\n{}",
            own.name,
            by_hand(inviter.as_str(), own)
        ),
    };
    out.push_str(&routed(invitation, folder));
    let socket = folder.socket().map(|socket| format!(" --socket {}", socket.display())).unwrap_or_default();
    let _ = write!(out, "\nnext:\n  {}\n  meshd status{socket}     shows {inviter}\n", start(folder));
    let _ = write!(
        out,
        "\nThis node knows only {inviter}. To reach the other members, copy the mesh file of {inviter} to every node, to\n{} \
         on this one, then `meshd reload`.\n",
        folder.mesh().display()
    );
    out
}

/// What goes to the inviter from now on: whoever made the invitation chose that.
fn routed(invitation: &Invitation, folder: &Folder) -> String {
    let inviter = &invitation.inviter;
    let hosts = inviter.addresses.iter().map(|ip| IpNet::from(*ip));
    let all: Vec<IpNet> = hosts.chain(inviter.subnets.iter().copied()).collect();
    if all.is_empty() {
        return String::new();
    }
    let mut out = format!("\nFrom its start on, {} gets what this machine sends to {}.\n", inviter.name, list(&all));
    let public: Vec<IpNet> = all.into_iter().filter(machine::is_public).collect();
    if !public.is_empty() {
        let (public, mesh) = (list(&public), folder.mesh());
        let _ = writeln!(
            out,
            "WARNING: {public} is no private network. Unless you expect that, take it out of\n{} before the start.",
            mesh.display()
        );
    }
    out
}

fn list(nets: &[IpNet]) -> String {
    let text =
        |net: &IpNet| if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() };
    nets.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// What the inviter's operator is to do.
fn by_hand(inviter: &str, own: &Record) -> String {
    let indented: String = own.text().lines().map(|line| format!("\n    {line}")).collect();
    format!(
        "on {inviter}, put this into the mesh file in the place of the [[endpoint]] of that name, then run `meshd reload`:\n{indented}"
    )
}

#[cfg(test)]
mod tests {
    use super::super::init::tests::{invitation, record};
    use super::*;
    use std::path::Path;

    fn said(outcome: Outcome) -> String {
        let mut own = record("lab.node2", 2, &[]);
        own.kind = Kind::Edge;
        told(&invitation(), &own, 6374, &Folder::new(Path::new("/srv/lab")), outcome)
    }

    #[test]
    fn join_says_what_it_made_and_what_is_next() {
        insta::assert_snapshot!(said(Outcome::Answered(EnrolAnswer::Accepted)), @r#"
        this machine is lab.node2 of mesh lab
          addresses  10.57.3.2  fdaf:27f8:e427:6e45:4ded:8c04:8b0c:ad63
          files      /srv/lab/meshd.toml  /srv/lab/mesh.toml  /srv/lab/private.key

        lab.one has taken it in.

        From its start on, lab.one gets what this machine sends to 10.57.3.1.

        next:
          meshd up --config /srv/lab/meshd.toml
          meshd status --socket /srv/lab/meshd.sock     shows lab.one

        This node knows only lab.one. To reach the other members, copy the mesh file of lab.one to every node, to
        /srv/lab/mesh.toml on this one, then `meshd reload`.
        "#);
    }

    #[test]
    fn where_nobody_answers_join_says_what_the_inviter_is_to_add() {
        insta::assert_snapshot!(said(Outcome::Silent), @r#"
        this machine is lab.node2 of mesh lab
          addresses  10.57.3.2  fdaf:27f8:e427:6e45:4ded:8c04:8b0c:ad63
          files      /srv/lab/meshd.toml  /srv/lab/mesh.toml  /srv/lab/private.key

        lab.one has not answered: its daemon does not run, does not know of the invitation yet (`meshd reload` there), or
        UDP does not get through; or this invitation was replaced by a later one or withdrawn: `meshd invite lab.node2` there.
        Otherwise this remains to be done:
        on lab.one, put this into the mesh file in the place of the [[endpoint]] of that name, then run `meshd reload`:

            [[endpoint]]
            name = "lab.node2"
            public_key = "zo060cy2M+x7cMF4FKXHbs0CloUFDTRHRboFhw5YfVk="
            address = "10.57.3.2"

        From its start on, lab.one gets what this machine sends to 10.57.3.1.

        next:
          meshd up --config /srv/lab/meshd.toml
          meshd status --socket /srv/lab/meshd.sock     shows lab.one

        This node knows only lab.one. To reach the other members, copy the mesh file of lab.one to every node, to
        /srv/lab/mesh.toml on this one, then `meshd reload`.
        "#);
    }

    #[test]
    fn every_refusal_has_its_reason_and_the_way_by_hand() {
        for answer in [EnrolAnswer::NotByItself, EnrolAnswer::Void, EnrolAnswer::Used, EnrolAnswer::Failed] {
            let text = said(Outcome::Answered(answer));
            assert!(text.contains(&answer.to_string()) && text.contains("[[endpoint]]"), "{text}");
        }
    }

    #[test]
    fn an_invitation_is_read_from_a_file_and_from_the_command_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invitation");
        std::fs::write(&path, &*invitation().to_text()).unwrap();
        for given in [path.display().to_string(), invitation().to_text().to_string()] {
            assert_eq!(Invitation::parse(&read(&given).unwrap()).unwrap().invited(), invitation().invited());
        }
        assert!(read("/nonexistent").unwrap_err().to_string().contains("/nonexistent"));
    }

    #[test]
    fn pasting_ends_with_the_invitation_be_it_broken_into_lines() {
        let text = invitation().to_text();
        let (first, second) = text.split_at(40);
        for given in [format!("\n{}\nrest", *text), format!("{first}\n{second}\nrest"), text.to_string()] {
            let read = pasted(given.as_bytes()).unwrap();
            assert!(Invitation::parse(&read).is_ok() && !read.contains("rest"), "{given}");
        }
        assert_eq!(*pasted("what?\n\nrest".as_bytes()).unwrap(), "what?\n\n");
    }

    #[test]
    fn what_an_inviter_takes_beyond_private_networks_is_warned_of() {
        let folder = Folder::new(Path::new("/srv/lab"));
        let mut hostile = invitation();
        hostile.inviter.subnets = vec!["10.1.0.0/16".parse().unwrap(), "1.1.1.0/24".parse().unwrap()];
        let said = routed(&hostile, &folder);
        assert!(said.contains("sends to 10.57.3.1, 10.1.0.0/16, 1.1.1.0/24."), "{said}");
        assert!(said.contains("WARNING: 1.1.1.0/24 is no private network"), "{said}");
    }

    #[test]
    fn an_invitation_that_gives_the_machine_an_address_of_its_own_networks_is_refused() {
        let seen = |ip: &str| Places { global: Vec::new(), private: vec![ip.parse().unwrap()] };
        let refused = check_addresses(&invitation(), &seen("10.57.3.2")).unwrap_err().to_string();
        assert!(refused.contains("10.57.3.2") && refused.contains("on lab.one, give lab.node2 another"), "{refused}");
        assert!(check_addresses(&invitation(), &seen("10.57.3.3")).is_ok());
    }

    #[test]
    fn places_are_ip_addresses() {
        let seen = Places::default();
        let own = |text: &str| places(&[text.to_owned()], &seen, 7000).map_err(|error| error.to_string());
        assert_eq!(own("192.0.2.1"), Ok(vec!["192.0.2.1:7000".parse().unwrap()]));
        assert_eq!(own("[2001:db8::1]:9"), Ok(vec!["[2001:db8::1]:9".parse().unwrap()]));
        assert!(own("gw.example").unwrap_err().contains("no IP address"));
    }
}
