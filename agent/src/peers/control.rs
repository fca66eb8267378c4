//! A control channel: PING and PONG, WANT_LANES, BYE, and what is said of mesh documents, on a connection of its own so that stalled streams cannot make a peer
//! look dead.

use std::collections::VecDeque;
use std::time::Duration;

use mesh_config::NodeName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock::Clock;
use crate::reason::Reason;
use crate::transport::frame::{Item, Kind, MAX_CONTROL, Parser};
use crate::transport::message::{Frame, Gossip, WallTime};

/// How often a PING goes out.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// After how long without any sign of life the channel counts as lost.
pub const SILENCE: Duration = Duration::from_secs(15);
/// How many PINGs of `adit ping` may wait for their answer.
const MAX_WAITING: usize = 64;
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the owner of a channel asks of it.
#[derive(Debug)]
pub enum Order {
    /// Measure one round trip now.
    Ping(oneshot::Sender<Duration>),
    /// Ask for so many reverse lanes.
    WantLanes(u32),
    /// Send these frames about mesh documents.
    Say(Vec<u8>),
    /// Say goodbye and end.
    Bye(Reason),
}

/// What a channel tells its owner.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A round trip was measured, and by it how far the peer's clock is ahead.
    RoundTrip(Duration, Option<time::Duration>),
    /// The greatest version of a signed mesh document that the peer has.
    MeshVersion(u64),
    /// The peer would like so many reverse lanes.
    WantLanes(u32),
    /// The peer says goodbye. The channel has ended.
    Bye(Reason),
    /// The channel is lost.
    Lost(String),
}

/// Where a channel's notices go: one queue for all channels of a peer, each by its number.
#[derive(Debug, Clone)]
pub struct Notices {
    /// The channel's number.
    pub id: u64,
    /// The owner's queue.
    pub queue: mpsc::Sender<(u64, Notice)>,
}

impl Notices {
    async fn tell(&self, notice: Notice) {
        // An owner that is gone ends the channel by its orders.
        self.queue.send((self.id, notice)).await.ok();
    }
}

/// Where what a peer says of mesh documents goes. A queue that is full holds up its channel, and so the peer.
#[derive(Debug, Clone)]
pub struct Listener {
    /// The peer.
    pub peer: NodeName,
    /// The queue of all peers.
    pub queue: mpsc::Sender<Said>,
}

/// What a peer said of mesh documents.
#[derive(Debug)]
pub struct Said {
    /// The peer.
    pub peer: NodeName,
    /// The number of the channel that it said it on.
    pub channel: u64,
    /// What.
    pub gossip: Gossip,
}

struct Waiting {
    id: u64,
    sent: Instant,
    answer: Option<oneshot::Sender<Duration>>,
}

