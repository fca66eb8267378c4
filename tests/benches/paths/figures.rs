//! The figures of a system: their names, their table, and what they are beside those of a reference.

use adit_tests::load::process::say;

/// A group of figures that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Bulk,
    Connections,
    Latency,
    Loaded,
    Memory,
}

impl Part {
    /// All, by the words of `--only`.
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("bulk", Self::Bulk),
        ("connections", Self::Connections),
        ("latency", Self::Latency),
        ("loaded", Self::Loaded),
        ("memory", Self::Memory),
    ];
}

/// One column: its key in the guard's file, its title, and whether more is better.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) key: &'static str,
    title: &'static str,
    pub(crate) more_is_better: bool,
}

const fn figure(key: &'static str, title: &'static str, more_is_better: bool) -> Figure {
    Figure { key, title, more_is_better }
}

/// All columns.
pub(crate) const FIGURES: [Figure; 10] = [
    figure("gbit_1", "Gbit/s, 1 stream", true),
    figure("cpu_1", "CPU-s/GiB", false),
    figure("gbit_8", "Gbit/s, 8 streams", true),
    figure("cpu_8", "CPU-s/GiB", false),
    figure("connections", "connections/s", true),
    figure("cpu_each", "CPU-ms each", false),
    figure("p50", "p50 us", false),
    figure("p99", "p99 us", false),
    figure("loaded_p99", "p99 us beside bulk", false),
    figure("idle", "KiB, idle connection", false),
];

/// One system's figures of one round, in the order of [`FIGURES`]; `None` where it has none.
pub(crate) type Row = [Option<f64>; FIGURES.len()];

/// The medians of all rounds.
pub(crate) fn medians(rows: &[Row]) -> Row {
    std::array::from_fn(|column| {
        let mut values: Vec<f64> = rows.iter().filter_map(|row| row[column]).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    })
}

/// What `row` is beside `reference`.
pub(crate) fn ratios(row: &Row, reference: &Row) -> Row {
    std::array::from_fn(|column| Some(row[column]? / reference[column].filter(|&r| r != 0.0)?))
}

/// The medians as a table, and the ratios in another.
pub(crate) fn print(systems: &[(&str, Row)], reference: Option<(&str, Row)>) {
    table(systems.iter().copied());
    if let Some((name, reference)) = reference {
        say(&format!("\nratio to {name}:\n"));
        table(systems.iter().filter(|(other, _)| *other != name).map(|(n, row)| (*n, ratios(row, &reference))));
    }
}

fn table<'a>(rows: impl Iterator<Item = (&'a str, Row)>) {
    say(&format!("| system | {} |", FIGURES.map(|f| f.title).join(" | ")));
    say(&format!("|---|{}", "---|".repeat(FIGURES.len())));
    for (name, row) in rows {
        say(&format!("| {name} | {} |", row.map(cell).join(" | ")));
    }
}

fn cell(value: Option<f64>) -> String {
    match value {
        Some(v) if v >= 100.0 => format!("{v:.0}"),
        Some(v) if v >= 10.0 => format!("{v:.1}"),
        Some(v) => format!("{v:.2}"),
        None => "–".to_owned(),
    }
}
