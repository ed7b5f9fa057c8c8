//! `meshd config show`: what the files say for a node, and who said so.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use config::{Extent, Origin, Setting, Shown, Value};
use serde::Serialize;

use super::{ConfigArgs, Result, print};

#[derive(Args)]
pub(super) struct ShowArgs {
    /// Another node of the mesh; of that is shown what the mesh says
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Show every key, those with defaults included
    #[arg(long)]
    effective: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Widest value behind which origins stand in one column; longer ones push theirs to the right.
const WIDEST: usize = 40;

/// Everything, as JSON.
#[derive(Serialize)]
struct Report<'s> {
    node: &'s str,
    /// The only file that is known of it; absent where all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    only_from: Option<String>,
    selected: bool,
    settings: Vec<Line<'s>>,
}

#[derive(Serialize)]
struct Line<'s> {
    table: &'s str,
    key: &'s str,
    /// `null` where there is none, and of a secret.
    value: serde_json::Value,
    /// Whether there is a value that is not shown.
    secret: bool,
    /// `default` or `file`.
    origin: &'static str,
    file: Option<String>,
    line: Option<u32>,
    /// The table of arguments in the mesh, such as `[defaults.args]`.
    args: Option<&'s str>,
}

/// Reads the files, and prints.
pub(super) fn main(args: &ShowArgs) -> Result {
    let mut shown = config::show(&args.config.config, args.name.as_deref())?;
    if !args.effective {
        shown.settings.retain(|setting| setting.origin != Origin::Default);
    }
    let text = if args.json { serde_json::to_string_pretty(&report(&shown))? + "\n" } else { render(&shown) };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Every setting of the node that `path` is the `meshd.toml` of, as `config show --effective --json` prints them: no secret is in it.
///
/// # Errors
/// Everything that is wrong with the files, in words.
pub(crate) fn effective(path: &Path) -> std::result::Result<String, String> {
    let shown = config::show(path, None).map_err(|problems| problems.to_string())?;
    serde_json::to_string_pretty(&report(&shown)).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// TOML, with who said so as comments; what has no value that can be shown is a comment too.
fn render(shown: &Shown) -> String {
    let mut out = String::new();
    if let Extent::Mesh(file) = &shown.extent {
        let (name, file) = (&shown.name, file.display());
        let _ = writeln!(
            out,
            "# {name}, as far as {file} tells: its own meshd.toml is not known here and has the last word."
        );
    }
    if !shown.selected {
        let _ =
            writeln!(out, "# {} is not selected by [selector] labels, so it takes no part in the mesh.", shown.name);
    }
    if shown.settings.is_empty() {
        out.push_str("# Nothing is set; --effective shows the defaults.\n");
    }
    let lines: Vec<_> =
        shown.settings.iter().map(|setting| (setting, key(setting), setting.value.to_string())).collect();
    let width = lines.iter().map(|(_, key, _)| key.chars().count()).max().unwrap_or(0);
    let values = lines.iter().map(|(.., value)| value.chars().count()).filter(|width| *width <= WIDEST).max();
    let values = values.unwrap_or(0);
    let mut table = "";
    for (setting, key, value) in &lines {
        if setting.table != table {
            table = setting.table;
            let gap = if out.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{gap}{}", setting.header());
        }
        let _ = writeln!(out, "{key:width$} = {value:values$}  # {}", setting.origin);
    }
    out
}

fn key(setting: &Setting) -> String {
    match setting.value {
        Value::Absent | Value::Secret => format!("#{}", setting.key),
        Value::Switch(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => setting.key.to_owned(),
    }
}

fn report(shown: &Shown) -> Report<'_> {
    let only_from = match &shown.extent {
        Extent::Whole => None,
        Extent::Mesh(file) => Some(file.display().to_string()),
    };
    let settings = shown.settings.iter().map(line).collect();
    Report { node: &shown.name, only_from, selected: shown.selected, settings }
}

fn line(setting: &Setting) -> Line<'_> {
    let value = match &setting.value {
        Value::Absent | Value::Secret => serde_json::Value::Null,
        Value::Switch(switch) => (*switch).into(),
        Value::Number(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(texts) => texts.as_slice().into(),
    };
    let (origin, file, at, args) = match &setting.origin {
        Origin::Default => ("default", None, None, None),
        Origin::File { file, line, args, .. } => {
            ("file", Some(file.display().to_string()), Some(*line), args.as_deref())
        }
    };
    let secret = setting.value == Value::Secret;
    Line { table: setting.table, key: setting.key, value, secret, origin, file, line: at, args }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use insta::assert_snapshot;

    use super::*;

    fn shown() -> Shown {
        let said = |file: &str, line, args: Option<&str>| Origin::File {
            file: PathBuf::from(file),
            line,
            column: 1,
            args: args.map(ToOwned::to_owned),
        };
        let own = |line| said("/etc/meshd/meshd.toml", line, None);
        let mesh = |line, args| said("/etc/meshd/mesh.toml", line, Some(args));
        let settings = [
            ("node", "name", Value::Text("beijing.edge1".into()), own(2)),
            ("interface", "mtu", Value::Absent, Origin::Default),
            ("lan", "multicast_token", Value::Secret, own(5)),
            ("nat", "stun_servers", Value::List(vec!["192.0.2.1:3478".into(); 3]), mesh(30, "[defaults.args]")),
            ("nat", "punch", Value::Switch(true), Origin::Default),
            ("session", "keepalive", Value::Text("25s".into()), mesh(41, "[node.\"beijing.edge1\".args]")),
            ("dataplane", "workers", Value::Number(1), Origin::Default),
        ];
        let setting = |(table, key, value, origin)| Setting { table, key, value, origin };
        Shown {
            name: "beijing.edge1".into(),
            extent: Extent::Whole,
            selected: true,
            settings: settings.into_iter().map(setting).collect(),
        }
    }

    #[test]
    fn what_is_shown_is_toml_with_origins_in_a_column() {
        assert_snapshot!(render(&shown()), @r#"
        [node]
        name             = "beijing.edge1"  # /etc/meshd/meshd.toml:2

        [interface]
        #mtu             = (none)           # default

        [lan]
        #multicast_token = (set)            # /etc/meshd/meshd.toml:5

        [nat]
        stun_servers     = ["192.0.2.1:3478", "192.0.2.1:3478", "192.0.2.1:3478"]  # /etc/meshd/mesh.toml:30 [defaults.args]
        punch            = true             # default

        [session]
        keepalive        = "25s"            # /etc/meshd/mesh.toml:41 [node."beijing.edge1".args]

        [dataplane]
        workers          = 1                # default
        "#);
        let elsewhere = Shown {
            extent: Extent::Mesh(PathBuf::from("/etc/meshd/mesh.toml")),
            selected: false,
            settings: Vec::new(),
            ..shown()
        };
        assert_snapshot!(render(&elsewhere), @r"
        # beijing.edge1, as far as /etc/meshd/mesh.toml tells: its own meshd.toml is not known here and has the last word.
        # beijing.edge1 is not selected by [selector] labels, so it takes no part in the mesh.
        # Nothing is set; --effective shows the defaults.
        ");
    }

    #[test]
    fn json_has_values_as_they_are_and_no_secrets() {
        let json = serde_json::to_value(report(&shown())).unwrap();
        assert_eq!(
            (&json["node"], &json["selected"], json.get("only_from")),
            (&"beijing.edge1".into(), &true.into(), None)
        );
        assert_snapshot!(json["settings"][2], @r#"{"args":null,"file":"/etc/meshd/meshd.toml","key":"multicast_token","line":5,"origin":"file","secret":true,"table":"lan","value":null}"#);
        assert_snapshot!(json["settings"][3], @r#"{"args":"[defaults.args]","file":"/etc/meshd/mesh.toml","key":"stun_servers","line":30,"origin":"file","secret":false,"table":"nat","value":["192.0.2.1:3478","192.0.2.1:3478","192.0.2.1:3478"]}"#);
        assert_snapshot!(json["settings"][6], @r#"{"args":null,"file":null,"key":"workers","line":null,"origin":"default","secret":false,"table":"dataplane","value":1}"#);
    }
}
