//! Text of others made safe to show.

use std::borrow::Cow;

/// `text` with every character that could move a cursor, start a line or turn text around written as `\n` or
/// `\u{1b}`: control characters, line and paragraph separators, and the bidirectional controls (Unicode UAX #9).
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(unsafe_to_show) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if unsafe_to_show(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{061c}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_that_is_safe_stays_as_it_is() {
        assert!(matches!(escape("Zürich 東京 `x` \\n"), Cow::Borrowed(_)));
        assert_eq!(escape("a\nb\u{1b}[31m\u{202e}"), "a\\nb\\u{1b}[31m\\u{202e}");
    }

    proptest! {
        #[test]
        fn what_comes_out_is_one_line_without_controls(text in any::<String>()) {
            let out = escape(&text);
            prop_assert!(!out.contains(unsafe_to_show));
            prop_assert_eq!(escape(&out), out.clone());
        }
    }
}
