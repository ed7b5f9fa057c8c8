//! Changes of a mesh in its file, which leave everything else in it as it is: order, comments, owner and mode.

mod place;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::id::{EndpointName, PublicKey};
use proto::invitation::{Invited, UnixTime};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, TableLike, value};

use crate::error::Problems;
use crate::invite::{moment_of, time_text};
use crate::load::{parse_mesh, parse_node};
use crate::owner::is_anothers;
use place::Place;

/// A file with the tables of a mesh in it: a mesh file, or a `meshd.toml`. Nobody else changes it by this module while it is open.
pub struct MeshFile {
    place: Place,
    document: DocumentMut,
    is_node: bool,
}

/// Who comes with an invitation.
#[derive(Clone, Copy, Debug)]
pub struct Enrolment<'e> {
    /// Who was invited.
    pub name: &'e EndpointName,
    /// The public half of the key in the invitation.
    pub invitation: PublicKey,
    /// The endpoint's own.
    pub key: PublicKey,
    /// Where it may be dialled; none leave what its record says.
    pub public_addresses: &'e [String],
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
    /// Somebody else is changing it.
    #[error("cannot change {}: somebody else is doing so; try again", .0.display())]
    Busy(PathBuf),
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
    /// The invitation has expired.
    #[error("the invitation of {name} in {} has expired", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        name: EndpointName,
    },
    /// Who is to be invited is a member, whose key an invitation would take away.
    #[error("{name} is a member in {} already", path.display())]
    Member {
        /// The file.
        path: PathBuf,
        /// Who.
        name: EndpointName,
    },
}

impl MeshFile {
    /// Reads the mesh of a node: the file that its `meshd.toml` at `node` names, or that file itself. Waits up to `wait` for whoever
    /// changes it; with zero it does not wait.
    ///
    /// # Errors
    /// [`EditError::Busy`], [`EditError::Io`] and [`EditError::Syntax`].
    pub fn open(node: &Path, mesh: Option<&Path>, wait: Duration) -> Result<Self, EditError> {
        let path = mesh.unwrap_or(node);
        let io = |source| EditError::Io { path: path.to_owned(), source };
        // A link stays one: what it leads to is replaced. In another user's folder there must be none.
        let folder = path.parent().unwrap_or(Path::new("/"));
        let path = if is_anothers(folder) { path.to_owned() } else { path.canonicalize().map_err(io)? };
        let place = Place::claim(&path, wait).map_err(io)?.ok_or_else(|| EditError::Busy(path.clone()))?;
        let io = |source| EditError::Io { path: path.clone(), source };
        // Only now: who was here before may have written another.
        let bytes = crate::file::read(&path).map_err(io)?;
        let text = String::from_utf8(bytes).map_err(|_| EditError::Syntax(path.clone()))?;
        let document = text.parse().map_err(|_| EditError::Syntax(path.clone()))?;
        Ok(Self { place, document, is_node: mesh.is_none() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// The mesh addresses that endpoints have in it, invited ones included.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.records().flat_map(record_addresses).collect()
    }

    /// Whether an endpoint of this name stands in it: a member, selected or not, or one that is invited.
    #[must_use]
    pub fn has(&self, name: &EndpointName) -> bool {
        self.record(name).is_some()
    }

    /// Whether that is a member, selected or not.
    #[must_use]
    pub fn has_member(&self, name: &EndpointName) -> bool {
        self.record(name).is_some_and(|record| !record.contains_key("invited_until"))
    }

    /// The mesh addresses of one endpoint.
    #[must_use]
    pub fn addresses_of(&self, name: &EndpointName) -> Vec<IpAddr> {
        self.record(name).map(record_addresses).unwrap_or_default()
    }

    fn record(&self, name: &EndpointName) -> Option<&Table> {
        self.records().find(|record| text_of(*record, "name") == Some(name.as_str()))
    }

    fn records(&self) -> impl Iterator<Item = &Table> {
        self.document.get("endpoint").and_then(Item::as_array_of_tables).into_iter().flatten()
    }

    /// Adds an invited endpoint with its mesh addresses, a member of `community`, which is made if need be with `inviter`. One that is
    /// invited already gets the new key and time. One without labels gets those that the mesh selects by, for the mesh would be without it
    /// otherwise.
    ///
    /// # Errors
    /// [`EditError::Member`] where a member has the name; [`EditError::Inline`].
    pub fn invite(
        &mut self,
        invited: &Invited,
        addresses: &[IpAddr],
        community: &str,
        inviter: &EndpointName,
    ) -> Result<(), EditError> {
        let Invited { name, key, until } = invited;
        if self.has_member(name) {
            return Err(EditError::Member { path: self.path().to_owned(), name: name.clone() });
        }
        let labels = self.selecting_labels();
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
        if !labels.is_empty() && !record.contains_key("labels") {
            record.insert("labels", value(Array::from_iter(labels)));
        }
        if !fresh.is_empty() {
            self.tables("endpoint")?.push(fresh);
        }
        self.join_community(community, &[inviter, name])
    }

    /// Puts the endpoint's own key in the place of the one in its invitation, which ends there, and where it may be dialled. `now` is what
    /// the invitation must not have expired at.
    ///
    /// # Errors
    /// [`EditError::NotInvited`] where the file has no such invitation; [`EditError::Expired`]; [`EditError::Inline`].
    pub fn enrol(&mut self, enrolment: &Enrolment<'_>, now: UnixTime) -> Result<(), EditError> {
        let Enrolment { name, invitation, key, public_addresses } = *enrolment;
        let (path, name) = (self.path().to_owned(), name.clone());
        let is_theirs =
            |record: &&mut Table| text_of(*record, "public_key").is_some_and(|text| text.parse() == Ok(invitation));
        let record = self.endpoint(&name)?.filter(is_theirs);
        let until = record.as_ref().and_then(|record| moment_of(text_of(*record, "invited_until")?));
        let Some((record, until)) = record.zip(until) else { return Err(EditError::NotInvited { path, name }) };
        if until <= now {
            return Err(EditError::Expired { path, name });
        }
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
            parse_node(self.path(), &text)?;
        } else {
            parse_mesh(self.path(), &text)?;
        }
        self.place.replace(&text).map_err(|source| EditError::Io { path: self.path().to_owned(), source })
    }

    /// The labels that an endpoint must have to be selected.
    fn selecting_labels(&self) -> Vec<String> {
        let selector = self.document.get("selector").and_then(Item::as_table_like);
        let labels = selector.and_then(|selector| selector.get("labels")).and_then(Item::as_array);
        labels.into_iter().flatten().filter_map(|label| Some(label.as_str()?.to_owned())).collect()
    }

    fn tables(&mut self, name: &str) -> Result<&mut ArrayOfTables, EditError> {
        let inline = EditError::Inline(self.path().to_owned());
        let item = self.document.entry(name).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        item.as_array_of_tables_mut().ok_or(inline)
    }

    fn endpoint(&mut self, name: &EndpointName) -> Result<Option<&mut Table>, EditError> {
        Ok(self.tables("endpoint")?.iter_mut().find(|table| text_of(*table, "name") == Some(name.as_str())))
    }

    fn join_community(&mut self, name: &str, members: &[&EndpointName]) -> Result<(), EditError> {
        let inline = EditError::Inline(self.path().to_owned());
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
