//! Changing a mesh file in the one place that is meant: comments, order and everything else stay as they were written.
//!
//! An [`Editor`] works on a document that checks. What it gives back is to be checked again: it knows the shape of a mesh file,
//! not whether the change makes sense.

use std::fmt::Display;

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value, value};

use crate::fault::Fault;
use crate::model::{Address, Listen, MeshVersion, Protocol, Target};
use crate::name::{NodeName, ServiceName};

/// A service that is to be added.
#[derive(Debug, Clone)]
pub struct NewService {
    /// Its name.
    pub name: ServiceName,
    /// What it carries.
    pub protocol: Protocol,
    /// Who offers it.
    pub on: Vec<NodeName>,
    /// What the offering agents connect to.
    pub target: Target,
    /// Where applications reach it.
    pub listen: Option<Listen>,
    /// Who may reach it: nodes, and groups as `@GROUP`.
    pub allow: Vec<String>,
}

/// A mesh document that is being changed.
pub struct Editor {
    document: DocumentMut,
    before: String,
}

impl Editor {
    /// Begins with the text of a mesh file.
    ///
    /// # Errors
    /// If it is not TOML.
    pub fn new(text: &str) -> Result<Self, Fault> {
        let document: DocumentMut = text.parse().map_err(|error| Fault::new(format!("is not TOML: {error}")))?;
        let before = document.to_string();
        Ok(Self { document, before })
    }

    /// Adds a node behind the last one.
    ///
    /// # Errors
    /// If there is one of that name.
    pub fn add_node(&mut self, name: &NodeName, addresses: &[Address]) -> Result<(), Fault> {
        if self.entry("node", name.as_str()).is_some() {
            let hint = format!("change its `address` under [node.{name}] in the file");
            return Err(Fault::new(format!("there is a node `{name}` already")).hint(hint));
        }
        let mut node = fresh();
        match addresses {
            [] => {}
            [one] => drop(node.insert("address", value(one.to_string()))),
            several => drop(node.insert("address", strings(several))),
        }
        self.insert("node", name.as_str(), node);
        Ok(())
    }

    /// Removes a node, also from the groups and services that name it. Gives the places that named it.
    ///
    /// # Errors
    /// If there is none of that name, or a service is offered by it alone.
    pub fn remove_node(&mut self, name: &NodeName) -> Result<Vec<String>, Fault> {
        if self.entry("node", name.as_str()).is_none() {
            return Err(Fault::new(format!("there is no node `{name}`")));
        }
        let services = names(self.section("service"));
        let alone = |service: &&String| {
            let on = self.entry("service", service).and_then(|s| s.get("on")).and_then(Item::as_array);
            on.is_some_and(|on| on.len() == 1 && holds(on, name.as_str()))
        };
        if let Some(service) = services.iter().find(alone) {
            let fault = Fault::new(format!("`{name}` alone offers the service `{service}`"));
            return Err(fault.hint(format!("`adit service rm {service}` first, or name another node in its `on`")));
        }
        let mut places = Vec::new();
        for group in names(self.section("group")) {
            let members =
                self.section_mut("group").and_then(|groups| groups.get_mut(&group)).and_then(Item::as_array_mut);
            if members.is_some_and(|members| take(members, name.as_str())) {
                places.push(format!("group {group}"));
            }
        }
        for service in services {
            let Some(table) = self.entry_mut("service", &service) else { continue };
            for list in ["on", "allow"] {
                if table.get_mut(list).and_then(Item::as_array_mut).is_some_and(|list| take(list, name.as_str())) {
                    places.push(format!("service {service} {list}"));
                }
            }
            let at = table.get_mut("at").and_then(Item::as_table_like_mut);
            if at.is_some_and(|at| at.remove(name.as_str()).is_some()) {
                places.push(format!("service {service} at.{name}"));
            }
        }
        self.remove("node", name.as_str());
        Ok(places)
    }

