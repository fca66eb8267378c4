//! What a change of the mesh file would do, for people.

use std::fmt::Display;
use std::io::{self, Write};

use mesh_config::{Change, Diff, NodeDiff};

use super::style::{Paint, Tone};

/// Writes each change on a line: `+` comes, `-` goes, `~` becomes different.
pub(super) fn render(diff: &Diff, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let Diff { name, version, transport, signed, nodes_added, nodes_removed, nodes_changed, .. } = diff;
    let Diff { services_added, services_removed, services_changed, permits, .. } = diff;
    let mut lines = Lines { paint, out, count: 0 };
    if let Some(name) = name {
        lines.changed("mesh.name", name)?;
    }
    match version {
        Some(version) => lines.changed("mesh.version", version)?,
        None if diff.is_empty() => {}
        None => {
            lines.remark("mesh.version stays the same: raise it, or agents apply the change with a warning alone")?
        }
    }
    if let Some(transport) = transport {
        let change = Change { from: word(transport.from), to: word(transport.to) };
        lines.changed("mesh.transport", &change)?;
    }
    if let Some(signed) = signed {
        lines.changed("mesh.signed", signed)?;
    }
    for node in nodes_removed {
        lines.gone(&format!("node {node}"))?;
    }
    for node in nodes_added {
        lines.come(&format!("node {node}"))?;
    }
    for node in nodes_changed {
        let lists = [("address", &node.addresses), ("roles", &node.roles)];
        for (key, change) in lists.into_iter().filter_map(|(key, change)| Some((key, change.as_ref()?))) {
            lines.changed(
                &format!("node {} {key}", node.node),
                &Change { from: list(&change.from), to: list(&change.to) },
            )?;
        }
    }
    for service in services_removed {
        lines.gone(&format!("service {service}, with its listeners and connections"))?;
    }
    for service in services_added {
        lines.come(&format!("service {service}"))?;
    }
    for service in services_changed {
        for (key, change) in &service.changes {
            lines.changed(&format!("service {} {key}", service.service), change)?;
        }
    }
    for permit in permits {
        for node in &permit.lost {
            lines.gone(&format!("{node} may reach {}; its connections are cut", permit.service))?;
        }
        for node in &permit.gained {
            lines.come(&format!("{node} may reach {}", permit.service))?;
        }
    }
    if lines.count == 0 { lines.remark("nothing changes") } else { Ok(()) }
}

/// Writes what the agent of this host would do about it. Which live connections would be cut, the agent itself knows.
pub(super) fn render_host(diff: &NodeDiff, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = Lines { paint, out, count: 0 };
    for listener in &diff.close {
        lines.gone(&format!("here: listener of {listener}"))?;
    }
    for listener in &diff.open {
        lines.come(&format!("here: listener of {listener}"))?;
    }
    for peer in &diff.peers_removed {
        lines.gone(&format!("here: link to {peer}"))?;
    }
    for peer in diff.peers_added.keys() {
        lines.come(&format!("here: link to {peer}"))?;
    }
    lines.remark("for live connections that would be cut, ask the agent: adit reload --dry-run FILE")
}

struct Lines<'a> {
    paint: Paint,
    out: &'a mut dyn Write,
    count: usize,
}

impl Lines<'_> {
    fn come(&mut self, what: &str) -> io::Result<()> {
        self.line(Tone::Good, "+", what)
    }

    fn gone(&mut self, what: &str) -> io::Result<()> {
        self.line(Tone::Bad, "-", what)
    }

    fn changed<T: Display>(&mut self, what: &str, change: &Change<T>) -> io::Result<()> {
        self.line(Tone::Warn, "~", &format!("{what}: {} → {}", change.from, change.to))
    }

    fn remark(&mut self, text: &str) -> io::Result<()> {
        self.line(Tone::Dim, " ", text)
    }

    fn line(&mut self, tone: Tone, mark: &str, text: &str) -> io::Result<()> {
        self.count += 1;
        writeln!(self.out, "{}", self.paint.text(tone, &format!("{mark} {text}")))
    }
}

fn list(values: &[String]) -> String {
    format!("[{}]", values.join(", "))
}

fn word(transport: mesh_config::Transport) -> &'static str {
    match transport {
        mesh_config::Transport::Auto => "auto",
        mesh_config::Transport::Tls => "tls",
        mesh_config::Transport::Quic => "quic",
    }
}
