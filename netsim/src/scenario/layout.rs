//! Hosts, networks, routers and links of a scenario.

mod build;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use super::addresses::network;
use super::conditions;
use super::document::{Item, Table, Value};
use super::names::{Directory, check_name};
use super::problem::{Problems, Span, nearest, quote};
use crate::topology::{Router, Topology};
use crate::wire::conditions::Conditions;
use crate::wire::router::Prefix;

/// Hosts, routers and networks that a scenario has at most.
const MOST_DEVICES: usize = 2_000;
/// What the network of a scenario that names none is called: the first that no host is called.
const ONLY_NETWORK: [&str; 3] = ["net", "network", "the.network"];
const MTU: u16 = 1500;

/// What is read of them.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) topology: Topology,
    pub(crate) directory: Directory,
    pub(crate) furnishings: Vec<Furnishing>,
}

/// What a host has in its working directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Furnishing {
    pub(crate) host: String,
    /// Name below the working directory, text, and where that is written.
    pub(crate) files: Vec<(String, String, Span)>,
    /// A folder whose content is copied into it, and where that is written.
    pub(crate) copy: Option<(PathBuf, Span)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Host,
    Router,
    Network,
}

/// A device's name, kind, and what it has beside.
struct Device<'d> {
    name: Item<&'d str>,
    kind: Kind,
    routes: Vec<(String, String)>,
    router: Router,
    outside: Option<Item<&'d str>>,
}

/// A link that is to be: between a member and its network, or between any two devices.
struct RawCable<'d> {
    name: String,
    span: Span,
    ends: [RawEnd<'d>; 2],
    ways: [Conditions; 2],
    mtu: u16,
    /// Where the link says which networks it is.
    subnets: Vec<Item<Prefix>>,
}

struct RawEnd<'d> {
    device: Item<&'d str>,
    addresses: Vec<Item<&'d str>>,
    interface: Option<String>,
}

struct Reader<'d> {
    problems: &'d Problems<'d>,
    devices: Vec<Device<'d>>,
    cables: Vec<RawCable<'d>>,
    furnishings: Vec<Furnishing>,
    subnets: HashMap<&'d str, Vec<Item<Prefix>>>,
}

/// Reads `hosts`, `[host]`, `[router]`, `[network]` and `[link]`.
pub(crate) fn read<'d>(root: &mut Table<'d>) -> Option<Layout> {
    let problems = root.problems();
    let mut reader =
        Reader { problems, devices: Vec::new(), cables: Vec::new(), furnishings: Vec::new(), subnets: HashMap::new() };
    reader.hosts(root);
    for (name, table) in root.tables("router") {
        reader.router(&name, table);
    }
    let networks = root.tables("network");
    let links = root.tables("link");
    for (name, _) in &networks {
        reader.device(name, Kind::Network);
    }
    if reader.devices.len() > MOST_DEVICES {
        problems.whole(format!("there are more than {MOST_DEVICES} hosts, routers and networks"), None);
        return None;
    }
    if networks.is_empty() && links.is_empty() {
        let free = ONLY_NETWORK.into_iter().find(|name| reader.kind(name).is_none());
        let only = Item { value: free.unwrap_or(ONLY_NETWORK[0]), span: 0..0 };
        reader.device(&only, Kind::Network);
        let hosts: Vec<Item<&str>> = reader.of_kind(Kind::Host);
        reader.cables.extend(hosts.into_iter().map(|host| RawCable {
            name: format!("{}@{}", host.value, only.value),
            span: host.span.clone(),
            ends: [RawEnd::of(host), RawEnd::of(only.clone())],
            ways: Default::default(),
            mtu: MTU,
            subnets: Vec::new(),
        }));
    }
    for (name, table) in networks {
        reader.network(&name, table);
    }
    for (name, table) in links {
        reader.link(&name, table);
    }
    reader.build()
}

impl<'d> RawEnd<'d> {
    fn of(device: Item<&'d str>) -> Self {
        Self { device, addresses: Vec::new(), interface: None }
    }
}