/// Runs a channel after HELLO until it ends; its last notice is [`Notice::Bye`] or [`Notice::Lost`], unless the owner ended
/// it.
pub async fn run<S: AsyncRead + AsyncWrite>(
    stream: S,
    clock: Clock,
    mut orders: mpsc::Receiver<Order>,
    notices: Notices,
    listener: Option<Listener>,
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut parser = Parser::new();
    let mut buffer = vec![0; 4096];
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let mut heard = Instant::now();
    let mut next_ping = heard;
    let mut next_id = 1;
    let mut out = Vec::new();
    loop {
        let silent = heard + SILENCE;
        tokio::select! {
            read = reader.read(&mut buffer) => {
                let mut input = match read {
                    Ok(0) => return notices.tell(Notice::Lost("the peer closed the control channel".to_owned())).await,
                    Ok(len) => &buffer[..len],
                    Err(error) => return notices.tell(Notice::Lost(error.to_string())).await,
                };
                heard = Instant::now();
                loop {
                    let frame = match parser.next(&mut input) {
                        Ok(Some(Item::Control { kind, payload })) => Frame::decode(kind, payload).map_err(|e| e.to_string()),
                        Ok(Some(Item::Data(_))) => Err(format!("{} on a control channel", Kind::Data)),
                        Ok(None) => break,
                        Err(error) => Err(error.to_string()),
                    };
                    match frame {
                        // One answer for each; they cannot pile up because they are written before more is read.
                        Ok(Frame::Ping(id)) => Frame::Pong(id, Some(WallTime::from(clock.now()))).encode(&mut out),
                        Ok(Frame::Pong(id, wall_time)) => {
                            if let Some(at) = waiting.iter().position(|w| w.id == id)
                                && let Some(waiter) = waiting.remove(at)
                            {
                                let rtt = heard - waiter.sent;
                                if let Some(answer) = waiter.answer {
                                    // Whoever asked may have gone.
                                    answer.send(rtt).ok();
                                }
                                let skew = wall_time.map(|theirs| skew(theirs, clock, rtt));
                                notices.tell(Notice::RoundTrip(rtt, skew)).await;
                            }
                        }
                        Ok(Frame::WantLanes(count)) => notices.tell(Notice::WantLanes(count)).await,
                        Ok(Frame::Bye(_, reason)) => return notices.tell(Notice::Bye(reason)).await,
                        Ok(Frame::Gossip(gossip)) => {
                            if let Gossip::Summary(ranks) = &gossip
                                && let Some(greatest) = ranks.iter().max()
                            {
                                notices.tell(Notice::MeshVersion(greatest.version.number())).await;
                            }
                            if let Some(Listener { peer, queue }) = &listener {
                                // Nobody listens while the agent stops.
                                queue.send(Said { peer: peer.clone(), channel: notices.id, gossip }).await.ok();
                            }
                        }
                        Ok(frame) => {
                            let why = format!("the peer broke the protocol: {} on a control channel", frame.kind());
                            return notices.tell(Notice::Lost(why)).await;
                        }
                        Err(why) => return notices.tell(Notice::Lost(format!("the peer broke the protocol: {why}"))).await,
                    }
                }
            }
            order = orders.recv() => match order {
                Some(Order::Ping(answer)) => {
                    if waiting.len() < MAX_WAITING {
                        waiting.push_back(Waiting { id: next_id, sent: Instant::now(), answer: Some(answer) });
                        Frame::Ping(next_id).encode(&mut out);
                        next_id += 1;
                    }
                }
                Some(Order::WantLanes(count)) => Frame::WantLanes(count).encode(&mut out),
                Some(Order::Say(frames)) => out.extend(frames),
                Some(Order::Bye(reason)) => {
                    Frame::Bye(0, reason).encode(&mut out);
                    let last = async {
                        writer.write_all(&out).await?;
                        writer.flush().await?;
                        writer.shutdown().await?;
                        // The peer closes when it has heard: a QUIC connection that is dropped before loses what it said.
                        while reader.read(&mut buffer).await? > 0 {}
                        Ok::<_, std::io::Error>(())
                    };
                    // A peer that takes nothing is not waited for.
                    drop(timeout(LAST_WORDS, last).await);
                    return;
                }
                None => return,
            },
            () = sleep_until(next_ping) => {
                // PINGs that were never answered are forgotten with the silence they belong to.
                waiting.retain(|w| w.sent.elapsed() < SILENCE);
                if waiting.len() < MAX_WAITING {
                    waiting.push_back(Waiting { id: next_id, sent: Instant::now(), answer: None });
                    Frame::Ping(next_id).encode(&mut out);
                    next_id += 1;
                }
                next_ping = Instant::now() + INTERVAL;
            }
            () = sleep_until(silent) => {
                let why = format!("the peer has been silent for {} s", SILENCE.as_secs());
                return notices.tell(Notice::Lost(why)).await;
            }
        }
        if !out.is_empty() {
            // A peer that reads nothing is as good as silent.
            let written = timeout(SILENCE, async {
                writer.write_all(&out).await?;
                writer.flush().await
            })
            .await;
            match written {
                Ok(Ok(())) => {
                    out.clear();
                    // A document that was handed over leaves no buffer behind.
                    out.shrink_to(MAX_CONTROL);
                }
                Ok(Err(error)) => return notices.tell(Notice::Lost(error.to_string())).await,
                Err(_) => return notices.tell(Notice::Lost("the peer takes no more".to_owned())).await,
            }
        }
    }
}

/// How far the peer's clock is ahead, given that its answer took half the round trip to come.
fn skew(theirs: WallTime, clock: Clock, rtt: Duration) -> time::Duration {
    let ours = WallTime::from(clock.now());
    let half = time::Duration::try_from(rtt / 2).unwrap_or_default();
    time::Duration::microseconds(theirs.micros() - ours.micros()).saturating_add(half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    type End = (mpsc::Sender<Order>, mpsc::Receiver<(u64, Notice)>);

    fn end(stream: tokio::io::DuplexStream, tasks: &mut JoinSet<()>) -> End {
        let (orders, order_queue) = mpsc::channel(8);
        let (queue, notices) = mpsc::channel(8);
        tasks.spawn(run(stream, Clock::default(), order_queue, Notices { id: 7, queue }, None));
        (orders, notices)
    }

    #[tokio::test(start_paused = true)]
    async fn pings_are_answered_and_goodbyes_heard() {
        let mut tasks = JoinSet::new();
        let (a, b) = tokio::io::duplex(256);
        let (a, mut a_notices) = end(a, &mut tasks);
        let (_b, mut b_notices) = end(b, &mut tasks);
        assert!(matches!(a_notices.recv().await, Some((7, Notice::RoundTrip(_, Some(_))))), "one at once");
        let (answer, rtt) = oneshot::channel();
        a.send(Order::Ping(answer)).await.unwrap();
        assert!(rtt.await.is_ok());
        a.send(Order::WantLanes(3)).await.unwrap();
        a.send(Order::Bye(Reason::Draining)).await.unwrap();
        let mut seen = Vec::new();
        while let Some((_, notice)) = b_notices.recv().await {
            if !matches!(notice, Notice::RoundTrip(..)) {
                seen.push(notice);
            }
        }
        assert_eq!(seen, [Notice::WantLanes(3), Notice::Bye(Reason::Draining)]);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed() {
        let mut tasks = JoinSet::new();
        let (mut silent, stream) = tokio::io::duplex(1 << 20);
        let started = Instant::now();
        let (_orders, mut notices) = end(stream, &mut tasks);
        assert!(matches!(notices.recv().await, Some((7, Notice::Lost(why))) if why.contains("silent")));
        assert_eq!(started.elapsed(), SILENCE);
        let mut pings = Vec::new();
        silent.read_buf(&mut pings).await.unwrap();
        assert!(!pings.is_empty());
    }
}
