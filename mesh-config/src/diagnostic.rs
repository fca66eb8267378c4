//! Problems in a document, each at its place, for people and for machines.
//!
//! Nothing of a document reaches a terminal raw: control characters and those that reorder text are escaped, and long
//! lines are cut, so that a hostile file cannot paint over what a person reads.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document is taken, and probably does not say what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Something wrong in a document: where, what, and what to do about it.
///
/// As JSON it has the keys `severity`, `file`, `line`, `column`, `message`, `hint`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Whether the document is refused for it.
    pub severity: Severity,
    /// The file, as it was named to the reader.
    pub file: String,
    /// The line, from 1; 0 if the problem is with the file as a whole.
    pub line: usize,
    /// The column in characters (not bytes), from 1; 0 if the problem is with the file as a whole.
    pub column: usize,
    /// What is wrong, in one line, without control characters.
    pub message: String,
    /// What to do about it, in one line, without control characters.
    pub hint: Option<String>,
    /// The line that is meant, for people.
    #[serde(skip)]
    pub snippet: Option<Snippet>,
}

/// A line of a document, made safe to show, and what part of it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    pub(crate) text: String,
    /// Characters before the part that is meant.
    pub(crate) indent: usize,
    /// Characters of the part that is meant, at least one.
    pub(crate) width: usize,
}

impl Problem {
    /// A problem with a file as a whole: it is missing, say.
    pub fn with_file(severity: Severity, file: &str, message: impl AsRef<str>) -> Self {
        Self {
            severity,
            file: file.to_owned(),
            line: 0,
            column: 0,
            message: printable(message.as_ref()).into_owned(),
            hint: None,
            snippet: None,
        }
    }

    /// The same problem with a word on what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl AsRef<str>) -> Self {
        self.hint = Some(printable(hint.as_ref()).into_owned());
        self
    }

    /// Whether the document is refused for it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The problem for a person: `FILE:LINE:COLUMN: error: message`, the line with the part that is meant underlined,
    /// and what to do. Several lines, without a line end at the last. `color` adds ANSI colours.
    pub fn render(&self, color: bool) -> String {
        let paint = |code: &'static str| if color { code } else { "" };
        let (bold, blue, cyan, reset) = (paint("\x1b[1m"), paint("\x1b[1;34m"), paint("\x1b[1;36m"), paint("\x1b[0m"));
        let tone = paint(match self.severity {
            Severity::Error => "\x1b[1;31m",
            Severity::Warning => "\x1b[1;33m",
        });
        let mut out = String::new();
        out.push_str(&printable(&self.file));
        if self.line > 0 {
            let _infallible = write!(out, ":{}:{}", self.line, self.column);
        }
        let _infallible = write!(out, ": {tone}{}{reset}: {bold}{}{reset}", self.severity, self.message);
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        if let Some(Snippet { text, indent, width }) = &self.snippet {
            let _infallible = write!(
                out,
                "\n{gutter} {blue}|{reset}\n{blue}{number} |{reset} {text}\n{gutter} {blue}|{reset} {}{tone}{}{reset}",
                " ".repeat(*indent),
                "^".repeat(*width),
            );
        }
        if let Some(hint) = &self.hint {
            let _infallible = write!(out, "\n{gutter} {cyan}help:{reset} {hint}");
        }
        out
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problem {}

/// Whether a character may not reach a terminal: controls (C0, DEL, C1), line separators, invisible characters and those
/// that reorder text.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` with dangerous characters written as `\u{…}`.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_dangerous(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Characters of foreign text that a message quotes at most.
const QUOTED: usize = 64;

/// Foreign text for a message: in backticks, dangerous characters escaped, cut after 64 characters.
pub fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        None => format!("`{}`", printable(text)),
        Some((end, _)) => format!("`{}…`", printable(text.get(..end).unwrap_or_default())),
    }
}

/// Characters of a line that a snippet shows at most.
const WINDOW: usize = 120;
/// Characters that a snippet of a long line shows before the part that is meant.
const LEAD: usize = 40;

