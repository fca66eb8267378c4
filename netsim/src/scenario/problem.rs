//! Problems in a scenario, each at its place, for people and for machines.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::ops::Range;

/// Problems that are kept of one document.
const MOST: usize = 200;

/// Characters of a line that are shown at most.
const WINDOW: usize = 120;

/// Characters of foreign text that a message quotes at most.
const QUOTED: usize = 64;

/// A part of a document: byte offsets into its text.
pub(crate) type Span = Range<usize>;

/// Something that keeps a scenario from being run: where, what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
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
    /// The line, and the characters of it before and in the part that is meant.
    snippet: Option<(String, usize, usize)>,
}

impl Problem {
    /// A problem with a file as a whole: it is missing, say.
    #[must_use]
    pub fn with_file(file: &str, message: &str, hint: Option<&str>) -> Self {
        let hint = hint.map(printable);
        Self { file: file.to_owned(), line: 0, column: 0, message: printable(message), hint, snippet: None }
    }

    /// The problem for a person: `FILE:LINE:COLUMN: error: message`, the line with the part that is meant underlined,
    /// and what to do. Several lines, without a line end at the last. `color` adds ANSI colours.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let paint = |code: &'static str| if color { code } else { "" };
        let (bold, blue, cyan, red, reset) =
            (paint("\x1b[1m"), paint("\x1b[1;34m"), paint("\x1b[1;36m"), paint("\x1b[1;31m"), paint("\x1b[0m"));
        let mut out = printable(&self.file);
        if self.line > 0 {
            let _infallible = write!(out, ":{}:{}", self.line, self.column);
        }
        let _infallible = write!(out, ": {red}error{reset}: {bold}{}{reset}", self.message);
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        if let Some((text, before, width)) = &self.snippet {
            let (indent, mark) = (" ".repeat(*before), "^".repeat(*width));
            let _infallible = write!(out, "\n{gutter} {blue}|{reset}\n{blue}{number} |{reset} {text}");
            let _infallible = write!(out, "\n{gutter} {blue}|{reset} {indent}{red}{mark}{reset}");
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

/// Whether a character may not reach a terminal: controls, invisible characters and those that reorder text.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` with dangerous characters written as `\u{…}`.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_dangerous(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Foreign text for a message: in backticks, dangerous characters escaped, and cut.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        None => format!("`{}`", printable(text)),
        Some((end, _)) => format!("`{}…`", printable(text.get(..end).unwrap_or_default())),
    }
}

/// The candidate that `text` was most likely meant to be, as a hint: at most a third of its characters away.
pub(crate) fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    if text.is_empty() || text.len() > QUOTED {
        return None;
    }
    let plain = text.to_lowercase().replace('-', "_");
    let farthest = (text.len() / 3).clamp(1, 4);
    let near = candidates.into_iter().filter_map(|candidate| {
        let distance = strsim::osa_distance(&plain, &candidate.replace('-', "_"));
        // A name of one or two letters is "near" to any other of that length.
        (distance <= farthest && distance < candidate.len()).then_some((distance, candidate))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| format!("did you mean `{name}`?"))
}

/// A document's text, and the problems found in it so far.
#[derive(Debug)]
pub(crate) struct Problems<'t> {
    file: &'t str,
    text: &'t str,
    found: RefCell<Vec<(usize, Problem)>>,
}

impl<'t> Problems<'t> {
    pub(crate) fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text, found: RefCell::default() }
    }

    pub(crate) fn text(&self) -> &'t str {
        self.text
    }

    /// Notes a problem at `span`.
    pub(crate) fn note(&self, span: &Span, message: impl AsRef<str>, hint: Option<String>) {
        let mut found = self.found.borrow_mut();
        // One word for each place: what follows from an error is not told beside it.
        if found.len() < MOST && !found.iter().any(|(start, problem)| *start == span.start && problem.line > 0) {
            found.push((span.start, self.problem(span, message.as_ref(), hint)));
        }
    }

    /// Notes a problem with the document as a whole.
    pub(crate) fn whole(&self, message: impl AsRef<str>, hint: Option<&str>) {
        self.found.borrow_mut().push((0, Problem::with_file(self.file, message.as_ref(), hint)));
    }

    /// Whether there is any.
    pub(crate) fn any(&self) -> bool {
        !self.found.borrow().is_empty()
    }

    /// All of them by place.
    pub(crate) fn finish(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(start, _)| *start);
        found.into_iter().map(|(_, problem)| problem).collect()
    }

    fn problem(&self, span: &Span, message: &str, hint: Option<String>) -> Problem {
        let start = self.text.floor_char_boundary(span.start);
        let before = self.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.text.get(line_start..).unwrap_or_default().split('\n').next().unwrap_or_default();
        let line = line.trim_end_matches('\r');
        let column = before.get(line_start..).map_or(0, |part| part.chars().count());
        let end = self.text.floor_char_boundary(span.end.min(line_start + line.len()));
        let width = self.text.get(start..end).map_or(0, |part| part.chars().count());
        // Of a long line the part around the place.
        let skip = if column + width.min(WINDOW / 2) > WINDOW { column - WINDOW / 3 } else { 0 };
        let shown: String =
            line.chars().skip(skip).take(WINDOW).map(|c| if is_dangerous(c) { ' ' } else { c }).collect();
        let width = width.clamp(1, (WINDOW + skip).saturating_sub(column).max(1));
        Problem {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: column + 1,
            message: printable(message),
            hint: hint.as_deref().map(printable),
            snippet: Some((shown.trim_end().to_owned(), column - skip, width)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_its_line_and_what_to_do() {
        let problems = Problems::new("f.toml", "a = 1\r\nbé = \"ü\" x\n");
        let at = problems.text().find('x').unwrap();
        problems.note(&(at..at + 1), "m", Some("h".to_owned()));
        problems.note(&(at..at + 1), "what follows from it", None);
        let told: Vec<String> = problems.finish().iter().map(Problem::to_string).collect();
        assert_eq!(told, ["f.toml:2:10: error: m\n  |\n2 | bé = \"ü\" x\n  |          ^\n  help: h"]);
    }

    #[test]
    fn any_place_in_any_text_can_be_shown_and_nothing_reaches_the_terminal_raw() {
        for text in ["", "\n", "é\u{1b}[2J", "a\r\n\r\n", &"x".repeat(10_000), &"é".repeat(300)] {
            for start in (0..8).chain(590..602) {
                for end in start..start + 4 {
                    let problems = Problems::new("a\u{1b}b", text);
                    problems.note(&(start..end), "m\u{7}", None);
                    let told = problems.finish()[0].render(false);
                    assert!(!told.chars().any(|c| c != '\n' && is_dangerous(c)), "{told:?}");
                    assert!(told.lines().all(|line| line.chars().count() <= WINDOW + 10), "{told}");
                }
            }
        }
    }

    #[test]
    fn the_nearest_name_is_found() {
        let known = ["address", "one-way", "healed_by"];
        for (text, near) in [
            ("adress", Some("address")),
            ("one_way", Some("one-way")),
            ("healed-by", Some("healed_by")),
            ("colour", None),
        ] {
            assert_eq!(nearest(text, known), near.map(|name| format!("did you mean `{name}`?")), "{text}");
        }
        assert_eq!(nearest("b", ["a"]), None);
    }
}
