//! A load that stays as it is makes no handshakes after its first moments, and leaves the warm lanes alone behind.

use super::*;

const STEADY: Rules = Rules::new(2, 100);
const TICK: Duration = Duration::from_millis(50);
/// The first moments.
const FIRST: Duration = Duration::from_secs(5);
const MINUTES: Duration = Duration::from_secs(600);

/// So many applications, each of which connects again and again.
#[derive(Debug, Clone, Copy)]
struct Load {
    applications: usize,
    lasting: Duration,
    gap: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Application {
    Away(Instant),
    Waits,
    Has(LaneId, Instant),
}

/// A pool with its lanes, each of which is up one tick after it was asked for.
struct Run {
    pool: Policy,
    now: Instant,
    lanes: u64,
    coming: usize,
    applications: Vec<Application>,
    /// Lanes made and retired.
    made: usize,
    retired: usize,
}

impl Run {
    fn new() -> Self {
        let now = Instant::now();
        let mut pool = Policy::new(STEADY);
        pool.handle_up(Source::Dial, now);
        Self { pool, now, lanes: 0, coming: 0, applications: Vec::new(), made: 0, retired: 0 }
    }

    fn tick(&mut self, load: Load) {
        self.now += TICK;
        let now = self.now;
        for _ in 0..std::mem::take(&mut self.coming) {
            self.lanes += 1;
            self.pool.handle_made(LaneId(self.lanes), LaneEpoch::default(), now);
        }
        for (waiter, application) in (0..).zip(&mut self.applications) {
            match *application {
                Application::Away(until) if until <= now => {
                    *application = match self.pool.handle_take(now) {
                        Some(lane) => Application::Has(lane, now + load.lasting),
                        None => {
                            self.pool.handle_waiter(WaiterId(waiter), &to("a"), now);
                            Application::Waits
                        }
                    };
                }
                Application::Has(lane, until) if until <= now => {
                    *application = Application::Away(now + load.gap);
                    self.pool.handle_idle(lane, now);
                }
                _ => {}
            }
        }
        self.pool.handle_timeout(now);
        while let Some(action) = self.pool.poll() {
            match action {
                Action::Assign(WaiterId(waiter), lane) => {
                    self.applications[usize::try_from(waiter).unwrap()] = Application::Has(lane, now + load.lasting);
                }
                Action::Retire(_) => self.retired += 1,
            }
        }
        let made = self.pool.poll_make(now).map_or(0, count);
        self.coming += made;
        self.made += made;
    }

    fn go_on(&mut self, load: Load, how_long: Duration) {
        let end = self.now + how_long;
        while self.now < end {
            self.tick(load);
        }
    }
}

/// How many lanes are made after the first moments of the load.
#[track_caller]
fn holds(load: Load) {
    let mut run = Run::new();
    run.go_on(load, FIRST);
    // One comes after the other.
    let (now, turn) = (run.now, (load.lasting + load.gap) / u32::try_from(load.applications).unwrap());
    run.applications =
        (0..load.applications).map(|n| Application::Away(now + turn * u32::try_from(n).unwrap())).collect();
    run.go_on(load, FIRST + load.lasting + load.gap);
    (run.made, run.retired) = (0, 0);
    run.go_on(load, MINUTES);
    assert_eq!((run.made, run.retired), (0, 0), "{load:?}");
    // Who is away now does not come back.
    let ends = Load { gap: Duration::from_secs(1_000_000), ..load };
    run.applications.iter_mut().for_each(|application| {
        if let Application::Away(until) = application {
            *until += ends.gap;
        }
    });
    run.go_on(ends, load.lasting + STEADY.idle + TICK);
    assert_eq!((run.pool.counts(), run.made), ((STEADY.warm, 0), 0), "{load:?}: it shrinks");
    assert_eq!(run.pool.next_timeout(), None, "{load:?}: and rests");
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn one_connection_at_a_time_makes_no_lanes() {
    for lasting in [100, 900, 5_000, 30_000] {
        holds(Load { applications: 1, lasting: millis(lasting), gap: millis(100) });
    }
}

#[test]
fn several_connections_at_a_time_make_no_lanes() {
    for applications in [2, 3, 7, 20] {
        for lasting in [100, 900, 5_000, 30_000] {
            holds(Load { applications, lasting: millis(lasting), gap: millis(100) });
        }
    }
}

#[test]
fn one_connection_every_few_seconds_makes_no_lanes() {
    for (lasting, gap) in [(1_000, 2_000), (1_000, 7_000), (2_000, 5_000)] {
        holds(Load { applications: 1, lasting: millis(lasting), gap: millis(gap) });
    }
}

#[test]
fn a_short_connection_now_and_then_makes_no_lanes() {
    for gap in [15_000, 30_000, 60_000] {
        holds(Load { applications: 1, lasting: millis(500), gap: millis(gap) });
    }
}
