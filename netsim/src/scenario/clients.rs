//! Clients that the simulator plays itself: what they send, and what must come of it.

use std::time::Duration;

use super::document::{Table, Value};
use super::faults::Injection;
use super::names::{Names, check_name};
use super::problem::{Span, nearest, quote};
use super::programs::{ServiceKind, ServiceSpec, filled};
use super::units::duration_text;
use super::{Item, Random};

/// Between two exchanges of one of a client's workers, if nothing else is said.
const EVERY: Duration = Duration::from_millis(100);
/// How long an exchange may take, if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an exchange, each way.
const SIZE: u64 = 16_000;
/// The most of that.
pub(crate) const MOST_SIZE: u64 = 1 << 30;
/// Exchanges of one client at once.
const MOST_AT_ONCE: i64 = 100;
/// By this much a fault may end later than it was to, beside others on a busy machine.
const SLACK: Duration = Duration::from_millis(500);

/// A client that sends something numbered again and again, and knows what must come back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClientSpec {
    pub(crate) name: String,
    pub(crate) on: String,
    /// Where it connects to: `ADDRESS:PORT`, or `HOST:PORT`.
    pub(crate) to: String,
    /// The receiver at which it must arrive.
    pub(crate) service: String,
    pub(crate) every: Duration,
    pub(crate) at_once: u32,
    pub(crate) size: u64,
    pub(crate) answer: u64,
    /// Over how long the bytes of one exchange are sent.
    pub(crate) spread: Duration,
    pub(crate) timeout: Duration,
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    /// The least share of its exchanges that is answered.
    pub(crate) served: Option<f64>,
    /// How soon after a fault it must be served again.
    pub(crate) back_within: Option<Duration>,
    /// Nothing of it may arrive.
    pub(crate) forbidden: bool,
    /// What arrives may end early without an error.
    pub(crate) early_ends: bool,
}

impl ClientSpec {
    pub(crate) fn ends(&self) -> Duration {
        self.at + self.lasts
    }
}

/// Reads `[client.NAME]`.
pub(crate) fn read(
    name: &Item<&str>,
    mut table: Table<'_>,
    names: &Names<'_>,
    services: &[ServiceSpec],
) -> Option<ClientSpec> {
    check_name(name, names.problems());
    let on = table.need("on", "on = \"alpha\"").and_then(Value::string).and_then(|host| names.host(&host));
    let to = table.need("to", "to = \"{ip.beta}:80\"").and_then(Value::string).map(|to| {
        if to.value.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
            let hint = Some("write \"{ip.beta}:80\"".to_owned());
            names.problems().note(&to.span, format!("{} is no address with a port", quote(to.value)), hint);
        }
        filled(&to, names)
    });
    let service = table.need("service", "service = \"NAME\"").and_then(Value::string);
    let service = service.and_then(|service| receiver(&service, services, names));
    let mut time = |key| table.get(key).and_then(Value::duration).map(|time| time.value);
    let (every, timeout) = (time("every").unwrap_or(EVERY), time("timeout").unwrap_or(PATIENCE));
    let (spread, at) = (time("spread").unwrap_or_default(), time("at").unwrap_or_default());
    let back_within = time("back_within");
    let lasts = table.need("for", "for = \"10s\"").and_then(Value::duration);
    let mut size = |key| {
        let Some(value) = table.get(key) else { return Some(SIZE) };
        let size = value.clone().size()?.value;
        if size > MOST_SIZE {
            value.wrong("that is more than a client sends at once", Some("write 1000MB at most".to_owned()));
        }
        Some(size)
    };
    let (size, answer) = (size("size"), size("answer"));
    let at_once = table.get("at_once").and_then(|value| value.integer(1..=MOST_AT_ONCE));
    let served = table.get("served").and_then(Value::share);
    let mut whether = |key| table.get(key).and_then(Value::boolean).unwrap_or_default();
    let (forbidden, early_ends) = (whether("forbidden"), whether("early_ends"));
    if forbidden && (served.is_some() || back_within.is_some()) {
        let hint = Some("leave out `served` and `back_within`".to_owned());
        names.problems().note(table.span(), "a client that is forbidden is not served", hint);
    }
    table.finish();
    let at_once = at_once.and_then(|count| u32::try_from(count.value).ok()).unwrap_or(1);
    Some(ClientSpec {
        name: name.value.to_owned(),
        on: on?,
        to: to?,
        service: service?,
        every: every.max(Duration::from_millis(1)),
        at_once,
        size: size?,
        answer: answer?,
        spread,
        timeout,
        at,
        lasts: lasts?.value,
        served,
        back_within,
        forbidden,
        early_ends,
    })
}

