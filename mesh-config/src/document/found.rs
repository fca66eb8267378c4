//! A value as it was found at a key, and what is said when it is not what was wanted.

use toml::de::{DeArray, DeValue};

use super::{Item, Strings};
use crate::diagnostic::quote;
use crate::source::{Problems, Span};

/// A value with the name of its key, for messages.
pub(super) struct Found<'d> {
    pub(super) key: String,
    pub(super) value: &'d DeValue<'d>,
    pub(super) span: Span,
}

impl<'d> Found<'d> {
    pub(super) fn item<T>(&self, value: T) -> Item<T> {
        Item { value, span: self.span.clone() }
    }

    /// Notes that `wanted` was expected.
    pub(super) fn mismatch(&self, wanted: &str, problems: &mut Problems<'_>) {
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

    pub(super) fn is_stand_in(&self) -> bool {
        self.span == (0..0)
    }

    pub(super) fn string(&self, problems: &mut Problems<'_>) -> Option<Item<&'d str>> {
        let text = self.value.as_str();
        if text.is_none() {
            self.mismatch("a string", problems);
        }
        text.map(|text| self.item(text))
    }

    pub(super) fn strings(&self, wanted: &str, problems: &mut Problems<'_>) -> Option<Strings<'d>> {
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
