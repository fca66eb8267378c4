//! How answers look to people: colours, columns, durations, sizes.

use std::io::{self, Write};

use crate::logging::escape;

/// What a piece of text means, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tone {
    #[default]
    Plain,
    Strong,
    Good,
    Warn,
    Bad,
    Dim,
}

/// Puts colours on, or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    pub(super) fn new(color: bool) -> Self {
        Self(color)
    }

    /// `text`, escaped, in the colour of its meaning.
    pub(super) fn text(self, tone: Tone, text: &str) -> String {
        let text = escape(text);
        let code = match tone {
            _ if !self.0 => return text.into_owned(),
            Tone::Plain => return text.into_owned(),
            Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Rows of columns, as wide as their widest cell.
pub(super) struct Table {
    rows: Vec<Row>,
}

enum Row {
    Cells(Vec<(Tone, String)>),
    /// A remark on the row above.
    Note(Tone, String),
}

impl Table {
    pub(super) fn new(heads: &[&str]) -> Self {
        Self { rows: vec![Row::Cells(heads.iter().map(|h| (Tone::Dim, (*h).to_owned())).collect())] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [(Tone, String); N]) {
        self.rows.push(Row::Cells(cells.map(|(tone, text)| (tone, escape(&text).into_owned())).into()));
    }

    pub(super) fn note(&mut self, tone: Tone, text: &str) {
        self.rows.push(Row::Note(tone, text.to_owned()));
    }

    pub(super) fn write(&self, out: &mut dyn Write, paint: Paint) -> io::Result<()> {
        let mut widths = Vec::new();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            widths.resize(widths.len().max(cells.len()), 0);
            for (width, (_, text)) in widths.iter_mut().zip(cells) {
                *width = text.chars().count().max(*width);
            }
        }
        for row in &self.rows {
            match row {
                Row::Note(tone, text) => writeln!(out, "  {}", paint.text(*tone, text))?,
                Row::Cells(cells) => {
                    let mut line = String::new();
                    for (n, (width, (tone, text))) in widths.iter().zip(cells).enumerate() {
                        line.push_str(&paint.text(*tone, text));
                        if n + 1 < cells.len() {
                            line.extend(std::iter::repeat_n(' ', width - text.chars().count() + 2));
                        }
                    }
                    writeln!(out, "{}", line.trim_end())?;
                }
            }
        }
        Ok(())
    }
}

/// A cell without a meaning of its own.
pub(super) fn plain(text: impl ToString) -> (Tone, String) {
    (Tone::Plain, text.to_string())
}

/// A cell for what may be missing.
pub(super) fn or_dash(text: Option<String>) -> (Tone, String) {
    text.map_or((Tone::Dim, "-".into()), |text| (Tone::Plain, text))
}

/// Seconds as a person says them: `0.24 ms`, `1.5 s`, `3 min`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn duration(seconds: f64) -> String {
    let sign = if seconds < 0.0 { "-" } else { "" };
    let s = seconds.abs();
    if !s.is_finite() {
        return "?".into();
    }
    let whole = |value: f64, unit: f64, name: &str, part: f64, part_name: &str| {
        let units = (value / unit).floor();
        let parts = ((value - units * unit) / part).floor();
        if parts > 0.0 { format!("{sign}{units} {name} {parts} {part_name}") } else { format!("{sign}{units} {name}") }
    };
    match s {
        0.0 => "0 s".into(),
        _ if s < 0.001 => format!("{sign}{:.2} ms", s * 1000.0),
        _ if s < 1.0 => format!("{sign}{} ms", three_digits(s * 1000.0)),
        _ if s < 60.0 => format!("{sign}{} s", three_digits(s)),
        _ if s < 3600.0 => whole(s, 60.0, "min", 1.0, "s"),
        _ if s < 86_400.0 => whole(s, 3600.0, "h", 60.0, "min"),
        _ => whole(s, 86_400.0, "d", 3600.0, "h"),
    }
}

/// Bytes as a person says them: `900 B`, `1.5 MB`; powers of 1000.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            return format!("{} {unit}", if unit == "B" { count.to_string() } else { three_digits(value) });
        }
        value /= 1000.0;
    }
    format!("{} PB", three_digits(value))
}

/// A number with three digits that count.
pub(super) fn three_digits(value: f64) -> String {
    let text = match value {
        _ if value < 9.995 => format!("{value:.2}"),
        _ if value < 99.95 => format!("{value:.1}"),
        _ => return format!("{value:.0}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_said_as_people_do() {
        for (seconds, text) in [
            (0.0, "0 s"),
            (0.000_24, "0.24 ms"),
            (0.0125, "12.5 ms"),
            (-0.012, "-12 ms"),
            (1.5, "1.5 s"),
            (59.99, "60 s"),
            (185.0, "3 min 5 s"),
            (7500.0, "2 h 5 min"),
            (93_784.5, "1 d 2 h"),
            (-259_200.0, "-3 d"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        for (count, text) in [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_500_000, "1.5 MB"), (u64::MAX, "18447 PB")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn a_table_lines_up_with_and_without_colours_and_shows_no_controls() {
        let mut table = Table::new(&["NAME", "STATE", "WHERE"]);
        table.row([plain("alpha"), (Tone::Good, "up".into()), plain("")]);
        table.row([plain("b\u{1b}[2J"), or_dash(None), plain("here")]);
        table.note(Tone::Bad, "why\nnot");
        let show = |color| {
            let mut out = Vec::new();
            table.write(&mut out, Paint::new(color)).unwrap();
            String::from_utf8(out).unwrap()
        };
        let expected = "NAME        STATE  WHERE\nalpha       up\nb\\u{1b}[2J  -      here\n  why\\nnot\n";
        assert_eq!(show(false), expected);
        let colored = show(true);
        assert!(colored.contains("\x1b[32mup\x1b[0m"));
        let mut stripped = colored.replace("\x1b[0m", "");
        for code in ["\x1b[2m", "\x1b[31m", "\x1b[32m"] {
            stripped = stripped.replace(code, "");
        }
        let squeeze = |text: &str| text.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(squeeze(&stripped), squeeze(expected));
    }
}