    /// Adds a service behind the last one.
    ///
    /// # Errors
    /// If there is one of that name.
    pub fn add_service(&mut self, new: &NewService) -> Result<(), Fault> {
        let name = new.name.as_str();
        if self.entry("service", name).is_some() {
            let hint = format!("change it under [service.{name}] in the file, or `adit service rm {name}` first");
            return Err(Fault::new(format!("there is a service `{name}` already")).hint(hint));
        }
        let mut service = fresh();
        if new.protocol != Protocol::default() {
            service.insert("protocol", value(new.protocol.as_str()));
        }
        service.insert("on", strings(&new.on));
        service.insert("target", value(new.target.to_string()));
        if let Some(listen) = new.listen {
            service.insert("listen", value(listen.to_string()));
        }
        if !new.allow.is_empty() {
            service.insert("allow", strings(&new.allow));
        }
        self.insert("service", name, service);
        Ok(())
    }

    /// Removes a service.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn remove_service(&mut self, name: &ServiceName) -> Result<(), Fault> {
        if self.remove("service", name.as_str()) { Ok(()) } else { Err(no_service(name)) }
    }

    /// Lets `who` reach a service: a node, or a group as `@GROUP`. Whether it was not named before.
    ///
    /// # Errors
    /// If there is no such service.
    pub fn allow(&mut self, service: &ServiceName, who: &str) -> Result<bool, Fault> {
        let table = self.entry_mut("service", service.as_str()).ok_or_else(|| no_service(service))?;
        match table.get_mut("allow").and_then(Item::as_array_mut) {
            Some(list) if holds(list, who) => Ok(false),
            Some(list) => {
                push(list, who);
                Ok(true)
            }
            None => {
                table.insert("allow", strings([who]));
                Ok(true)
            }
        }
    }

    /// Names `who` no longer among those that may reach a service. Whether it was named.
    ///
    /// # Errors
    /// If there is no such service.
    pub fn deny(&mut self, service: &ServiceName, who: &str) -> Result<bool, Fault> {
        let table = self.entry_mut("service", service.as_str()).ok_or_else(|| no_service(service))?;
        Ok(table.get_mut("allow").and_then(Item::as_array_mut).is_some_and(|list| take(list, who)))
    }

    /// The document as it is now, its version one higher; nothing if it says what it said before.
    ///
    /// # Errors
    /// If it has no version, or there is no higher one.
    pub fn finish(mut self) -> Result<Option<String>, Fault> {
        if self.document.to_string() == self.before {
            return Ok(None);
        }
        let version = self.section_mut("mesh").and_then(|mesh| mesh.get_mut("version")).and_then(Item::as_value_mut);
        let higher = version.as_ref().and_then(|version| version.as_integer()?.checked_add(1));
        let (Some(version), Some(higher)) = (version, higher) else {
            return Err(Fault::new("`mesh.version` cannot be raised").hint("give it a whole number"));
        };
        replace(version, higher);
        Ok(Some(self.document.to_string()))
    }

    /// The document as it is to be signed: with `version`, and saying that the mesh is signed.
    ///
    /// # Errors
    /// If it has no `[mesh]` with a version.
    pub fn signed(mut self, version: MeshVersion) -> Result<String, Fault> {
        let no_version = || Fault::new("`mesh.version` cannot be set").hint("give it a whole number");
        let number = i64::try_from(version.number()).map_err(|_| no_version())?;
        let mesh = self.section_mut("mesh").ok_or_else(no_version)?;
        let old = mesh.get_mut("version").and_then(Item::as_value_mut).ok_or_else(no_version)?;
        if old.as_integer() != Some(number) {
            replace(old, number);
        }
        match mesh.get_mut("signed").and_then(Item::as_value_mut) {
            Some(said) if said.as_bool() == Some(true) => {}
            Some(said) => replace(said, true),
            None => drop(mesh.insert("signed", value(true))),
        }
        Ok(self.document.to_string())
    }

    fn section(&self, section: &str) -> Option<&dyn TableLike> {
        self.document.get(section)?.as_table_like()
    }

    fn section_mut(&mut self, section: &str) -> Option<&mut dyn TableLike> {
        self.document.get_mut(section)?.as_table_like_mut()
    }

    fn entry(&self, section: &str, name: &str) -> Option<&dyn TableLike> {
        self.section(section)?.get(name)?.as_table_like()
    }

    fn entry_mut(&mut self, section: &str, name: &str) -> Option<&mut dyn TableLike> {
        self.section_mut(section)?.get_mut(name)?.as_table_like_mut()
    }

    /// Adds `[SECTION.NAME]`, in the way that the section is written in.
    fn insert(&mut self, section: &str, name: &str, table: Table) {
        let section = self.document.entry(section).or_insert_with(|| {
            let mut parent = Table::new();
            // Only its tables are written, each with its own header.
            parent.set_implicit(true);
            Item::Table(parent)
        });
        match section {
            Item::Table(parent) => drop(parent.insert(name, Item::Table(table))),
            Item::Value(Value::InlineTable(parent)) => drop(parent.insert(name, table.into_inline_table().into())),
            _ => {}
        }
    }

    /// Removes `[SECTION.NAME]` with the comment right above it. A comment further above speaks of what follows as well, and
    /// stays. Whether it was there.
    fn remove(&mut self, section: &str, name: &str) -> bool {
        let Some(parent) = self.section_mut(section) else { return false };
        let Some(removed) = parent.remove(name) else { return false };
        let Some(above) = removed.as_table().and_then(|table| table.decor().prefix()).and_then(|p| p.as_str()) else {
            return true;
        };
        let Some(kept) = above.rfind("\n\n").map(|end| &above[..=end]).filter(|kept| kept.contains('#')) else {
            return true;
        };
        let kept = kept.to_owned();
        let after = removed.as_table().and_then(Table::position);
        match after.and_then(|position| self.following(position)) {
            Some(next) => {
                let own = next.decor().prefix().and_then(|p| p.as_str()).unwrap_or("\n").to_owned();
                next.decor_mut().set_prefix(format!("{kept}{own}"));
            }
            None => {
                let end = self.document.trailing().as_str().unwrap_or_default().to_owned();
                self.document.set_trailing(format!("{kept}{end}"));
            }
        }
        true
    }

    /// The first table with a header behind `position`.
    fn following(&mut self, position: isize) -> Option<&mut Table> {
        fn first(table: &Table, behind: isize) -> Option<isize> {
            let own = table.position().filter(|at| *at > behind && !table.is_implicit());
            table.iter().filter_map(|(_, item)| first(item.as_table()?, behind)).chain(own).min()
        }
        fn find(table: &mut Table, at: isize) -> Option<&mut Table> {
            if table.position() == Some(at) && !table.is_implicit() {
                return Some(table);
            }
            table.iter_mut().find_map(|(_, item)| find(item.as_table_mut()?, at))
        }
        let at = first(self.document.as_table(), position)?;
        find(self.document.as_table_mut(), at)
    }
}

