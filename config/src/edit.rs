//! Changes of a mesh in its file, which leave everything else in it as it is: order, comments, owner and mode.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use proto::id::{EndpointName, PublicKey};
use proto::invitation::Invited;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, TableLike, value};

use crate::error::Problems;
use crate::invite::time_text;
use crate::load::{parse_mesh, parse_node};
use crate::owner::is_anothers;

/// A file with the tables of a mesh in it: a mesh file, or a `meshd.toml`.
pub struct MeshFile {
    path: PathBuf,
    document: DocumentMut,
    is_node: bool,
}

/// Why a mesh file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It cannot be read or written.
    #[error("cannot change {}: {}", path.display(), crate::file::cause(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no TOML.
    #[error("cannot change {}: it is not TOML", .0.display())]
    Syntax(PathBuf),
    /// It would not be a mesh any more.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// Its tables are not written as `[[endpoint]]` and `[[community]]`.
    #[error("cannot change {}: write its endpoints and communities as [[endpoint]] and [[community]] tables", .0.display())]
    Inline(PathBuf),
    /// There is no such invitation in it, or no longer.
    #[error("{} has no invitation of {name} with this key", path.display())]
    NotInvited {
        /// The file.
        path: PathBuf,
        /// Whose it would be.
        name: EndpointName,
    },
}

impl MeshFile {
    /// Reads the mesh of a node: the file that its `meshd.toml` at `node` names, or that file itself.
    ///
    /// # Errors
    /// [`EditError::Io`] and [`EditError::Syntax`].
    pub fn open(node: &Path, mesh: Option<&Path>) -> Result<Self, EditError> {
        let path = mesh.unwrap_or(node);
        let io = |source| EditError::Io { path: path.to_owned(), source };
        // A link stays one: what it leads to is replaced. In another user's folder there must be none.
        let folder = path.parent().unwrap_or(Path::new("/"));
        let path = if is_anothers(folder) { path.to_owned() } else { path.canonicalize().map_err(io)? };
        let io = |source| EditError::Io { path: path.clone(), source };
        let text =
            String::from_utf8(crate::file::read(&path).map_err(io)?).map_err(|_| EditError::Syntax(path.clone()))?;
        let document = text.parse().map_err(|_| EditError::Syntax(path.clone()))?;
        Ok(Self { path, document, is_node: mesh.is_none() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mesh addresses that endpoints have in it, invited ones included.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.records().flat_map(record_addresses).collect()
    }

    /// The mesh addresses of one endpoint.
    #[must_use]
    pub fn addresses_of(&self, name: &EndpointName) -> Vec<IpAddr> {
        self.records()
            .filter(|record| text_of(*record, "name") == Some(name.as_str()))
            .flat_map(record_addresses)
            .collect()
    }

    fn records(&self) -> impl Iterator<Item = &Table> {
        self.document.get("endpoint").and_then(Item::as_array_of_tables).into_iter().flatten()
    }

    /// Adds an invited endpoint with its mesh addresses, a member of `community`, which is made if need be with `inviter`. One that is
    /// invited already gets the new key and time.
    ///
    /// # Errors
    /// [`EditError::Inline`].
    pub fn invite(
        &mut self,
        invited: &Invited,
        addresses: &[IpAddr],
        community: &str,
        inviter: &EndpointName,
    ) -> Result<(), EditError> {
        let Invited { name, key, until } = invited;
        let mut fresh = Table::new();
        let record = match self.endpoint(name)? {
            Some(known) => known,
            None => {
                fresh.insert("name", value(name.as_str()));
                &mut fresh
            }
        };
        record.insert("public_key", value(key.to_string()));
        record.insert("invited_until", value(time_text(*until)));
        if !addresses.is_empty() && !record.contains_key("address") {
            record.insert("address", addresses_value(addresses));
        }
        if !fresh.is_empty() {
            self.tables("endpoint")?.push(fresh);
        }
        self.join_community(community, &[inviter, name])
    }

    /// Puts the endpoint's own key in the place of the one in its invitation, which ends there, and where it may be dialled.
    ///
    /// # Errors
    /// [`EditError::NotInvited`] where the file has no such invitation; [`EditError::Inline`].
    pub fn enrol(&mut self, invited: &Invited, key: PublicKey, public_addresses: &[String]) -> Result<(), EditError> {
        let Invited { name, key: before, .. } = invited;
        let missing = EditError::NotInvited { path: self.path.clone(), name: name.clone() };
        let is_theirs = |record: &&mut Table| {
            text_of(*record, "public_key").is_some_and(|text| text.parse() == Ok(*before))
                && record.contains_key("invited_until")
        };
        let Some(record) = self.endpoint(name)?.filter(is_theirs) else { return Err(missing) };
        record.remove("invited_until");
        // In its place, so that a comment beside it stays.
        if let Some(item) = record.get_mut("public_key").and_then(Item::as_value_mut) {
            let decor = item.decor().clone();
            *item = key.to_string().into();
            *item.decor_mut() = decor;
        }
        if !public_addresses.is_empty() {
            record.insert("public_addresses", value(Array::from_iter(public_addresses)));
        }
        Ok(())
    }

    /// The text as it will be saved.
    #[must_use]
    pub fn text(&self) -> String {
        self.document.to_string()
    }

    /// Checks the whole and puts it in the file's place at once, with its owner and mode.
    ///
    /// # Errors
    /// [`EditError::Problems`] where it would be no mesh any more; [`EditError::Io`].
    pub fn save(&self) -> Result<(), EditError> {
        let text = self.text();
        if self.is_node {
            parse_node(&self.path, &text)?;
        } else {
            parse_mesh(&self.path, &text)?;
        }
        replace(&self.path, &text).map_err(|source| EditError::Io { path: self.path.clone(), source })
    }

    fn tables(&mut self, name: &str) -> Result<&mut ArrayOfTables, EditError> {
        let inline = EditError::Inline(self.path.clone());
        let item = self.document.entry(name).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        item.as_array_of_tables_mut().ok_or(inline)
    }

    fn endpoint(&mut self, name: &EndpointName) -> Result<Option<&mut Table>, EditError> {
        Ok(self.tables("endpoint")?.iter_mut().find(|table| text_of(*table, "name") == Some(name.as_str())))
    }

    fn join_community(&mut self, name: &str, members: &[&EndpointName]) -> Result<(), EditError> {
        let inline = EditError::Inline(self.path.clone());
        let tables = self.tables("community")?;
        if !tables.iter().any(|table| text_of(table, "name") == Some(name)) {
            let mut fresh = Table::new();
            fresh.insert("name", value(name));
            fresh.insert("members", value(Array::new()));
            tables.push(fresh);
        }
        let is_it = |table: &&mut Table| text_of(*table, "name") == Some(name);
        let community = tables.iter_mut().find(is_it);
        let list = community.and_then(|table| table.get_mut("members")).and_then(Item::as_array_mut).ok_or(inline)?;
        for member in members {
            if !list.iter().any(|known| known.as_str() == Some(member.as_str())) {
                list.push(member.as_str());
            }
        }
        Ok(())
    }
}

fn text_of<'t>(table: &'t dyn TableLike, key: &str) -> Option<&'t str> {
    table.get(key).and_then(Item::as_str)
}

