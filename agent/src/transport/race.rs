//! Dialling a peer that has several addresses: they are tried beside each other, and the first that answers is taken.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::failure::Failure;

/// How long one address is given before the next is tried beside it (RFC 8305 §5, "Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The most addresses that one dial tries.
const MAX_ADDRESSES: usize = 16;

/// What the first of the `attempt`s at `addresses` brings that succeeds, each begun a quarter of a second after the one before
/// or as soon as one has failed. The others are dropped.
///
/// # Errors
/// The failure that says most: an answer before silence, silence before a missing route.
pub(super) async fn first<T, A>(
    addresses: &[SocketAddr],
    deadline: Instant,
    attempt: impl Fn(SocketAddr) -> A,
) -> Result<T, Failure>
where
    T: Send + 'static,
    A: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let started = Instant::now();
    if let [only] = addresses {
        let attempted = timeout_at(deadline, attempt(*only)).await;
        return attempted.unwrap_or_else(|_| Err(silent_since(started))).map_err(|failure| failure.at(*only));
    }
    Box::pin(race(addresses, deadline, started, attempt)).await
}

async fn race<T, A>(
    addresses: &[SocketAddr],
    deadline: Instant,
    started: Instant,
    attempt: impl Fn(SocketAddr) -> A,
) -> Result<T, Failure>
where
    T: Send + 'static,
    A: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let mut waiting: VecDeque<_> = addresses.iter().copied().take(MAX_ADDRESSES).collect();
    let mut attempts = JoinSet::new();
    let mut next = started;
    let mut best: Option<Failure> = None;
    // Those that have been tried and have said nothing.
    let mut silent: Vec<SocketAddr> = Vec::new();
    loop {
        if attempts.is_empty() && waiting.is_empty() {
            return Err(best.unwrap_or_else(|| Failure::silent(0.0)));
        }
        tokio::select! {
            biased;
            Some(done) = attempts.join_next() => match done {
                Ok((_, Ok(answered))) => return Ok(answered),
                Ok((address, Err(failure))) => {
                    silent.retain(|other| *other != address);
                    best = Some(louder(best, Failure::at(failure, address)));
                    next = Instant::now();
                }
                Err(_) => {}
            },
            () = sleep_until(deadline) => {
                let none = silent_since(started);
                return Err(match silent.first() {
                    Some(first) => louder(best, none.at(*first)),
                    None => best.unwrap_or(none),
                });
            }
            () = sleep_until(next), if !waiting.is_empty() => {
                if let Some(address) = waiting.pop_front() {
                    let attempt = attempt(address);
                    silent.push(address);
                    attempts.spawn(async move { (address, attempt.await) });
                }
                next = Instant::now() + ATTEMPT_DELAY;
            }
        }
    }
}

fn silent_since(started: Instant) -> Failure {
    Failure::silent((Instant::now() - started).as_secs_f64().round())
}

/// The one of two failures that says more, the former if they say as much.
fn louder(former: Option<Failure>, latter: Failure) -> Failure {
    former.filter(|former| rank(former) >= rank(&latter)).unwrap_or(latter)
}

/// How much a failure says.
fn rank(failure: &Failure) -> u8 {
    use super::failure::Layer::{NoRoute, Refused, Silent};
    match failure.layer {
        NoRoute => 0,
        Silent => 1,
        Refused => 2,
        // Somebody was there and said why not.
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::transport::failure::Layer;

    fn addresses(count: u16) -> Vec<SocketAddr> {
        (1..=count).map(|port| ([10, 0, 0, 1], port).into()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_holds_the_next_one_up_by_a_quarter_of_a_second_and_a_failed_one_not_at_all() {
        let started = Instant::now();
        let attempt = move |address: SocketAddr| async move {
            match address.port() {
                1 => Err(Failure::new(Layer::Refused, "nobody listens")),
                2 => pending().await,
                _ => Ok((address.port(), started.elapsed())),
            }
        };
        let deadline = started + Duration::from_secs(5);
        assert_eq!(first(&addresses(4), deadline, attempt).await.unwrap(), (3, ATTEMPT_DELAY));
    }

    #[tokio::test(start_paused = true)]
    async fn the_failure_that_says_most_is_told_with_its_address() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let layers = [Layer::NoRoute, Layer::Identity, Layer::Refused, Layer::Silent];
        for turn in 0..layers.len() {
            let attempt = move |address: SocketAddr| async move {
                Err::<(), _>(Failure::new(layers[(usize::from(address.port()) + turn) % layers.len()], ""))
            };
            let failure = first(&addresses(4), deadline, attempt).await.unwrap_err();
            assert_eq!(failure.layer, Layer::Identity, "turn {turn}");
            assert!(failure.address.is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_what_nobody_answers() {
        let started = Instant::now();
        let attempt = |_| pending::<Result<(), _>>();
        let failure = first(&addresses(20), started + Duration::from_secs(5), attempt).await.unwrap_err();
        assert_eq!((failure.layer, started.elapsed()), (Layer::Silent, Duration::from_secs(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_says_more_than_the_silence_that_lasts_until_the_deadline() {
        for (layer, told) in [(Layer::Refused, (Layer::Refused, 1)), (Layer::NoRoute, (Layer::Silent, 2))] {
            let deadline = Instant::now() + Duration::from_secs(60);
            let attempt = move |address: SocketAddr| async move {
                match address.port() {
                    1 => Err::<(), _>(Failure::new(layer, "")),
                    _ => pending().await,
                }
            };
            let failure = first(&addresses(3), deadline, attempt).await.unwrap_err();
            assert_eq!((failure.layer, failure.address.map(|at| at.port())), (told.0, Some(told.1)));
        }
    }
}
