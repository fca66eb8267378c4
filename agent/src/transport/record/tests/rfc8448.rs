//! The trace of RFC 8448 §3 from the application traffic secrets on.

use super::super::keys::MAX_KEY;
use super::super::*;
use super::support::control;

const CLIENT_SECRET: &str = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
const SERVER_SECRET: &str = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
/// The server's records: a ticket, 50 bytes of data, close_notify.
const TICKET: &str = "17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d41d6af8f6b580dcf3d11d63c758db28\
    9a015940252f55713e061dc13e078891a38efbcf5753ad8ef170ad3c7353d16d9da773b9ca7f2b9fa1b6c0d4a3d03f75e09c30ba1e62972ac4\
    6f75f7b981be63439b2999ce13064615139891d5e4c5b406f16e3fc181a77ca475840025db2f0a77f81b5ab05b94c01346755f69232c86519d\
    86cbeeac87aac347d143f9605d64f650db4d023e70e952ca49fe5137121c74bc2697687e248746d6df353005f3bce18696129c8153556b3b6c\
    6779b37bf15985684f";
const SERVER_DATA: &str = "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a5\
    9a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d";
const SERVER_CLOSE: &str = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9";
/// The client's: 50 bytes of data, close_notify.
const CLIENT_DATA: &str = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441\
    e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
const CLIENT_CLOSE: &str = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn secret(hex: &str) -> Secret {
    Secret::new(Suite::Aes128Gcm, &bytes(hex)).unwrap()
}

fn end(side: Side) -> Records {
    Records::new(Suite::Aes128Gcm, side, secret(CLIENT_SECRET), secret(SERVER_SECRET), Limits::default()).unwrap()
}

#[test]
fn keys_and_ivs_are_those_of_the_trace() {
    for (of, key, iv) in [
        (CLIENT_SECRET, "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"),
        (SERVER_SECRET, "9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984"),
    ] {
        assert_eq!(secret(of).key(&mut [0; MAX_KEY]).unwrap(), bytes(key));
        assert_eq!(secret(of).iv().unwrap()[..], bytes(iv));
    }
}

#[test]
fn the_records_of_the_trace_are_opened() {
    let payload: Vec<u8> = (0..50).collect();
    for (side, records) in
        [(Side::Client, &[TICKET, SERVER_DATA, SERVER_CLOSE][..]), (Side::Server, &[CLIENT_DATA, CLIENT_CLOSE][..])]
    {
        let mut end = end(side);
        let mut received = Vec::new();
        for record in records {
            let mut record = bytes(record);
            assert_eq!(end.parse(&record), Ok(Some(record.len())));
            let what = end.open(&mut record).unwrap();
            if let Received::Data(range) = &what {
                assert_eq!(record[range.clone()], payload);
            }
            received.push(what);
        }
        let tail = [Received::Data(5..55), Received::Closed];
        assert!(received.ends_with(&tail) && received[..received.len() - 2].iter().all(|r| *r == Received::Nothing));
    }
}

#[test]
fn the_records_of_the_trace_are_sealed() {
    let mut client = end(Side::Client);
    let mut record: Vec<u8> = [vec![0; HEADER], (0..50).collect(), vec![0; TRAILER]].concat();
    assert_eq!(client.seal(&mut record, 50), Ok(72));
    assert_eq!(record, bytes(CLIENT_DATA));
    client.close();
    assert_eq!(control(&mut client), bytes(CLIENT_CLOSE));
}
