//! Tables of a scenario that are asked for their keys: what has another type than was asked for is noted at its place,
//! and so is every key that nobody asked for. So what a table may hold is written once, where it is read.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::problem::{Problems, Span, nearest, quote};
use super::units::{parse_duration, parse_offset, parse_rate, parse_share, parse_size};

/// Dots in one key: a dotted key nests as deeply as it has dots, and trees are dropped by recursion.
const MOST_DOTS: usize = 8;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

impl<T> Item<T> {
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Item<U> {
        Item { value: f(self.value), span: self.span }
    }
}

/// Reads a text as TOML, as far as it can be.
pub(crate) fn parse<'t>(problems: &Problems<'t>) -> DeTable<'t> {
    let text = problems.text();
    let mut dots = 0;
    for token in toml_parser::Source::new(text).lex() {
        use toml_parser::lexer::TokenKind::{Atom, BasicString, Dot, LiteralString, Whitespace};
        dots = match token.kind() {
            Dot => dots + 1,
            Whitespace | Atom | BasicString | LiteralString => dots,
            _ => 0,
        };
        if dots > MOST_DOTS {
            problems.note(&(token.span().start()..token.span().end()), "this is nested too deeply", None);
            return DeTable::new();
        }
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        problems.note(&error.span().unwrap_or(0..0), error.message(), None);
    }
    root.into_inner()
}

/// A table, asked for one key after the other.
#[derive(Debug)]
pub(crate) struct Table<'d> {
    title: String,
    entries: &'d DeTable<'d>,
    span: Span,
    asked: Vec<&'static str>,
    problems: &'d Problems<'d>,
}

impl<'d> Table<'d> {
    pub(crate) fn root(entries: &'d DeTable<'d>, problems: &'d Problems<'d>) -> Self {
        Self { title: "the scenario".to_owned(), entries, span: 0..0, asked: Vec::new(), problems }
    }

    /// The same, called otherwise in messages.
    pub(crate) fn titled(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn problems(&self) -> &'d Problems<'d> {
        self.problems
    }

    /// The value at `key`.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<Value<'d>> {
        self.asked.push(key);
        let value = self.entries.get(key)?;
        Some(Value { key: key.to_owned(), value: value.get_ref(), span: value.span(), problems: self.problems })
    }

    /// The value at `key`, which must be there. `example` is a whole line to add.
    pub(crate) fn need(&mut self, key: &'static str, example: &str) -> Option<Value<'d>> {
        let found = self.get(key);
        if found.is_none() {
            let message = format!("{} needs `{key}`", self.title);
            self.problems.note(&self.span, message, Some(format!("add `{example}`")));
        }
        found
    }

    /// What stands at `key`, by the name of each.
    pub(crate) fn named(&mut self, key: &'static str) -> Vec<(Item<&'d str>, Value<'d>)> {
        self.get(key).and_then(Value::table).map(Table::entries).unwrap_or_default()
    }

    /// The tables in the table at `key`, in the order of the document: `[key.NAME]`.
    pub(crate) fn tables(&mut self, key: &'static str) -> Vec<(Item<&'d str>, Table<'d>)> {
        let named = self.named(key).into_iter();
        let tables = named.filter_map(|(name, value)| {
            let table = value.table()?.titled(format!("[{key}.{}]", quote(name.value).trim_matches('`')));
            Some((name, table))
        });
        tables.collect()
    }

    /// Everything in it, in the order of the document.
    pub(crate) fn entries(self) -> Vec<(Item<&'d str>, Value<'d>)> {
        let problems = self.problems;
        let all = self.entries.iter().map(|(key, value)| {
            let name: &'d str = key.get_ref();
            let found = Value { key: name.to_owned(), value: value.get_ref(), span: value.span(), problems };
            (Item { value: name, span: key.span() }, found)
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(key, _)| key.span.start);
        all
    }

    /// Notes every key that nobody asked for.
    pub(crate) fn finish(self) {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            if !self.asked.contains(&name) {
                let hint = nearest(name, self.asked.iter().copied());
                let hint = hint.unwrap_or_else(|| format!("{} takes {}", self.title, self.asked.join(", ")));
                self.problems.note(&key.span(), format!("unknown key {} in {}", quote(name), self.title), Some(hint));
            }
        }
    }
}

/// A value with the name of its key.
#[derive(Debug, Clone)]
pub(crate) struct Value<'d> {
    key: String,
    value: &'d DeValue<'d>,
    pub(crate) span: Span,
    problems: &'d Problems<'d>,
}

impl<'d> Value<'d> {
    fn item<T>(&self, value: T) -> Item<T> {
        Item { value, span: self.span.clone() }
    }

    /// Notes what is wrong with it.
    pub(crate) fn wrong(&self, message: impl AsRef<str>, hint: Option<String>) {
        self.problems.note(&self.span, message, hint);
    }

