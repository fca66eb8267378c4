//! The same with the kernel at one end or at both. Where it has no kTLS there is nothing to run, which is said.

use super::*;
use crate::transport::ktls::{Handed, Kernel, take_over};

fn kernel() -> Option<Kernel> {
    match Kernel::detect() {
        Ok(kernel) => Some(kernel),
        Err(missing) => {
            println!("SKIPPED: this kernel has no kTLS: {missing}");
            None
        }
    }
}

/// Two ends, of which the kernel makes the records of some.
async fn pair_with(kernel: Kernel, at: [bool; 2], suite: Suite, update_after: u64) -> [Wire; 2] {
    pair_of(suite, update_after, at, |socket, records| match take_over(kernel, socket, Box::new(records)).unwrap() {
        Handed::Over(socket, records) => Wire::of_kernel(socket, records),
        Handed::Back(_, _, error) => panic!("the kernel does not take {suite:?}: {error}"),
    })
    .await
}

const ENDS: [[bool; 2]; 3] = [[true, false], [false, true], [true, true]];

#[test]
fn megabytes_cross_both_ways_while_the_kernel_changes_keys() {
    let Some(kernel) = kernel() else { return };
    let intervals: &[u64] = if kernel.rekeys() { &[1, 2, 5, 1 << 23] } else { &[1 << 23] };
    for suite in Suite::ALL {
        for &update_after in intervals {
            for at in ENDS {
                println!("{suite:?}, keys change after {update_after} records, the kernel at {at:?}");
                run_over(pair_with(kernel, at, suite, update_after), [3 << 20, 2 << 20], &[200_000, 1, 16_380, 7]);
            }
        }
    }
}

#[test]
fn the_peer_of_a_kernel_hears_what_it_did_wrong_and_the_kernels_end_what_it_did() {
    use tokio::io::AsyncWriteExt as _;
    let Some(kernel) = kernel() else { return };
    runtime().block_on(async {
        // The kernel's end receives what is no record of its peer's.
        let [mut a, mut b] = pair_with(kernel, [false, true], Suite::Aes128Gcm, 1 << 23).await;
        let socket = a.socket_mut();
        socket.write_all(&[23, 3, 3, 0, 32]).await.unwrap();
        socket.write_all(&[7; 32]).await.unwrap();
        let lost = poll_fn(|cx| b.poll_plain(cx)).await;
        assert!(matches!(lost, Err(Lost::Tls(Fatal::BadRecord))), "{lost:?}");
        // The kernel's end is told.
        let [mut a, mut b] = pair_with(kernel, [false, true], Suite::Aes128Gcm, 1 << 23).await;
        let Tls::Records(_, records) = &mut a.tls else { panic!("its records are the agent's") };
        let mut garbage = [0; 64];
        records.open(&mut garbage).unwrap_err();
        poll_fn(|cx| a.poll_write(cx)).await.unwrap();
        let lost = poll_fn(|cx| b.poll_plain(cx)).await;
        assert!(matches!(lost, Err(Lost::Tls(Fatal::Alerted(_)))), "{lost:?}");
    });
}

#[test]
fn an_end_at_a_kernel_is_an_end_and_a_truncation_one() {
    let Some(kernel) = kernel() else { return };
    runtime().block_on(async {
        for at in ENDS {
            let [a, mut b] = pair_with(kernel, at, Suite::Aes128Gcm, 1 << 23).await;
            drop(a);
            let lost = poll_fn(|cx| b.poll_plain(cx)).await;
            assert!(matches!(lost, Err(Lost::Truncated)), "{lost:?}");
        }
    });
}

#[test]
fn a_key_update_ends_the_connection_of_a_kernel_that_cannot_follow() {
    let Some(kernel) = kernel() else { return };
    if kernel.rekeys() {
        return println!("SKIPPED: this kernel can");
    }
    runtime().block_on(async {
        let [mut a, mut b] = pair_with(kernel, [false, true], Suite::Aes128Gcm, 1).await;
        for _ in 0..2 {
            a.push(&[header(Kind::Ping, 3).as_slice(), b"abc"].concat()).unwrap();
            poll_fn(|cx| a.poll_write(cx)).await.unwrap();
        }
        let lost = loop {
            match poll_fn(|cx| b.poll_plain(cx)).await {
                Ok(()) => drop(b.advance(b.plain().len(), 0)),
                Err(lost) => break lost,
            }
        };
        assert!(matches!(lost, Lost::Tls(Fatal::KeysStay)), "{lost:?}");
        let told = poll_fn(|cx| a.poll_plain(cx)).await;
        assert!(matches!(told, Err(Lost::Tls(Fatal::Alerted(_)))), "{told:?}");
    });
}
