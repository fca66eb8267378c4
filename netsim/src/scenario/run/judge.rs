//! What has become of the exchanges of a scenario's clients.

use std::time::Duration;

use super::exchange::Journal;
use crate::history::{Attempt, Forbidden, Heal, History, Outcome, Rules, Violation};
use crate::report::{Check, Fault};
use crate::scenario::clients::{ClientSpec, heals};
use crate::scenario::units::duration_text;

/// Violations that are told one by one.
const TOLD: usize = 4;

/// Judges all that clients and receivers wrote down, as checks that are decided at `at`.
pub(super) fn judge(clients: &[ClientSpec], journal: &Journal, faults: &[Fault], at: Duration) -> Vec<Check> {
    if clients.is_empty() {
        return Vec::new();
    }
    let history = journal.history();
    let rules = rules(clients, faults);
    // Late recoveries are told by client, below; nothing that is forbidden is told only there.
    let (late, wrong): (Vec<_>, Vec<_>) = history
        .check(&rules)
        .into_iter()
        .filter(|found| !may_end_early(found, clients, journal))
        .partition(|found| matches!(found, Violation::LateRecovery { .. }));
    let whole = Check {
        at,
        name: "what clients send arrives whole, once, and where it may".to_owned(),
        ok: wrong.is_empty(),
        detail: if wrong.is_empty() { totals(history.attempts().iter(), clients) } else { told(&wrong) },
    };
    let mut checks = vec![whole];
    for client in clients {
        checks.push(served(client, &history, at));
        checks.extend(back(client, &history, &rules.heals, &late, at));
    }
    checks
}

fn rules(clients: &[ClientSpec], faults: &[Fault]) -> Rules {
    let pair = |client: &ClientSpec| (client.name.clone(), client.service.clone());
    let forbidden = clients.iter().filter(|client| client.forbidden).map(|client| {
        let (from, to) = pair(client);
        Forbidden { from, to, since: Duration::ZERO, until: Duration::MAX }
    });
    let heals = clients.iter().flat_map(|client| {
        let within = client.back_within.unwrap_or_default();
        let ends = heals(faults.iter().map(|fault| (fault.at, fault.until)), client).into_iter();
        ends.map(move |at| Heal { at, within, pairs: vec![pair(client)] })
    });
    // Whose exchanges may end early is a matter of each client.
    Rules { early_ends: false, forbidden: forbidden.collect(), heals: heals.collect() }
}

/// Whether this is an early end that its client puts up with, of what it sent or of the answer.
fn may_end_early(found: &Violation, clients: &[ClientSpec], journal: &Journal) -> bool {
    let Violation::CutShort { id, node, .. } = found else { return false };
    match journal.client(*id) {
        Some(name) => clients.iter().any(|client| client.name == name && client.early_ends),
        // It ended before its number: it may be of any client of that service.
        None => clients.iter().any(|client| client.service == *node && client.early_ends),
    }
}

/// Whether a client got through often enough, or not at all if it must not.
fn served(client: &ClientSpec, history: &History, at: Duration) -> Check {
    let own = || history.attempts().iter().filter(|attempt| attempt.from == client.name);
    let all = own().count();
    let delivered = own().filter(|attempt| attempt.outcome == Outcome::Delivered).count();
    let (name, ok) = match (client.forbidden, client.served) {
        (true, _) => (format!("{} gets nothing through", client.name), delivered == 0 && all > 0),
        (false, Some(least)) => {
            #[expect(clippy::cast_precision_loss, reason = "there are at most a million of them")]
            let share = delivered as f64 / all.max(1) as f64;
            (format!("{} is served {}% of the time at least", client.name, least * 100.0), share >= least)
        }
        // A client that was never served has shown nothing.
        (false, None) => (format!("{} is served", client.name), delivered > 0),
    };
    Check { at, name, ok, detail: totals(own(), std::slice::from_ref(client)) }
}

/// Whether a client was served again after each fault.
fn back(client: &ClientSpec, history: &History, heals: &[Heal], late: &[Violation], at: Duration) -> Option<Check> {
    let within = client.back_within?;
    let own: Vec<&Heal> = heals.iter().filter(|heal| heal.pairs.iter().any(|(from, _)| *from == client.name)).collect();
    let late: Vec<Violation> = late.iter().filter(|found| is_of(found, client)).cloned().collect();
    let took = own.iter().filter_map(|heal| {
        let delivered = history.attempts().iter().filter(|attempt| {
            attempt.from == client.name && attempt.outcome == Outcome::Delivered && attempt.end >= heal.at
        });
        Some(delivered.map(|attempt| attempt.end).min()? - heal.at)
    });
    let detail = match (late.is_empty(), took.max()) {
        (false, _) => told(&late),
        (true, Some(most)) => format!("after {:.2} s at most", most.as_secs_f64()),
        (true, None) => "no fault has ended in time to see it".to_owned(),
    };
    // A run in which there was nothing to see shows nothing.
    let ok = late.is_empty() && !own.is_empty();
    Some(Check { at, name: format!("{} is served again within {}", client.name, duration_text(within)), ok, detail })
}

fn is_of(found: &Violation, client: &ClientSpec) -> bool {
    matches!(found, Violation::LateRecovery { from, .. } if *from == client.name)
}

/// How many exchanges came to what; answers are not counted.
fn totals<'h>(attempts: impl Iterator<Item = &'h Attempt>, clients: &[ClientSpec]) -> String {
    let mut counts = [0_usize; 3];
    for attempt in attempts.filter(|attempt| clients.iter().any(|client| client.name == attempt.from)) {
        counts[attempt.outcome as usize] += 1;
    }
    let [delivered, refused, reset] = counts;
    format!("{} sent: {delivered} answered, {refused} refused, {reset} broken off", delivered + refused + reset)
}

