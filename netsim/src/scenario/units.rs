//! Durations, rates, sizes and shares, as scenarios write them.

use std::time::Duration;

const DURATIONS: [(&str, u64); 5] =
    [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];
const RATES: [(&str, u64); 4] = [("kbit", 1_000), ("Mbit", 1_000_000), ("Gbit", 1_000_000_000), ("bit", 1)];
const SIZES: [(&str, u64); 5] = [("kB", 1_000), ("MB", 1_000_000), ("KiB", 1 << 10), ("MiB", 1 << 20), ("B", 1)];

const OFFSETS: [(&str, u64); 6] =
    [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];

/// The greatest offset, in microseconds: a hundred years.
const LONGEST_OFFSET: u64 = 36_525 * 86_400_000_000;
/// The longest duration: a day.
const LONGEST: Duration = Duration::from_secs(86_400);

/// A number with a unit, in the smallest unit: `1.5s`.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || part.len() > 9 || (number.contains('.') && part.is_empty()) {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(*scale)?;
    let tenth = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    let part = if part.is_empty() { 0 } else { part.parse::<u64>().ok()?.checked_mul(*scale)? };
    // What is smaller than the smallest unit is not a number of them.
    part.is_multiple_of(tenth).then(|| whole.checked_add(part / tenth))?
}

/// A value in the greatest unit that says it whole.
fn said(value: u64, units: &[(&str, u64)]) -> String {
    let mut units = units.to_vec();
    units.sort_by_key(|(_, scale)| std::cmp::Reverse(*scale));
    let unit = units.iter().find(|(_, scale)| value != 0 && value.is_multiple_of(*scale));
    let (name, scale) = unit.copied().unwrap_or(units[units.len() - 1]);
    format!("{}{name}", value / scale)
}

/// `"250ms"`, `"1.5s"`, `"2m"`: at most a day.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    scaled(text, &DURATIONS).map(Duration::from_micros).filter(|duration| *duration <= LONGEST)
}

/// The opposite of [`parse_duration`], in microseconds at the finest.
pub(crate) fn duration_text(duration: Duration) -> String {
    match u64::try_from(duration.as_micros()) {
        Ok(0) | Err(_) => "0s".to_owned(),
        // Nobody says 2 m for two minutes and one second.
        Ok(micros) => said(micros, &DURATIONS[..3]),
    }
}

/// `"-1h"`, `"+30s"`, `"90d"`: nanoseconds, a hundred years either way at most.
pub(crate) fn parse_offset(text: &str) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let micros = scaled(text, &OFFSETS).filter(|micros| *micros <= LONGEST_OFFSET)?;
    let nanos = i64::try_from(micros).ok()?.checked_mul(1_000)?;
    Some(if negative { -nanos } else { nanos })
}

/// The opposite of [`parse_offset`], in microseconds at the finest.
pub(crate) fn offset_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    match nanos.unsigned_abs() / 1_000 {
        0 => "0s".to_owned(),
        micros => format!("{sign}{}", said(micros, &OFFSETS)),
    }
}

/// `"10Mbit"`: bits a second.
pub(crate) fn parse_rate(text: &str) -> Option<u64> {
    scaled(text.strip_suffix("/s").unwrap_or(text), &RATES)
}

/// The opposite of [`parse_rate`].
pub(crate) fn rate_text(bits: u64) -> String {
    said(bits, &RATES)
}

/// `"64kB"`, `"1MiB"`: bytes.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    scaled(text, &SIZES)
}

/// `"1.5%"`: a share of one.
pub(crate) fn parse_share(text: &str) -> Option<f64> {
    let number = text.strip_suffix('%')?.trim_end();
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let share = number.parse::<f64>().ok().filter(|_| plain)? / 100.0;
    (0.0..=1.0).contains(&share).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_rates_sizes_and_shares_are_read_and_written() {
        for (text, micros, again) in [
            ("0s", 0, "0s"),
            ("250ms", 250_000, "250ms"),
            ("1.5s", 1_500_000, "1500ms"),
            ("0.25ms", 250, "250us"),
            ("2m", 120_000_000, "120s"),
            ("24h", 86_400_000_000, "86400s"),
        ] {
            let duration = Duration::from_micros(micros);
            assert_eq!(parse_duration(text), Some(duration), "{text}");
            assert_eq!(duration_text(duration), again);
            assert_eq!(parse_duration(again), Some(duration));
        }
        for (text, nanos, again) in [
            ("-1h", -3_600_000_000_000, "-1h"),
            ("+90d", 7_776_000_000_000_000, "90d"),
            ("1.5s", 1_500_000_000, "1500ms"),
            ("0s", 0, "0s"),
        ] {
            assert_eq!(parse_offset(text), Some(nanos), "{text}");
            assert_eq!(offset_text(nanos), again);
            assert_eq!(parse_offset(again), Some(nanos));
        }
        assert_eq!([parse_offset("--1s"), parse_offset("36526d"), parse_offset("-")], [None; 3]);
        assert_eq!(parse_rate("1.5Mbit/s"), Some(1_500_000));
        assert_eq!(rate_text(1_500_000), "1500kbit");
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_share("1.5%"), Some(0.015));
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        for text in
            ["", "s", "-1s", "10", "1.s", ".5s", "10sec", "25h", "99999999999999999999s", "1٣s", "0.1us", "1..5s"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["101%", "x%", "5", "NaN%", "-1%"] {
            assert_eq!(parse_share(text), None, "{text}");
        }
    }
}
