use proptest::prelude::*;

use super::*;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn sent(id: u64, outcome: Outcome, begin: u64, end: u64) -> Attempt {
    let (from, to, digest) = ("a".into(), "b".into(), Digest::of(b"x"));
    Attempt { id, from, to, digest, begin: ms(begin), end: ms(end), outcome }
}

fn got(id: u64, at: u64) -> Receipt {
    Receipt { id, node: "b".into(), digest: Digest::of(b"x"), at: ms(at) }
}

fn history(attempts: &[Attempt], receipts: &[Receipt]) -> History {
    let mut history = History::new();
    attempts.iter().for_each(|attempt| history.attempt(attempt.clone()));
    receipts.iter().for_each(|receipt| history.receipt(receipt.clone()));
    history
}

#[test]
fn what_may_happen_on_any_network_is_no_violation() {
    let attempts = [
        sent(1, Outcome::Delivered, 0, 10),
        sent(2, Outcome::Refused, 0, 10),
        sent(3, Outcome::Reset, 0, 10),
        sent(4, Outcome::Reset, 0, 10),
    ];
    // Even after the client has given up.
    assert_eq!(history(&attempts, &[got(1, 5), got(4, 90)]).check(&Rules::default()), []);
}

#[test]
fn each_violation_is_found_and_told() {
    let delivered = || sent(1, Outcome::Delivered, 10, 20);
    let other = |receipt: Receipt| Receipt { digest: 7, ..receipt };
    for (attempts, receipts, told) in [
        (vec![], vec![got(1, 15)], "nobody sent 1, which b received at 0.015 s"),
        (vec![delivered()], vec![other(got(1, 15))], "b received other bytes than were sent as 1 at 0.015 s"),
        (vec![delivered()], vec![got(1, 15), got(1, 16)], "1 was received 2 times"),
        (vec![delivered()], vec![got(1, 9)], "1 was received at 0.009 s, before it was sent"),
        (vec![delivered()], vec![], "1 was confirmed at 0.020 s, and was never received"),
        (vec![sent(1, Outcome::Refused, 0, 1)], vec![got(1, 15)], "1 was refused, and was received at 0.015 s"),
        (vec![delivered(), delivered()], vec![got(1, 15)], "two attempts have the number 1"),
        (
            vec![delivered()],
            vec![Receipt { node: "c".into(), ..got(1, 15) }],
            "1 was sent to b, and c received it at 0.015 s",
        ),
    ] {
        let found = history(&attempts, &receipts).check(&Rules::default());
        assert_eq!(found.iter().map(Violation::to_string).collect::<Vec<_>>(), [told]);
    }
}

#[test]
fn an_early_end_is_a_violation_unless_it_may_be() {
    let mut history = history(&[sent(1, Outcome::Reset, 0, 10)], &[]);
    history.stub(Stub { id: 1, node: "b".into(), at: ms(4) });
    let found = history.check(&Rules::default());
    assert_eq!(
        found.iter().map(Violation::to_string).collect::<Vec<_>>(),
        ["b received 1 in part, with an orderly end at 0.004 s"]
    );
    assert_eq!(history.check(&Rules { early_ends: true, ..Rules::default() }), []);
}

#[test]
fn a_forbidden_pair_may_try_and_must_not_succeed_while_it_is_forbidden() {
    let forbidden = |from: &str, to: &str| Rules {
        forbidden: vec![Forbidden { from: from.into(), to: to.into(), since: ms(100), until: ms(200) }],
        ..Rules::default()
    };
    let found = |rules: &Rules, attempt: Attempt, receipts: &[Receipt]| history(&[attempt], receipts).check(rules);
    let ab = forbidden("a", "b");
    let told = |at| vec![Violation::Forbidden { id: 1, from: "a".into(), to: "b".into(), at: ms(at) }];
    assert_eq!(found(&ab, sent(1, Outcome::Delivered, 100, 120), &[got(1, 110)]), told(110));
    assert_eq!(found(&ab, sent(1, Outcome::Reset, 199, 220), &[got(1, 210)]), told(210));
    assert_eq!(found(&ab, sent(1, Outcome::Refused, 150, 160), &[]), []);
    assert_eq!(found(&ab, sent(1, Outcome::Reset, 150, 160), &[]), []);
    // Begun before it was forbidden, or after that.
    assert_eq!(found(&ab, sent(1, Outcome::Delivered, 99, 120), &[got(1, 110)]), []);
    assert_eq!(found(&ab, sent(1, Outcome::Delivered, 200, 220), &[got(1, 210)]), []);
    assert_eq!(found(&forbidden("b", "a"), sent(1, Outcome::Delivered, 100, 120), &[got(1, 110)]), []);
}

