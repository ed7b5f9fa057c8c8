//! The manual and the completions, from the definitions of the command line and the annotated reference of the configuration.
//!
//! They are made in a test: what writes them is in no binary that anybody installs, and a page that cannot be made fails the
//! tests. `MESHD_PAGES=FOLDER cargo test -p meshd --bin meshd pages` writes them into that folder, which the package does.

mod toml;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;

/// The shells and what completions are called where each looks for them.
const COMPLETIONS: [(Shell, &str); 5] = [
    (Shell::Bash, "meshd.bash"),
    (Shell::Zsh, "_meshd"),
    (Shell::Fish, "meshd.fish"),
    (Shell::Elvish, "meshd.elv"),
    (Shell::PowerShell, "meshd.ps1"),
];

/// One source for the file that people copy from and for the page.
const REFERENCE: &str = include_str!("../../../config/examples/reference.toml");

/// The folder to write to, and what must outlive it.
fn folder() -> (PathBuf, Option<tempfile::TempDir>) {
    if let Some(path) = std::env::var_os("MESHD_PAGES").map(PathBuf::from) {
        fs::create_dir_all(&path).unwrap();
        return (path, None);
    }
    let directory = tempfile::tempdir().unwrap();
    (directory.path().to_owned(), Some(directory))
}

/// `meshd-key-generate.1` and so on: the command and all below it.
fn page_names(command: &Command, prefix: &str) -> Vec<String> {
    let name = format!("{prefix}{}", command.get_name());
    let below = command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
    let below: Vec<String> = below.flat_map(|sub| page_names(sub, &format!("{name}-"))).collect();
    [vec![format!("{name}.1")], below].concat()
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_command_has_a_page_and_every_shell_its_completions() {
    let (folder, _keep) = folder();
    clap_mangen::generate_to(Cli::command(), &folder).unwrap();
    for name in page_names(&Cli::command(), "") {
        let page = read(&folder, &name);
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH DESCRIPTION"), "{name}: {page}");
    }
    for (shell, name) in COMPLETIONS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "meshd", &mut text);
        fs::write(folder.join(name), text).unwrap();
        let text = read(&folder, name);
        assert!(["status", "until-direct", "generate"].iter().all(|word| text.contains(word)), "{name}");
    }
}

/// What `--help` says of a command and all below it, one after the other.
fn helps(command: &mut Command, path: &str) -> String {
    let path = format!("{path}{}", command.get_name());
    let mut text = format!("===== {path}\n{}\n", command.render_long_help());
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        text += &helps(sub, &format!("{path} "));
    }
    text
}

#[test]
fn the_help_of_every_command_is_as_it_was_approved() {
    // Values of the environment are those of whoever runs the test.
    let mut command =
        Cli::command().term_width(100).mut_subcommands(|sub| sub.mut_args(|arg| arg.hide_env_values(true)));
    command.build();
    insta::assert_snapshot!(helps(&mut command, ""));
}

#[test]
fn the_page_of_the_configuration_has_every_key_of_the_reference() {
    let (folder, _keep) = folder();
    let page = toml::page(REFERENCE, env!("CARGO_PKG_VERSION"));
    fs::write(folder.join("meshd.toml.5"), &page).unwrap();
    for line in REFERENCE.lines() {
        if let Some(key) = toml::key(line) {
            let name = key.split(" = ").next().unwrap_or(key);
            assert!(page.contains(&format!("\n.B {name} =")), "{name} is missing");
        }
    }
    assert!(!page.lines().any(|line| line.len() > 400), "a comment became one long line");
}