fn told(found: &[Violation]) -> String {
    let all: Vec<String> = found.iter().take(TOLD).map(Violation::to_string).collect();
    match found.len().saturating_sub(TOLD) {
        0 => all.join("; "),
        more => format!("{}; and {more} more", all.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::exchange::numbers;
    use super::*;
    use crate::history::{Digest, Receipt, Stub};

    fn client(name: &str) -> ClientSpec {
        ClientSpec {
            name: name.into(),
            on: "a".into(),
            to: "b:1".into(),
            service: "page".into(),
            every: Duration::from_millis(100),
            at_once: 1,
            size: 1,
            answer: 1,
            spread: Duration::ZERO,
            timeout: Duration::from_secs(1),
            at: Duration::ZERO,
            lasts: Duration::from_secs(20),
            served: None,
            back_within: None,
            forbidden: false,
            early_ends: false,
        }
    }

    /// An exchange of a client, at a second, and whether it was answered.
    fn exchange(journal: &Journal, from: &str, id: u64, second: u64, outcome: Outcome, arrives: bool) {
        let (digest, begin) = (Digest::of(b"x"), Duration::from_secs(second));
        let to = "page".to_owned();
        let mut history = journal.history();
        history.attempt(Attempt { id, from: from.into(), to: to.clone(), digest, begin, end: begin, outcome });
        if arrives {
            history.receipt(Receipt { id, node: to, digest, at: begin });
        }
    }

    fn oks(clients: &[ClientSpec], journal: &Journal, faults: &[Fault]) -> Vec<bool> {
        judge(clients, journal, faults, Duration::ZERO).iter().map(|check| check.ok).collect()
    }

    #[test]
    fn a_share_and_a_recovery_are_judged_for_each_client() {
        let seconds = Duration::from_secs;
        let fault = |at, until| Fault { at: seconds(at), until: Some(seconds(until)), kind: "pair".into(), on: vec![] };
        let good = ClientSpec { served: Some(0.5), back_within: Some(seconds(3)), ..client("good") };
        let journal = Journal::default();
        exchange(&journal, "good", 1, 1, Outcome::Delivered, true);
        exchange(&journal, "good", 2, 5, Outcome::Reset, false);
        exchange(&journal, "good", 3, 9, Outcome::Delivered, true);
        let clients = [good.clone()];
        assert_eq!(oks(&clients, &journal, &[fault(4, 7)]), [true, true, true]);
        let checks = judge(&clients, &journal, &[fault(4, 7)], Duration::ZERO);
        assert_eq!(checks[1].detail, "3 sent: 2 answered, 0 refused, 1 broken off");
        assert_eq!(checks[2].detail, "after 2.00 s at most");
        // Too late, nothing to see, and too few.
        assert_eq!(oks(&clients, &journal, &[fault(4, 5)]), [true, true, false]);
        assert_eq!(oks(&clients, &journal, &[]), [true, true, false]);
        let strict = ClientSpec { served: Some(0.7), ..good };
        assert_eq!(oks(&[strict], &journal, &[fault(4, 7)]), [true, false, true]);
    }

    #[test]
    fn a_client_that_must_not_get_through_is_told_apart_from_one_that_does_not() {
        let intruder = ClientSpec { forbidden: true, ..client("intruder") };
        let clients = [intruder, client("guest")];
        let journal = Journal::default();
        exchange(&journal, "intruder", 1, 1, Outcome::Reset, false);
        exchange(&journal, "guest", 2, 1, Outcome::Refused, false);
        assert_eq!(oks(&clients, &journal, &[]), [true, true, false]);
        exchange(&journal, "guest", 3, 2, Outcome::Delivered, true);
        assert_eq!(oks(&clients, &journal, &[]), [true, true, true]);
        // It has got there, though it does not know.
        exchange(&journal, "intruder", 4, 2, Outcome::Reset, true);
        assert_eq!(oks(&clients, &journal, &[]), [false, true, true]);
        let told = &judge(&clients, &journal, &[], Duration::ZERO)[0].detail;
        assert_eq!(told, "intruder must not reach page, and did with 4 at 2.000 s");
    }

    #[test]
    fn an_early_end_is_forgiven_the_client_that_may_have_one_and_no_other() {
        let lenient = ClientSpec { early_ends: true, ..client("lenient") };
        let elsewhere = ClientSpec { service: "notes".into(), ..client("elsewhere") };
        let clients = [lenient, client("strict"), elsewhere];
        let whole = |ends: &[(u64, &str)]| {
            let journal = Journal::new(clients.iter().map(|client| client.name.clone()));
            for (id, node) in ends {
                journal.history().stub(Stub { id: *id, node: (*node).into(), at: Duration::ZERO });
            }
            oks(&clients, &journal, &[])[0]
        };
        // What the first client sends and is answered, and the second.
        let [[sent, answer], [strict, back]] = [0, 1].map(|client| numbers(client, 5));
        assert!(whole(&[(sent, "page"), (answer, "lenient")]));
        assert!(!whole(&[(strict, "page")]) && !whole(&[(back, "strict")]));
        assert!(!whole(&[(sent, "page"), (strict, "page")]));
        // Whose it was is not known: it was on its way to the one service or the other.
        assert!(whole(&[(0, "page")]) && !whole(&[(0, "notes")]));
    }

    #[test]
    fn a_client_that_never_tried_has_shown_nothing() {
        let intruder = ClientSpec { forbidden: true, ..client("intruder") };
        assert_eq!(oks(&[intruder, client("guest")], &Journal::default(), &[]), [true, false, false]);
        assert_eq!(judge(&[], &Journal::default(), &[], Duration::ZERO), []);
    }
}
