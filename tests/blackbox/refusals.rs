//! Members that are not let in: real agents with a certificate, or a mesh file, that is not right.

use std::fs;

use adit_tests::load::{Ending, round_trip};
use adit_tests::mesh::SOON;
use adit_tests::pki::{Authority, Leaf};
use adit_tests::suite::Test;
use adit_tests::{Agent, Mesh, Service, eventually};
use anyhow::{Context as _, Result, ensure};
use time::Duration;

use crate::evidence;

/// The layers that judge a certificate.
const CERTIFICATE: [&str; 2] = ["tls", "identity"];

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for transport in ["tls", "quic"] {
        let mut add = |name: &str, body: fn(&str) -> Result<()>| {
            tests.push(Test::new(format!("{name}_over_{transport}"), move || body(transport)));
        };
        add("a_node_with_another_authoritys_certificate_is_refused", foreign_authority);
        add("a_node_whose_certificate_has_expired_is_refused", expired);
        add("a_node_whose_certificate_is_not_yet_valid_is_refused", not_yet_valid);
        add("a_node_of_another_mesh_under_the_same_authority_is_refused", other_mesh);
        add("a_node_that_the_mesh_does_not_name_is_refused", unnamed_node);
        add("a_dialler_refuses_a_member_that_it_did_not_dial", wrong_node);
        add("a_member_that_no_allow_names_is_refused_whatever_its_own_mesh_file_says", not_allowed);
    }
    tests
}

/// A mesh that trusts an authority of the tests too, in which beta has what that authority, or another, issued.
fn mesh_with(transport: &str, beta: &Leaf, foreign: bool) -> Result<Mesh> {
    let trusted = Authority::new()?;
    let mesh = Mesh::pair(transport).trusting(&trusted).build()?;
    let issuer = if foreign { Authority::new()? } else { trusted };
    install(&mesh, "beta", &issuer, beta)?;
    if foreign {
        // The stranger itself trusts everybody, so that it is alpha who refuses.
        let path = mesh.directory("beta").join("trust.pem");
        let roots = fs::read_to_string(&path)? + &issuer.root_pem();
        fs::write(path, roots)?;
    }
    Ok(mesh)
}

fn install(mesh: &Mesh, node: &str, issuer: &Authority, leaf: &Leaf) -> Result<()> {
    let identity = issuer.issue(leaf)?;
    let directory = mesh.directory(node);
    fs::write(directory.join("node.pem"), identity.chain_pem())?;
    // Keeps the mode of the file that is there: 0600.
    fs::write(directory.join("node.key"), identity.key_pem())?;
    Ok(())
}

/// Beta's application is reset, alpha says why, and beta does not call the link up.
fn is_refused(mesh: &Mesh, alpha: &Agent, beta: &Agent, word: &str) -> Result<()> {
    evidence::of(alpha, &CERTIFICATE, word)?;
    let end = mesh.end_of("app", "beta", SOON * 2)?;
    ensure!(end == Ending::Reset(0), "the application should be reset, not {end:?}");
    let peer = beta.peer("alpha")?;
    ensure!(peer["state"] != "up" && peer["error"].is_string(), "{peer}");
    let explained = beta.explain("beta", "app")?;
    let steps = explained["steps"].as_array().with_context(|| format!("no steps in {explained}"))?;
    ensure!(steps.iter().any(|s| s["ok"] == false), "every step is well: {explained}");
    Ok(())
}

/// The same, for a beta whose agent runs with a certificate that it could find fault with itself: it may also refuse to
/// start, which is then an error that names the certificate.
fn refused(transport: &str, leaf: &Leaf, foreign: bool, word: &str) -> Result<()> {
    let mesh = mesh_with(transport, leaf, foreign)?;
    let alpha = mesh.start("alpha")?;
    let beta = mesh.start("beta")?;
    is_refused(&mesh, &alpha, &beta, word)
}

fn foreign_authority(transport: &str) -> Result<()> {
    refused(transport, &Leaf::of("beta"), true, "issue")
}

fn expired(transport: &str) -> Result<()> {
    let leaf = Leaf { not_before: Duration::days(-3), not_after: Duration::days(-1), ..Leaf::of("beta") };
    refused_with_skew(transport, &leaf, -2 * 86_400, "expired")
}

fn not_yet_valid(transport: &str) -> Result<()> {
    let leaf = Leaf { not_before: Duration::days(1), not_after: Duration::days(3), ..Leaf::of("beta") };
    refused_with_skew(transport, &leaf, 2 * 86_400, "not_yet_valid")
}

/// Beta's clock is off, so that it finds its own certificate well and alpha has to judge it. Alpha's certificate has to
/// hold for both.
fn refused_with_skew(transport: &str, leaf: &Leaf, skew: i64, word: &str) -> Result<()> {
    let trusted = Authority::new()?;
    let mesh = Mesh::pair(transport).trusting(&trusted).build()?;
    install(&mesh, "beta", &trusted, leaf)?;
    let (not_before, not_after) = (Duration::days(-6), Duration::days(6));
    install(&mesh, "alpha", &trusted, &Leaf { not_before, not_after, ..Leaf::of("alpha") })?;
    let alpha = mesh.start("alpha")?;
    let beta = mesh.start_with("beta", &[("ADIT_CLOCK_OFFSET".to_owned(), skew.to_string())])?;
    is_refused(&mesh, &alpha, &beta, word)
}

