//! Delay, loss and what else a link does, as sockets meet it.

use std::time::Instant;

use super::*;

pub(super) fn a_ping_takes_the_delay_there_and_back(backend: Backend) -> Outcome {
    let pair = Pair::new(backend, clean().delay(ms(20)))?;
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
        assert!(least >= ms(40), "{took:?}");
        assert!(least < ms(200), "{took:?}");
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
