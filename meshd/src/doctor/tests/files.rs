//! What is said of who is selected, of the files that warnings are of, and of the mesh file that the daemon writes.

use super::*;

#[test]
fn a_node_that_the_selector_leaves_out_is_told_so_and_nothing_is_missed_of_it() {
    let labelled = format!(
        "selector = {{ labels = [\"on\"] }}\n{}",
        NODE.replace("{ name = \"b.", "{ labels = [\"on\"], name = \"b.")
    );
    let said = after(|facts| {
        let mut outline = outline(&labelled);
        // That its community does without it has a place in a file that is elsewhere each time.
        outline.warnings.clear();
        facts.config.outline = Ok(outline);
        let alive = alive(facts);
        (alive.is_resting, alive.port, alive.offloads) = (true, 0, vec![]);
        facts.sysctls.insert("net/ipv4/ip_forward".into(), "0".into());
        network(facts).routes.push(route("172.17.0.0/16", "docker0", true));
    });
    assert_snapshot!(said, @r"
    warn     config    a.gate is left out by [selector] of the mesh, so nothing runs here
                       -> to have it run, give a.gate the labels of [selector] in the mesh file
    skipped  offloads  not selected: nothing runs
                       -> to have it run, give a.gate the labels of [selector] in the mesh file
    skipped  port      not selected: nothing runs
                       -> to have it run, give a.gate the labels of [selector] in the mesh file
    skipped  routes    not selected: nothing runs
                       -> to have it run, give a.gate the labels of [selector] in the mesh file
    ");
}

#[test]
fn a_warning_is_mended_in_the_file_that_it_is_of() {
    let said = after(|facts| {
        let Ok(outline) = &mut facts.config.outline else { panic!("a configuration") };
        outline.warnings = vec!["/etc/meshd/mesh.toml:41:1: community \"x\" is empty".into(), "odd: it is".into()];
    });
    assert_snapshot!(said, @r#"
    warn     config  /etc/meshd/mesh.toml:41:1: community "x" is empty
                     -> edit /etc/meshd/mesh.toml:41:1
    warn     config  odd: it is
                     -> edit /etc/meshd/meshd.toml
    "#);
}

#[test]
fn a_daemon_that_takes_members_by_itself_must_be_able_to_write_them_down() {
    let folder = |uid, mode, is_read_only| FolderFacts { path: "/etc/meshd".into(), uid, gid: 7, mode, is_read_only };
    let told = |user: u32, folder: FolderFacts| {
        after(|facts| {
            facts.mesh_folder = Some(Ok(folder));
            facts.keys = vec![];
            let process = alive(facts).process.as_mut().unwrap();
            (process.uid, process.groups) = (user, vec![7]);
            if user != 0 {
                process.capabilities = Capabilities(1 << 10 | 1 << 12);
            }
        })
    };
    assert_snapshot!(told(998, folder(0, 0o755, false)), @r"
    warn     invite  [invite] accept is on, and the daemon may not write in /etc/meshd, where the mesh file is: nobody is let in
                     -> move the mesh file into /state, the daemon's own folder, and name it in [node] mesh
    ");
    for (user, good) in
        [(998, folder(998, 0o700, false)), (998, folder(0, 0o770, false)), (0, folder(998, 0o700, false))]
    {
        assert!(!told(user, good.clone()).contains("invite"), "{user}: {good:?}");
    }
    for (user, bad) in [(0, folder(0, 0o755, true)), (998, folder(998, 0o500, false)), (998, folder(998, 0o077, false))]
    {
        assert!(told(user, bad.clone()).contains("warn     invite"), "{user}: {bad:?}");
    }
}
