//! Golden reports: what an operator reads for each cause.

use insta::assert_snapshot;
use proto::explain::{Cause, Explanation, Heard, Helper};
use proto::id::PeerId;
use proto::invitation::UnixTime;
use proto::wire::{
    KeyView, MachineView, PathView, PolicyView, RouteView, SelectionView, SessionView, TroubleView, View,
};

use super::super::names::{Absence, Unclear};
use super::story::{Miss, Missing, Role, Story, Tried};
use crate::api::shared::{OwnerLine, SharedLine};
use crate::api::why::{WhyQuery, WhyReport};
use crate::host::Way;

/// Packets that get through.
fn near() -> View {
    View {
        route: RouteView::Peer,
        policy: PolicyView::Community,
        session: SessionView::Up,
        trouble: TroubleView::None,
        path: PathView::Direct,
        machine: MachineView::Good,
        selection: SelectionView::All,
        rtt: 12_300,
        mtu: 1420,
        ..View::default()
    }
}

fn far() -> View {
    View { route: RouteView::Own, ..near() }
}

fn silent() -> View {
    View { session: SessionView::Unanswered, path: PathView::Untold, rtt: 0, mtu: 0, ..near() }
}

fn story(near: View) -> Story {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Story {
        wanted: "there.two".to_owned(),
        own: "here.one".to_owned(),
        mesh: "lab".to_owned(),
        interface: "mesh0".to_owned(),
        sender: "here.one".to_owned(),
        receiver: Some("there.two".to_owned()),
        communities: [names(&["tills", "cameras"]), names(&["tills"])],
        nearest: None,
        room: None,
        shared: None,
        way: Way::Mesh,
        note: None,
        path: Some("direct 192.0.2.2:6374".to_owned()),
        others: Vec::new(),
        tried: (near.session != SessionView::Up).then(|| Tried {
            count: 4,
            seconds: 4,
            places: names(&["192.0.2.2:6374"]),
        }),
        unresolved: None,
        helper: None,
        nat: Some("random"),
        drops: Vec::new(),
        key: Some("THEIRS=".to_owned()),
        own_key: "OURS=".to_owned(),
        told: Explanation {
            address: "10.99.0.2".parse().unwrap(),
            from: None,
            target: Some(PeerId(1)),
            prefix: Some("10.99.0.2/32".parse().unwrap()),
            nearest: None,
            shared: None,
            near: Heard::Says(near),
            far: if near.session == SessionView::Up { Heard::Says(far()) } else { Heard::Unreached },
            helper: None,
            mtu: 1420,
            is_final: true,
        },
    }
}

/// Another member was asked, and the receiver by that one.
fn helped(near: View, far: Option<View>) -> Story {
    let mut story = story(silent());
    story.helper = Some("there.connector".to_owned());
    story.told.helper = Some(Helper { peer: PeerId(2), near: Heard::Says(near), far });
    story
}

fn answered(far: View) -> Story {
    let mut story = story(near());
    story.told.far = Heard::Says(far);
    story
}

fn text(report: &WhyReport) -> String {
    let step = |step: &crate::api::why::StepLine| format!("{:?} {} {}: {}", step.mark, step.side, step.step, step.text);
    let mut lines = vec![format!("{} {:?} {:?}", report.cause, report.reaches, report.sides)];
    lines.extend(report.steps.iter().map(step));
    lines.push(format!("= {}", report.verdict));
    lines.extend(report.next.iter().map(|next| format!("> {next}")));
    lines.join("\n")
}

fn told(story: &Story) -> String {
    text(&story.report())
}

