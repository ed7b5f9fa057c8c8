//! `meshd invite`: another invitation, at any time.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::Args;
use serde::Serialize;

use super::{ConfigArgs, Result, block_on, print};
use crate::api::client::{ClientError, call};
use crate::setup::invite::{Issued, issue};

/// What has to be known of an invitation before it is sent anywhere.
pub(super) const SECRET: &str = "The invitation is a secret until it is used: whoever uses it first becomes this member. Send it as you would a password.";

/// How long the daemon may take to read its configuration.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(super) struct InviteArgs {
    /// Name of the new node, in this node's cluster where it names none [default: the next that is free]
    name: Option<String>,
    /// How long it can be used
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = super::period)]
    expires: Duration,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// As JSON.
#[derive(Serialize)]
struct Report<'i> {
    invitation: &'i str,
    name: &'i str,
    addresses: Vec<String>,
    expires: String,
    mesh_file: String,
    /// Whether the running daemon knows of it.
    is_known: bool,
}

/// Writes the record, tells the daemon, and prints the text: it alone goes to standard output, for a pipe.
pub(super) fn main(args: &InviteArgs) -> Result {
    let issued = issue(&args.config.config, args.name.as_deref(), args.expires)?;
    let is_known = block_on(reload(&issued))?;
    let text = issued.invitation.to_text();
    if args.json {
        let report = Report {
            invitation: &text,
            name: issued.invitation.name.as_str(),
            addresses: issued.invitation.addresses.iter().map(ToString::to_string).collect(),
            expires: config::time_text(issued.invitation.until),
            mesh_file: issued.file.display().to_string(),
            is_known: is_known == Known::Yes,
        };
        print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
    } else {
        eprint!("{}", told(&issued, is_known, args.expires));
        print(&format!("{}\n", *text))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the daemon knows of the invitation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Yes,
    /// It does not run, and reads it when it starts.
    AtStart,
    No,
}

async fn reload(issued: &Issued) -> Result<Known> {
    let told = call::<serde_json::Value>(&issued.socket, LIMIT, Method::POST, "/v1/reload", None::<&()>).await;
    Ok(match told {
        Ok(_) => Known::Yes,
        Err(ClientError::Connect { .. }) => Known::AtStart,
        Err(_) => Known::No,
    })
}

fn told(issued: &Issued, known: Known, expires: Duration) -> String {
    let name = &issued.invitation.name;
    let mut out = format!("{name} is invited and stands in {}.\n", issued.file.display());
    if issued.has_voided {
        let _ = writeln!(out, "The earlier invitation of {name} is void now.");
    }
    out.push_str(match known {
        Known::Yes => "",
        Known::AtStart => "meshd does not run here: start it before the invitation is used.\n",
        Known::No => "The running daemon does not know of it yet: meshd reload\n",
    });
    if !issued.accepts {
        out.push_str(
            "This node takes nobody by itself: `meshd join` there will say what to add here. Otherwise set accept = true below\n\
             [invite] in meshd.toml.\n\
             It chose name and address by its own mesh file. Where that lacks members, invite from the node that has them all: two\n\
             inviters who do not know of each other give the same ones away.\n",
        );
    }
    out + &format!("{SECRET}\nOn the new machine, {}, run `meshd join` and paste this:\n\n", within(expires))
}

/// The time in which an invitation is to be used.
pub(super) fn within(time: Duration) -> String {
    let hours = time.as_secs() / 3600;
    if hours > 0 && time.as_secs().is_multiple_of(3600) {
        return format!("within {}", super::text::count(hours, "hour"));
    }
    format!("within {}", super::text::span(time))
}

#[cfg(test)]
mod tests {
    use super::super::init::tests::invitation;
    use super::*;
    use crate::setup::invite::EXPIRES;

    fn issued(accepts: bool) -> Issued {
        let file = "/etc/meshd/mesh.toml".into();
        Issued { invitation: invitation(), file, socket: "/none".into(), accepts, has_voided: accepts }
    }

    #[test]
    fn invite_says_where_it_stands_and_that_it_is_a_secret() {
        insta::assert_snapshot!(told(&issued(true), Known::No, EXPIRES), @r#"
        lab.node2 is invited and stands in /etc/meshd/mesh.toml.
        The earlier invitation of lab.node2 is void now.
        The running daemon does not know of it yet: meshd reload
        The invitation is a secret until it is used: whoever uses it first becomes this member. Send it as you would a password.
        On the new machine, within 24 hours, run `meshd join` and paste this:
        "#);
        let by_hand = told(&issued(false), Known::AtStart, Duration::from_secs(90));
        assert!(by_hand.contains("the node that has them all") && !by_hand.contains("void"), "{by_hand}");
        assert!(by_hand.contains("takes nobody by itself") && by_hand.contains("within 1m30s"), "{by_hand}");
    }
}
