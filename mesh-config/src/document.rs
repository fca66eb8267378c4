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

mod found;
mod table;

use toml::de::DeTable;

use crate::diagnostic::quote;
pub use crate::duration::{duration_text, parse_duration};
pub use crate::fault::Fault;
use crate::scan;
pub use crate::source::{MAX_PROBLEMS, Noted, Problems, Source, Span};
pub use table::{Table, choose};

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
        Table::root(&self.root)
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
