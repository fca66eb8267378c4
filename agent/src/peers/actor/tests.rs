use std::net::Ipv4Addr;
use std::pin::pin;
use std::task::{Context, Waker};

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::clock::Clock;
use crate::identity::{ALPN_CTL, ALPN_LANE, TlsContext, tests::contexts};
use crate::peers::peer::Status;
use crate::peers::registry::Peers;
use crate::peers::serve::{Ended, Serving};
use crate::snapshot::{Epochs, Settings, Snapshot};
use crate::tcp::Tcp;
use crate::transport::message::{LaneRole, Open};
use crate::transport::quic::QuicStream;
use crate::transport::resolve::Names;
use crate::transport::resolve::tests::{Reply, Server, some};
use crate::transport::sealing::Sealing;
use crate::transport::secure;

const BOUND: Duration = Duration::from_secs(20);
const MESH: &str = r#"
    [mesh]
    name = "lab"
    version = 1
    transport = "tls"
    [node.alpha]
    address = "127.0.0.1:1"
    [node.beta]
    [service.app]
    on = ["alpha"]
    allow = ["beta"]
    target = "127.0.0.1:2"
    listen = "127.0.0.1:3"
"#;

/// What nobody asks for is not served.
struct Nothing;

impl Serve for Nothing {
    fn lane<'a>(&'a self, _: &'a VerifiedPeer, _: Box<Open>, _: &'a mut Link, _: Ended<'a>) -> Serving<'a> {
        Box::pin(async {})
    }

    fn quic<'a>(&'a self, _: &'a VerifiedPeer, _: Box<Open>, _: &'a mut QuicStream, _: Ended<'a>) -> Serving<'a> {
        Box::pin(async {})
    }
}

fn host_of(tls: TlsContext, run: u64) -> Arc<Host> {
    host_with(tls, run, MESH)
}

fn host_with(tls: TlsContext, run: u64, text: &str) -> Arc<Host> {
    let mesh = mesh_config::Mesh::check(text, "mesh.toml").unwrap().mesh;
    let snapshot = Snapshot {
        mesh: Arc::new(mesh),
        tls,
        epochs: Epochs::FIRST,
        settings: Settings::default(),
        removed: Arc::default(),
        ring: Arc::default(),
    };
    Host::new(snapshot, Clock::default(), Incarnation(run))
}

/// A control connection that beta has dialled: alpha's end and beta's.
async fn dialled(alpha: &Host, beta: &Host) -> (Command, Control) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let tcp = Tcp::of(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()).unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let deadline = Instant::now() + BOUND;
    let (a, b) = (alpha.snapshot.load_full(), beta.snapshot.load_full());
    let (mine, theirs) = (alpha.hello(LaneRole::Opener), beta.hello(LaneRole::Opener));
    let me = alpha.me();
    let near = secure::accept(&a.tls, &[ALPN_CTL], Tcp::of(accepted).unwrap(), mine, Sealing::Adit, deadline);
    let far = secure::dial(&b.tls, &me, ALPN_CTL, tcp, theirs, Sealing::Adit, deadline);
    let (near, far) = tokio::join!(near, far);
    (Command::Accepted(Way::Tls, Box::new(near.unwrap().into())), far.unwrap().into())
}