impl Snippet {
    /// Shows `line`, of which the part from character `start` on, `width` characters long, is meant.
    pub(crate) fn of(line: &str, start: usize, width: usize) -> Self {
        // At most WINDOW + 1 characters after `skip` are looked at, however long the line is.
        let skip = if start + width.min(WINDOW - LEAD) > WINDOW { start.saturating_sub(LEAD) } else { 0 };
        let mut text = String::new();
        let (mut indent, mut marked, mut shown) = (0, 0, 0);
        if skip > 0 {
            text.push('…');
            (indent, shown) = (1, 1);
        }
        for (at, c) in line.chars().enumerate().skip(skip) {
            if shown >= WINDOW {
                text.push('…');
                break;
            }
            let cells = if c == '\t' { 4 } else { 1 };
            match c {
                '\t' => text.push_str("    "),
                c if is_dangerous(c) => text.push(picture(c)),
                c => text.push(c),
            }
            shown += cells;
            if at < start {
                indent += cells;
            } else if at < start + width {
                marked += cells;
            }
        }
        Self { text: text.trim_end().to_owned(), indent, width: marked.max(1) }
    }
}

/// One visible character in place of a dangerous one, so that the underline stays below what it means.
fn picture(c: char) -> char {
    match u32::from(c) {
        code @ 0..0x20 => char::from_u32(0x2400 + code).unwrap_or('\u{fffd}'),
        0x7f => '\u{2421}',
        _ => '\u{fffd}',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_of_a_short_line_is_the_line() {
        let s = Snippet::of("name = 3", 7, 1);
        assert_eq!((s.text.as_str(), s.indent, s.width), ("name = 3", 7, 1));
    }

    #[test]
    fn a_snippet_of_a_long_line_shows_the_part_that_is_meant() {
        let line = format!("{}BAD{}", "x".repeat(10_000), "y".repeat(10_000));
        let s = Snippet::of(&line, 10_000, 3);
        assert!(s.text.chars().count() <= WINDOW + 1, "{}", s.text.len());
        let marked: String = s.text.chars().skip(s.indent).take(s.width).collect();
        assert_eq!(marked, "BAD");
        assert!(s.text.starts_with('…') && s.text.ends_with('…'));
    }

    #[test]
    fn tabs_and_controls_keep_the_underline_in_place() {
        let s = Snippet::of("\ta\u{1b}[31m\u{202e}b", 8, 1);
        let marked: String = s.text.chars().skip(s.indent).take(s.width).collect();
        assert_eq!(marked, "b");
        assert!(!s.text.contains(is_dangerous), "{:?}", s.text);
    }

    #[test]
    fn foreign_text_cannot_reach_the_terminal_raw() {
        assert_eq!(quote("a\u{1b}[2Jb"), "`a\\u{1b}[2Jb`");
        assert_eq!(quote("a\u{202e}b\u{9b}"), "`a\\u{202e}b\\u{9b}`");
        assert_eq!(quote(&"x".repeat(1 << 20)).chars().count(), QUOTED + 3);
        let problem = Problem::with_file(Severity::Error, "a\u{1b}[31mb", "bad \u{7}").hint("mend\r it");
        let shown = problem.render(false);
        assert!(!shown.chars().any(|c| is_dangerous(c) && c != '\n'), "{shown:?}");
    }

    #[test]
    fn colours_appear_only_when_asked_for() {
        let mut problem = Problem::with_file(Severity::Warning, "f", "m").hint("h");
        problem.line = 3;
        problem.column = 1;
        problem.snippet = Some(Snippet::of("abc", 0, 3));
        assert!(!problem.render(false).contains('\x1b'));
        assert_eq!(problem.render(false), "f:3:1: warning: m\n  |\n3 | abc\n  | ^^^\n  help: h");
        assert!(problem.render(true).contains("\x1b[1;33mwarning\x1b[0m"));
    }
}
