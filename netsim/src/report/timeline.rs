//! `timeline.html`: one file that a browser shows without anything else.

use serde::Serialize;

use super::json::{backend, seconds};
use super::{Line, Record};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = concat!(
    include_str!("page/head.js"),
    include_str!("page/lanes.js"),
    include_str!("page/curves.js"),
    include_str!("page/axis.js"),
    include_str!("page/log.js"),
);

/// Lines of all nodes together that go into the page, and their bytes: a browser has to show it. Each node has its share.
const MOST_LINES: usize = 30_000;
const MOST_BYTES: usize = 4 << 20;

#[derive(Serialize)]
struct Page<'a> {
    scenario: &'a str,
    /// As text: a script's numbers do not hold every seed.
    seed: String,
    backend: &'static str,
    verdict: &'static str,
    wall: f64,
    end: f64,
    repeat: &'a str,
    wire: Wire,
    nodes: Vec<Node<'a>>,
    checks: Vec<Check<'a>>,
    faults: Vec<Fault<'a>>,
    curves: Vec<Curve<'a>>,
}

#[derive(Serialize)]
struct Wire {
    timed: u64,
    p50: f64,
    p99: f64,
    drops: u64,
}

#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    left_out: u64,
    /// Time, program, stream, text.
    lines: Vec<(f64, &'a str, &'static str, &'a str)>,
}

#[derive(Serialize)]
struct Check<'a> {
    at: f64,
    name: &'a str,
    ok: bool,
    detail: &'a str,
}

#[derive(Serialize)]
struct Fault<'a> {
    at: f64,
    until: Option<f64>,
    kind: &'a str,
    on: &'a [String],
}

#[derive(Serialize)]
struct Curve<'a> {
    link: &'a str,
    from: &'a str,
    to: &'a str,
    /// Time, bytes, packets, lost.
    samples: Vec<(f64, u64, u64, u64)>,
}

impl Record {
    /// The text of `timeline.html`. It needs no other file and no network, and asks for none.
    #[must_use]
    pub fn timeline_html(&self) -> String {
        let data = serde_json::to_string(&self.page()).unwrap_or_default();
        // Whatever a program said: nothing in the data can end the element that it lies in (HTML, script data states).
        let data = data.replace('<', "\\u003c");
        let mut out = String::with_capacity(PAGE.len() + STYLE.len() + SCRIPT.len() + data.len());
        let mut rest = PAGE;
        // One after the other, so that a name in braces within one part is no place for another.
        for (name, part) in [("{{STYLE}}", STYLE), ("{{RECORD}}", &data), ("{{SCRIPT}}", SCRIPT)] {
            let (before, after) = rest.split_once(name).unwrap_or((rest, ""));
            out.push_str(before);
            out.push_str(part);
            rest = after;
        }
        out + rest
    }

    fn page(&self) -> Page<'_> {
        let share = self.nodes.len().max(1);
        Page {
            scenario: &self.scenario,
            seed: self.seed.to_string(),
            backend: backend(self.backend),
            verdict: self.verdict(),
            wall: seconds(self.wall),
            end: seconds(self.end()),
            repeat: &self.repeat,
            wire: Wire {
                timed: self.wire.timed,
                p50: self.wire.late_p50.as_secs_f64(),
                p99: self.wire.late_p99.as_secs_f64(),
                drops: self.wire.drops,
            },
            nodes: self.nodes.iter().map(|name| self.node(name, share)).collect(),
            checks: self.checks.iter().map(check).collect(),
            faults: self.faults.iter().map(fault).collect(),
            curves: self.curves.iter().map(curve).collect(),
        }
    }

    /// A node with the last of what it has said: one of `share` parts of what may be shown.
    fn node<'a>(&'a self, name: &'a str, share: usize) -> Node<'a> {
        let (mut room, mut lines) = (MOST_BYTES / share, Vec::new());
        for Line { at, program, stream, text, .. } in self.log.of(name).rev().take(MOST_LINES / share) {
            let Some(left) = room.checked_sub(text.len()) else { break };
            room = left;
            lines.push((seconds(*at), &**program, stream.name(), &**text));
        }
        lines.reverse();
        let more = (self.log.of(name).len() - lines.len()) as u64;
        Node { name, left_out: self.log.left_out(name) + more, lines }
    }
}

fn check(check: &super::Check) -> Check<'_> {
    let super::Check { at, name, ok, detail } = check;
    Check { at: seconds(*at), name, ok: *ok, detail }
}

fn fault(fault: &super::Fault) -> Fault<'_> {
    let super::Fault { at, until, kind, on } = fault;
    Fault { at: seconds(*at), until: until.map(seconds), kind, on }
}

fn curve(curve: &super::Curve) -> Curve<'_> {
    let samples = curve.samples().iter().map(|sample| (seconds(sample.at), sample.bytes, sample.packets, sample.lost));
    Curve { link: &curve.link, from: &curve.from, to: &curve.to, samples: samples.collect() }
}
