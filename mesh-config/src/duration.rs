//! Durations as text: `"500ms"`, `"10s"`, `"2m"`, `"1h"`, `"7d"`.

use std::time::Duration;

use crate::diagnostic::quote;
use crate::fault::Fault;

/// Units, the greatest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A whole number and a unit: `ms`, `s`, `m`, `h` or `d`.
///
/// # Errors
/// [`Fault`] says what is missing.
pub fn parse_duration(text: &str) -> Result<Duration, Fault> {
    let fault = || Fault::new(format!("{} is not a duration", quote(text)));
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(fault)?;
    if number.is_empty() {
        return Err(fault().hint("write a whole number and a unit (ms, s, m, h, d), such as \"10s\""));
    }
    let Some((_, each)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let hint = if unit.is_empty() {
            format!("say the unit: \"{}s\"", quote(number).trim_matches('`'))
        } else {
            "units are ms, s, m, h and d; write a smaller unit instead of a fraction".to_owned()
        };
        return Err(fault().hint(hint));
    };
    let whole = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*each));
    whole.map(Duration::from_millis).ok_or_else(|| fault().hint("it is too long"))
}

/// A duration in the greatest unit that says it whole, down to milliseconds. [`parse_duration`] reads it back.
pub fn duration_text(duration: Duration) -> String {
    let all = duration.as_millis();
    let unit = UNITS.iter().find(|(_, each)| all != 0 && all.is_multiple_of(u128::from(*each)));
    unit.map_or_else(|| "0s".to_owned(), |(name, each)| format!("{}{name}", all / u128::from(*each)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, ms) in
            [("0s", 0), ("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000), ("7d", 604_800_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(duration_text(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, hint) in [
            ("", "write a whole number"),
            ("s", "write a whole number"),
            ("-1s", "write a whole number"),
            ("10", "say the unit: \"10s\""),
            ("1.5s", "smaller unit"),
            ("10 s", "units are"),
            ("10sec", "units are"),
            ("99999999999999999999d", "too long"),
            ("18446744073709551615d", "too long"),
            ("1٣s", "units are"),
        ] {
            let fault = parse_duration(text).unwrap_err();
            assert!(fault.hint.as_deref().is_some_and(|h| h.contains(hint)), "{text}: {fault:?}");
        }
    }
}