#[test]
fn packets_that_get_through() {
    assert_snapshot!(told(&story(near())), @r#"
    reachable_direct true []
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Ok here.one session: up
    Decides here.one path: direct 192.0.2.2:6374, round trip 12.3 ms
    Ok there.two policy: it lets here.one in
    Ok there.two machine: the packet is for itself
    = packets from this node reach the machine of there.two directly
    > on there.two: meshd doctor    # where nothing answers all the same: its own firewall was not asked
    "#);
    let mut relayed = story(View { path: PathView::Relay, mtu: 1300, ..near() });
    relayed.path = Some("relay hub.connector".to_owned());
    relayed.drops = vec![("forged_source".to_owned(), 3)];
    relayed.told.far = Heard::Silent;
    assert_snapshot!(told(&relayed), @r#"
    reachable_relay true []
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Ok here.one session: up
    Decides here.one path: relay hub.connector, round trip 12.3 ms
    Decides here.one size: packets over 1300 bytes are answered "too big", or cut; the device takes 1420
    Unknown here.one path: the NAT before this node is random
    Unknown here.one drops: 3 forged_source meanwhile, of whatever peer
    Unknown there.two answer: does not answer such questions
    = packets from this node reach the machine of there.two through a relay; those over 1300 bytes are answered "too big"
    > meshd ping there.two --until-direct    # whether a direct way opens
    on there.two: meshd doctor    # where nothing answers all the same: its own firewall was not asked
    "#);
    assert_snapshot!(told(&story(View { path: PathView::Tls, ..near() })), @r#"
    reachable_tls true []
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Ok here.one session: up
    Decides here.one path: direct 192.0.2.2:6374, round trip 12.3 ms
    Unknown here.one path: the NAT before this node is random
    Ok there.two policy: it lets here.one in
    Ok there.two machine: the packet is for itself
    = packets from this node reach the machine of there.two through a relay over TLS
    > meshd ping there.two --until-direct    # whether a direct way opens
    on there.two: meshd doctor    # where nothing answers all the same: its own firewall was not asked
    "#);
    assert_snapshot!(told(&story(View { path: PathView::Lan, ..near() })), @r#"
    reachable_lan true []
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Ok here.one session: up
    Decides here.one path: direct 192.0.2.2:6374, round trip 12.3 ms
    Ok there.two policy: it lets here.one in
    Ok there.two machine: the packet is for itself
    = packets from this node reach the machine of there.two on the LAN
    > on there.two: meshd doctor    # where nothing answers all the same: its own firewall was not asked
    "#);
    let mut shared = story(near());
    shared.told.prefix = Some("10.99.0.0/24".parse().unwrap());
    let owner = |name: &str, state: &str, reason: Option<&str>| OwnerLine {
        name: name.to_owned(),
        priority: 1,
        state: state.to_owned(),
        reason: reason.map(str::to_owned),
    };
    shared.shared = Some(SharedLine {
        prefix: "10.99.0.0/24".to_owned(),
        owner: Some("there.two".to_owned()),
        is_own: false,
        is_unreached: false,
        owners: vec![
            owner("there.two", "active", None),
            owner("there.three", "silent", Some("it does not answer for 3 s")),
        ],
    });
    assert_snapshot!(told(&shared), @r#"
    reachable_direct true []
    Ok here.one target: 10.99.0.2 is in 10.99.0.0/24, behind there.two
    Decides here.one route: of those that announce 10.99.0.0/24, there.two has it; there.three (priority 1) is silent: it does not answer for 3 s
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Ok here.one session: up
    Decides here.one path: direct 192.0.2.2:6374, round trip 12.3 ms
    Ok there.two policy: it lets here.one in
    Ok there.two machine: the packet is for itself
    = packets from this node reach the machine of there.two directly
    > on there.two: meshd doctor    # where nothing answers all the same: its own firewall was not asked
    "#);
}

#[test]
fn names_and_addresses_that_mean_nobody() {
    let query = WhyQuery::parse("target=there.tow").unwrap();
    let missing = |role, miss| text(&Missing { name: "there.tow".to_owned(), role, miss }.report(&query, "here.one"));
    let unclear = |role, unclear| missing(role, Miss::Unclear(unclear));
    let absent = |absence| missing(Role::Target, Miss::Absent(absence));
    assert_snapshot!(unclear(Role::Target, Unclear::Nobody(Some("there.two".to_owned()))), @r#"
    unknown_name false ["here.one"]
    Fails here.one target: the mesh file of this node has no endpoint there.tow
    = the mesh file of this node has no endpoint there.tow
    > meshd why there.two    # if that was meant
    if another node's mesh file has there.tow: copy that file to this node, then meshd reload
    "#);
    assert_snapshot!(unclear(Role::Sender, Unclear::Nobody(None)), @r#"
    unknown_sender false ["here.one"]
    Fails here.one target: the mesh file of this node has no endpoint there.tow
    = the mesh file of this node has no endpoint there.tow
    > meshd status    # the names that there are
    if another node's mesh file has there.tow: copy that file to this node, then meshd reload
    "#);
    let several = ["here.two", "there.two"].map(str::to_owned).into();
    assert_snapshot!(unclear(Role::Sender, Unclear::Several(several)), @r#"
    unknown_sender false ["here.one"]
    Fails here.one target: there.tow may be here.two or there.two
    = there.tow may be here.two or there.two
    > meshd why there.tow --from here.two
    "#);
    assert_snapshot!(absent(Absence::LeftOut(vec!["site=hq".to_owned()])), @r#"
    not_selected false ["here.one"]
    Fails here.one target: there.tow is left out by [selector] of the mesh file
    = there.tow is left out by [selector] of the mesh file
    > in the mesh file, give there.tow the labels of [selector] (site=hq), then meshd reload
    "#);
    assert_snapshot!(absent(Absence::Invited(UnixTime(1_795_348_800))), @r#"
    invited false ["there.tow"]
    Fails here.one target: there.tow is invited until 2026-11-22T12:00:00Z, and has not joined
    = there.tow is invited until 2026-11-22T12:00:00Z, and has not joined
    > on the machine that is to be there.tow: meshd join INVITATION
    "#);
    assert_snapshot!(absent(Absence::Expired(UnixTime(1_795_348_800))), @r#"
    invited false ["here.one"]
    Fails here.one target: there.tow was invited until 2026-11-22T12:00:00Z, and has not joined
    = there.tow was invited until 2026-11-22T12:00:00Z, and has not joined
    > meshd invite there.tow    # makes another
    "#);
    let mut nobody = story(View { route: RouteView::Nobody, ..View::default() });
    nobody.receiver = None;
    nobody.wanted = "10.99.0.2".to_owned();
    nobody.nearest = Some(("10.99.0.0/31".to_owned(), "there.connector".to_owned()));
    assert_snapshot!(told(&nobody), @r#"
    unannounced_address false ["here.one"]
    Fails here.one target: no member announces 10.99.0.2; the nearest is 10.99.0.0/31, of there.connector
    = no member announces 10.99.0.2, by the mesh file of here.one
    > in the mesh file, at the endpoint of the gateway before it: subnets = [ "PREFIX" ]
    "#);
    nobody.room = Some("10.99.0.0/24".parse().unwrap());
    assert_snapshot!(told(&nobody), @r#"
    unannounced_address false ["here.one"]
    Fails here.one target: no member announces 10.99.0.2; the nearest is 10.99.0.0/31, of there.connector
    = no member announces 10.99.0.2, by the mesh file of here.one
    > in the mesh file, at the endpoint there.connector: subnets = [ "10.99.0.0/24" ]
    "#);
    assert_snapshot!(told(&story(View { route: RouteView::Own, ..View::default() })), @r#"
    own_address false ["here.one"]
    Fails here.one target: 10.99.0.2 is here.one's own address
    = 10.99.0.2 is this node's own, or behind it: the mesh has no part in it
    > ip route get 10.99.0.2
    "#);
}

#[test]
fn packets_that_do_not_leave() {
    let mut denied = story(View { policy: PolicyView::NoCommunity, ..silent() });
    denied.communities = [vec!["tills".to_owned()], Vec::new()];
    assert_snapshot!(told(&denied), @r#"
    no_community false ["here.one", "there.two"]
    Ok here.one target: 10.99.0.2 is there.two
    Fails here.one policy: no community has both: here.one is in tills, there.two is in none
    = by the mesh file of this node no community has both here.one and there.two
    > in the mesh file of here.one, and in that of there.two if it has none either:
      [[community]]
      name = "NAME"
      members = [ "here.one", "there.two" ]
    "#);
    let mut shadowed = story(View { machine: MachineView::Shadowed, ..near() });
    shadowed.way = Way::By("docker0".to_owned());
    shadowed.note = Some("route 10.99.0.0/24 to there.two left out".to_owned());
    assert_snapshot!(told(&shadowed), @r#"
    route_shadowed false ["here.one"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Fails here.one machine: the kernel sends 10.99.0.2 by docker0, not into mesh0 (route 10.99.0.0/24 to there.two left out)
    = this machine's own route for 10.99.0.2, by docker0, wins over the mesh's
    > on here.one: remove or move that route; or give there.two another address in the mesh file
    "#);
    let mut missing = story(View { machine: MachineView::RouteMissing, ..near() });
    missing.way = Way::Nowhere("Network is unreachable".to_owned());
    assert_snapshot!(told(&missing), @r#"
    route_missing false ["here.one"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Fails here.one machine: the kernel has no route to 10.99.0.2: Network is unreachable
    = the machine of this node has no route into the mesh for 10.99.0.2
    > on here.one: ip route get 10.99.0.2
    "#);
}

#[test]
fn handshakes_without_an_answer_that_this_node_can_explain() {
    let trouble = |trouble| told(&story(View { trouble, ..silent() }));
    assert_snapshot!(trouble(TroubleView::NoPlace), @r#"
    no_address false ["there.two"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: no address is known to dial, and no relay
    = this node knows no address at which there.two could be dialled, and there is no relay
    > in the mesh file, at the endpoint there.two or here.one: public_addresses = [ "ADDRESS" ]; or add a connector that both can dial
    "#);
    assert_snapshot!(trouble(TroubleView::Unresolved), @r#"
    name_unresolved false ["here.one"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: its name does not resolve: not yet
    = the public address of there.two does not resolve at this node
    > on here.one: getent hosts NAME
    "#);
    assert_snapshot!(trouble(TroubleView::Psk), @r#"
    psk_differs false ["here.one", "there.two"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: there.two answers, and its answers cannot be read: 4 handshakes in 4 s, to 192.0.2.2:6374
    = there.two answers with another pre-shared key than that of this node
    > compare the file that psk_file in meshd.toml names, on here.one and on there.two
    "#);
    assert_snapshot!(trouble(TroubleView::NoCipher), @r#"
    no_common_cipher false ["here.one", "there.two"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: no answer: 4 handshakes in 4 s, to 192.0.2.2:6374
    = this node and there.two offer no common cipher
    > compare cipher in [dataplane] of meshd.toml, on here.one and on there.two
    "#);
    assert_snapshot!(trouble(TroubleView::Unreadable), @r#"
    mesh_name_differs false ["here.one", "there.two"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: no answer: 4 handshakes in 4 s, to 192.0.2.2:6374
    = handshakes from where there.two is come to this node and cannot be read: the two have different mesh names
    > compare name in [mesh] of the mesh file, on there.two and on here.one (where it is "lab")
    "#);
    assert_snapshot!(trouble(TroubleView::OtherKey), @r#"
    peer_key_differs false ["here.one"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: no answer: 4 handshakes in 4 s, to 192.0.2.2:6374
    = the mesh file of this node has a wrong public key of there.two
    > on there.two: meshd key show    # and put that into the mesh file of this node, which has THEIRS=
    "#);
    assert_snapshot!(trouble(TroubleView::None), @r#"
    unanswered false []
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: no answer: 4 handshakes in 4 s, to 192.0.2.2:6374
    = there.two does not answer this node, and nobody could be asked about it: it is down, UDP is blocked on the way, its address is wrong, or one mesh file has a wrong key, community or mesh name
    > on there.two: meshd status; meshd doctor
    "#);
    assert_snapshot!(told(&story(View { session: SessionView::Lost, ..silent() })), @r#"
    lost false []
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: it was up, and nothing answers any more: 4 handshakes in 4 s, to 192.0.2.2:6374
    = the session with there.two was up, and nothing comes from it any more
    > on there.two: meshd status; meshd doctor
    "#);
}

#[test]
fn handshakes_without_an_answer_that_others_explain() {
    let up = View { key: KeyView::Same, ..near() };
    let of = |far: View| told(&helped(up, Some(far)));
    assert_snapshot!(told(&helped(View { key: KeyView::Differs, ..near() }, None)), @r#"
    peer_key_differs false ["here.one"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: no answer: 4 handshakes in 4 s, to 192.0.2.2:6374
    Ok there.connector session: it has a session with there.two
    Fails there.connector answer: its mesh file has another key of there.two than here.one's
    = the mesh file of this node has a wrong public key of there.two
    > on there.two: meshd key show    # and put that into the mesh file of this node, which has THEIRS=
    "#);
    assert_snapshot!(of(View { key: KeyView::Differs, ..far() }), @r#"
    own_key_differs false ["there.two"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: no answer: 4 handshakes in 4 s, to 192.0.2.2:6374
    Ok there.connector session: it has a session with there.two
    Fails there.connector answer: there.two says: its mesh file has another key of here.one, or none
    = the mesh file of there.two has a wrong public key of here.one, or none
    > in the mesh file of there.two, at the endpoint here.one: public_key = "OURS="
    "#);
    assert_snapshot!(of(View { key: KeyView::NoRecord, selection: SelectionView::Some, ..far() }), @r#"
    own_key_differs false ["there.two"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: no answer: 4 handshakes in 4 s, to 192.0.2.2:6374
    Ok there.connector session: it has a session with there.two
    Fails there.connector answer: there.two says: its mesh file has another key of here.one, or none, and it leaves some members of the mesh file out
    = the mesh file of there.two has a wrong public key of here.one, or none
    > in the mesh file of there.two: give here.one the labels of [selector], or correct its public_key
    "#);
    assert_snapshot!(of(View { policy: PolicyView::NoCommunity, ..far() }), @r#"
    denied_there false ["there.two"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: no answer: 4 handshakes in 4 s, to 192.0.2.2:6374
    Ok there.connector session: it has a session with there.two
    Fails there.connector answer: there.two says: its mesh file has no community with here.one
    = there.two does not let here.one in: its mesh file has no community with both
    > in the mesh file of there.two:
      [[community]]
      name = "NAME"
      members = [ "here.one", "there.two" ]
    "#);
    assert_snapshot!(of(View { trouble: TroubleView::OldTimestamp, ..far() }), @r#"
    clock_behind false ["here.one"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: no answer: 4 handshakes in 4 s, to 192.0.2.2:6374
    Ok there.connector session: it has a session with there.two
    Fails there.connector answer: there.two says: it refuses handshakes of here.one, whose clock went back
    = there.two refuses the handshakes of this node: they are dated before earlier ones, so the clock of this node went back
    > on here.one: set the clock right, or restart meshd on there.two
    "#);
    assert_snapshot!(of(far()), @r#"
    unanswered_but_alive false []
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: no answer: 4 handshakes in 4 s, to 192.0.2.2:6374
    Ok there.connector session: it has a session with there.two
    Unknown there.connector answer: there.two says: nothing speaks against here.one
    = there.two is up and answers there.connector, but not this node: UDP between the two is blocked, or one of them is reached at another address
    > on there.two: meshd why here.one
    "#);
    assert_snapshot!(told(&helped(silent(), None)), @r#"
    peer_down false ["there.two"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Fails here.one session: no answer: 4 handshakes in 4 s, to 192.0.2.2:6374
    Ok there.connector session: there.two does not answer it either
    = there.two answers neither this node nor there.connector: it is down, or cut off
    > on there.two: meshd status; meshd doctor
    "#);
}

#[test]
fn packets_that_arrive_and_go_no_further() {
    let machine = |machine| told(&answered(View { machine, route: RouteView::Behind, ..far() }));
    assert_snapshot!(machine(MachineView::ForwardingOff), @r#"
    forwarding_off false ["there.two"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Ok here.one session: up
    Decides here.one path: direct 192.0.2.2:6374, round trip 12.3 ms
    Ok there.two policy: it lets here.one in
    Fails there.two machine: it does not forward, and 10.99.0.2 is behind it
    = there.two announces 10.99.0.2 and does not forward packets
    > on there.two: sysctl -w net.ipv4.ip_forward=1
    "#);
    assert_snapshot!(machine(MachineView::NoWay), @r#"
    no_way_there false ["there.two"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Ok here.one session: up
    Decides here.one path: direct 192.0.2.2:6374, round trip 12.3 ms
    Ok there.two policy: it lets here.one in
    Fails there.two machine: its kernel has no route to 10.99.0.2, which it announces
    = there.two announces 10.99.0.2, and its machine has no route there
    > on there.two: ip route get 10.99.0.2
    "#);
    assert_snapshot!(machine(MachineView::ReversePath), @r#"
    reverse_path false ["there.two"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Ok here.one session: up
    Decides here.one path: direct 192.0.2.2:6374, round trip 12.3 ms
    Ok there.two policy: it lets here.one in
    Fails there.two machine: rp_filter drops packets of here.one
    = there.two drops packets of here.one: its way back does not lead into the mesh (rp_filter)
    > on there.two: sysctl -w net.ipv4.conf.all.rp_filter=2
    "#);
    assert_snapshot!(told(&answered(View { policy: PolicyView::NoCommunity, ..far() })), @r#"
    denied_there false ["there.two"]
    Ok here.one target: 10.99.0.2 is there.two
    Ok here.one policy: both are in tills
    Ok here.one machine: the kernel sends it into the mesh
    Ok here.one session: up
    Decides here.one path: direct 192.0.2.2:6374, round trip 12.3 ms
    Fails there.two policy: its mesh file has no community with here.one
    Ok there.two machine: the packet is for itself
    = there.two does not let here.one in: its mesh file has no community with both
    > in the mesh file of there.two:
      [[community]]
      name = "NAME"
      members = [ "here.one", "there.two" ]
    "#);
}

#[test]
fn packets_of_another_member() {
    let of = |near: Heard| {
        let mut story = story(View::default());
        story.sender = "far.three".to_owned();
        (story.told.from, story.told.near, story.path) = (Some(PeerId(3)), near, None);
        told(&story)
    };
    assert_snapshot!(of(Heard::Says(View { session: SessionView::Up, ..near() })), @r#"
    reachable_direct true []
    Ok far.three target: 10.99.0.2 is there.two
    Ok far.three policy: they share a community
    Ok far.three machine: the kernel sends it into the mesh
    Ok far.three session: up
    Decides far.three path: direct, round trip 12.3 ms
    Unknown there.two answer: cannot be asked: no session
    = packets from far.three reach the machine of there.two directly
    > on there.two: meshd doctor    # where nothing answers all the same: its own firewall was not asked
    "#);
    assert_snapshot!(of(Heard::Unreached), @r#"
    sender_unreached false ["far.three"]
    Unknown far.three target: cannot be asked: no session
    = far.three cannot be asked: this node has no session with it
    > meshd why far.three
    "#);
    assert_snapshot!(of(Heard::Denied), @r#"
    sender_denied false ["far.three"]
    Unknown far.three target: cannot be asked: policy keeps it from this node
    = far.three cannot be asked: policy keeps it from this node
    > on far.three: meshd why there.two
    "#);
    assert_snapshot!(of(Heard::Silent), @r#"
    sender_silent false ["far.three"]
    Unknown far.three target: does not answer such questions
    = far.three does not answer such questions
    > on far.three: meshd why there.two
    "#);
    assert_snapshot!(of(Heard::Crowded), @r#"
    too_many_questions false []
    Unknown far.three target: was not asked: too many questions of this node wait for answers
    = nobody was asked: too many questions of here.one wait for answers
    > in a few seconds: meshd why there.two
    "#);
    assert_snapshot!(of(Heard::Says(View { route: RouteView::Withheld, ..View::default() })), @r#"
    sender_withholds false ["far.three"]
    Fails far.three target: far.three does not tell this node of others
    = far.three does not let this node in, and tells it nothing of others
    > meshd why far.three
    "#);
}

/// Packets of another member, whose mesh file is another than this node's.
fn by_another_file(near: View) -> Story {
    let mut story = story(near);
    story.sender = "far.three".to_owned();
    (story.told.from, story.told.far, story.path) = (Some(PeerId(3)), Heard::NotAsked, None);
    story
}

#[test]
fn what_the_senders_mesh_file_lacks_is_not_said_of_this_nodes() {
    let denied = View { policy: PolicyView::NoCommunity, session: SessionView::Idle, ..near() };
    assert_snapshot!(told(&by_another_file(denied)), @r#"
    no_community false ["far.three"]
    Ok far.three target: 10.99.0.2 is there.two
    Fails far.three policy: by its mesh file no community has both far.three and there.two
    = by the mesh file of far.three no community has both far.three and there.two
    > copy the mesh file of this node to far.three, then meshd reload there: by it both are in tills
    "#);
    let mut neither = by_another_file(denied);
    neither.communities = Default::default();
    assert_snapshot!(told(&neither), @r#"
    no_community false ["far.three", "there.two"]
    Ok far.three target: 10.99.0.2 is there.two
    Fails far.three policy: by its mesh file no community has both far.three and there.two
    = by the mesh file of far.three no community has both far.three and there.two
    > in the mesh file of far.three, and in that of there.two if it has none either:
      [[community]]
      name = "NAME"
      members = [ "far.three", "there.two" ]
    "#);
    assert_snapshot!(told(&by_another_file(View { route: RouteView::Nobody, ..View::default() })), @r#"
    unannounced_address false ["far.three"]
    Fails far.three target: no member announces 10.99.0.2 by its mesh file
    = no member announces 10.99.0.2, by the mesh file of far.three
    > the mesh file of far.three lacks 10.99.0.2 of there.two: copy that of this node there, then meshd reload there
    "#);
}

#[test]
fn every_cause_that_is_not_good_says_what_to_do_next() {
    let story = story(near());
    for cause in Cause::ALL.iter().filter(|cause| !cause.is_good()) {
        assert!(story.next(*cause).is_some(), "{cause:?}");
        assert!(!story.verdict(*cause).is_empty());
    }
}
