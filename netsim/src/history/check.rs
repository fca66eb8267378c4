//! Finds what must not have happened. Takes time in proportion to the history, and to the rules for each pair.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{Attempt, Forbidden, Heal, History, Outcome, Receipt, Rules, Stub, Violation};

/// Attempts, or receipts, by their number.
type Numbered<'a, T> = BTreeMap<u64, Vec<&'a T>>;

impl History {
    /// Every violation, by kind and number.
    #[must_use]
    pub fn check(&self, rules: &Rules) -> Vec<Violation> {
        let attempts = numbered(&self.attempts, |attempt| attempt.id);
        let receipts = numbered(&self.receipts, |receipt| receipt.id);
        let mut found = Vec::new();
        if self.left_out > 0 {
            found.push(Violation::Incomplete { left_out: self.left_out });
        }
        for (&id, sent) in &attempts {
            let got = receipts.get(&id).map_or(&[][..], Vec::as_slice);
            match **sent {
                [attempt] => judge(attempt, got, &mut found),
                // What arrived cannot be told apart.
                _ => found.push(Violation::NumberedTwice { id }),
            }
        }
        for (&id, got) in receipts.iter().filter(|(id, _)| !attempts.contains_key(id)) {
            found.extend(got.iter().map(|receipt| {
                let Receipt { node, at, .. } = receipt;
                Violation::NobodySent { id, node: node.clone(), at: *at }
            }));
        }
        if !rules.early_ends {
            let stubs = self.stubs.iter().cloned();
            found.extend(stubs.map(|Stub { id, node, at }| Violation::CutShort { id, node, at }));
        }
        self.forbidden(&rules.forbidden, &receipts, &mut found);
        self.recovery(&rules.heals, &mut found);
        found.sort();
        found
    }

    fn forbidden(&self, rules: &[Forbidden], receipts: &Numbered<'_, Receipt>, found: &mut Vec<Violation>) {
        let mut pairs: HashMap<(&str, &str), Vec<&Forbidden>> = HashMap::new();
        for rule in rules {
            pairs.entry((&rule.from, &rule.to)).or_default().push(rule);
        }
        for attempt in &self.attempts {
            let Attempt { id, from, to, begin, end, outcome, .. } = attempt;
            let rules = pairs.get(&(&**from, &**to)).map_or(&[][..], Vec::as_slice);
            if !rules.iter().any(|rule| rule.since <= *begin && *begin < rule.until) {
                continue;
            }
            let received = receipts.get(id).and_then(|got| got.iter().map(|receipt| receipt.at).min());
            let confirmed = (*outcome == Outcome::Delivered).then_some(*end);
            if let Some(at) = received.into_iter().chain(confirmed).min() {
                found.push(Violation::Forbidden { id: *id, from: from.clone(), to: to.clone(), at });
            }
        }
    }

    fn recovery(&self, heals: &[Heal], found: &mut Vec<Violation>) {
        // When something was delivered, of each pair in order.
        let mut delivered: HashMap<(&str, &str), Vec<Duration>> = HashMap::new();
        for attempt in self.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Delivered) {
            delivered.entry((&attempt.from, &attempt.to)).or_default().push(attempt.end);
        }
        delivered.values_mut().for_each(|times| times.sort_unstable());
        for Heal { at, within, pairs } in heals {
            for (from, to) in pairs {
                let times = delivered.get(&(&**from, &**to)).map_or(&[][..], Vec::as_slice);
                let first = times.get(times.partition_point(|time| time < at));
                let took = first.map(|time| *time - *at);
                if took.is_none_or(|took| took > *within) {
                    let (from, to) = (from.clone(), to.clone());
                    found.push(Violation::LateRecovery { from, to, healed: *at, within: *within, took });
                }
            }
        }
    }
}

fn numbered<T>(all: &[T], number: impl Fn(&T) -> u64) -> Numbered<'_, T> {
    let mut by_number = Numbered::new();
    for one in all {
        by_number.entry(number(one)).or_default().push(one);
    }
    by_number
}

/// Judges what came of one attempt.
fn judge(attempt: &Attempt, got: &[&Receipt], found: &mut Vec<Violation>) {
    let id = attempt.id;
    for Receipt { node, digest, at, .. } in got {
        if *at < attempt.begin {
            found.push(Violation::BeforeItWasSent { id, at: *at });
        }
        if *node != attempt.to {
            found.push(Violation::WrongPlace { id, to: attempt.to.clone(), node: node.clone(), at: *at });
        }
        if *digest != attempt.digest {
            found.push(Violation::WrongBytes { id, node: node.clone(), at: *at });
        }
    }
    if got.len() > 1 {
        found.push(Violation::Duplicate { id, times: got.len() });
    }
    match (attempt.outcome, got.iter().map(|receipt| receipt.at).min()) {
        (Outcome::Refused, Some(at)) => found.push(Violation::RefusedAndReceived { id, at }),
        (Outcome::Delivered, None) => found.push(Violation::ConfirmedAndLost { id, at: attempt.end }),
        (Outcome::Delivered | Outcome::Reset, Some(_)) | (Outcome::Refused | Outcome::Reset, None) => {}
    }
}
