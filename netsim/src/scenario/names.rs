//! What the parts of a scenario are called, and how others refer to them.

use std::net::IpAddr;

use super::document::Item;
use super::problem::{Problems, nearest, quote};
use crate::topology::{HostId, LinkId, RouterId};

/// Everything that has a name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory {
    pub(crate) hosts: Vec<HostEntry>,
    pub(crate) routers: Vec<RouterEntry>,
    pub(crate) networks: Vec<String>,
    pub(crate) cables: Vec<CableEntry>,
    /// Program, host.
    pub(crate) programs: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub(crate) struct HostEntry {
    pub(crate) name: String,
    pub(crate) id: HostId,
    /// Interface by interface: its name, the number of the Ethernet segment, and its addresses.
    pub(crate) interfaces: Vec<(String, usize, Vec<IpAddr>)>,
}

#[derive(Debug, Clone)]
pub(crate) struct RouterEntry {
    pub(crate) name: String,
    pub(crate) id: RouterId,
    pub(crate) nat: Option<crate::Nat>,
    pub(crate) firewall: crate::Firewall,
}

/// A cable between two devices, which are hosts, routers and networks.
#[derive(Debug, Clone)]
pub(crate) struct CableEntry {
    pub(crate) name: String,
    pub(crate) link: LinkId,
    pub(crate) ends: [String; 2],
}

impl Directory {
    pub(crate) fn host(&self, name: &str) -> Option<&HostEntry> {
        self.hosts.iter().find(|host| host.name == name)
    }

    pub(crate) fn router(&self, name: &str) -> Option<&RouterEntry> {
        self.routers.iter().find(|router| router.name == name)
    }

    pub(crate) fn host_names(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|host| &*host.name)
    }

    /// The cables that a name stands for: its own, or those that end at a device.
    pub(crate) fn cables(&self, name: &str) -> Vec<&CableEntry> {
        let own: Vec<_> = self.cables.iter().filter(|cable| cable.name == name).collect();
        if !own.is_empty() {
            return own;
        }
        self.cables.iter().filter(|cable| cable.ends.iter().any(|end| end == name)).collect()
    }

    /// The programs that a name stands for: that of the name, or those of a host.
    pub(crate) fn programs(&self, name: &str) -> Vec<&str> {
        let own: Vec<_> = self.programs.iter().filter(|(program, _)| program == name).collect();
        let all = if own.is_empty() { self.programs.iter().filter(|(_, host)| host == name).collect() } else { own };
        all.into_iter().map(|(program, _)| &**program).collect()
    }

    /// The address by which one host best reaches another: on a network that both are on, if there is one.
    pub(crate) fn address(&self, from: &str, to: &str) -> Option<IpAddr> {
        let near: Vec<usize> = self.host(from)?.interfaces.iter().map(|(_, segment, _)| *segment).collect();
        let interfaces = &self.host(to)?.interfaces;
        let shared = interfaces.iter().find(|(_, segment, ips)| near.contains(segment) && !ips.is_empty());
        shared.or_else(|| interfaces.iter().find(|(_, _, ips)| !ips.is_empty()))?.2.first().copied()
    }

    /// A host's first address.
    pub(crate) fn first_address(&self, host: &str) -> Option<IpAddr> {
        self.host(host)?.interfaces.iter().flat_map(|(_, _, ips)| ips).next().copied()
    }
}

/// Names, with where to say that there is no such one.
#[derive(Debug)]
pub(crate) struct Names<'d> {
    pub(crate) directory: &'d Directory,
    problems: &'d Problems<'d>,
}

impl<'d> Names<'d> {
    pub(crate) fn new(directory: &'d Directory, problems: &'d Problems<'d>) -> Self {
        Self { directory, problems }
    }

    pub(crate) fn problems(&self) -> &'d Problems<'d> {
        self.problems
    }

    fn unknown<T>(&self, what: &str, name: &Item<&str>, known: &[&str]) -> Option<T> {
        let hint = nearest(name.value, known.iter().copied()).or_else(|| match known {
            [] => Some(format!("there is no {what}")),
            [..] => Some(format!("there is {}", known.iter().take(8).copied().collect::<Vec<_>>().join(", "))),
        });
        self.problems.note(&name.span, format!("there is no {what} {}", quote(name.value)), hint);
        None
    }