fn record_addresses(record: &Table) -> Vec<IpAddr> {
    let Some(item) = record.get("address") else { return Vec::new() };
    let list = item.as_array().into_iter().flatten().filter_map(toml_edit::Value::as_str);
    item.as_str().into_iter().chain(list).filter_map(|text| text.parse().ok()).collect()
}

fn addresses_value(addresses: &[IpAddr]) -> Item {
    match addresses {
        [one] => value(one.to_string()),
        more => value(Array::from_iter(more.iter().map(ToString::to_string))),
    }
}

/// Writes a new file beside it and renames that: whoever reads sees the one or the other, and so does the next start after a
/// power cut.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let before = fs::symlink_metadata(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    // What a killed predecessor left.
    let _absent = fs::remove_file(&fresh);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        keep_owner(&file, &before)?;
        file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o777))?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    })();
    if written.is_err() {
        let _gone = fs::remove_file(&fresh);
    }
    written
}

/// Gives the new file the owner of the one before, as far as this user may: the packaged daemon may not call chown(2) at all, and
/// what it replaces is its own.
fn keep_owner(file: &File, before: &fs::Metadata) -> io::Result<()> {
    let facts = file.metadata()?;
    if (facts.uid(), facts.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    match fchown(file, Some(before.uid()), Some(before.gid())) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::id::SecretKey;
    use proto::invitation::UnixTime;

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
        MeshFile::open(&folder.join("meshd.toml"), Some(&path)).unwrap()
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
        file.enrol(&invited(5), key(6), &[]).unwrap();
        assert_eq!(file.text(), wanted(record(key(6), "")));
    }

    #[test]
    fn an_invitation_is_used_once_with_its_own_key_and_for_its_own_record() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = file(folder.path());
        invite(&mut file, 5);
        let refused = |file: &mut MeshFile, by: Invited| {
            matches!(file.enrol(&by, key(9), &[]), Err(EditError::NotInvited { .. }))
        };
        assert!(refused(&mut file, invited(4)));
        assert!(refused(&mut file, Invited { name: "lab.one".parse().unwrap(), ..invited(5) }));
        file.enrol(&invited(5), key(6), &["192.0.2.7".to_owned()]).unwrap();
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
        file.enrol(&invited(1), "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".parse().unwrap(), &[]).unwrap();
        assert!(matches!(file.save(), Err(EditError::Problems(_))), "two endpoints of one key");
        assert_eq!(fs::read_to_string(&path).unwrap(), MESH);
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
}
