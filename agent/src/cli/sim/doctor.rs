//! `adit sim doctor`.

use std::io::Write;

use netsim::Backend;

use super::say;
use crate::cli::context::{Context, told, with_causes};
use crate::cli::error::CliError;

/// Tries what the simulator needs.
pub(super) fn run(ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    let diagnosis = netsim::doctor();
    let works = diagnosis.backend().is_some();
    if ctx.json {
        let outcome = |error: Option<&dyn std::error::Error>| error.map(with_causes);
        let backends = diagnosis.backends.iter().map(|(backend, tried)| {
            let name = match backend {
                Backend::Tap => "tap",
                Backend::Packet => "packet",
            };
            let error = outcome(tried.as_ref().err().map(|error| error as &dyn std::error::Error));
            serde_json::json!({"name": name, "ok": tried.is_ok(), "error": error})
        });
        let backends: Vec<serde_json::Value> = backends.collect();
        let error = outcome(diagnosis.entered.as_ref().err().map(|error| error as &dyn std::error::Error));
        ctx.write_json(
            out,
            &serde_json::json!({
                "works": works,
                "namespaces": {"ok": diagnosis.entered.is_ok(), "error": error},
                "backends": backends,
                "advice": diagnosis.advice,
            }),
        )?;
    } else {
        say(out, &diagnosis.to_string())?;
    }
    if works { Ok(()) } else { Err(told(1)) }
}