    fn mismatch<T>(&self, wanted: &str) -> Option<T> {
        self.wrong(format!("{} takes {wanted}, not {}", quote(&self.key), kind(self.value)), None);
        None
    }

    pub(crate) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(crate) fn is_string(&self) -> bool {
        self.value.is_str()
    }

    pub(crate) fn string(self) -> Option<Item<&'d str>> {
        match self.value.as_str() {
            Some(text) => Some(self.item(text)),
            None => self.mismatch("a string"),
        }
    }

    pub(crate) fn boolean(self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.mismatch("true or false"))
    }

    pub(crate) fn table(self) -> Option<Table<'d>> {
        let Some(entries) = self.value.as_table() else { return self.mismatch("a table") };
        let title = format!("`{}`", self.key);
        Some(Table { title, entries, span: self.span, asked: Vec::new(), problems: self.problems })
    }

    /// The elements of a list.
    pub(crate) fn list(self) -> Option<Vec<Value<'d>>> {
        let Some(list) = self.value.as_array() else { return self.mismatch("a list") };
        let all = list.iter().map(|entry| Value {
            key: self.key.clone(),
            value: entry.get_ref(),
            span: entry.span(),
            problems: self.problems,
        });
        Some(all.collect())
    }

    /// A list of strings, or a single one.
    pub(crate) fn strings(self) -> Option<Vec<Item<&'d str>>> {
        if self.is_string() {
            return self.string().map(|one| vec![one]);
        }
        Some(self.list()?.into_iter().filter_map(Value::string).collect())
    }

    /// A whole number within a range.
    pub(crate) fn integer(self, range: RangeInclusive<i64>) -> Option<Item<i64>> {
        let Some(integer) = self.value.as_integer() else { return self.mismatch("a whole number") };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(value) if range.contains(&value) => Some(self.item(value)),
            _ => {
                let message = format!("{} is from {} to {}", quote(&self.key), range.start(), range.end());
                self.wrong(message, None);
                None
            }
        }
    }

    fn parsed<T>(self, wanted: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Item<T>> {
        let Some(text) = self.value.as_str() else {
            let hint = match self.value {
                DeValue::Integer(n) => Some(format!("say the unit: {wanted}, not {}", n.as_str())),
                _ => None,
            };
            self.wrong(format!("{} takes {wanted}, not {}", quote(&self.key), kind(self.value)), hint);
            return None;
        };
        let value = parse(text);
        if value.is_none() {
            self.wrong(format!("{} is not {wanted}", quote(text)), None);
        }
        value.map(|value| self.item(value))
    }

    pub(crate) fn duration(self) -> Option<Item<Duration>> {
        self.parsed("a duration such as \"250ms\", \"1.5s\" or \"2m\", a day at most", parse_duration)
    }

    pub(crate) fn offset(self) -> Option<Item<i64>> {
        self.parsed("an offset such as \"-1h\", \"30s\" or \"90d\"", parse_offset)
    }

    /// A number within a range.
    pub(crate) fn number(self, range: RangeInclusive<f64>) -> Option<Item<f64>> {
        let text = match self.value {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) => number.as_str(),
            _ => return self.mismatch("a number"),
        };
        let number = text.replace('_', "").parse::<f64>().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong(format!("{} is from {} to {}", quote(&self.key), range.start(), range.end()), None);
        }
        number.map(|number| self.item(number))
    }

    pub(crate) fn rate(self) -> Option<Item<u64>> {
        self.parsed("a rate such as \"10Mbit\"", parse_rate)
    }

    pub(crate) fn size(self) -> Option<Item<u64>> {
        self.parsed("a size such as \"64kB\"", parse_size)
    }

    /// A share of one: `0.01`, or `"1%"`.
    pub(crate) fn share(self) -> Option<f64> {
        let wanted = "a share such as \"1%\", or a number from 0 to 1";
        let number = match self.value {
            DeValue::Float(number) => number.as_str().replace('_', "").parse::<f64>().ok(),
            DeValue::Integer(number) => number.as_str().parse::<u32>().ok().map(f64::from),
            _ => return self.parsed(wanted, parse_share).map(|share| share.value),
        };
        let share = number.filter(|number| (0.0..=1.0).contains(number));
        share.or_else(|| self.mismatch(wanted))
    }

    /// One of several words.
    pub(crate) fn choice<T: Clone>(self, what: &str, choices: &[(&str, T)]) -> Option<Item<T>> {
        let problems = self.problems;
        let text = self.string()?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.value) {
            return Some(text.map(|_| value.clone()));
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let hint = nearest(text.value, words.iter().copied());
        let hint = hint.unwrap_or_else(|| format!("it is one of {}", words.join(", ")));
        problems.note(&text.span, format!("{} is not a {what}", quote(text.value)), Some(hint));
        None
    }
}

/// What a value is, with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
