//! Clients and receivers in scenarios: what they find.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use netsim::Backend;

use super::{Result, holds, play, play_with};

pub(super) fn clients_are_served_again_after_a_cut(backend: Backend) -> Result<()> {
    let text = r#"
hosts = ["alpha", "beta", "gamma"]
[service.page]
on = "alpha"
kind = "receiver"
port = 80
[client.beta]
on = "beta"
to = "alpha:80"
service = "page"
at_once = 3
every = "50ms"
timeout = "500ms"
for = "3.5s"
served = "30%"
back_within = "2s"
[client.slow]
on = "gamma"
to = "{ip.alpha}:80"
service = "page"
size = "100kB"
answer = "300kB"
spread = "700ms"
for = "3s"
served = 1
[client.nobody]
on = "gamma"
to = "{ip.alpha}:81"
service = "page"
for = "500ms"
forbidden = true
[[fault]]
at = "500ms"
for = "1s"
kind = "pair"
on = ["alpha", "beta"]
"#;
    let outcome = play(text, backend)?;
    let told: Vec<(&str, &str)> = outcome.record.checks.iter().map(|check| (&*check.name, &*check.detail)).collect();
    let detail = |name: &str| told.iter().find(|(other, _)| *other == name).map_or("", |(_, detail)| detail);
    holds(told.len() == 5, &told)?;
    // At the cut some were under way or began; nobody listens at the other port.
    holds(!detail("beta is served 30% of the time at least").ends_with(" 0 broken off"), &told)?;
    let nobody = detail("nobody gets nothing through");
    holds(nobody.contains(" 0 answered") && nobody.contains(" 0 broken off"), &told)
}

/// Four clients by way of relays, of which each but the last does something wrong.
pub(super) fn what_a_relay_does_wrong_is_found(backend: Backend) -> Result<()> {
    let mut text =
        "hosts = [\"alpha\", \"beta\"]\n[service.page]\non = \"alpha\"\nkind = \"receiver\"\nport = 80\n".to_owned();
    for (number, how) in ["flip", "short", "twice", "well"].into_iter().enumerate() {
        let port = 8000 + number;
        text += &format!(
            "[program.{how}]\non = \"beta\"\nprogram = \"self\"\nargs = [\"play\", \"relay={port} {{ip.alpha}}:80 {how}\"]\n\
             ready = \"relaying\"\n[client.c-{how}]\non = \"beta\"\nto = \"127.0.0.1:{port}\"\nservice = \"page\"\nevery = \"1h\"\n\
             timeout = \"2s\"\nfor = \"300ms\"\nserved = 1\n"
        );
    }
    let outcome = play_with(&text, backend, 1)?;
    let checks = &outcome.record.checks;
    let wrong = checks.iter().find(|check| check.name.starts_with("what clients send")).ok_or("no check")?;
    let found = ["received other bytes than were sent", "in part, with an orderly end", "was received 2 times"];
    holds(!wrong.ok && found.iter().all(|text| wrong.detail.contains(text)), wrong)?;
    let well = checks.iter().find(|check| check.name.starts_with("c-well is served")).ok_or("no check")?;
    let short = checks.iter().find(|check| check.name.starts_with("c-short is served")).ok_or("no check")?;
    holds(well.ok && !short.ok, checks)
}

/// Relays connections, and what it does wrong is said by a word: `PORT TO HOW`.
pub(super) fn relay(how: &str) {
    let mut words = how.split(' ');
    let (port, to, how) = (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next());
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap_or(0))).expect("the port is free");
    // Whoever reads it may be gone.
    let _ = writeln!(std::io::stdout(), "relaying");
    for near in listener.incoming().filter_map(std::io::Result::ok) {
        let mut request = Vec::new();
        // The client shuts its side down when it has sent all.
        let _ = (&near).read_to_end(&mut request);
        match how {
            Some("flip") => request[100] ^= 4,
            Some("short") => request.truncate(1000),
            Some("twice") => drop(pass(&request, to)),
            _ => {}
        }
        let answer = pass(&request, to);
        let mut near = near;
        let _ = near.write_all(&answer);
    }
    thread::park();
}

fn pass(request: &[u8], to: &str) -> Vec<u8> {
    let mut answer = Vec::new();
    if let Ok(mut far) = TcpStream::connect(to) {
        let _ = far.write_all(request).and_then(|()| far.shutdown(Shutdown::Write));
        let _ = far.read_to_end(&mut answer);
    }
    answer
}