fn receiver(name: &Item<&str>, services: &[ServiceSpec], names: &Names<'_>) -> Option<String> {
    let receivers = services.iter().filter(|service| service.kind == ServiceKind::Receiver);
    let known: Vec<&str> = receivers.map(|service| &*service.name).collect();
    if known.contains(&name.value) {
        return Some(name.value.to_owned());
    }
    let hint = nearest(name.value, known.iter().copied());
    let hint = hint.unwrap_or_else(|| "it takes a [service.NAME] with `kind = \"receiver\"`".to_owned());
    names.problems().note(&name.span, format!("there is no receiver {}", quote(name.value)), Some(hint));
    None
}

/// Notes it where a client would not be there to see that it is served again after the faults.
pub(crate) fn see_recovery(
    client: &ClientSpec,
    span: &Span,
    faults: &[Injection],
    random: Option<&Random>,
    names: &Names<'_>,
) {
    let Some(within) = client.back_within else { return };
    if let Some(random) = random
        && client.ends() < random.healed_by + within
    {
        let message = format!("{} ends before it could be served again after the last random fault", client.name);
        let hint = format!("let it end at {} at the earliest", duration_text(random.healed_by + within));
        names.problems().note(span, message, Some(hint));
    }
    let times = faults.iter().map(|fault| (fault.at, end_of(fault)));
    if random.is_none() && heals(times, client).is_empty() {
        let message = format!("no fault ends while {} could be served again", client.name);
        let hint = "it is looked at for `back_within` after a fault, until the next begins".to_owned();
        names.problems().note(span, message, Some(hint));
    }
}

fn end_of(injection: &Injection) -> Option<Duration> {
    if injection.fault.is_instant() { Some(injection.at) } else { injection.lasts.map(|lasts| injection.at + lasts) }
}

/// The ends of faults after which a client must be served again: when none is in force any more, the client is there for
/// as long as it may take, and no other begins meanwhile. Faults are given by begin and end; none: they do not end.
pub(crate) fn heals(
    faults: impl IntoIterator<Item = (Duration, Option<Duration>)>,
    client: &ClientSpec,
) -> Vec<Duration> {
    let Some(within) = client.back_within else { return Vec::new() };
    let mut faults: Vec<_> = faults.into_iter().map(|(at, until)| (at, until.unwrap_or(Duration::MAX))).collect();
    faults.sort_unstable();
    // Faults that overlap are one.
    let mut whole: Vec<(Duration, Duration)> = Vec::new();
    for (at, until) in faults {
        match whole.last_mut() {
            Some((_, end)) if at <= *end => *end = until.max(*end),
            _ => whole.push((at, until)),
        }
    }
    let next = whole.iter().skip(1).map(|(at, _)| *at).chain([Duration::MAX]);
    let ends = whole.iter().zip(next).map(|((_, until), next)| (*until, next));
    let seen = ends.filter(|(until, next)| {
        let enough = until.saturating_add(within);
        client.at <= *until && enough <= *next && enough <= client.ends() + SLACK
    });
    seen.map(|(until, _)| until).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(at: u64, lasts: u64, within: u64) -> ClientSpec {
        let seconds = Duration::from_secs;
        ClientSpec {
            name: "c".into(),
            on: "a".into(),
            to: "b:1".into(),
            service: "s".into(),
            every: EVERY,
            at_once: 1,
            size: 1,
            answer: 1,
            spread: Duration::ZERO,
            timeout: PATIENCE,
            at: seconds(at),
            lasts: seconds(lasts),
            served: None,
            back_within: Some(seconds(within)),
            forbidden: false,
            early_ends: false,
        }
    }

    #[test]
    fn a_client_must_be_served_again_when_no_fault_is_left_and_there_is_time_to_see_it() {
        let seconds = Duration::from_secs;
        let found = |faults: &[(u64, Option<u64>)], client: &ClientSpec| {
            let faults = faults.iter().map(|(at, until)| (seconds(*at), until.map(seconds)));
            heals(faults, client).into_iter().map(|time| time.as_secs()).collect::<Vec<u64>>()
        };
        let client = client(0, 30, 5);
        assert!(found(&[], &client).is_empty());
        assert_eq!(found(&[(3, Some(8))], &client), [8]);
        // One after the other, the second too soon after the first for the first to be judged.
        assert_eq!(found(&[(3, Some(8)), (14, Some(15))], &client), [8, 15]);
        assert_eq!(found(&[(3, Some(8)), (12, Some(15))], &client), [15]);
        // Overlapping ones are over with the last of them; one that does not end is never over.
        assert_eq!(found(&[(3, Some(8)), (4, Some(6)), (7, Some(9))], &client), [9]);
        assert!(found(&[(3, Some(8)), (4, None)], &client).is_empty());
        // The client has gone, or has not come yet.
        assert!(found(&[(3, Some(26))], &client).is_empty());
        assert!(found(&[(3, Some(5))], &super::tests::client(6, 30, 5)).is_empty());
    }
}
