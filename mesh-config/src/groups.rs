//! Groups: members found, cycles told, groups within groups taken apart.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::diagnostic::quote;
use crate::document::{Item, Problems};
use crate::name::{GroupName, NodeName};
use crate::raw::{RawGroup, RawMesh};

/// Members of all groups together, once groups within groups are taken apart. A chain of groups that each hold the one
/// before could otherwise turn a small file into gigabytes.
const MAX_MEMBERSHIPS: usize = 4_000_000;

/// Groups that a message about a cycle names.
const SHOWN: usize = 8;

/// Nodes and groups by name. Nodes have numbers in the order of their names.
pub(crate) struct Names<'d> {
    pub(crate) nodes: Vec<NodeName>,
    numbers: HashMap<NodeName, u32>,
    groups: HashMap<GroupName, usize>,
    misnamed: BTreeSet<&'d str>,
}

/// What an entry of a group or of `allow` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Member {
    Node(u32),
    Group(usize),
}

impl<'d> Names<'d> {
    pub(crate) fn of(raw: &RawMesh<'d>) -> Self {
        let mut nodes: Vec<NodeName> = raw.nodes.iter().map(|node| node.name.value.clone()).collect();
        nodes.sort();
        let numbers = (0..).zip(&nodes).map(|(number, name)| (name.clone(), number)).collect();
        let groups = raw.groups.iter().enumerate().map(|(at, group)| (group.name.value.clone(), at)).collect();
        Self { nodes, numbers, groups, misnamed: raw.misnamed.iter().copied().collect() }
    }

    pub(crate) fn node(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// The name of a node by its number.
    pub(crate) fn node_name(&self, number: u32) -> Option<&NodeName> {
        self.nodes.get(usize::try_from(number).ok()?)
    }

    fn node_names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(NodeName::as_str)
    }

    /// The node that `text` names, or a note that there is none.
    pub(crate) fn find_node(&self, text: &Item<&str>, what: &str, problems: &mut Problems<'_>) -> Option<u32> {
        let found = self.node(text.value);
        if found.is_none() && !problems.torn() && !self.misnamed.contains(text.value) {
            if let Some(group) = text.value.strip_prefix('@') {
                problems
                    .error(&text.span, format!("{} is no node", quote(text.value)))
                    .hint(format!("{what} names nodes, not groups: write the members of {} one by one", quote(group)));
            } else {
                let near = problems.nearest(text.value, self.node_names());
                let hint = near.unwrap_or_else(|| self.declare(text.value));
                problems.error(&text.span, format!("there is no node {}", quote(text.value))).hint(hint);
            }
        }
        found
    }

    /// The node or `@group` that `text` names, or a note that there is none.
    pub(crate) fn find(&self, text: &Item<&str>, problems: &mut Problems<'_>) -> Option<Member> {
        let Some(name) = text.value.strip_prefix('@') else {
            if self.node(text.value).is_none() && self.groups.contains_key(text.value) && !problems.torn() {
                problems
                    .error(&text.span, format!("there is no node {}", quote(text.value)))
                    .hint(format!("`{0}` is a group: write \"@{0}\"", text.value));
                return None;
            }
            return self.find_node(text, "this list", problems).map(Member::Node);
        };
        let found = self.groups.get(name);
        if found.is_none() && !problems.torn() && !self.misnamed.contains(name) {
            let hint = if self.node(name).is_some() {
                format!("`{name}` is a node: write \"{name}\"")
            } else {
                let near = problems.nearest(name, self.groups.keys().map(GroupName::as_str).collect::<BTreeSet<_>>());
                near.map(|hint| hint.replace("`?", "\"?").replace('`', "\"@"))
                    .unwrap_or_else(|| format!("add it under [group]: {} = [\"NODE\"]", quote(name).trim_matches('`')))
            };
            problems.error(&text.span, format!("there is no group {}", quote(text.value))).hint(hint);
        }
        found.copied().map(Member::Group)
    }

    /// The group that an entry of a list means, even if it lacks its `@`.
    pub(crate) fn group_meant(&self, text: &str) -> Option<usize> {
        self.groups.get(text.strip_prefix('@').unwrap_or(text)).copied()
    }

    fn declare(&self, name: &str) -> String {
        match NodeName::new(name) {
            Ok(name) => format!("add [node.{name}], or name one of the nodes that are there"),
            Err(_) => "name one of the nodes that are there".to_owned(),
        }
    }
}

/// A group, taken apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    /// Its nodes by number, sorted.
    pub(crate) numbers: Arc<[u32]>,
    /// The same by name.
    pub(crate) names: Arc<BTreeSet<NodeName>>,
}

