//! Networks of their own, in user space: what goes to an address of theirs is carried packet by packet.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use adit_tests::mesh::SOON;
use adit_tests::{Mesh, eventually};
use anyhow::{Context as _, Result, ensure};

use super::{Pair, known};

/// The server's address in the network, and the client's.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 2);

/// Both ends, each with its address and the other's.
const ENDS: [(&str, Ipv4Addr, &str, Ipv4Addr); 2] =
    [("alpha", SERVER, "beta", CLIENT), ("beta", CLIENT, "alpha", SERVER)];

/// Noise with certificates, AES-256-GCM over UDP.
pub(super) fn nebula(mesh: &Mesh) -> Result<Vec<Child>> {
    let pair = Pair::new(mesh);
    let at = mesh.root().display().to_string();
    let certify = |arguments: &[&str]| {
        let mut command = Command::new(known("nebula-cert")?);
        done(command.args(arguments).current_dir(mesh.root()))
    };
    certify(&["ca", "-name", "ca"])?;
    ENDS.map(|(node, address, peer, peer_address)| {
        certify(&["sign", "-name", node, "-ip", &format!("{address}/24")])?;
        let (wire, port) = (mesh.link_address(peer), mesh.link_address(node).port());
        let text = format!(
            "pki: {{ca: {at}/ca.crt, cert: {at}/{node}.crt, key: {at}/{node}.key}}\n\
             static_host_map: {{\"{peer_address}\": [\"{wire}\"]}}\n\
             lighthouse: {{am_lighthouse: false, hosts: []}}\nlisten: {{host: 0.0.0.0, port: {port}}}\n\
             tun: {{dev: neb{node}, mtu: 1300}}\nlogging: {{level: error}}\n\
             firewall: {{outbound: [{{port: any, proto: any, host: any}}], inbound: [{{port: any, proto: any, host: any}}]}}\n"
        );
        pair.spawn(node, "nebula", &["-config", &pair.write(&format!("{node}.yml"), &text)?])
    })
    .into_iter()
    .collect()
}

/// Noise with keys, ChaCha20-Poly1305 over UDP.
pub(super) fn wireguard(mesh: &Mesh) -> Result<Vec<Child>> {
    let pair = Pair::new(mesh);
    for (node, ..) in ENDS {
        pair.write(&format!("{node}.key"), &wg(&["genkey"], "")?)?;
    }
    let key = |node: &str| std::fs::read_to_string(mesh.root().join(format!("{node}.key")));
    ENDS.map(|(node, address, peer, peer_address)| {
        let device = format!("wg{node}");
        let child = pair.spawn(node, "wireguard-go", &["-f", &device])?;
        eventually("wireguard-go takes orders", SOON, || {
            let socket = Path::new("/var/run/wireguard").join(format!("{device}.sock"));
            ensure!(socket.exists(), "there is no {}", socket.display());
            Ok(())
        })?;
        let there = |program: &str, arguments: &[&str]| {
            done(mesh.place(node).command(known(program)?).args(arguments))
                .with_context(|| format!("{program} {arguments:?}"))
        };
        let own = mesh.root().join(format!("{node}.key")).display().to_string();
        let (port, wire) = (mesh.link_address(node).port().to_string(), mesh.link_address(peer).to_string());
        let theirs = wg(&["pubkey"], &key(peer)?)?;
        there(
            "wg",
            &[
                "set",
                &device,
                "listen-port",
                &port,
                "private-key",
                &own,
                "peer",
                theirs.trim(),
                "endpoint",
                &wire,
                "allowed-ips",
                &format!("{peer_address}/32"),
            ],
        )?;
        there("ip", &["address", "add", &format!("{address}/24"), "dev", &device])?;
        there("ip", &["link", "set", &device, "mtu", "1420", "up"])?;
        Ok(child)
    })
    .into_iter()
    .collect()
}

/// What `wg` answers to `input`.
fn wg(arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(known("wg")?);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    // Closed with the end of this statement.
    child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "wg {arguments:?} failed");
    Ok(String::from_utf8(output.stdout)?)
}

fn done(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr));
    Ok(())
}
