//! Against a real DNS server on loopback that answers as it is told.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::answers::{Answers, Heard};
use super::*;

/// What the server does with a question for one family.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Addresses(Vec<IpAddr>, u32),
    /// The name is there, without an address.
    None,
    NoSuchName,
    Broken,
    Silence,
}

struct Shared {
    replies: Mutex<[Reply; 2]>,
    asked: AtomicUsize,
}

/// A DNS server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(v4: Reply, v6: Reply) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared { replies: Mutex::new([v4, v6]), asked: AtomicUsize::new(0) });
        let serves = shared.clone();
        let thread = thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length @ 1.., from)) = socket.recv_from(&mut question) {
                if let Some(answer) = serves.answer(&question[..length]) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    pub(crate) fn answers(&self, v4: Reply, v6: Reply) {
        *self.shared.replies.lock().unwrap() = [v4, v6];
    }

    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An empty datagram is its end.
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(&[], self.address).unwrap();
        self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    /// RFC 1035 §4.1: one question, whose name the answers point to.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let name = query[12..].iter().position(|&length| length == 0)? + 13;
        let (question, kind) = (&query[12..name + 4], query[name + 1]);
        let reply = self.replies.lock().unwrap()[usize::from(kind == 28)].clone();
        let (code, addresses, ttl) = match reply {
            Reply::Addresses(addresses, ttl) => (0, addresses, ttl),
            Reply::None => (0, Vec::new(), 0),
            Reply::NoSuchName => (3, Vec::new(), 0),
            Reply::Broken => (2, Vec::new(), 0),
            Reply::Silence => return None,
        };
        let count = u8::try_from(addresses.len()).unwrap();
        let mut answer = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
        answer.extend(question);
        for address in addresses {
            let bytes = match address {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            answer.extend([0xc0, 12, 0, kind, 0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend([0, u8::try_from(bytes.len()).unwrap()]);
            answer.extend(bytes);
        }
        Some(answer)
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn some(texts: &[&str], ttl: u32) -> Reply {
    Reply::Addresses(ips(texts), ttl)
}

fn named(name: &str) -> Address {
    Address { host: Host::Dns(name.into()), port: 7443 }
}

async fn found(names: &Names, name: &str) -> Result<Vec<IpAddr>, String> {
    let resolved = names.resolve_all(&named(name)).await.map_err(|failure| failure.to_string())?;
    Ok(resolved.addresses.iter().map(SocketAddr::ip).collect())
}

#[tokio::test]
async fn an_address_is_itself_and_a_name_of_the_hosts_file_resolves() {
    let names = Names::default();
    let ip = Address { host: Host::Ip("192.0.2.1".parse().unwrap()), port: 7443 };
    let resolved = Resolved { addresses: vec!["192.0.2.1:7443".parse().unwrap()], until: None };
    assert_eq!(names.resolve(&ip).await.unwrap(), resolved);
    assert!(names.resolve(&named("localhost")).await.unwrap().addresses.iter().all(|a| a.ip().is_loopback()));
}

#[tokio::test]
async fn both_families_are_found_by_turns_and_kept_for_their_time() {
    let server = Server::start(some(&["192.0.2.1", "192.0.2.2"], 60), some(&["2001:db8::1"], 30));
    let names = Names::of(server.address);
    let resolved = names.resolve_all(&named("alpha.example")).await.unwrap();
    let shown: Vec<_> = resolved.addresses.iter().map(SocketAddr::ip).collect();
    assert_eq!(shown, ips(&["192.0.2.1", "2001:db8::1", "192.0.2.2"]));
    let left = resolved.until.unwrap() - Instant::now();
    assert!(left <= Duration::from_secs(30) && left > Duration::from_secs(20), "{left:?}");
    let asked = server.asked();
    found(&names, "alpha.example").await.unwrap();
    assert_eq!(server.asked(), asked, "nobody is asked before that");
}

#[tokio::test]
async fn another_answer_is_found_when_the_time_of_the_former_is_over() {
    let server = Server::start(some(&["192.0.2.1"], 1), Reply::None);
    let names = Names::of(server.address);
    assert_eq!(found(&names, "alpha.example").await.unwrap(), ips(&["192.0.2.1"]));
    server.answers(some(&["192.0.2.9"], 1), Reply::None);
    let moved = async {
        loop {
            let resolved = names.resolve_all(&named("alpha.example")).await.unwrap();
            if resolved.addresses[0].ip() == ips(&["192.0.2.9"])[0] {
                return;
            }
            tokio::time::sleep_until(resolved.until.unwrap()).await;
        }
    };
    timeout(Duration::from_secs(10), moved).await.expect("in its time");
}

/// A server that answers with `v4` and `v6` after it has answered with an address of each; what is found then.
async fn after_both(v4: Reply, v6: Reply) -> Vec<IpAddr> {
    let server = Server::start(some(&["192.0.2.1"], 0), some(&["2001:db8::1"], 0));
    let names = Names::of(server.address);
    assert_eq!(found(&names, "alpha.example").await.unwrap().len(), 2);
    server.answers(v4, v6);
    found(&names, "alpha.example").await.unwrap()
}

#[tokio::test]
async fn the_last_good_answer_is_kept_when_dns_fails_or_answers_nothing() {
    for reply in [Reply::None, Reply::NoSuchName, Reply::Broken] {
        let kept = after_both(reply.clone(), reply.clone()).await;
        assert_eq!(kept, ips(&["192.0.2.1", "2001:db8::1"]), "{reply:?}");
    }
    let kept = after_both(some(&["192.0.2.9"], 0), Reply::Broken).await;
    assert_eq!(kept, ips(&["192.0.2.9", "2001:db8::1"]), "of the family that does not answer");
    let gone = after_both(Reply::None, some(&["2001:db8::9"], 0)).await;
    assert_eq!(gone, ips(&["2001:db8::9"]), "a host that has one family alone now");
}

#[tokio::test]
async fn a_name_that_never_resolved_says_why_not() {
    for (reply, why) in [(Reply::NoSuchName, "it has no address"), (Reply::None, "it has no address")] {
        let server = Server::start(reply.clone(), reply);
        let told = found(&Names::of(server.address), "alpha.example").await.unwrap_err();
        assert!(told.contains("alpha.example") && told.contains(why), "{told}");
    }
    let server = Server::start(Reply::Broken, Reply::Broken);
    assert!(found(&Names::of(server.address), "alpha.example").await.is_err());
}

#[tokio::test]
async fn a_family_of_which_nobody_answers_holds_the_other_one_up_for_a_moment() {
    let server = Server::start(some(&["192.0.2.1"], 60), Reply::Silence);
    let (names, start) = (Names::of(server.address), Instant::now());
    let resolved = names.resolve(&named("alpha.example")).await.unwrap();
    assert_eq!(resolved.addresses, ["192.0.2.1:7443".parse().unwrap()]);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn answers_are_taken_kept_and_let_go_by_family() {
    let now = Instant::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    let addresses = |texts: &[&str], seconds| Heard::Addresses(ips(texts), at(seconds));
    let (nothing, failed) = (Heard::Nothing("none".into()), Heard::Failed("silence".into()));
    // What both come to, one after the other; what is known then, whether some is kept, and when to ask again.
    let rows: [([Heard; 2], &[&str], bool, u64); 9] = [
        ([failed.clone(), nothing.clone()], &[], false, 5),
        ([addresses(&["10.0.0.1"], 60), nothing.clone()], &["10.0.0.1"], false, 60),
        ([failed.clone(), addresses(&["::1"], 30)], &["10.0.0.1", "::1"], true, 5),
        ([nothing.clone(), nothing.clone()], &["10.0.0.1", "::1"], true, 5),
        ([failed.clone(), failed.clone()], &["10.0.0.1", "::1"], true, 5),
        (
            [addresses(&["10.0.0.2", "10.0.0.3"], 20), addresses(&["::2"], 9)],
            &["10.0.0.2", "::2", "10.0.0.3"],
            false,
            9,
        ),
        ([nothing.clone(), addresses(&["::2"], 9)], &["::2"], false, 9),
        ([failed, addresses(&["::3"], 9)], &["::3"], false, 9),
        ([addresses(&["10.0.0.4"], 7), Heard::Late], &["10.0.0.4", "::3"], false, 7),
    ];
    let mut answers = Answers::default();
    for (number, (heard, known, kept, again)) in rows.into_iter().enumerate() {
        answers.hear(heard);
        assert_eq!((answers.addresses(), answers.is_kept()), (ips(known), kept), "row {number}");
        assert_eq!(answers.until(at(5)), at(again), "row {number}");
    }
}

#[tokio::test]
async fn as_many_names_are_kept_as_may_be() {
    let names = Names::default();
    let heard = || [Heard::Addresses(ips(&["10.0.0.1"]), Instant::now()), Heard::Nothing(String::new())];
    for number in 0..=MOST_NAMES {
        names.take_in(&format!("host-{number}.example"), heard()).unwrap();
    }
    let known = names.known();
    assert_eq!(known.len(), MOST_NAMES);
    assert!(!known.contains_key("host-0.example"), "the one that was asked for the longest time ago makes room");
}