/// Takes all groups apart. They stay in the order of the file.
pub(crate) fn resolve(raw: &[RawGroup<'_>], names: &Names<'_>, problems: &mut Problems<'_>) -> Vec<Group> {
    let members: Vec<Vec<(Member, &Item<&str>)>> =
        raw.iter().map(|group| distinct(&group.members, problems, |text, p| names.find(text, p))).collect();
    let order = inner_first(raw, &members, problems);
    let mut groups = vec![Group::default(); raw.len()];
    let mut left = MAX_MEMBERSHIPS;
    for at in order {
        let (Some(members), Some(head)) = (members.get(at), raw.get(at)) else { continue };
        let whole = match members.as_slice() {
            [(Member::Group(inner), _)] => groups.get(*inner).cloned(),
            _ => union(members, &groups, &mut left).map(|numbers| Group::of(&numbers, names)),
        };
        match (whole, groups.get_mut(at)) {
            (Some(whole), Some(place)) => *place = whole,
            _ => {
                problems
                    .error(&head.name.span, format!("groups have more than {MAX_MEMBERSHIPS} members together"))
                    .hint("groups that hold groups are counted with all their nodes: use fewer of them");
                // What later groups hold is unknown now.
                problems.give_up();
                break;
            }
        }
    }
    groups
}

impl Group {
    fn of(numbers: &[u32], names: &Names<'_>) -> Self {
        Self {
            numbers: numbers.into(),
            names: Arc::new(numbers.iter().filter_map(|&number| names.node_name(number).cloned()).collect()),
        }
    }
}

/// The entries of a list that `find` finds, each once; repeated ones are noted.
pub(crate) fn distinct<'i, 'd, T: Copy + Eq + std::hash::Hash>(
    list: &'i [Item<&'d str>],
    problems: &mut Problems<'_>,
    mut find: impl FnMut(&Item<&str>, &mut Problems<'_>) -> Option<T>,
) -> Vec<(T, &'i Item<&'d str>)> {
    let mut seen = std::collections::HashSet::new();
    let mut all = Vec::new();
    for text in list {
        let Some(value) = find(text, problems) else { continue };
        if seen.insert(value) {
            all.push((value, text));
        } else {
            problems
                .warning(&text.span, format!("{} stands in this list twice", quote(text.value)))
                .hint("keep one of the two");
        }
    }
    all
}

/// All nodes of a group whose inner groups are taken apart already. Nothing if that is more than `left`.
fn union(members: &[(Member, &Item<&str>)], groups: &[Group], left: &mut usize) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for (member, _) in members {
        let more: &[u32] = match member {
            Member::Node(number) => std::slice::from_ref(number),
            Member::Group(at) => groups.get(*at).map_or(&[], |group| &group.numbers),
        };
        *left = left.checked_sub(more.len())?;
        all.extend_from_slice(more);
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

/// Groups in an order in which every group comes after those that it holds. Cycles are noted, at the entry that closes
/// each. Without recursion: a chain of groups may be as long as the file.
fn inner_first(
    raw: &[RawGroup<'_>],
    members: &[Vec<(Member, &Item<&str>)>],
    problems: &mut Problems<'_>,
) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut state = vec![State::New; raw.len()];
    let mut order = Vec::with_capacity(raw.len());
    for start in 0..raw.len() {
        if state[start] != State::New {
            continue;
        }
        state[start] = State::Open;
        let mut path = vec![(start, 0)];
        while let Some((at, next)) = path.last_mut() {
            let at = *at;
            let Some((member, text)) = members[at].get(*next) else {
                state[at] = State::Done;
                order.push(at);
                path.pop();
                continue;
            };
            *next += 1;
            let Member::Group(inner) = *member else { continue };
            match state[inner] {
                State::New => {
                    state[inner] = State::Open;
                    path.push((inner, 0));
                }
                State::Open => {
                    let cycle = path.iter().map(|(group, _)| *group).skip_while(|group| *group != inner);
                    let names: Vec<&str> = cycle.map(|group| raw[group].name.value.as_str()).collect();
                    problems.error(&text.span, cycle_text(&names)).hint("take one of them out of another");
                }
                State::Done => {}
            }
        }
    }
    order
}

fn cycle_text(names: &[&str]) -> String {
    let Some(first) = names.first() else { return String::new() };
    if names.len() == 1 {
        return format!("group `{first}` holds itself");
    }
    let mut path: Vec<String> = names.iter().take(SHOWN).map(|name| format!("@{name}")).collect();
    if names.len() > SHOWN {
        path.push(format!("({} more)", names.len() - SHOWN));
    }
    format!("groups hold each other in a circle: {} → @{first}", path.join(" → "))
}