#[test]
fn recovery_is_counted_from_the_end_of_the_fault() {
    let rules = Rules {
        heals: vec![Heal { at: ms(100), within: ms(50), pairs: vec![("a".into(), "b".into())] }],
        ..Rules::default()
    };
    for (end, took) in
        [(100, None), (150, None), (151, Some("only 0.051 s later")), (99, Some("never reached b again"))]
    {
        let found = history(&[sent(1, Outcome::Delivered, 0, end)], &[got(1, 1)]).check(&rules);
        match took {
            None => assert_eq!(found, []),
            Some(took) => assert!(found.len() == 1 && found[0].to_string().contains(took), "{found:?}"),
        }
    }
    // What is refused or reset is no recovery.
    let found = history(&[sent(1, Outcome::Refused, 100, 110), sent(2, Outcome::Reset, 100, 110)], &[]).check(&rules);
    assert_eq!(found.len(), 1);
}

#[test]
fn a_history_that_is_too_long_is_not_taken_for_a_good_one() {
    let mut history = History::new();
    for id in 0..=MOST as u64 {
        history.receipt(got(id, 1));
    }
    assert_eq!(history.receipts().len(), MOST);
    assert_eq!(history.check(&Rules::default())[0], Violation::Incomplete { left_out: 1 });
}

#[test]
fn a_digest_is_that_of_the_standard_and_does_not_depend_on_pieces() {
    // <http://www.isthe.com/chongo/tech/comp/fnv/>: of "", "a" and "foobar".
    assert_eq!(Digest::of(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(Digest::of(b"a"), 0xaf63_dc4c_8601_ec8c);
    let mut digest = Digest::default();
    [&b"foo"[..], b"", b"bar"].into_iter().for_each(|part| digest.update(part));
    assert_eq!(digest.value(), 0x8594_4171_f739_67e8);
}

/// The same rules, asked of every attempt and receipt one by one.
fn model(history: &History, rules: &Rules) -> Vec<Violation> {
    let mut found = Vec::new();
    let (attempts, receipts) = (history.attempts(), history.receipts());
    for Receipt { id, node, digest, at } in receipts {
        let (id, at, node) = (*id, *at, node.clone());
        let senders: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.id == id).collect();
        if senders.is_empty() {
            found.push(Violation::NobodySent { id, node: node.clone(), at });
        }
        if let [sender] = *senders {
            if sender.digest != *digest {
                found.push(Violation::WrongBytes { id, node: node.clone(), at });
            }
            if sender.to != node {
                found.push(Violation::WrongPlace { id, to: sender.to.clone(), node: node.clone(), at });
            }
            if sender.begin > at {
                found.push(Violation::BeforeItWasSent { id, at });
            }
        }
    }
    for id in 0..10 {
        let senders: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.id == id).collect();
        let times: Vec<Duration> =
            receipts.iter().filter(|receipt| receipt.id == id).map(|receipt| receipt.at).collect();
        match *senders {
            [] => {}
            [sender] => {
                if times.len() >= 2 {
                    found.push(Violation::Duplicate { id, times: times.len() });
                }
                if sender.outcome == Outcome::Refused && !times.is_empty() {
                    found.push(Violation::RefusedAndReceived { id, at: *times.iter().min().unwrap() });
                }
                if sender.outcome == Outcome::Delivered && times.is_empty() {
                    found.push(Violation::ConfirmedAndLost { id, at: sender.end });
                }
            }
            _ => found.push(Violation::NumberedTwice { id }),
        }
        for sender in senders {
            for rule in &rules.forbidden {
                let about = rule.from == sender.from && rule.to == sender.to;
                let mut ends = times.clone();
                ends.extend((sender.outcome == Outcome::Delivered).then_some(sender.end));
                if about && sender.begin >= rule.since && sender.begin < rule.until && !ends.is_empty() {
                    let (from, to) = (sender.from.clone(), sender.to.clone());
                    found.push(Violation::Forbidden { id, from, to, at: *ends.iter().min().unwrap() });
                }
            }
        }
    }
    for heal in &rules.heals {
        for (from, to) in &heal.pairs {
            let ends = attempts.iter().filter(|attempt| {
                attempt.from == *from
                    && attempt.to == *to
                    && attempt.outcome == Outcome::Delivered
                    && attempt.end >= heal.at
            });
            let first = ends.map(|attempt| attempt.end).min();
            if first.is_none_or(|first| first > heal.at + heal.within) {
                let took = first.map(|first| first - heal.at);
                let (from, to, healed, within) = (from.clone(), to.clone(), heal.at, heal.within);
                found.push(Violation::LateRecovery { from, to, healed, within, took });
            }
        }
    }
    found.sort();
    found
}

