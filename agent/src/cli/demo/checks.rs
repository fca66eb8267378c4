//! What `adit demo --once` tries: requests that must get through, and others that must not.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::super::context::Context;
use super::super::error::CliError;
use super::super::init::{MESH_FILE, NODES};
use super::mesh::{Demo, OUTSIDER, status};
use super::web::Page;
use super::{Pair, Refused};
use crate::vocabulary::PeerState;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(10);
/// How long a refusal may take to be seen.
const SEEN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// Makes all checks.
pub(super) async fn all(demo: &mut Demo, page: &Page, ctx: &Context) -> Result<(Vec<Pair>, Vec<Refused>), CliError> {
    let mut pairs = Vec::new();
    for index in 1..demo.layout().nodes.len() {
        pairs.push(pair(demo, index, page).await?);
    }
    let refused = vec![member_that_no_allow_names(demo).await?, certificate_of_another_ca(demo, ctx).await?];
    Ok((pairs, refused))
}

async fn pair(demo: &Demo, index: usize, page: &Page) -> Result<Pair, CliError> {
    let node = &demo.layout().nodes[index];
    let offerer = demo.layout().offerer();
    let body =
        get(node.listen, "/blob").await.map_err(|e| wrong(format!("the request through {} failed: {e}", node.name)))?;
    if body != page.blob() {
        return Err(wrong(format!("what came through {} differs from what was sent", node.name)));
    }
    let status = status(&demo.directory(index)).await.ok_or_else(|| wrong(format!("{} does not answer", node.name)))?;
    let peer = status.peers.iter().find(|p| p.node == offerer && p.state == PeerState::Up);
    let (Some(path), Some(certificate)) = (peer.and_then(|p| p.path), peer.and_then(|p| p.certificate.clone())) else {
        return Err(wrong(format!("{} has no proven link to {offerer}", node.name)));
    };
    Ok(Pair {
        from: node.name.clone(),
        to: offerer.to_owned(),
        bytes: body.len() as u64,
        path: path.name().to_owned(),
        peer_certificate: certificate,
    })
}

/// Its own copy of the mesh file says that it may; the offering node's does not.
async fn member_that_no_allow_names(demo: &Demo) -> Result<Refused, CliError> {
    if get(demo.layout().outsider.listen, "/").await.is_ok() {
        return Err(wrong("a member that no `allow` names got through".to_owned()));
    }
    let reason = refusal(demo, |r| r.peer.as_deref() == Some(OUTSIDER) && r.reason == "not_permitted").await?;
    Ok(Refused { case: "a member that no `allow` names, though its own mesh file says so".to_owned(), reason })
}

/// The same names in a mesh with another root.
async fn certificate_of_another_ca(demo: &mut Demo, ctx: &Context) -> Result<Refused, CliError> {
    let root = demo.root().join("foreign");
    demo.make_mesh(&root, ctx)?;
    let dir = root.join(NODES).join(OUTSIDER);
    let mesh = demo.directory_of(OUTSIDER).join(MESH_FILE);
    // It trusts the demo's root beside its own, so that it takes the others' certificates and only its own can be at fault.
    let trust = demo.directory_of(OUTSIDER).join("trust.pem");
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_err(|e| wrong(format!("cannot read {}: {e}", path.display())))
    };
    let text = read(&mesh)?;
    let (old_address, old_listen) =
        (demo.layout().outsider.address.to_string(), demo.layout().outsider.listen.to_string());
    let text = text.replace(&old_address, "127.0.0.1:0").replace(&old_listen, "127.0.0.1:0");
    // Without an address and a listener it only dials.
    let text = text.replace("address = \"127.0.0.1:0\"\n", "").replace("listen = \"127.0.0.1:0\"\n", "");
    let write = |path: std::path::PathBuf, text: &str| {
        std::fs::write(&path, text).map_err(|e| wrong(format!("cannot write {}: {e}", path.display())))
    };
    write(dir.join(MESH_FILE), &text)?;
    write(dir.join("trust.pem"), &(read(&dir.join("trust.pem"))? + &read(&trust)?))?;
    demo.spawn("the stranger", dir, ctx)?;
    let reason = refusal(demo, |r| r.peer.is_none() && r.reason == "unknown_ca").await?;
    Ok(Refused { case: "a certificate of another CA".to_owned(), reason })
}

/// Waits for a refusal in the offering node's own record.
async fn refusal(demo: &Demo, wanted: impl Fn(&crate::admin::view::Refusal) -> bool) -> Result<String, CliError> {
    let deadline = Instant::now() + SEEN;
    loop {
        let found = status(&demo.directory(0)).await.and_then(|s| s.refusals.into_iter().find(&wanted));
        if let Some(found) = found {
            return Ok(found.reason);
        }
        if Instant::now() > deadline {
            return Err(wrong(format!("{} has no record of a refusal that must have been", demo.layout().offerer())));
        }
        sleep(POLL).await;
    }
}

fn wrong(message: String) -> CliError {
    CliError::failed("not_as_it_must_be", message)
}

/// The body of `path`.
async fn get(address: SocketAddr, path: &str) -> std::io::Result<Vec<u8>> {
    let work = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let ends = answer.windows(4).position(|w| w == b"\r\n\r\n");
        match ends {
            Some(at) if answer.starts_with(b"HTTP/1.1 200") => Ok(answer.split_off(at + 4)),
            _ => Err(std::io::Error::other("no answer of the web server")),
        }
    };
    timeout(REQUEST, work).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}
