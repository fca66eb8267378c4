//! Tables that are asked for their keys.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::found::Found;
use super::{Item, Strings};
use crate::diagnostic::quote;
use crate::duration::{duration_text, parse_duration};
use crate::fault::Fault;
use crate::source::{Problems, Span};

/// A table of a document, asked for one key after the other.
#[derive(Debug)]
pub struct Table<'d> {
    path: String,
    entries: &'d DeTable<'d>,
    span: Span,
    asked: Vec<&'static str>,
}

impl<'d> Table<'d> {
    /// A document's outermost table.
    pub(super) fn root(entries: &'d DeTable<'d>) -> Self {
        Self { path: String::new(), entries, span: 0..0, asked: Vec::new() }
    }

    /// Where the table's header stands, or the first key that implies the table.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// The table's name in brackets, or that it is the outermost one, for messages.
    pub fn title(&self) -> String {
        if self.path.is_empty() { "the file".to_owned() } else { format!("[{}]", quote(&self.path).trim_matches('`')) }
    }

    /// Whether `key` is there, whatever its type.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    fn ask(&mut self, key: &'static str) -> Option<Found<'d>> {
        self.asked.push(key);
        let value = self.entries.get(key)?;
        Some(Found { key: key.to_owned(), value: value.get_ref(), span: value.span() })
    }

    /// Notes that `key` is missing, unless it is there or may be in a part that could not be read. `example` is a whole
    /// line to add.
    pub fn require(&self, key: &str, example: &str, problems: &mut Problems<'_>) {
        if !self.has(key) && !problems.torn() {
            let message = format!("{} needs `{key}`", self.title());
            problems.error(&self.span, message).hint(format!("add `{example}`"));
        }
    }

    /// The string at `key`.
    pub fn string(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Item<&'d str>> {
        self.ask(key)?.string(problems)
    }

    /// The string at `key`, as what `parse` makes of it.
    pub fn parsed<T, E: Into<Fault>>(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Item<T>> {
        let text = self.string(key, problems)?;
        match parse(text.value) {
            Ok(value) => Some(Item { value, span: text.span }),
            Err(fault) => {
                problems.fault(&text.span, &fault.into());
                None
            }
        }
    }

    /// The string at `key`, which is one of the words of `choices`.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        problems: &mut Problems<'_>,
    ) -> Option<Item<T>> {
        let text = self.string(key, problems)?;
        choose(key, &text, choices, problems)
    }

    /// The integer at `key`, which lies in `range`.
    pub fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
        problems: &mut Problems<'_>,
    ) -> Option<Item<i64>> {
        let found = self.ask(key)?;
        let Some(integer) = found.value.as_integer() else {
            found.mismatch("an integer", problems);
            return None;
        };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(value) if range.contains(&value) => Some(found.item(value)),
            _ if found.is_stand_in() => None,
            _ => {
                let message = format!("`{key}` is a whole number from {} to {}", range.start(), range.end());
                problems.error(&found.span, message);
                None
            }
        }
    }

    /// The truth value at `key`.
    pub fn boolean(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Item<bool>> {
        let found = self.ask(key)?;
        let value = found.value.as_bool();
        if value.is_none() {
            found.mismatch("true or false", problems);
        }
        value.map(|value| found.item(value))
    }

    /// The duration at `key`, such as `"10s"`, which lies in `range`.
    pub fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        problems: &mut Problems<'_>,
    ) -> Option<Item<Duration>> {
        let found = self.duration_or_none(key, range, false, problems)?;
        found.value.map(|value| Item { value, span: found.span })
    }

    /// The duration at `key`, which lies in `range`, or nothing for `"off"`.
    pub fn duration_or_off(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        problems: &mut Problems<'_>,
    ) -> Option<Item<Option<Duration>>> {
        self.duration_or_none(key, range, true, problems)
    }

    fn duration_or_none(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        may_be_off: bool,
        problems: &mut Problems<'_>,
    ) -> Option<Item<Option<Duration>>> {
        let found = self.ask(key)?;
        let Some(text) = found.value.as_str() else {
            found.mismatch("a duration such as \"10s\"", problems);
            return None;
        };
        if may_be_off && text == "off" {
            return Some(found.item(None));
        }
        match parse_duration(text) {
            Ok(value) if range.contains(&value) => Some(found.item(Some(value))),
            Ok(_) => {
                let (least, most) = (duration_text(*range.start()), duration_text(*range.end()));
                let or_off = if may_be_off { ", or \"off\"" } else { "" };
                problems.error(&found.span, format!("`{key}` is from \"{least}\" to \"{most}\"{or_off}"));
                None
            }
            Err(fault) => {
                problems.fault(&found.span, &fault);
                None
            }
        }
    }

    /// The list of strings at `key`. Entries of other types are noted and left out.
    pub fn strings(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Strings<'d>> {
        self.ask(key)?.strings("a list of strings", problems)
    }

    /// The string, or list of strings, at `key`.
    pub fn string_or_strings(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Strings<'d>> {
        let found = self.ask(key)?;
        match found.value.as_str() {
            Some(text) => Some(found.item(vec![found.item(text)])),
            None => found.strings("a string or a list of strings", problems),
        }
    }

    /// The table at `key`.
    pub fn table(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Table<'d>> {
        let found = self.ask(key)?;
        self.below(found, "a table", problems)
    }

    /// The tables in the table at `key`, in the order of the document: `[key.NAME]`, any number of them.
    pub fn tables(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Vec<(Item<&'d str>, Table<'d>)> {
        let Some(found) = self.ask(key) else { return Vec::new() };
        let Some(outer) = self.below(found, &format!("tables, [{key}.NAME]"), problems) else { return Vec::new() };
        let mut inner = Vec::new();
        for (name, value, span) in outer.in_order() {
            let found = Found { key: name.value.to_owned(), value, span };
            if let Some(table) = outer.below(found, "a table", problems) {
                inner.push((name, table));
            }
        }
        inner
    }

    /// The lists of strings in the table at `key`, in the order of the document: `NAME = […]`, any number of them.
    pub fn lists(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Vec<(Item<&'d str>, Strings<'d>)> {
        let Some(outer) = self.table(key, problems) else { return Vec::new() };
        let mut lists = Vec::new();
        for (name, value, span) in outer.in_order() {
            let found = Found { key: name.value.to_owned(), value, span };
            if let Some(list) = found.strings("a list of strings", problems) {
                lists.push((name, list));
            }
        }
        lists
    }

    fn below(&self, found: Found<'d>, wanted: &str, problems: &mut Problems<'_>) -> Option<Table<'d>> {
        let Some(entries) = found.value.as_table() else {
            found.mismatch(wanted, problems);
            return None;
        };
        let path = if self.path.is_empty() { found.key } else { format!("{}.{}", self.path, found.key) };
        Some(Table { path, entries, span: found.span, asked: Vec::new() })
    }

    /// Keys and values in the order of the document.
    fn in_order(&self) -> Vec<(Item<&'d str>, &'d DeValue<'d>, Span)> {
        let mut all: Vec<_> = self
            .entries
            .iter()
            .map(|(key, value)| (Item { value: &**key.get_ref(), span: key.span() }, value.get_ref(), value.span()))
            .collect();
        all.sort_by_key(|(key, _, _)| key.span.start);
        all
    }

    /// Notes every key that nobody asked for.
    pub fn finish(self, problems: &mut Problems<'_>) {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let near = problems.nearest(name, self.asked.iter().copied());
            let hint = near.unwrap_or_else(|| format!("{} takes {}", self.title(), self.asked.join(", ")));
            problems.error(&key.span(), format!("unknown key {} in {}", quote(name), self.title())).hint(hint);
        }
    }
}

/// The choice that `text` names. Another word is noted, with the nearest choice.
pub fn choose<T: Copy>(
    what: &str,
    text: &Item<&str>,
    choices: &[(&str, T)],
    problems: &mut Problems<'_>,
) -> Option<Item<T>> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.value) {
        return Some(Item { value: *value, span: text.span.clone() });
    }
    let words = || choices.iter().map(|(word, _)| *word);
    let all: Vec<String> = words().map(|word| format!("\"{word}\"")).collect();
    let hint = problems.nearest(text.value, words()).unwrap_or_else(|| format!("it is one of {}", all.join(", ")));
    problems.error(&text.span, format!("{} is not a {what}", quote(text.value))).hint(hint);
    None
}