#[tokio::test]
async fn a_control_channel_that_comes_while_the_agent_drains_is_told_goodbye_and_holds_nothing_up() {
    let [alpha, beta] = contexts(["alpha", "beta"]);
    let (alpha, beta) = (host_of(alpha, 1), host_of(beta, 2));
    let peers = Peers::start(alpha.clone(), Arc::new(Nothing));
    let peer = peers.peer(&beta.me()).unwrap();
    // Its goodbye goes unheard for a while, so the actor is still there when the next one comes.
    let (first, _deaf) = dialled(&alpha, &beta).await;
    peer.tell(first).await;
    timeout(BOUND, peer.status.subscribe().wait_for(|status| status.path.is_some())).await.unwrap().unwrap();
    let (late, far) = dialled(&alpha, &beta).await;
    let started = Instant::now();
    let mut drained = pin!(peers.drain());
    // The goodbye to all is said first.
    assert!(drained.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    peer.tell(late).await;
    let (_orders, queue) = mpsc::channel(1);
    let (notices, mut heard) = mpsc::channel(8);
    let mut far_end = pin!(control::run(far.stream, Clock::default(), queue, Notices { id: 1, queue: notices }, None));
    timeout(BOUND, async { tokio::join!(drained.as_mut(), far_end.as_mut()) }).await.expect("both end soon");
    assert!(started.elapsed() < BOUND);
    let mut last = None;
    while let Some((_, notice)) = heard.recv().await {
        last = Some(notice);
    }
    assert_eq!(last, Some(Notice::Bye(Reason::Draining)));
    assert!(peer.path().is_none(), "no link came of it");
}

/// Lets in whoever dials alpha there.
async fn let_in(alpha: Arc<Host>, listener: TcpListener) {
    let mut channels = JoinSet::new();
    let mut lanes = Vec::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, deadline) = (alpha.snapshot.load_full(), Instant::now() + BOUND);
        let (tcp, mine) = (Tcp::of(tcp).unwrap(), alpha.hello(LaneRole::Opener));
        let Ok(accepted) = secure::accept(&tls.tls, &[ALPN_CTL, ALPN_LANE], tcp, mine, Sealing::Adit, deadline).await
        else {
            continue;
        };
        if accepted.alpn == ALPN_LANE {
            lanes.push(accepted);
            continue;
        }
        channels.spawn(async move {
            let ((_orders, queue), (notices, mut heard)) = (mpsc::channel(1), mpsc::channel(8));
            let channel =
                control::run(Box::new(accepted.wire), Clock::default(), queue, Notices { id: 1, queue: notices }, None);
            tokio::join!(channel, async { while heard.recv().await.is_some() {} });
        });
    }
}

/// The link to a peer whose name leads elsewhere stays until it answers there, and is not touched by a DNS server that fails.
#[tokio::test]
async fn a_link_follows_the_name_of_its_peer_when_it_answers_there_and_is_never_down() {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let old = first.local_addr().unwrap();
    let new = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), old.port()));
    let dns = Server::start(some(&["127.0.0.1"], 0), Reply::None);
    let [alpha, beta] = contexts(["alpha", "beta"]);
    let (alpha, mut beta) =
        (host_of(alpha, 1), host_with(beta, 2, &MESH.replace("127.0.0.1:1", &format!("alpha.example:{}", old.port()))));
    Arc::get_mut(&mut beta).unwrap().names = Names::of(dns.address);
    let mut far = JoinSet::new();
    far.spawn(let_in(alpha.clone(), first));
    let peers = Peers::start(beta, Arc::new(Nothing));
    let peer = peers.peer(&alpha.me()).unwrap();
    let mut status = peer.status.subscribe();
    let up = timeout(BOUND, status.wait_for(|status| status.path.is_some())).await.unwrap().unwrap().address;
    assert_eq!(up, Some(old));
    let still_there = |status: &Status| assert!(status.path.is_some() && status.address == Some(old), "{status:?}");
    // The watch asks again and gets no answer.
    dns.answers(Reply::Broken, Reply::Broken);
    let asked = dns.asked();
    let asks = async {
        while dns.asked() < asked + 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BOUND, asks).await.expect("it is asked again");
    still_there(&peer.status());
    dns.answers(some(&["127.0.0.2"], 0), Reply::None);
    let tried = |status: &Status| status.error.as_ref().is_some_and(|error| error.contains("127.0.0.2"));
    let wait = status.wait_for(|status| {
        still_there(status);
        tried(status)
    });
    timeout(BOUND, wait).await.expect("it dials where nobody answers yet").unwrap();
    far.spawn(let_in(alpha.clone(), TcpListener::bind(new).await.unwrap()));
    let wait = status.wait_for(|status| {
        assert!(status.path.is_some(), "{status:?}");
        status.address == Some(new)
    });
    timeout(BOUND, wait).await.expect("it is reached there").unwrap();
}
