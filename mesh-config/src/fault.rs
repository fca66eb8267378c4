//! Why a text is not what its key wants.

use crate::diagnostic::quote;
use crate::name::NameError;

/// Why a text is not what its key wants, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The same with a word on what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// That `text` is not a name for `what`, and one that is like it and would do.
    pub(crate) fn of_name(what: &str, text: &str, error: NameError) -> Self {
        let fault = Self::new(format!("{} is not a {what} name: {error}", quote(text)));
        let like = text.to_ascii_lowercase().replace(['_', ' ', '.'], "-");
        let fits = crate::name::NodeName::new(like.trim_matches('-'));
        match fits {
            Ok(like) if error != NameError::AllDigits => fault.hint(format!("`{like}` would do")),
            _ => fault
                .hint("names are a-z, 0-9 and -, begin and end with a letter or digit, and have 63 characters at most"),
        }
    }
}
