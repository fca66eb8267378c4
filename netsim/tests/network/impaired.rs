//! Delay, loss and what else a link does, as sockets meet it.

use std::io::ErrorKind;
use std::time::Instant;

use netsim::{Answer, Jitter, Loss, Traffic};

use super::*;

pub(super) fn a_ping_takes_the_delay_there_and_back(backend: Backend) -> Outcome {
    let pair = Pair::new(backend, clean().delay(ms(20)).jitter(Jitter::Uniform(ms(2))))?;
    for (left, right) in [("10.1.0.1", "10.1.0.2"), ("fd00::1", "fd00::2")] {
        let (asker, answerer) = (udp(pair.left(), left.parse()?, 0)?, udp(pair.right(), right.parse()?, 7)?);
        asker.connect(answerer.local_addr()?)?;
        let mut took = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            asker.send(b"ping")?;
            let (length, from) = answerer.recv_from(&mut [0; 16])?;
            answerer.send_to(&[0; 4][..length], from)?;
            asker.recv(&mut [0; 16])?;
            took.push(start.elapsed());
        }
        // The first one finds the neighbours, too.
        let least = took.iter().min().copied().unwrap_or_default();
        assert!(least >= ms(36), "{took:?}");
        assert!(least < ms(300), "{took:?}");
    }
    Ok(())
}

pub(super) fn tcp_brings_everything_through_delay_and_loss(backend: Backend) -> Outcome {
    let pair = Pair::new(backend, clean().delay(ms(2)).loss(0.02))?;
    transfer(pair.left(), pair.right(), 1 << 20)?;
    let [there, _] = pair.network.counters(pair.link)?;
    assert!(there.lost > 0 && there.lost < there.offered / 10, "{there:?}");
    Ok(())
}

pub(super) fn tcp_survives_everything_that_a_link_can_do(backend: Backend) -> Outcome {
    let loss = Loss::Bursts { enter: 0.005, leave: 0.3, good: 0.0, bad: 0.7 };
    let all = clean().delay(ms(1)).lose(loss).reorder(0.02, ms(1)).duplicate(0.02).corrupt(0.01);
    let pair = Pair::new(backend, all.rate(200_000_000, 1 << 18))?;
    transfer(pair.left(), pair.right(), 1 << 20)?;
    let [there, _] = pair.network.counters(pair.link)?;
    let each = [there.lost, there.reordered, there.duplicated, there.corrupted];
    assert!(each.iter().all(|&count| count > 0), "{there:?}");
    Ok(())
}

pub(super) fn super_packets_cross_links_that_do_not_judge_single_packets(backend: Backend) -> Outcome {
    const LENGTH: usize = 4 << 20;
    let pair = Pair::new(backend, clean())?;
    let least = (LENGTH / 1448) as u64;
    let mut before = 0;
    for (conditions, single) in [
        (clean(), false),
        (clean().rate(2_000_000_000, 4 << 20), true),
        (clean().delay(ms(1)), false),
        (clean().loss(0.001), true),
    ] {
        pair.network.set_conditions(pair.link, conditions.clone())?;
        transfer(pair.left(), pair.right(), LENGTH)?;
        let [there, _] = pair.network.counters(pair.link)?;
        let frames = there.frames - before;
        before = there.frames;
        assert!(if single { frames >= least } else { frames < least }, "{frames} frames with {conditions:?}");
    }
    Ok(())
}

pub(super) fn a_rate_is_kept(backend: Backend) -> Outcome {
    // A megabyte of content at 20 Mbit/s: 0.42 s, and the slower for headers.
    let pair = Pair::new(backend, clean().rate(20_000_000, 1 << 17))?;
    let start = Instant::now();
    transfer(pair.left(), pair.right(), 1 << 20)?;
    assert!(start.elapsed() >= ms(400), "{:?}", start.elapsed());
    Ok(())
}

pub(super) fn what_is_too_long_for_a_black_hole_vanishes(backend: Backend) -> Outcome {
    let pair = Pair::new(backend, clean().black_hole(1000))?;
    let (sender, receiver) = (udp(pair.left(), pair.left().ip(), 0)?, udp(pair.right(), pair.right().ip(), 4000)?);
    sender.connect(receiver.local_addr()?)?;
    for length in [1400, 973, 972] {
        sender.send(&vec![0; length])?;
    }
    assert_eq!(receiver.recv(&mut [0; 2000])?, 972, "with 28 bytes of headers 1000");
    Ok(())
}

pub(super) fn blocked_traffic_is_dropped_or_refused_and_the_rest_passes(backend: Backend) -> Outcome {
    let pair = Pair::new(backend, clean())?;
    let listener = listen(pair.right(), pair.right().ip(), 80)?;
    let to = listener.local_addr()?;
    let receiver = udp(pair.right(), pair.right().ip(), 4000)?;
    let sender = udp(pair.left(), pair.left().ip(), 0)?;
    sender.connect(receiver.local_addr()?)?;
    pair.network.set_ways(pair.link, clean().block(Traffic::Tcp, Answer::Silence), clean())?;
    is(connect(pair.left(), to, SILENCE)?, ErrorKind::TimedOut)?;
    sender.send(b"x")?;
    receiver.recv(&mut [0; 4])?;
    pair.network.set_ways(pair.link, clean().block(Traffic::All, Answer::Rejection), clean())?;
    is(connect(pair.left(), to, PATIENCE)?, ErrorKind::ConnectionRefused)?;
    sender.send(b"x")?;
    is(sender.recv(&mut [0; 4]), ErrorKind::ConnectionRefused)?;
    pair.network.set_conditions(pair.link, clean())?;
    connect(pair.left(), to, PATIENCE)??;
    Ok(())
}
