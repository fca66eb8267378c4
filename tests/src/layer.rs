//! The record layer of agents whose test does not choose one: that of `ADIT_TEST_RECORD_LAYER`, for a whole run of tests.

use std::env::{self, VarError};

use anyhow::{Context as _, Result, bail};

/// Names the layer.
const VARIABLE: &str = "ADIT_TEST_RECORD_LAYER";
/// What an agent file may call one.
const KNOWN: [&str; 3] = ["adit", "rustls", "ktls"];

/// The layer that this run is about, if it is about one.
///
/// # Errors
/// There is no such layer.
pub fn of_this_run() -> Result<Option<&'static str>> {
    match env::var(VARIABLE) {
        Ok(name) => known(&name).map(Some),
        Err(VarError::NotPresent) => Ok(None),
        Err(error) => Err(error).context(VARIABLE),
    }
}

fn known(name: &str) -> Result<&'static str> {
    match KNOWN.into_iter().find(|&known| known == name) {
        Some(known) => Ok(known),
        None => bail!("{VARIABLE} is {name:?}: no record layer is called so, but {}", KNOWN.join(", ")),
    }
}

/// The line of an agent file that chooses `layer`.
pub fn line(layer: &str) -> String {
    format!("record_layer = \"{layer}\"\n")
}

/// The same agent file with another record layer than it may have had.
pub fn replaced(agent_file: &str, layer: &str) -> String {
    let rest = agent_file.lines().filter(|line| !chooses(line)).map(|line| format!("{line}\n"));
    std::iter::once(line(layer)).chain(rest).collect()
}

/// Whether an agent file, or a line of it, chooses its record layer.
pub fn chooses(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("record_layer "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_does_not_exist_is_told() {
        assert_eq!(known("rustls").unwrap(), "rustls");
        for wrong in ["", "Rustls", "openssl", "rustls "] {
            let told = known(wrong).unwrap_err().to_string();
            assert!(told.contains(VARIABLE) && told.contains("adit, rustls, ktls"), "{told}");
        }
    }

    #[test]
    fn an_agent_file_has_one_record_layer() {
        let file = "node = \"alpha\"\n[log]\nlevel = \"debug\"\n";
        assert!(!chooses(file));
        let once = replaced(file, "rustls");
        assert_eq!(once, format!("record_layer = \"rustls\"\n{file}"));
        assert_eq!(replaced(&once, "adit"), format!("record_layer = \"adit\"\n{file}"));
    }
}
