//! Strangers at the agent's port: they get nothing, they cost little, and the operator sees them.

use std::net::TcpStream;
use std::time::Duration;

use adit_tests::hostile::{self, Answer, CONTROL, LANE};
use adit_tests::load::round_trip;
use adit_tests::mesh::SOON;
use adit_tests::pki::{Authority, Identity, Leaf};
use adit_tests::suite::Test;
use adit_tests::{Agent, Mesh, Service, tests};
use anyhow::{Result, ensure};
use rustls::AlertDescription;

use crate::evidence;

/// The handshake limit's default, 8 s, and some grace on a machine under load.
const CUT: Duration = Duration::from_secs(12);

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![new:
        a_client_of_tls_1_2_is_refused,
        openssl_at_tls_1_2_is_refused,
        plain_http_is_refused,
        random_bytes_are_refused,
        an_endless_client_hello_is_cut_and_costs_no_memory,
        a_slow_client_hello_is_cut_by_the_handshake_limit,
        a_peer_that_says_nothing_is_cut_by_the_handshake_limit,
        a_server_that_is_no_member_gets_no_link,
    ];
    tests.extend(tests![in_namespaces: strangers_do_not_hinder_members]);
    for (way, alpn) in [("a_lane", LANE), ("control", CONTROL)] {
        let mut add = |name: &str, body: fn(&[u8]) -> Result<()>| {
            tests.push(Test::new(format!("{name}_for_{way}"), move || body(alpn)));
        };
        add("a_client_without_a_certificate_is_refused", no_certificate);
        add("a_client_of_another_authority_is_told_unknown_ca", unknown_ca);
        add("an_expired_client_is_told_so", expired);
        add("a_client_that_is_not_yet_valid_is_told_expired", not_yet_valid);
        add("a_client_that_is_no_member_is_told_access_denied", no_member);
        add("a_client_that_claims_the_agents_own_name_is_refused", own_name);
    }
    tests
}

/// A mesh whose alpha runs and trusts an authority of the tests.
fn alpha() -> Result<(Mesh, Agent, Authority)> {
    let authority = Authority::new()?;
    let mesh = Mesh::pair("tls").trusting(&authority).build()?;
    let alpha = mesh.start("alpha")?;
    Ok((mesh, alpha, authority))
}

fn to(mesh: &Mesh) -> Result<TcpStream> {
    mesh.place("alpha").connect(mesh.link_address("alpha"), SOON)
}

fn tls(alpn: &[u8], identity: Option<&Identity>, expected: &[AlertDescription], word: &str) -> Result<()> {
    let (mesh, agent, _) = alpha()?;
    told(&mesh, &agent, alpn, identity, expected, word)
}

fn told(
    mesh: &Mesh,
    agent: &Agent,
    alpn: &[u8],
    identity: Option<&Identity>,
    expected: &[AlertDescription],
    word: &str,
) -> Result<()> {
    let answer = hostile::dial(to(mesh)?, "alpha.lab", alpn, identity)?;
    let right = matches!(answer, Answer::Alert(alert) if expected.contains(&alert));
    ensure!(right, "{expected:?} expected, got {answer:?}");
    evidence::of(agent, &["tls", "identity"], word)
}

fn issued(alpn: &[u8], leaf: &Leaf, expected: AlertDescription, word: &str) -> Result<()> {
    let (mesh, agent, authority) = alpha()?;
    told(&mesh, &agent, alpn, Some(&authority.issue(leaf)?), &[expected], word)
}

fn no_certificate(alpn: &[u8]) -> Result<()> {
    tls(alpn, None, &[AlertDescription::CertificateRequired], "certificate")
}

fn unknown_ca(alpn: &[u8]) -> Result<()> {
    let identity = Authority::new()?.issue(&Leaf::of("beta"))?;
    tls(alpn, Some(&identity), &[AlertDescription::UnknownCA], "issue")
}

fn expired(alpn: &[u8]) -> Result<()> {
    let (not_before, not_after) = (time::Duration::days(-3), time::Duration::days(-1));
    let leaf = Leaf { not_before, not_after, ..Leaf::of("beta") };
    issued(alpn, &leaf, AlertDescription::CertificateExpired, "expired")
}

fn not_yet_valid(alpn: &[u8]) -> Result<()> {
    let (not_before, not_after) = (time::Duration::days(1), time::Duration::days(3));
    let leaf = Leaf { not_before, not_after, ..Leaf::of("beta") };
    issued(alpn, &leaf, AlertDescription::CertificateExpired, "not_yet_valid")
}

fn no_member(alpn: &[u8]) -> Result<()> {
    issued(alpn, &Leaf::of("mallory"), AlertDescription::AccessDenied, "member")
}

fn own_name(alpn: &[u8]) -> Result<()> {
    issued(alpn, &Leaf::of("alpha"), AlertDescription::AccessDenied, "own")
}

/// Speaks `first` and then `more`, expects the agent to close within the limit and to have said nothing but an alert.
fn speaks(first: &[u8], more: impl FnMut() -> Option<Vec<u8>>) -> Result<(Mesh, Agent, Vec<u8>, Duration)> {
    let (mesh, agent, _) = alpha()?;
    let (answer, took) = hostile::speak(to(&mesh)?, first, more, CUT)?;
    ensure!(answer.is_empty() || hostile::plain_alert(&answer).is_some(), "more than an alert: {answer:02x?}");
    Ok((mesh, agent, answer, took))
}

fn a_client_of_tls_1_2_is_refused() -> Result<()> {
    let (_mesh, agent, answer, _) = speaks(&hostile::client_hello_of_tls_1_2(), || None)?;
    let alert = hostile::plain_alert(&answer);
    let expected = [AlertDescription::ProtocolVersion, AlertDescription::HandshakeFailure];
    ensure!(alert.is_some_and(|a| expected.contains(&a)), "{alert:?}");
    evidence::of(&agent, &["tls"], "version")
}

