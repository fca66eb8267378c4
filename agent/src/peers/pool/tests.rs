mod said;

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::reason::Reason;
use crate::splice::Received;
use crate::transport::lane::link::tests::Net;
use crate::transport::message::tests::{open_request, to};

const BOUND: Duration = Duration::from_secs(20);
const RUN: Incarnation = Incarnation(7);
const NOW: LaneEpoch = LaneEpoch { identity: 1, trust: 1 };
const LATER: LaneEpoch = LaneEpoch { identity: 1, trust: 2 };
/// No warm lanes: what there is, is what a test has put there.
const RULES: Rules = Rules::new(0, 10);

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(BOUND, what).await.expect("in time")
}

fn is_pending<F: Future>(future: Pin<&mut F>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

impl Net {
    /// A pool whose link is up, with so many idle lanes, the newest last. The actor has nothing to do.
    async fn pool(&self, rules: Rules, lanes: usize) -> (Arc<Pool>, Vec<(SocketAddr, Link)>) {
        let pool = Pool::new(rules);
        pool.work(NOW);
        pool.open(RUN, Source::Dial);
        let mut far = Vec::new();
        for _ in 0..lanes {
            let (link, end) = self.lane_to(RUN).await;
            far.push((link.address(), end));
            pool.made(link, NOW);
        }
        rest(&pool);
        (pool, far)
    }
}

/// Lets the actor do what there is to do, and nothing more.
fn rest(pool: &Pool) {
    assert!(pool.work(NOW).close.is_empty());
    // Whether it was called for that or not.
    let _called = is_pending(pin!(pool.called()));
    assert!(!is_called(pool));
}

/// Does what the actor does for the lanes until there is nothing to come back for soon.
async fn act(pool: &Pool) {
    while let Some(next) = pool.work(NOW).next.filter(|next| *next < now() + UNSAID) {
        tokio::time::sleep_until(next.into()).await;
    }
}

async fn take(pool: &Arc<Pool>) -> Lease {
    pool.take(&to("db")).await
}

fn is_called(pool: &Pool) -> bool {
    !is_pending(pin!(pool.called()))
}

fn counts(pool: &Pool) -> (usize, usize) {
    let Counts { idle, busy } = pool.counts();
    (idle, busy)
}

#[tokio::test]
async fn who_waits_takes_the_first_of_a_returned_and_a_fresh_lane() {
    let net = Net::new();
    let (pool, far) = net.pool(RULES, 1).await;
    let lease = take(&pool).await;
    let (mut first, mut second) = (pin!(take(&pool)), pin!(take(&pool)));
    assert!(is_pending(first.as_mut()) && is_pending(second.as_mut()));
    assert!(is_called(&pool), "there are lanes to dial");
    assert_eq!(pool.work(NOW).dial, 2);
    within(lease.give_back()).await;
    let first = within(first).await;
    assert_eq!(first.link.address(), far[0].0);
    assert!(is_pending(second.as_mut()));
    let (fresh, _end) = net.lane_to(RUN).await;
    let address = fresh.address();
    pool.made(fresh, NOW);
    let second = within(second).await;
    assert_eq!((second.link.address(), counts(&pool)), (address, (0, 2)));
}

#[tokio::test]
async fn a_lane_carries_one_stream_after_the_other() {
    let net = Net::new();
    let (pool, mut far) = net.pool(RULES, 1).await;
    let end = &mut far[0].1;
    for _ in 0..2 {
        let mut lease = pool.try_take().unwrap();
        assert_eq!(counts(&pool), (0, 1));
        lease.link.open(open_request()).unwrap();
        let serve = async {
            end.next_open().await.unwrap().unwrap();
            end.refuse(Reason::TargetRefused, "").unwrap();
            assert!(end.settle().await);
        };
        let ask = async {
            std::future::poll_fn(|cx| lease.link.poll_flush(cx)).await.unwrap();
            let received = std::future::poll_fn(|cx| lease.link.poll_received(cx)).await;
            assert!(matches!(received, Ok(Received::Reset(Reason::TargetRefused))));
            lease.give_back().await;
            act(&pool).await;
        };
        within(async { tokio::join!(serve, ask) }).await;
        assert_eq!(counts(&pool), (1, 0));
    }
}

#[tokio::test]
async fn the_newest_lane_is_taken_and_given_back_without_calling_the_actor() {
    let net = Net::new();
    let (pool, far) = net.pool(Rules { warm: 1, ..RULES }, 3).await;
    for _ in 0..3 {
        let lease = pool.try_take().unwrap();
        assert_eq!(lease.link.address(), far[2].0);
        within(lease.give_back()).await;
    }
    assert!(!is_called(&pool));
    let all: Vec<_> = std::iter::from_fn(|| pool.try_take()).collect();
    assert_eq!((all.len(), is_called(&pool), pool.work(NOW).dial), (3, true, 1), "the warm one is made up");
}

#[tokio::test]
async fn an_idle_lane_that_has_ended_is_never_handed_out() {
    let net = Net::new();
    let (pool, mut far) = net.pool(RULES, 3).await;
    far.pop();
    within(pool.called()).await;
    let mut lease = pool.try_take().unwrap();
    assert_eq!((lease.link.address(), counts(&pool)), (far[1].0, (1, 1)), "the newest one has ended");
    rest(&pool);
    far.remove(0);
    within(pool.called()).await;
    pool.work(NOW);
    assert_eq!(counts(&pool), (0, 1), "and those that nobody takes go too");
    far.clear();
    within(std::future::poll_fn(|cx| lease.link.poll_idle(cx))).await;
    within(lease.give_back()).await;
    assert_eq!(counts(&pool), (0, 0), "nor is one that ended while it was out kept");
}

#[tokio::test]
async fn who_no_longer_waits_leaves_nothing() {
    let net = Net::new();
    let (pool, _) = net.pool(RULES, 0).await;
    for assigned in [false, true] {
        let (link, _end) = net.lane_to(RUN).await;
        {
            let mut waits = pin!(take(&pool));
            assert!(is_pending(waits.as_mut()));
            if assigned {
                pool.made(link, NOW);
                assert_eq!(counts(&pool), (0, 1));
            }
        }
        assert!(pool.inner().waiters.is_empty());
        assert_eq!((counts(&pool), pool.work(NOW).dial), ((usize::from(assigned), 0), 0));
    }
}

#[tokio::test]
async fn services_take_turns() {
    let net = Net::new();
    let (pool, _) = net.pool(RULES, 1).await;
    let mut lease = pool.try_take().unwrap();
    let (busy, other) = (to("busy"), to("other"));
    let mut waits: Vec<_> = (0..3).map(|_| Box::pin(pool.take(&busy))).collect();
    assert!(waits.iter_mut().all(|waits| is_pending(waits.as_mut())));
    waits.insert(1, Box::pin(pool.take(&other)));
    assert!(is_pending(waits[1].as_mut()));
    for next in waits {
        within(lease.give_back()).await;
        lease = within(next).await;
    }
}

#[tokio::test]
async fn a_pool_that_was_shut_closes_its_lanes_in_order_and_counts_none() {
    let net = Net::new();
    let (pool, mut far) = net.pool(RULES, 3).await;
    let (lease, dropped) = (pool.try_take().unwrap(), pool.try_take().unwrap());
    pool.shut();
    assert!(is_called(&pool));
    let close = pool.work(NOW).close;
    assert_eq!((close.len(), counts(&pool)), (1, (0, 2)));
    drop(close);
    within(lease.give_back()).await;
    let end = far[2].1.next_open();
    assert!(matches!(within(end).await, Ok(None)), "who gives it back has closed it in order");
    drop(dropped);
    assert!(within(far[1].1.next_open()).await.is_err());
    let work = pool.work(NOW);
    assert_eq!((counts(&pool), work.dial, work.close.len(), work.next), ((0, 0), 0, 0, None));
}

#[tokio::test]
async fn a_lane_to_another_run_of_the_peer_is_dropped() {
    let net = Net::new();
    let (pool, far) = net.pool(Rules { warm: 1, ..RULES }, 2).await;
    let lease = pool.try_take().unwrap();
    pool.open(Incarnation(8), Source::Dial);
    assert_eq!(counts(&pool), (0, 1));
    within(lease.give_back()).await;
    assert_eq!((counts(&pool), pool.work(NOW).dial), ((0, 0), 1));
    let (former, _end) = net.lane_to(RUN).await;
    pool.made(former, NOW);
    let work = pool.work(NOW);
    assert_eq!((counts(&pool), work.dial), ((0, 0), 0));
    assert!(work.next.is_some(), "dialled again after a pause");
    let (current, _end) = net.lane_to(Incarnation(8)).await;
    pool.given(current, NOW);
    assert_eq!(counts(&pool), (1, 0));
    drop(far);
}

#[tokio::test]
async fn lanes_of_another_identity_or_trust_are_retired() {
    let net = Net::new();
    let (pool, _far) = net.pool(RULES, 2).await;
    let lease = pool.try_take().unwrap();
    assert_eq!((pool.work(LATER).close.len(), counts(&pool)), (1, (0, 1)));
    let (link, _end) = net.lane_to(RUN).await;
    pool.made(link, NOW);
    assert_eq!((pool.work(LATER).close.len(), counts(&pool)), (1, (0, 1)), "it was under way");
    within(lease.give_back()).await;
    assert_eq!(counts(&pool), (0, 0));
}

#[tokio::test]
async fn lanes_beyond_the_warm_ones_go_after_a_while() {
    let net = Net::new();
    let (pool, far) = net.pool(Rules { warm: 1, ..RULES }, 3).await;
    tokio::time::pause();
    let next = pool.work(NOW).next.unwrap();
    assert!(next - now() <= RULES.idle);
    tokio::time::advance(next - now() + Duration::from_secs(1)).await;
    tokio::time::advance(RULES.idle).await;
    let work = pool.work(NOW);
    assert_eq!((work.close.len(), counts(&pool), work.next), (2, (1, 0), None));
    assert_eq!(pool.try_take().unwrap().link.address(), far[2].0);
}

#[tokio::test]
async fn a_lane_that_ends_before_it_is_kept_counts_as_a_failed_dial() {
    let net = Net::new();
    let (pool, _) = net.pool(Rules { warm: 1, ..RULES }, 0).await;
    let (mut link, end) = net.lane_to(RUN).await;
    drop(end);
    within(std::future::poll_fn(|cx| link.poll_idle(cx))).await;
    pool.made(link, NOW);
    let work = pool.work(NOW);
    assert_eq!((counts(&pool), work.dial), ((0, 0), 0));
    assert!(work.next.is_some());
}
