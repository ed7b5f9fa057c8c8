//! Changes of a mesh file: what they change, what they refuse, and that they do not meet.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use proto::id::{PublicKey, SecretKey};
use proto::invitation::{Invited, UnixTime};

use super::{EditError, Enrolment, MeshFile};

const MESH: &str = "\
# the lab
[mesh]
name = \"lab\"

[[endpoint]] # here
name = \"lab.one\"
public_key = \"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\"

[[community]]
name = \"all\"
members = [\"lab.one\"] # and more to come
";

fn key(byte: u8) -> PublicKey {
    SecretKey::from_bytes([byte; 32]).public_key()
}

fn invited(byte: u8) -> Invited {
    Invited { name: "lab.two".parse().unwrap(), key: key(byte), until: UnixTime(1_795_348_800) }
}

fn file(folder: &Path) -> MeshFile {
    let path = folder.join("mesh.toml");
    if !path.exists() {
        fs::write(&path, MESH).unwrap();
    }
    open(folder, Duration::ZERO).unwrap()
}

fn open(folder: &Path, wait: Duration) -> Result<MeshFile, EditError> {
    MeshFile::open(&folder.join("meshd.toml"), Some(&folder.join("mesh.toml")), wait)
}

/// The use of such an invitation, a minute before it expires.
fn enrol(file: &mut MeshFile, by: &Invited, key: PublicKey, places: &[&str]) -> Result<(), EditError> {
    enrol_at(file, by, key, places, UnixTime(by.until.0 - 60))
}

fn enrol_at(
    file: &mut MeshFile,
    by: &Invited,
    key: PublicKey,
    places: &[&str],
    now: UnixTime,
) -> Result<(), EditError> {
    let public_addresses: Vec<String> = places.iter().map(|place| (*place).to_owned()).collect();
    let enrolment = Enrolment { name: &by.name, invitation: by.key, key, public_addresses: &public_addresses };
    file.enrol(&enrolment, now)
}

fn invite(file: &mut MeshFile, byte: u8) {
    let address = "10.5.0.2".parse().unwrap();
    file.invite(&invited(byte), &[address], "all", &"lab.one".parse().unwrap()).unwrap();
}

#[test]
fn an_invitation_and_its_use_change_what_they_must_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = file(folder.path());
    invite(&mut file, 5);
    file.save().unwrap();
    let record = |key: PublicKey, rest: &str| {
        format!("\n[[endpoint]]\nname = \"lab.two\"\npublic_key = \"{key}\"\n{rest}address = \"10.5.0.2\"\n")
    };
    let wanted = |record: String| {
        let text = MESH.replace("\n[[community]]", &(record + "\n[[community]]"));
        text.replace("[\"lab.one\"] #", "[\"lab.one\", \"lab.two\"] #")
    };
    assert_eq!(file.text(), wanted(record(key(5), "invited_until = \"2026-11-22T12:00:00Z\"\n")));
    assert_eq!(fs::read_to_string(file.path()).unwrap(), file.text());
    enrol(&mut file, &invited(5), key(6), &[]).unwrap();
    assert_eq!(file.text(), wanted(record(key(6), "")));
}

#[test]
fn an_invitation_is_used_once_with_its_own_key_and_for_its_own_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = file(folder.path());
    invite(&mut file, 5);
    let refused =
        |file: &mut MeshFile, by: Invited| matches!(enrol(file, &by, key(9), &[]), Err(EditError::NotInvited { .. }));
    assert!(refused(&mut file, invited(4)));
    assert!(refused(&mut file, Invited { name: "lab.one".parse().unwrap(), ..invited(5) }));
    enrol(&mut file, &invited(5), key(6), &["192.0.2.7"]).unwrap();
    assert!(file.text().contains("public_addresses = [\"192.0.2.7\"]"), "{}", file.text());
    assert!(refused(&mut file, invited(5)));
    assert!(refused(&mut file, invited(6)), "a member is no invitation");
}

#[test]
fn another_invitation_of_the_same_name_takes_the_place_of_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = file(folder.path());
    invite(&mut file, 5);
    let first = file.text();
    invite(&mut file, 7);
    assert_eq!(file.text(), first.replace(&key(5).to_string(), &key(7).to_string()));
}

