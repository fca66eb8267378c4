//! One direction of a link at work: what becomes of each packet, and when it arrives.

use std::collections::HashMap;
use std::time::Duration;

use super::answer::{self, Reason};
use super::class::class;
use super::conditions::{Conditions, Jitter, Loss};
use super::fate::{Fate, Watch};
use super::frame::Frame;
use super::packet::{ETHERNET, Packet, TCP, UDP};
use super::random::{About, Key};
use super::segment::{segment, size};
use super::{Nanos, checksum, nanos};
use crate::{Answer, Traffic};

/// Flow classes that are counted apart. More than that share counters.
const MOST_CLASSES: usize = 16_384;

/// What a direction has done so far, in packets; a super-packet counts as the packets that it stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Came to the link.
    pub offered: u64,
    /// The bytes of those, from their Ethernet headers on.
    pub bytes: u64,
    /// The frames in which they came: a super-packet that crosses the link as one is one.
    pub frames: u64,
    /// Were lost by chance.
    pub lost: u64,
    /// Found the queue of the bottleneck full.
    pub queue_full: u64,
    /// Came while the link was down.
    pub down: u64,
    /// Were of a kind that is blocked on the link.
    pub blocked: u64,
    /// Were longer than what passes a black hole.
    pub too_long: u64,
    /// Crossed the link and were dropped behind it, because a cut lies between their sender and the host there.
    pub cut: u64,
    /// Crossed the link and were dropped without a word by NAT or firewall of the router behind it.
    pub filtered: u64,
    /// Were sent on twice.
    pub duplicated: u64,
    /// Had a bit turned over.
    pub corrupted: u64,
    /// Were held back so that others overtook them.
    pub reordered: u64,
}

impl Counters {
    /// What came to the link and did not get further than to what lies behind it, for whichever reason.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let Self { lost, queue_full, down, blocked, too_long, cut, filtered, .. } = self;
        lost + queue_full + down + blocked + too_long + cut + filtered
    }
}

/// One direction of a link.
#[derive(Debug)]
pub(crate) struct Direction {
    conditions: Conditions,
    up: bool,
    key: Key,
    classes: HashMap<u64, Class>,
    /// When the bottleneck has sent everything that it was given.
    free_at: Nanos,
    /// When the last packet arrives that was not held back to be overtaken.
    last: Nanos,
    pub(crate) counters: Counters,
    /// Whoever is told what becomes of every packet.
    pub(crate) watch: Option<Box<dyn Watch>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Class {
    packets: u64,
    bad: bool,
}

impl Direction {
    /// `key`: that of the seed, the link and the direction.
    pub(crate) fn new(key: Key, conditions: Conditions) -> Self {
        let counters = Counters::default();
        Self { conditions, up: true, key, classes: HashMap::new(), free_at: 0, last: 0, counters, watch: None }
    }

    pub(crate) fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    pub(crate) fn set_conditions(&mut self, conditions: Conditions) {
        // A queue drains at the old rate no longer.
        if conditions.rate.is_none() {
            self.free_at = 0;
        }
        self.conditions = conditions;
    }

    pub(crate) fn set_up(&mut self, up: bool) {
        self.up = up;
    }

    /// Judges what comes to the link at `now`: adds what arrives, with the time, to `arrivals`. Returns what is to be
    /// told to the sender.
    pub(crate) fn judge(&mut self, frame: Frame, now: Nanos, arrivals: &mut Vec<(Nanos, Frame)>) -> Option<Frame> {
        let (packets, bytes) = size(&frame);
        self.counters.offered += packets;
        self.counters.bytes += bytes;
        self.counters.frames += 1;
        if !self.up {
            self.counters.down += packets;
            self.note(&frame, now, Fate::Down);
            return None;
        }
        if let Some((traffic, told)) = self.conditions.blocked
            && concerns(traffic, &frame.bytes)
        {
            self.counters.blocked += packets;
            self.note(&frame, now, Fate::Blocked(traffic));
            return match told {
                Answer::Silence => None,
                Answer::Rejection => answer::answer(&frame, Reason::Refused, None),
            };
        }
        if let Some(most) = self.conditions.black_hole
            && frame.packet_length() > usize::from(most)
        {
            self.counters.too_long += packets;
            self.note(&frame, now, Fate::TooLong(most));
            return None;
        }
        if !self.conditions.single_packets() {
            let due = self.in_order(now + nanos(self.conditions.delay));
            self.note(&frame, now, Fate::Passed);
            arrivals.push((due, frame));
        } else if frame.offload.segments.is_some() {
            let frames = segment(frame);
            self.counters.frames += (frames.len() as u64).saturating_sub(1);
            frames.into_iter().for_each(|frame| self.judge_one(frame, now, arrivals));
        } else {
            self.judge_one(frame, now, arrivals);
        }
        None
    }