/// Puts another value in the place of one, with the comments around it.
fn replace(old: &mut Value, new: impl Into<Value>) {
    let around = old.decor().clone();
    *old = new.into();
    *old.decor_mut() = around;
}

fn no_service(name: &ServiceName) -> Fault {
    Fault::new(format!("there is no service `{name}`"))
}

fn names(section: Option<&dyn TableLike>) -> Vec<String> {
    section.map(|section| section.iter().map(|(name, _)| name.to_owned()).collect()).unwrap_or_default()
}

/// A table with an empty line above it.
fn fresh() -> Table {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    table
}

fn strings<T: Display>(values: impl IntoIterator<Item = T>) -> Item {
    value(values.into_iter().map(|one| one.to_string()).collect::<Array>())
}

fn holds(list: &Array, text: &str) -> bool {
    list.iter().any(|one| one.as_str() == Some(text))
}

/// Adds a text to a list, laid out as the last one is.
fn push(list: &mut Array, text: &str) {
    let above = list.iter().last().and_then(|last| last.decor().prefix()?.as_str()).map(str::to_owned);
    let mut new = Value::from(text);
    match above {
        // One a line: a comment above the last one is not this one's.
        Some(above) if above.contains('\n') => {
            let margin = above.rsplit('\n').next().unwrap_or_default();
            new.decor_mut().set_prefix(format!("\n{margin}"));
            list.push_formatted(new);
        }
        _ => list.push(new),
    }
}

/// Takes a text out of a list. Whether it was there.
fn take(list: &mut Array, text: &str) -> bool {
    let before = list.len();
    let first = list.get(0).and_then(|first| first.decor().prefix()?.as_str()).unwrap_or_default().to_owned();
    list.retain(|one| one.as_str() != Some(text));
    if let Some(now) = list.get_mut(0)
        && !first.contains('\n')
    {
        now.decor_mut().set_prefix(first);
    }
    list.len() < before
}

#[cfg(test)]
mod tests;