impl<'d> Reader<'d> {
    fn of_kind(&self, kind: Kind) -> Vec<Item<&'d str>> {
        self.devices.iter().filter(|device| device.kind == kind).map(|device| device.name.clone()).collect()
    }

    fn kind(&self, name: &str) -> Option<Kind> {
        self.devices.iter().find(|device| device.name.value == name).map(|device| device.kind)
    }

    /// Adds a device. False if it cannot have that name.
    fn device(&mut self, name: &Item<&'d str>, kind: Kind) -> bool {
        if self.kind(name.value).is_some() {
            self.problems.note(&name.span, format!("{} is there twice", quote(name.value)), None);
            return false;
        }
        let fits = check_name(name, self.problems);
        self.devices.push(Device {
            name: name.clone(),
            kind,
            routes: Vec::new(),
            router: Router::new(),
            outside: None,
        });
        fits
    }

    fn hosts(&mut self, root: &mut Table<'d>) {
        for name in root.get("hosts").and_then(Value::strings).unwrap_or_default() {
            self.device(&name, Kind::Host);
        }
        for (name, mut table) in root.tables("host") {
            // One in both is a host with more to say about.
            if self.kind(name.value) != Some(Kind::Host) {
                self.device(&name, Kind::Host);
            }
            let routes = table.get("routes").and_then(Value::strings).unwrap_or_default();
            let routes = routes.iter().filter_map(|route| {
                let parts = route.value.split_once(" via ").map(|(to, by)| (to.trim(), by.trim()));
                let fits = |(to, by): &(&str, &str)| crate::link::parse(to).is_some() && by.parse::<IpAddr>().is_ok();
                let found = parts.filter(fits).map(|(to, by)| (to.to_owned(), by.to_owned()));
                if found.is_none() {
                    let hint = "write \"10.9.0.0/16 via 10.1.0.254\"".to_owned();
                    self.problems.note(&route.span, format!("{} is not a route", quote(route.value)), Some(hint));
                }
                found
            });
            let routes = routes.collect();
            if let Some(device) = self.devices.iter_mut().find(|device| device.name.value == name.value) {
                device.routes = routes;
            }
            let mut furnishing = Furnishing { host: name.value.to_owned(), ..Furnishing::default() };
            furnishing.copy =
                table.get("copy").and_then(Value::string).map(|folder| (PathBuf::from(folder.value), folder.span));
            for (file, text) in table.named("files") {
                let parts = file.value.split('/').all(|part| !matches!(part, "" | "." | ".."));
                if !parts || file.value.contains('\0') {
                    let hint = "write \"agent.toml\" or \"state/token\"".to_owned();
                    let message = format!("{} is not a file below the working directory", quote(file.value));
                    self.problems.note(&file.span, message, Some(hint));
                }
                furnishing
                    .files
                    .extend(text.string().map(|text| (file.value.to_owned(), text.value.to_owned(), text.span)));
            }
            table.finish();
            self.furnishings.push(furnishing);
        }
        if self.devices.is_empty() {
            self.problems.whole("there is no host", Some("add `hosts = [\"alpha\", \"beta\"]`"));
        }
    }

    fn router(&mut self, name: &Item<&'d str>, mut table: Table<'d>) {
        self.device(name, Kind::Router);
        let nat = conditions::read_nat(&mut table);
        let firewall = conditions::read_firewall(&mut table);
        let outside = table.get("outside").and_then(Value::string);
        if outside.is_none() && (nat.is_some() || firewall.inbound.is_some()) {
            let hint = "say which: `outside = \"internet\"`".to_owned();
            self.problems.note(table.span(), "what translates or lets only out needs an outside", Some(hint));
        }
        table.finish();
        let router = Router::new().firewall(firewall);
        let router = nat.into_iter().fold(router, Router::nat);
        if let Some(device) = self.devices.iter_mut().find(|device| device.name.value == name.value) {
            device.router = router;
            device.outside = outside;
        }
    }

    fn subnets(&self, table: &mut Table<'d>) -> Vec<Item<Prefix>> {
        let texts = table.get("subnet").and_then(Value::strings).unwrap_or_default();
        let found = texts.into_iter().filter_map(|text| match network(text.value) {
            Some(prefix) => Some(text.map(|_| prefix)),
            None => {
                let hint = "write \"10.1.0.0/24\" or \"fd00:1::/64\"".to_owned();
                self.problems.note(&text.span, format!("{} is not a network", quote(text.value)), Some(hint));
                None
            }
        });
        found.collect()
    }

    fn network(&mut self, name: &Item<&'d str>, mut table: Table<'d>) {
        let members = table.get("members").and_then(Value::strings).unwrap_or_else(|| self.of_kind(Kind::Host));
        let subnets = self.subnets(&mut table);
        self.subnets.insert(name.value, subnets);
        let common = conditions::read(&mut table, &Conditions::clean());
        let mtu = conditions::mtu(&mut table).unwrap_or(MTU);
        let mut own: HashMap<&str, (RawEnd<'d>, [Conditions; 2], u16)> = HashMap::new();
        for (member, value) in table.named("at") {
            let Some(mut table) = value.table() else { continue };
            table = table.titled(format!("[network.{}.at.{}]", name.value, quote(member.value).trim_matches('`')));
            if !members.iter().any(|known| known.value == member.value) {
                let hint = nearest(member.value, members.iter().map(|member| member.value));
                let message = format!("{} is not a member of {}", quote(member.value), quote(name.value));
                self.problems.note(&member.span, message, hint.or(Some("name it in `members`".to_owned())));
            }
            let addresses = table.get("address").and_then(Value::strings).unwrap_or_default();
            let interface = table.get("interface").and_then(Value::string).map(|name| name.value.to_owned());
            // What the network does happens once, on the way to a member.
            let [there, back] = ways(&mut table, [&Conditions::clean(), &common]);
            let mtu = conditions::mtu(&mut table).unwrap_or(mtu);
            table.finish();
            own.insert(member.value, (RawEnd { device: member, addresses, interface }, [there, back], mtu));
        }
        table.finish();
        for member in members {
            let usual = || (RawEnd::of(member.clone()), [Conditions::clean(), common.clone()], mtu);
            let (end, ways, mtu) = own.remove(member.value).unwrap_or_else(usual);
            self.cables.push(RawCable {
                name: format!("{}@{}", member.value, name.value),
                span: member.span.clone(),
                ends: [RawEnd { device: member, ..end }, RawEnd::of(name.clone())],
                ways,
                mtu,
                subnets: Vec::new(),
            });
        }
    }

    fn link(&mut self, name: &Item<&'d str>, mut table: Table<'d>) {
        check_name(name, self.problems);
        let ends = table.need("ends", "ends = [\"alpha\", \"beta\"]").and_then(Value::strings);
        let subnets = self.subnets(&mut table);
        let ways = ways(&mut table, [&Conditions::clean(), &Conditions::clean()]);
        let mtu = conditions::mtu(&mut table).unwrap_or(MTU);
        let mut own: HashMap<&str, RawEnd<'d>> = HashMap::new();
        for (end, value) in table.named("at") {
            let Some(mut at) = value.table() else { continue };
            at = at.titled(format!("[link.{}.at.{}]", name.value, quote(end.value).trim_matches('`')));
            let addresses = at.get("address").and_then(Value::strings).unwrap_or_default();
            let interface = at.get("interface").and_then(Value::string).map(|name| name.value.to_owned());
            at.finish();
            if !ends.iter().flatten().any(|known| known.value == end.value) {
                let message = format!("{} is not an end of {}", quote(end.value), quote(name.value));
                self.problems.note(&end.span, message, None);
            }
            own.insert(end.value, RawEnd { device: end, addresses, interface });
        }
        let span = table.span().clone();
        table.finish();
        let Some(ends) = ends else { return };
        let Ok(ends) = <[Item<&str>; 2]>::try_from(ends) else {
            let hint = "write `ends = [\"alpha\", \"beta\"]`".to_owned();
            self.problems.note(&span, format!("{} needs two ends", quote(name.value)), Some(hint));
            return;
        };
        let ends = ends.map(|end| own.remove(end.value).unwrap_or_else(|| RawEnd::of(end.clone())));
        self.cables.push(RawCable { name: name.value.to_owned(), span: name.span.clone(), ends, ways, mtu, subnets });
    }
}

/// Conditions both ways, with what `there` and `back` say beside.
fn ways(table: &mut Table<'_>, base: [&Conditions; 2]) -> [Conditions; 2] {
    let both = base.map(|base| conditions::read(table, base));
    let keys = ["there", "back"];
    let mut both = both.into_iter().zip(keys).map(|(way, key)| match table.get(key).and_then(Value::table) {
        None => way,
        Some(mut own) => {
            let way = conditions::read(&mut own, &way);
            own.finish();
            way
        }
    });
    [both.next().unwrap_or_default(), both.next().unwrap_or_default()]
}