/// The stranger cannot be an agent of this mesh, so a bare TLS client stands for it on TCP; on QUIC the identity in the
/// directory is looked at before anything is dialled.
fn other_mesh(transport: &str) -> Result<()> {
    let leaf = Leaf { mesh: "other".to_owned(), ..Leaf::of("beta") };
    unusable_at_home(transport, &leaf, "mesh")
}

fn unnamed_node(transport: &str) -> Result<()> {
    unusable_at_home(transport, &Leaf::of("mallory"), "member")
}

fn unusable_at_home(transport: &str, leaf: &Leaf, word: &str) -> Result<()> {
    let trusted = Authority::new()?;
    let mesh = Mesh::pair(transport).trusting(&trusted).build()?;
    let alpha = mesh.start("alpha")?;
    if transport == "tls" {
        let identity = trusted.issue(leaf)?;
        let stream = mesh.place("alpha").connect(mesh.link_address("alpha"), SOON)?;
        let answer = adit_tests::hostile::dial(stream, "alpha.lab", adit_tests::hostile::CONTROL, Some(&identity))?;
        ensure!(answer != adit_tests::hostile::Answer::Accepted);
        return evidence::of(&alpha, &CERTIFICATE, word);
    }
    install(&mesh, "beta", &trusted, leaf)?;
    let mut beta = mesh.place("beta").command(adit_tests::binary::path()?);
    beta.arg("--dir").arg(mesh.directory("beta")).arg("run");
    let output = adit_tests::binary::run(&mut beta, std::time::Duration::from_secs(10))?;
    ensure!(output.code == Some(2) || output.code == Some(1), "{output:?}");
    ensure!(output.stderr.contains("node.pem"), "{output:?}");
    Ok(())
}

/// At alpha's address there is gamma, which is a member, but not the one that beta has dialled.
fn wrong_node(transport: &str) -> Result<()> {
    let trusted = Authority::new()?;
    let mesh = Mesh::builder(&["alpha", "beta", "gamma"])
        .transport(transport)
        .service(Service::new("app", &["alpha"], &["beta"]))
        .trusting(&trusted)
        .build()?;
    let file = mesh.directory("gamma").join("agent.toml");
    let [own, alphas] = ["gamma", "alpha"].map(|node| mesh.link_address(node).to_string());
    fs::write(&file, fs::read_to_string(&file)?.replace(&own, &alphas))?;
    let _gamma = mesh.start("gamma")?;
    let beta = mesh.start("beta")?;
    evidence::of(&beta, &CERTIFICATE, "gamma")?;
    let end = mesh.end_of("app", "beta", SOON * 2)?;
    ensure!(end == Ending::Reset(0), "the application should be reset, not {end:?}");
    let peer = beta.peer("alpha")?;
    let error = peer["error"].as_str().with_context(|| format!("no error in {peer}"))?;
    ensure!(error.contains("gamma"), "it should name who answered: {error}");
    Ok(())
}

/// Gamma is a member, and its own mesh file lets it in; alpha's does not.
fn not_allowed(transport: &str) -> Result<()> {
    let mesh = Mesh::builder(&["alpha", "beta", "gamma"])
        .transport(transport)
        .service(Service::new("app", &["alpha"], &["beta"]))
        .service(Service::new("open", &["alpha"], &["gamma"]))
        .build()?;
    let path = mesh.directory("gamma").join("mesh.toml");
    let listener = mesh.listener("app", "gamma");
    let mut document = fs::read_to_string(&path)?.replacen("allow = [\"beta\"]", "allow = [\"beta\", \"gamma\"]", 1);
    document.push_str(&format!("\n[service.app.at.gamma]\nlisten = \"{listener}\"\n"));
    fs::write(&path, document)?;
    let (alpha, _beta, _) = mesh.start_pair()?;
    let gamma = mesh.start("gamma")?;
    gamma.wait_for_link("alpha")?;
    let server = mesh.serve("app", "alpha")?;
    let open = mesh.serve("open", "alpha")?;
    let end = mesh.end_of("app", "gamma", SOON)?;
    ensure!(end == Ending::Reset(0), "the application should be reset, not {end:?}");
    evidence::of(&alpha, &["permit"], "not_permitted")?;
    let explained = alpha.explain("gamma", "app")?;
    ensure!(explained["allowed"] == false, "{explained}");
    server.set_nonblocking(true)?;
    ensure!(server.accept().is_err(), "the refused connection reached the target");
    // The same member goes on with what it may do.
    let client = mesh.reach("open", "gamma")?;
    let served = adit_tests::wait::accept(&open, SOON)?;
    round_trip(&client, &served, b"permitted", SOON)?;
    eventually("the audit event names the member", SOON, || {
        let log = alpha.log()?;
        let mut lines = log.lines().filter(|l| l.contains("connection.refused"));
        lines.find(|l| l.contains("gamma") && l.contains("app")).map(drop).context("there is none")
    })
}