    pub(crate) fn all_hosts(&self) -> Vec<String> {
        self.directory.host_names().map(str::to_owned).collect()
    }

    pub(crate) fn host(&self, name: &Item<&str>) -> Option<String> {
        let known: Vec<&str> = self.directory.host_names().collect();
        match known.contains(&name.value) {
            true => Some(name.value.to_owned()),
            false => self.unknown("host", name, &known),
        }
    }

    pub(crate) fn hosts(&self, names: &[Item<&str>]) -> Option<Vec<String>> {
        let all: Vec<_> = names.iter().map(|name| self.host(name)).collect();
        all.into_iter().collect()
    }

    pub(crate) fn device(&self, name: &Item<&str>) -> Option<String> {
        let Directory { routers, networks, .. } = self.directory;
        let others = routers.iter().map(|router| &*router.name).chain(networks.iter().map(|network| &**network));
        let known: Vec<&str> = self.directory.host_names().chain(others).collect();
        match known.contains(&name.value) {
            true => Some(name.value.to_owned()),
            false => self.unknown("host, router or network", name, &known),
        }
    }

    pub(crate) fn router(&self, name: &Item<&str>, with_nat: bool) -> Option<String> {
        let known: Vec<&str> = self.directory.routers.iter().map(|router| &*router.name).collect();
        match self.directory.router(name.value) {
            Some(router) if with_nat && router.nat.is_none() => {
                let hint = Some("give it one: `nat = \"port-restricted\"`".to_owned());
                self.problems.note(&name.span, format!("{} has no NAT", quote(name.value)), hint);
                None
            }
            Some(router) => Some(router.name.clone()),
            None => self.unknown("router", name, &known),
        }
    }

    /// The cables that a name stands for, at least one.
    pub(crate) fn cables(&self, name: &Item<&str>) -> Option<Vec<LinkId>> {
        let found = self.directory.cables(name.value);
        if !found.is_empty() {
            return Some(found.iter().map(|cable| cable.link).collect());
        }
        let cables = &self.directory.cables;
        let devices = cables.iter().flat_map(|cable| cable.ends.iter().map(|end| &**end));
        let mut known: Vec<&str> = devices.chain(cables.iter().map(|cable| &*cable.name)).collect();
        known.sort_unstable();
        known.dedup();
        self.unknown("link or device", name, &known)
    }

    /// The programs that a name stands for, at least one.
    pub(crate) fn programs(&self, name: &Item<&str>) -> Option<Vec<String>> {
        let found = self.directory.programs(name.value);
        if !found.is_empty() {
            return Some(found.into_iter().map(str::to_owned).collect());
        }
        if self.directory.host(name.value).is_some() {
            self.problems.note(&name.span, format!("no program runs on {}", quote(name.value)), None);
            return None;
        }
        let known: Vec<&str> = self.directory.programs.iter().map(|(program, _)| &**program).collect();
        self.unknown("program", name, &known)
    }

    pub(crate) fn program(&self, name: &Item<&str>) -> Option<String> {
        let known: Vec<&str> = self.directory.programs.iter().map(|(program, _)| &**program).collect();
        match known.contains(&name.value) {
            true => Some(name.value.to_owned()),
            false => self.unknown("program", name, &known),
        }
    }

    pub(crate) fn interfaces(&self, host: &str) -> Vec<String> {
        let host = self.directory.host(host);
        host.map(|host| host.interfaces.iter().map(|(name, _, _)| name.clone()).collect()).unwrap_or_default()
    }
}

/// Whether a text can name a device, a program or a folder.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}

/// Notes it if a text cannot name anything.
pub(crate) fn check_name(name: &Item<&str>, problems: &Problems<'_>) -> bool {
    let fits = is_name(name.value);
    if !fits {
        let hint =
            "names are letters, digits, -, . and _, begin with a letter or digit, and have 63 characters at most";
        problems.note(&name.span, format!("{} is not a name", quote(name.value)), Some(hint.to_owned()));
    }
    fits
}
