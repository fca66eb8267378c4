//! Reads TOML documents of any kind, telling every problem at its place.
//!
//! A [`Table`] is asked for its keys, each by the type it should have; what has another type is noted, with what was
//! expected and what was found. [`Table::finish`] then notes every key that nobody asked for, with the nearest one that
//! somebody did. So what a table may hold is written once, where it is read.
//!
//! ```
//! use mesh_config::document::{Document, Problems, Source};
//!
//! let source = Source::new("agent.toml", "node = 3\nlissen = \"[::]:7443\"\n");
//! let mut problems = Problems::new(&source);
//! let document = Document::parse(&source, &mut problems);
//! let mut root = document.root();
//! assert!(root.string("node", &mut problems).is_none());
//! assert!(root.string("listen", &mut problems).is_none());
//! root.finish(&mut problems);
//!
//! let found = problems.finish().unwrap_err();
//! assert_eq!(found[0].to_string(), "agent.toml:1:8: error: `node` takes a string, not an integer\n  |\n\
//!                                   1 | node = 3\n  |        ^\n  help: put it in quotes: \"3\"");
//! assert_eq!(found[1].hint.as_deref(), Some("did you mean `listen`?"));
//! ```

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::{DeArray, DeTable, DeValue};

use crate::diagnostic::quote;
pub use crate::duration::{duration_text, parse_duration};
pub use crate::fault::Fault;
use crate::scan;
pub use crate::source::{MAX_PROBLEMS, Noted, Problems, Source, Span};

/// Texts above this many bytes that are not TOML get their first syntax error alone: a megabyte of noise would otherwise
/// become a million errors.
const RECOVERABLE: usize = 1 << 20;

/// A value and where it stands in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

impl<T> Item<T> {
    /// The same place with what `f` makes of the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Item<U> {
        Item { value: f(self.value), span: self.span }
    }
}

/// A list of strings, each with its place.
pub type Strings<'d> = Item<Vec<Item<&'d str>>>;

/// A TOML document, read as far as it can be.
#[derive(Debug)]
pub struct Document<'s> {
    root: DeTable<'s>,
}

impl<'s> Document<'s> {
    /// Reads the text of `source`. What is not TOML is noted, and the rest is read all the same.
    pub fn parse(source: &'s Source<'s>, problems: &mut Problems<'_>) -> Self {
        let text = source.text();
        if let Some((span, message, hint)) = scan::refuse(text) {
            problems.tear(&span, message).hint(hint);
            return Self { root: DeTable::new() };
        }
        let (root, errors) = match DeTable::parse(text) {
            Ok(root) => (root.into_inner(), Vec::new()),
            Err(first) if text.len() > RECOVERABLE => (DeTable::new(), vec![first]),
            Err(_) => {
                let (root, errors) = DeTable::parse_recoverable(text);
                (root.into_inner(), errors)
            }
        };
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let (message, hint) = syntax(error.message(), text.get(span.clone()).unwrap_or_default().trim());
            problems.tear(&span, message).hint_if(hint);
        }
        Self { root }
    }

    /// The document's outermost table.
    pub fn root(&self) -> Table<'_> {
        Table { path: String::new(), entries: &self.root, span: 0..0, asked: Vec::new() }
    }
}

/// The parser's complaint about `found`, and what to do about the commonest ones.
fn syntax<'m>(message: &'m str, found: &str) -> (&'m str, Option<String>) {
    let unquoted = "string values must be quoted";
    if message.starts_with(unquoted) && found.is_empty() {
        ("a value is missing", Some("write one after the `=`, or take the line out".to_owned()))
    } else if message.starts_with(unquoted) {
        (unquoted, Some(format!("write \"{}\"", quote(found).trim_matches('`'))))
    } else if message.starts_with("duplicate key") {
        (message, Some("it is set further up already: keep one of the two".to_owned()))
    } else if found.starts_with(char::is_control) {
        (message, Some("control characters are written by their number, such as \\u001B".to_owned()))
    } else if message.contains("recurs") {
        ("this is nested too deeply", Some("nothing in this file needs more than a few levels".to_owned()))
    } else {
        (message, None)
    }
}

/// A table of a document, asked for one key after the other.
#[derive(Debug)]
pub struct Table<'d> {
    path: String,
    entries: &'d DeTable<'d>,
    span: Span,
    asked: Vec<&'static str>,
}

/// A value with the name of its key, for messages.
struct Found<'d> {
    key: String,
    value: &'d DeValue<'d>,
    span: Span,
}

impl<'d> Found<'d> {
    fn item<T>(&self, value: T) -> Item<T> {
        Item { value, span: self.span.clone() }
    }

    /// Notes that `wanted` was expected.
    fn mismatch(&self, wanted: &str, problems: &mut Problems<'_>) {
        // What stands in for a value that could not be read has been noted as a syntax error.
        if self.is_stand_in() {
            return;
        }
        let hint = match self.value {
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) if wanted == "a string" => {
                Some(format!("put it in quotes: \"{}\"", scalar_text(self.value)))
            }
            DeValue::Integer(n) if wanted.starts_with("a duration") => {
                Some(format!("say the unit: \"{}s\"", n.as_str()))
            }
            DeValue::String(text) if wanted.starts_with("a list") => {
                Some(format!("write [\"{}\"]", quote(text).trim_matches('`')))
            }
            DeValue::String(text) if matches!(wanted, "true or false" | "an integer") && is_bare(text) => {
                Some(format!("write it without quotes: {text}"))
            }
            DeValue::Array(list) if is_tables(list) => Some(match wanted.strip_prefix("tables, ") {
                Some(header) => format!("write {header}, with single brackets and a name for each"),
                None => "write its header once, with single brackets".to_owned(),
            }),
            _ => None,
        };
        let message = format!("{} takes {wanted}, not {}", quote(&self.key), kind(self.value));
        problems.error(&self.span, message).hint_if(hint);
    }

    fn is_stand_in(&self) -> bool {
        self.span == (0..0)
    }

    fn string(&self, problems: &mut Problems<'_>) -> Option<Item<&'d str>> {
        let text = self.value.as_str();
        if text.is_none() {
            self.mismatch("a string", problems);
        }
        text.map(|text| self.item(text))
    }

    fn strings(&self, wanted: &str, problems: &mut Problems<'_>) -> Option<Strings<'d>> {
        let Some(list) = self.value.as_array() else {
            self.mismatch(wanted, problems);
            return None;
        };
        let entries = list.iter().filter_map(|entry| {
            let found = Found { key: self.key.clone(), value: entry.get_ref(), span: entry.span() };
            let text = entry.get_ref().as_str();
            if text.is_none() {
                found.mismatch("a list of strings alone", problems);
            }
            text.map(|text| found.item(text))
        });
        let entries = entries.collect();
        Some(self.item(entries))
    }
}

fn is_tables(list: &DeArray<'_>) -> bool {
    !list.is_empty() && list.iter().all(|entry| entry.get_ref().is_table())
}

/// Whether a text could stand without quotes as a number or a truth value.
fn is_bare(text: &str) -> bool {
    matches!(text, "true" | "false") || (text.len() <= 20 && text.parse::<i64>().is_ok())
}

fn scalar_text(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(n) => n.to_string(),
        DeValue::Float(n) => n.to_string(),
        DeValue::Boolean(b) => b.to_string(),
        _ => String::new(),
    }
}

/// What a value is, with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(true) => "`true`",
        DeValue::Boolean(false) => "`false`",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl<'d> Table<'d> {
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