fn openssl_at_tls_1_2_is_refused() -> Result<()> {
    let (mesh, agent, _) = alpha()?;
    let mut command = mesh.place("alpha").command("openssl");
    let address = mesh.link_address("alpha").to_string();
    command.args(["s_client", "-tls1_2", "-connect", &address]);
    let output = match adit_tests::binary::run(&mut command, CUT) {
        Err(error) if error.root_cause().to_string().contains("No such file") => {
            adit_tests::suite::skipped("openssl_at_tls_1_2_is_refused", "there is no openssl");
            return Ok(());
        }
        output => output?,
    };
    ensure!(output.code != Some(0), "{output:?}");
    evidence::of(&agent, &["tls"], "version")
}

fn plain_http_is_refused() -> Result<()> {
    let (_mesh, agent, _, _) = speaks(b"GET / HTTP/1.1\r\nHost: alpha\r\n\r\n", || None)?;
    evidence::of(&agent, &["tls"], "")
}

fn random_bytes_are_refused() -> Result<()> {
    let mut buffer = [0; 4096];
    for seed in 0..32 {
        let bytes = adit_tests::load::Content::new(seed, 4096).next(&mut buffer).to_vec();
        if seed == 0 {
            let (_mesh, agent, _, _) = speaks(&bytes, || None)?;
            evidence::of(&agent, &["tls"], "")?;
        }
    }
    // Many seeds at one agent: it stands.
    let (mesh, mut agent, _) = alpha()?;
    for seed in 1..200 {
        let bytes = adit_tests::load::Content::new(seed, 4096).next(&mut buffer).to_vec();
        hostile::speak(to(&mesh)?, &bytes, || None, CUT)?;
    }
    agent.ensure_running()
}

fn an_endless_client_hello_is_cut_and_costs_no_memory() -> Result<()> {
    let (mesh, agent, _) = alpha()?;
    let before = agent.usage()?.resident;
    let more = || Some(hostile::more_of_an_endless_client_hello());
    let (answer, _) = hostile::speak(to(&mesh)?, &hostile::endless_client_hello(), more, CUT)?;
    ensure!(answer.is_empty() || hostile::plain_alert(&answer).is_some(), "more than an alert: {answer:02x?}");
    let held = agent.usage()?.resident.saturating_sub(before);
    ensure!(held < 4 << 20, "it cost {} KiB", held >> 10);
    evidence::of(&agent, &["tls", "silent", "limit"], "")
}

/// A byte now and then keeps nobody's handshake alive.
fn a_slow_client_hello_is_cut_by_the_handshake_limit() -> Result<()> {
    let mut rest = hostile::client_hello_of_tls_1_2().into_iter();
    let first: Vec<u8> = rest.next().into_iter().collect();
    let mut turn = 0_u32;
    let more = || {
        turn += 1;
        // `speak` asks every tenth of a second or so while there is nothing to send.
        if turn.is_multiple_of(8) { rest.next().map(|byte| vec![byte]) } else { None }
    };
    let (_mesh, agent, _, took) = speaks(&first, more)?;
    ensure!(took > Duration::from_secs(4), "cut after {took:?} already");
    evidence::of(&agent, &["silent", "limit", "tls"], "")
}

fn a_peer_that_says_nothing_is_cut_by_the_handshake_limit() -> Result<()> {
    let (_mesh, agent, _, took) = speaks(b"", || None)?;
    ensure!(took > Duration::from_secs(4), "cut after {took:?} already");
    evidence::of(&agent, &["silent", "limit", "tls"], "")
}

/// Gamma's host has no agent, but many idle sockets at alpha's port.
fn strangers_do_not_hinder_members() -> Result<()> {
    let mesh = Mesh::builder(&["alpha", "beta", "gamma"])
        .transport("tls")
        .service(Service::new("app", &["alpha"], &["beta"]))
        .in_namespaces()
        .build()?;
    let (alpha, _beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let idle = alpha.usage()?;
    // Those above the limit of one source are cut at once, which is as well.
    let silent: Vec<_> =
        (0..300).filter_map(|_| mesh.place("gamma").connect(mesh.link_address("alpha"), SOON).ok()).collect();
    ensure!(silent.len() > 30, "only {} could connect", silent.len());
    let open = (0..40_u8).map(|_| mesh.joined(&server)).collect::<Result<Vec<_>>>()?;
    open.iter().try_for_each(|(client, served)| round_trip(client, served, b"member", SOON))?;
    drop((silent, open));
    adit_tests::eventually("the strangers' descriptors are given back", CUT, || {
        let now = alpha.usage()?.descriptors;
        // Lanes that have been made meanwhile stay for a while.
        ensure!(now <= idle.descriptors + 60, "{now} descriptors, {} when idle", idle.descriptors);
        Ok(())
    })
}

/// Beta dials alpha's address, where somebody with a certificate of another authority answers.
fn a_server_that_is_no_member_gets_no_link() -> Result<()> {
    let mesh = Mesh::pair("tls").build()?;
    let listener = mesh.place("alpha").listen(mesh.link_address("alpha"))?;
    let identity = Authority::new()?.issue(&Leaf::of("alpha"))?;
    let beta = mesh.start("beta")?;
    let answer = hostile::impersonate(&listener, &identity, SOON)?;
    ensure!(answer == Answer::Alert(AlertDescription::UnknownCA), "{answer:?}");
    ensure!(beta.peer("alpha")?["state"] != "up");
    evidence::of(&beta, &["tls", "identity"], "issue")
}
