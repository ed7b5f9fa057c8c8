//! Tests that need a network of their own run again inside a fresh user, network and mount namespace.

use std::process::Command;

const INSIDE: &str = "MESHD_TEST_NAMESPACE";

/// Runs `body`, a closure of the test itself, in fresh namespaces, where the caller is root and owns an empty network: the
/// test binary calls itself for this one test. Says so and passes where the machine forbids such namespaces.
pub(crate) fn in_namespace<F: FnOnce()>(body: F) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    const FRESH: [&str; 6] = ["--user", "--map-root-user", "--net", "--mount", "--fork", "--kill-child"];
    if !Command::new("unshare").args(FRESH).arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no namespaces on this machine");
        return;
    }
    // `meshd::path::to::the_test::{{closure}}`
    let (_, name) = std::any::type_name::<F>().split_once("::").unwrap();
    let name = name.trim_end_matches("::{{closure}}");
    let itself = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(FRESH).arg(itself).args(["--exact", name, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("1 passed"), "no test is named {name}");
}

/// Runs `ip` with `arguments`, which are separated by spaces.
pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
