//! Whether what must hold does.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::probes;
use super::stage::{Stage, State, status_text, with_causes};
use crate::report;
use crate::scenario::checks::{Check, What, When, span_text};
use crate::scenario::units::rate_text;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// An attempt gets this long at least.
const LEAST: Duration = Duration::from_millis(100);
/// What is shown of an output.
const SHOWN: usize = 200;

/// Looks as often as the check says. Nothing if all was over before.
pub(super) fn decide(stage: &Stage<'_>, check: &Check, begun: Instant) -> Option<report::Check> {
    let start = Instant::now();
    let told = |outcome: Result<String, String>| {
        let ok = outcome.is_ok();
        let detail = outcome.unwrap_or_else(|why| why);
        let name = format!("{}{}", check.name, span_text(check.when));
        Some(report::Check { at: begun.elapsed(), name, ok, detail })
    };
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let over = || stage.over.load(Ordering::Relaxed);
    loop {
        let most = match check.when {
            When::Within(time) => check.timeout.min(time.saturating_sub(start.elapsed()).max(LEAST)),
            When::Once | When::Always(_) => check.timeout,
        };
        let outcome = attempt(stage, &check.what, most);
        if over() {
            return None;
        }
        match (check.when, outcome) {
            (When::Once, outcome) => return told(outcome),
            (When::Within(_), Ok(detail)) => {
                let after = format!("after {}", seconds(start.elapsed()));
                return told(Ok(if detail.is_empty() { after } else { format!("{after}: {detail}") }));
            }
            (When::Within(time), Err(why)) if start.elapsed() >= time => return told(Err(why)),
            (When::Always(_), Err(why)) => {
                return told(Err(format!("after {}: {why}", seconds(start.elapsed()))));
            }
            (When::Always(time), Ok(detail)) if start.elapsed() >= time => return told(Ok(detail)),
            _ => {}
        }
        thread::sleep(PAUSE);
        if over() {
            return None;
        }
    }
}

/// Looks once.
fn attempt(stage: &Stage<'_>, what: &What, most: Duration) -> Result<String, String> {
    match what {
        What::Reach { pairs, by, port } => probes::reach(stage, pairs, *by, *port, most),
        What::Output { program, text, there } => match (stage.slot(program)?.has_said(text), there) {
            (true, true) | (false, false) => Ok(String::new()),
            (false, true) => Err("it has not written that".to_owned()),
            (true, false) => Err("it has written that".to_owned()),
        },
        What::Exit { program, status } => super::ended_with(stage.slot(program)?, *status),
        What::Running { program } => match stage.slot(program)?.look() {
            State::Running => Ok(String::new()),
            State::Ended(status) => Err(format!("it has ended with {}", status_text(status))),
            State::Killed => Err("it was killed by a fault".to_owned()),
            State::NotStarted => Err("it has not been started".to_owned()),
        },
        What::Throughput { from, to, least, most, lasts } => {
            let rate = probes::throughput(stage, from, to, *lasts)?;
            // To three digits, as people say it.
            let scale = 10_u64.pow(rate.checked_ilog10().unwrap_or(0).saturating_sub(2));
            let told = format!("{}/s", rate_text(rate / scale * scale));
            let fits = least.is_none_or(|least| rate >= least) && most.is_none_or(|most| rate <= most);
            if fits { Ok(told) } else { Err(told) }
        }
        What::Http { from, url, status, contains } => {
            let url = stage.fill(url)?;
            let (found, page) = probes::http(stage, from, &url, most)?;
            if found != *status {
                return Err(format!("status {found}"));
            }
            match contains {
                Some(text) if !page.contains(text.as_str()) => Err(format!("without {text:?}: {}", shown(&page))),
                _ => Ok(String::new()),
            }
        }
        What::Command { on, run, status, contains } => {
            let mut program = stage.host(on)?.start(stage.launch(run, on)?).map_err(|error| with_causes(&error))?;
            let start = Instant::now();
            let ended = loop {
                match program.poll().map_err(|error| with_causes(&error))? {
                    Some(ended) => break ended,
                    None if start.elapsed() > most || stage.over.load(Ordering::Relaxed) => {
                        return Err(format!("has not ended within {} s", most.as_secs_f64()));
                    }
                    None => thread::sleep(Duration::from_millis(2)),
                }
            };
            let output = program.wait(most.max(LEAST)).map_err(|error| with_causes(&error))?;
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            if ended.code() != Some(*status) {
                return Err(format!("{}: {}", status_text(ended), shown(&text)));
            }
            match contains {
                Some(wanted) if !text.contains(stage.fill(wanted)?.as_str()) => {
                    Err(format!("without {wanted:?}: {}", shown(&text)))
                }
                _ => Ok(String::new()),
            }
        }
    }
}

/// The end of an output, in one line.
fn shown(text: &str) -> String {
    let text = text.trim_end();
    let from = text.floor_char_boundary(text.len().saturating_sub(SHOWN));
    format!("{:?}", &text[from..])
}
