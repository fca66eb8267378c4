//! The regression guard: what lanes cost beside a plain relay in the same run, against what they did when the file was written.

use anyhow::{Context as _, Result, ensure};

use crate::figures::{FIGURES, Row};
use adit_tests::load::process::say;

/// Ratios of lanes to the plain relay, one a line: a figure's key and the ratio.
const KNOWN: &str = include_str!("guard.txt");
/// How much worse than known is a regression: what machines and rounds differ by.
const SLACK: f64 = 1.25;

/// Compares the ratios of a run with those that are known.
///
/// # Errors
/// One is worse by more than the slack, or the file cannot be read.
pub(crate) fn judge(ratios: &Row) -> Result<()> {
    let mut worse = Vec::new();
    for line in KNOWN.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (key, known) = line.split_once(' ').with_context(|| format!("guard.txt: {line:?}"))?;
        let known: f64 = known.trim().parse().with_context(|| format!("guard.txt: {line:?}"))?;
        let at = FIGURES.iter().position(|f| f.key == key).with_context(|| format!("guard.txt: no figure {key}"))?;
        let now = ratios[at].with_context(|| format!("guard.txt: {key} was not measured"))?;
        let bound = if FIGURES[at].more_is_better { known / SLACK } else { known * SLACK };
        let well = if FIGURES[at].more_is_better { now >= bound } else { now <= bound };
        say(&format!("{key}: {now:.2}, known {known:.2}, bound {bound:.2}{}", if well { "" } else { "  WORSE" }));
        if !well {
            worse.push(key);
        }
    }
    ensure!(worse.is_empty(), "worse than known beside a plain relay: {}", worse.join(", "));
    Ok(())
}