#[test]
fn what_would_be_no_mesh_is_not_written_and_owner_and_mode_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.toml");
    let mut file = file(folder.path());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    invite(&mut file, 1);
    enrol(&mut file, &invited(1), "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".parse().unwrap(), &[]).unwrap();
    assert!(matches!(file.save(), Err(EditError::Problems(_))), "two endpoints of one key");
    assert_eq!(fs::read_to_string(&path).unwrap(), MESH);
    drop(file);
    let mut file = self::file(folder.path());
    invite(&mut file, 5);
    file.save().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_mesh_in_inline_tables_is_left_to_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.toml");
    fs::write(&path, "endpoint = [{ name = \"lab.one\" }]\n").unwrap();
    let mut file = file(folder.path());
    let asked = file.invite(&invited(5), &[], "all", &"lab.one".parse().unwrap());
    assert!(matches!(asked, Err(EditError::Inline(_))));
}

#[test]
fn a_members_key_is_not_taken_from_it_by_an_invitation_selected_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let selecting = format!("{MESH}\n[selector]\nlabels = [\"site=a\"]\n");
    for text in [MESH, &selecting] {
        fs::write(folder.path().join("mesh.toml"), text).unwrap();
        let mut file = file(folder.path());
        let one = Invited { name: "lab.one".parse().unwrap(), ..invited(5) };
        let asked = file.invite(&one, &[], "all", &one.name);
        assert!(matches!(asked, Err(EditError::Member { .. })));
        assert!(file.has_member(&one.name) && file.text() == text);
    }
}

#[test]
fn who_is_invited_gets_the_labels_that_the_mesh_selects_by_and_keeps_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let selecting = format!("{MESH}\n[selector]\nlabels = [\"site=a\", \"edge\"]\n");
    fs::write(folder.path().join("mesh.toml"), selecting).unwrap();
    let mut file = file(folder.path());
    invite(&mut file, 5);
    assert!(file.text().contains("labels = [\"site=a\", \"edge\"]\n\n[[community]]"), "{}", file.text());
    file.save().unwrap();
    enrol(&mut file, &invited(5), key(6), &[]).unwrap();
    let mesh = crate::parse_mesh(file.path(), &file.text()).unwrap();
    let is_in = |name: &str| mesh.members.endpoints.iter().any(|endpoint| endpoint.name.as_str() == name);
    assert!(is_in("lab.two") && !is_in("lab.one"));
    drop(file);
    let text = fs::read_to_string(folder.path().join("mesh.toml")).unwrap();
    fs::write(folder.path().join("mesh.toml"), text.replacen("\"site=a\", \"edge\"", "\"site=b\"", 1)).unwrap();
    let mut file = self::file(folder.path());
    invite(&mut file, 7);
    assert!(file.text().contains("labels = [\"site=b\"]"), "{}", file.text());
}

#[test]
fn an_invitation_is_void_from_the_moment_on_that_the_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = file(folder.path());
    invite(&mut file, 5);
    let (by, text) = (invited(5), file.text());
    for late in [by.until, UnixTime(by.until.0 + 1)] {
        assert!(matches!(enrol_at(&mut file, &by, key(6), &[], late), Err(EditError::Expired { .. })));
    }
    assert_eq!(file.text(), text);
    enrol_at(&mut file, &by, key(6), &[], UnixTime(by.until.0 - 1)).unwrap();
}

#[test]
fn one_at_a_time_changes_a_file_and_the_next_sees_what_the_one_before_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = file(folder.path());
    assert!(matches!(open(folder.path(), Duration::ZERO), Err(EditError::Busy(_))));
    assert!(matches!(open(folder.path(), Duration::from_millis(50)), Err(EditError::Busy(_))));
    std::thread::scope(|scope| {
        let next = scope.spawn(|| open(folder.path(), Duration::from_secs(60)).unwrap().text());
        invite(&mut first, 5);
        first.save().unwrap();
        let written = first.text();
        drop(first);
        assert_eq!(next.join().unwrap(), written);
    });
}

#[test]
fn a_link_in_the_place_of_the_new_text_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    fs::write(&victim, "mine").unwrap();
    let mut file = file(folder.path());
    symlink(&victim, folder.path().join("mesh.toml.new")).unwrap();
    invite(&mut file, 5);
    file.save().unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    assert!(!file.path().symlink_metadata().unwrap().is_symlink());
    assert_eq!(fs::read_to_string(file.path()).unwrap(), file.text());
}
