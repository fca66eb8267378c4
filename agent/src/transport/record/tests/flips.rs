//! A record that was changed on its way is never taken.

use super::super::*;
use super::support::*;

#[test]
fn no_record_with_a_flipped_bit_is_accepted() {
    let (mut tried, mut refused_by_header) = (0u32, 0u32);
    for suite in Suite::ALL {
        let (mut client, mut server) = pair(suite, Limits::default());
        for len in 0..50usize {
            let content: Vec<u8> = (0..=255).cycle().take(len).collect();
            let record = data(&mut client, &content);
            for bit in 0..record.len() * 8 {
                for second in [None, Some((bit * 7 + 3) % (record.len() * 8))] {
                    if second == Some(bit) {
                        continue;
                    }
                    let mut flipped = record.clone();
                    for bit in [Some(bit), second].into_iter().flatten() {
                        flipped[bit / 8] ^= 1 << (bit % 8);
                    }
                    tried += 1;
                    match parse(&flipped) {
                        Ok(Some(whole)) if whole == flipped.len() => {
                            // Every try meets the key and the number that the record was sealed with.
                            let keys = server.directions().1;
                            keys.keys().skip_to(u64::try_from(len).unwrap());
                            assert_eq!(keys.open(&mut flipped), Err(Fatal::BadRecord), "{suite:?}, {len}, bit {bit}");
                        }
                        _ => refused_by_header += 1,
                    }
                }
            }
            server.directions().1.keys().skip_to(u64::try_from(len).unwrap());
            assert_eq!(feed(&mut server, record).unwrap().0, content);
        }
    }
    println!("{tried} flipped records, {refused_by_header} of them refused by their header");
    assert!(tried > 100_000, "{tried}");
}

#[test]
fn no_cut_of_a_record_is_accepted() {
    for suite in Suite::ALL {
        let (mut client, mut server) = pair(suite, Limits::default());
        let record = data(&mut client, &[7; 60]);
        for len in HEADER + TRAILER..record.len() {
            let mut cut = record[..len].to_vec();
            cut[4] = u8::try_from(len - HEADER).unwrap();
            let opener = server.directions().1;
            opener.keys().skip_to(0);
            assert_eq!(opener.open(&mut cut), Err(Fatal::BadRecord), "{suite:?}, {len}");
        }
    }
}