    fn judge_one(&mut self, mut frame: Frame, now: Nanos, arrivals: &mut Vec<(Nanos, Frame)>) {
        let (key, lost) = self.decide(&frame);
        if lost {
            self.counters.lost += 1;
            self.note(&frame, now, Fate::Lost);
            return;
        }
        let mut fate = Fate::Passed;
        if key.happens(About::Corrupt, self.conditions.corrupt) && frame.bytes.len() > ETHERNET {
            self.counters.corrupted += 1;
            checksum::complete(&mut frame);
            frame.offload.verified = false;
            let bits = (frame.bytes.len() - ETHERNET) as u64 * 8;
            let place = key.bits(About::Place) % bits;
            fate = Fate::Corrupted(place);
            let bit = usize::try_from(place).unwrap_or_default();
            frame.bytes[ETHERNET + bit / 8] ^= 1 << (bit % 8);
        }
        let Some(sent) = self.bottleneck(frame.bytes.len() as u64, now) else {
            self.counters.queue_full += 1;
            self.note(&frame, now, Fate::QueueFull);
            return;
        };
        let due = sent.saturating_add_signed(self.varied(key)).max(now);
        let due = match self.conditions.reorder {
            Some(reorder) if key.happens(About::Reorder, reorder.probability) => {
                self.counters.reordered += 1;
                fate = Fate::HeldBack(reorder.by);
                due + nanos(reorder.by)
            }
            _ => self.in_order(due),
        };
        self.note(&frame, now, fate);
        if key.happens(About::Duplicate, self.conditions.duplicate) {
            self.counters.duplicated += 1;
            self.note(&frame, now, Fate::Duplicated);
            arrivals.push((due, frame.clone()));
        }
        arrivals.push((due, frame));
    }

    /// Something behind the link has dropped a frame that crossed it.
    pub(crate) fn dropped_behind(&mut self, frame: &Frame, now: Nanos, fate: Fate) {
        let (packets, _) = size(frame);
        match fate {
            Fate::Filtered => self.counters.filtered += packets,
            _ => self.counters.cut += packets,
        }
        self.note(frame, now, fate);
    }

    /// Tells whoever watches what becomes of a frame.
    pub(crate) fn note(&mut self, frame: &Frame, now: Nanos, fate: Fate) {
        if let Some(watch) = &mut self.watch {
            watch.see(&frame.bytes, now, fate);
        }
    }

    /// The key of this packet's decisions, and whether it is lost.
    fn decide(&mut self, frame: &Frame) -> (Key, bool) {
        let class = class(&frame.bytes);
        let full = self.classes.len() >= MOST_CLASSES;
        let class = if full && !self.classes.contains_key(&class) { class % 64 } else { class };
        let state = self.classes.entry(class).or_default();
        let key = self.key.with(class).with(state.packets);
        state.packets += 1;
        let lost = match self.conditions.loss {
            Loss::None => false,
            Loss::Independent(probability) => key.happens(About::Loss, probability),
            Loss::Bursts { enter, leave, good, bad } => {
                state.bad ^= key.happens(About::Burst, if state.bad { leave } else { enter });
                key.happens(About::Loss, if state.bad { bad } else { good })
            }
        };
        (key, lost)
    }

    /// When the bottleneck has sent a frame of `length` bytes; none if its queue is full.
    fn bottleneck(&mut self, length: u64, now: Nanos) -> Option<Nanos> {
        let Some(rate) = self.conditions.rate else { return Some(now) };
        let bits = rate.bits_per_second.max(1);
        let waits = self.free_at.saturating_sub(now);
        // What waits, by the time that it still takes. 128 bits hold the product of any two of 64.
        let queued = u128::from(waits) * u128::from(bits) / 8_000_000_000;
        if waits > 0 && queued + u128::from(length) > u128::from(rate.queue) {
            return None;
        }
        let takes = u128::from(length) * 8_000_000_000 / u128::from(bits);
        self.free_at = self.free_at.max(now).saturating_add(Nanos::try_from(takes).unwrap_or(Nanos::MAX / 4));
        Some(self.free_at)
    }

    /// The delay of one packet; less than nothing counts as nothing further on.
    fn varied(&self, key: Key) -> i64 {
        let scaled = |factor: f64, by: Duration| -> i64 {
            #[expect(clippy::cast_possible_truncation, reason = "nanoseconds of at most some years")]
            let nanoseconds = (factor * by.as_secs_f64() * 1e9) as i64;
            nanoseconds
        };
        let more = match &self.conditions.jitter {
            Jitter::None => 0,
            Jitter::Uniform(by) => scaled(key.fraction(About::Jitter) * 2.0 - 1.0, *by),
            Jitter::Normal(by) => scaled(key.normal(), *by),
            Jitter::Table(table) => quantile(table, key.fraction(About::Jitter)),
        };
        signed(self.conditions.delay).saturating_add(more).max(0)
    }

    fn in_order(&mut self, due: Nanos) -> Nanos {
        self.last = self.last.max(due);
        self.last
    }
}

fn signed(duration: Duration) -> i64 {
    i64::try_from(nanos(duration)).unwrap_or(i64::MAX)
}

/// What lies at `fraction` of the way through a table, between its entries in a straight line.
fn quantile(table: &[Duration], fraction: f64) -> i64 {
    let Some(last) = table.len().checked_sub(1) else { return 0 };
    let place = fraction * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of the table, never negative"
    )]
    let below = (place as usize).min(last);
    let (low, high) = (signed(table[below]), signed(table[(below + 1).min(last)]));
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "between two durations")]
    let between = ((high - low) as f64 * place.fract()) as i64;
    low + between
}

/// Whether a rule about `traffic` is about this frame.
pub(crate) fn concerns(traffic: Traffic, frame: &[u8]) -> bool {
    let Some(packet) = Packet::in_frame(frame) else { return false };
    match traffic {
        Traffic::All => !packet.finds_neighbours(&frame[ETHERNET..]),
        Traffic::Tcp => packet.protocol == TCP,
        Traffic::Udp => packet.protocol == UDP,
    }
}

#[cfg(test)]
#[path = "direction_tests.rs"]
mod tests;