fn node() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()])
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let outcome = prop::sample::select(vec![Outcome::Delivered, Outcome::Refused, Outcome::Reset]);
    (0..10_u64, node(), node(), 0..2_u64, 0..20_u64, 0..10_u64, outcome).prop_map(
        |(id, from, to, digest, begin, lasts, outcome)| Attempt {
            id,
            from,
            to,
            digest,
            begin: ms(begin),
            end: ms(begin + lasts),
            outcome,
        },
    )
}

fn receipt() -> impl Strategy<Value = Receipt> {
    (0..10_u64, node(), 0..2_u64, 0..30_u64).prop_map(|(id, node, digest, at)| Receipt { id, node, digest, at: ms(at) })
}

proptest! {
    #[test]
    fn it_finds_what_a_plain_look_at_everything_finds(
        attempts in prop::collection::vec(attempt(), 0..12),
        receipts in prop::collection::vec(receipt(), 0..12),
        forbidden in prop::option::of((node(), node(), 0..20_u64, 0..20_u64)),
        heals in prop::collection::vec((0..30_u64, 0..10_u64, node(), node()), 0..4),
    ) {
        let history = history(&attempts, &receipts);
        let forbidden = forbidden.map(|(from, to, since, lasts)| Forbidden { from, to, since: ms(since), until: ms(since + lasts) });
        let heals = heals.into_iter().map(|(at, within, from, to)| Heal { at: ms(at), within: ms(within), pairs: vec![(from, to)] });
        let rules = Rules { forbidden: forbidden.into_iter().collect(), heals: heals.collect(), ..Rules::default() };
        prop_assert_eq!(history.check(&rules), model(&history, &rules));
    }

    #[test]
    fn no_run_of_a_network_that_keeps_the_rules_is_blamed(
        fates in prop::collection::vec((0..3_u8, any::<bool>(), 0..100_u64, 1..10_u64), 0..200),
    ) {
        let mut history = History::new();
        for (id, (outcome, arrives, begin, lasts)) in (0..).zip(fates) {
            let outcome = [Outcome::Delivered, Outcome::Refused, Outcome::Reset][usize::from(outcome)];
            history.attempt(sent(id, outcome, begin, begin + lasts));
            if outcome == Outcome::Delivered || (arrives && outcome == Outcome::Reset) {
                history.receipt(got(id, begin + lasts));
            }
        }
        prop_assert_eq!(history.check(&Rules::default()), []);
    }
}
