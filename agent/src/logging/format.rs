//! One formatter for both kinds of log line. Every value passes through here, so what a call site hands over cannot
//! break out of its line.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::{Format, escape};
use crate::admin::timestamp::Timestamp;
use crate::clock::Clock;

/// The longest value of a field, in bytes. What is longer is cut: a peer's text must not make a line of any length.
const MAX_VALUE: usize = 4096;

pub(super) struct EventFormat {
    pub(super) format: Format,
    pub(super) color: bool,
    pub(super) clock: Clock,
}

impl<S, N> FormatEvent<S, N> for EventFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let now = Timestamp::from(self.clock.now());
        let (level, target) = (event.metadata().level(), event.metadata().target());
        match self.format {
            Format::Text => self.text(&mut out, now, level, target, &said),
            Format::Json => json(&mut out, now, level, target, said),
        }
    }
}

impl EventFormat {
    /// `2026-01-31T12:00:00.000Z INFO  audit link.up peer=beta path=lane: the message`.
    fn text(&self, out: &mut Writer<'_>, now: Timestamp, level: &Level, target: &str, said: &Said) -> fmt::Result {
        let paint = |code: &'static str| if self.color { code } else { "" };
        let (dim, plain) = (paint("\x1b[2m"), paint("\x1b[0m"));
        let color = match *level {
            Level::ERROR => paint("\x1b[31m"),
            Level::WARN => paint("\x1b[33m"),
            Level::INFO => paint("\x1b[32m"),
            _ => dim,
        };
        let target = target.strip_prefix("agent::").unwrap_or(target);
        write!(out, "{dim}{now}{plain} {color}{level:<5}{plain} {dim}{}{plain}", escape(target))?;
        if let Some(event) = &said.event {
            write!(out, " {}", escape(event))?;
        }
        if let Some(message) = &said.message {
            write!(out, " {}", escape(message))?;
        }
        for (name, value) in &said.fields {
            match value {
                Value::String(text) => write!(out, " {dim}{name}={plain}{}", quoted(text))?,
                other => write!(out, " {dim}{name}={plain}{other}")?,
            }
        }
        writeln!(out)
    }
}

/// A value as it is if it is one word, else in quotes.
fn quoted(text: &str) -> String {
    let bare = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '=' | '\\'));
    let text = escape(text);
    if bare { text.into_owned() } else { format!("\"{}\"", text.replace('"', "\\\"")) }
}

fn json(out: &mut Writer<'_>, now: Timestamp, level: &Level, target: &str, said: Said) -> fmt::Result {
    let mut object = Map::new();
    object.insert("timestamp".into(), now.to_string().into());
    object.insert("level".into(), level.as_str().to_ascii_lowercase().into());
    object.insert("target".into(), target.into());
    if let Some(event) = said.event {
        object.insert("event".into(), event.into());
    }
    if let Some(message) = said.message {
        object.insert("message".into(), message.into());
    }
    for (name, value) in said.fields {
        object.entry(name).or_insert(value);
    }
    writeln!(out, "{}", Value::Object(object))
}

/// What an event carries.
#[derive(Default)]
struct Said {
    event: Option<String>,
    message: Option<String>,
    fields: Vec<(&'static str, Value)>,
}

impl Said {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = Some(text),
            ("event", Value::String(text)) => self.event = Some(text),
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded(String::new());
        // A formatter that fails, or the bound, leaves what was written so far.
        let _ = write!(text, "{value:?}");
        self.put(field, text.0.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = Bounded(String::new());
        let _ = text.write_str(value);
        self.put(field, text.0.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = Bounded(String::new());
        let _ = write!(text, "{value}");
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.put(field, text.0.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

/// Text that stops growing at [`MAX_VALUE`].
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = MAX_VALUE.saturating_sub(self.0.len());
        if more.len() <= room {
            self.0.push_str(more);
            return Ok(());
        }
        self.0.push_str(&more[..more.floor_char_boundary(room)]);
        self.0.push('…');
        Err(fmt::Error)
    }
}
