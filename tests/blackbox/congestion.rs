//! The agent file's `congestion`: that status says what was chosen, and what it is worth to QUIC, by bulk over a path that loses one
//! datagram of 100.

use std::fs;
use std::process::Command;
use std::time::Duration;

use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::{Mesh, Place, binary, eventually, scratch};
use anyhow::{Context as _, Result, bail, ensure};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::in_namespaces("bbr_over_quic_keeps_its_pace_through_loss_and_only_who_asks_for_it_has_it", by_name_only),
        Test::in_namespaces("status_says_which_congestion_control_a_link_has", said_by_status),
    ]
}

/// 6 MB there and 6 MB back within 8 s, at 100 Mbit/s and 20 ms. By 1.22 packets ÷ (round trip × √loss) (Mathis et al., 1997)
/// cubic and NewReno get some 6 Mbit/s there, so 16 s are too few for them, and BBR wants 1.5 s.
const PATH: &str = r#"
name = "lossy"
hosts = ["alpha", "beta"]
lasts = "9s"

[network.net]
delay = "10ms"
loss = "1%"
rate = "100Mbit"
block = "tcp"

[[prepare]]
program = "adit"
args = ["--dir", "mesh", "init", "lab", "--node", "alpha={ip.alpha}:7443", "--node", "beta={ip.beta}:7443"]

[[prepare]]
program = "adit"
args = ["--dir", "mesh", "service", "add", "web", "--on", "alpha", "--target", "127.0.0.1:8080", "--listen", "127.0.0.1:18080", "--allow", "beta"]

[[prepare]]
program = "adit"
args = ["--dir", "mesh", "ca", "issue", "beta"]

[[prepare]]
program = "/bin/sh"
args = ["-c", "for d in mesh mesh/nodes/beta; do echo 'congestion = \"CONGESTION\"' >>$d/agent.toml; done"]

[program.alpha]
on = "alpha"
program = "adit"
args = ["--dir", "{dir}/mesh", "run"]
ready = "ready services="

[program.beta]
on = "beta"
program = "adit"
args = ["--dir", "{dir}/mesh/nodes/beta", "run"]
ready = "ready services="

[service.page]
on = "alpha"
kind = "receiver"
address = "127.0.0.1"
port = 8080

[client.bulk]
on = "beta"
to = "127.0.0.1:18080"
service = "page"
for = "1s"
every = "1s"
size = "6MB"
answer = "6MB"
timeout = "8s"
served = 1
"#;

fn by_name_only() -> Result<()> {
    for (congestion, in_time) in [("bbr", true), ("auto", false)] {
        let directory = scratch::directory()?;
        fs::write(directory.join("lossy.toml"), PATH.replace("CONGESTION", congestion))?;
        let mut command = Command::new(binary::path()?);
        command.args(["sim", "run", "lossy.toml", "--out", "results"]).current_dir(&directory);
        let output = binary::run(&mut command, Duration::from_secs(120))?;
        ensure!((output.code == Some(0)) == in_time, "{congestion}: {output:?}");
        // Whatever was too slow, no byte of it was wrong.
        ensure!(in_time || output.stdout.contains("broken off"), "{congestion}: {output:?}");
    }
    Ok(())
}

/// The systems have reno. As the paths of these hosts are short, the agents choose cubic if there is one.
fn said_by_status() -> Result<()> {
    let available = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
    let short = if available.split_whitespace().any(|name| name == "cubic") { "cubic" } else { "reno" };
    let table = [
        ("tls", "auto", short),
        ("tls", "system", "reno"),
        ("quic", "auto", "cubic"),
        ("quic", "reno", "newreno"),
        ("quic", "bbr", "bbr"),
    ];
    for (transport, asked, expected) in table {
        let mesh = Mesh::pair(transport).agent_lines(&format!("congestion = \"{asked}\"\n")).in_namespaces().build()?;
        for node in ["alpha", "beta"] {
            let Place::There(namespace) = mesh.place(node) else { bail!("{node} has no host of its own") };
            namespace.sysctl("net/ipv4/tcp_congestion_control", "reno")?;
        }
        let beta = mesh.start("beta")?;
        ensure!(beta.peer("alpha")?["congestion"].is_null(), "there is no link");
        let alpha = mesh.start("alpha")?;
        for (agent, peer) in [(&alpha, "beta"), (&beta, "alpha")] {
            eventually("status says what was chosen", SOON, || {
                let peer = agent.peer(peer)?;
                let told = peer["congestion"].as_str().with_context(|| peer.to_string())?;
                ensure!(told == expected, "{asked} over {transport}: {peer}");
                let text = agent.adit(&["status"])?.success()?.stdout;
                ensure!(text.contains("CONGESTION") && text.contains(told), "{text}");
                Ok(())
            })?;
        }
    }
    Ok(())
}
