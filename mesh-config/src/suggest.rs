//! The nearest known name to an unknown one.

use std::cell::Cell;

/// Cells of edit-distance tables that one document may cost: about a tenth of a second. A file with a thousand unknown
/// names among ten thousand known ones gets suggestions for the first of them.
const BUDGET: usize = 20_000_000;

/// The longest text for which a near name is looked for, in bytes.
const LONGEST: usize = 64;

/// Finds near names, within a bound on the work.
#[derive(Debug)]
pub(crate) struct Suggester {
    budget: Cell<usize>,
}

impl Default for Suggester {
    fn default() -> Self {
        Self { budget: Cell::new(BUDGET) }
    }
}

impl Suggester {
    /// The candidate that `text` was most likely meant to be: at most a third of its characters away, the first of the
    /// nearest. Nothing if there is none so near, or if the work allowed is used up.
    pub(crate) fn nearest<'c>(&self, text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
        if text.is_empty() || text.len() > LONGEST {
            return None;
        }
        let text = text.to_lowercase().replace('_', "-");
        let farthest = (text.len() / 3).clamp(1, 4);
        let mut best: Option<(usize, &str)> = None;
        for candidate in candidates {
            if candidate.len().abs_diff(text.len()) > farthest || candidate.is_empty() {
                continue;
            }
            let left = self.budget.get().checked_sub(candidate.len() * text.len() + 32)?;
            self.budget.set(left);
            // Keys are written with underscores, names with hyphens: either is meant by either.
            let distance = strsim::osa_distance(&text, &candidate.replace('_', "-"));
            // A name of one or two letters is "near" to any other of that length.
            if distance <= farthest && distance < candidate.len() && best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, candidate));
            }
        }
        best.map(|(_, candidate)| candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let suggester = Suggester::default();
        let known = ["address", "roles", "listen", "half_closed"];
        for (text, near) in [
            ("adress", Some("address")),
            ("adderss", Some("address")),
            ("role", Some("roles")),
            ("Listen", Some("listen")),
            ("half-closed", Some("half_closed")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(suggester.nearest(text, known), near, "{text}");
        }
        assert_eq!(suggester.nearest("b", ["a"]), None, "one letter is near to nothing");
    }

    #[test]
    fn the_work_for_one_document_is_bounded() {
        let suggester = Suggester::default();
        let known: Vec<String> = (0..10_000).map(|n| format!("{n:0>60}")).collect();
        let text = "z".repeat(60);
        for _ in 0..1_000 {
            suggester.nearest(&text, known.iter().map(String::as_str));
        }
        assert!(suggester.budget.get() < 10_000, "used up: {}", suggester.budget.get());
        assert_eq!(suggester.nearest(&text, [text.as_str()]), None, "nothing is looked for any more");
    }
}
