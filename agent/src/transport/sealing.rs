//! Who makes the records of TLS over TCP, of those that this host can have.

use std::io;
use std::sync::{Once, OnceLock};

use super::ktls::{Handed, Kernel, Missing, take_over};
use super::record::{self, Received, Records};
use super::socket::Socket;
use super::wire::Wire;
use crate::vocabulary::RecordLayer;

/// Who makes the records after the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// This agent.
    Adit,
    /// rustls.
    Rustls,
    /// The kernel, which was tried.
    Kernel(Kernel),
}

impl Sealing {
    /// What was asked for. If the kernel cannot have it, this agent's own instead, and why. The kernel is tried once a process.
    pub fn choose(asked: RecordLayer) -> (Self, Option<String>) {
        static KERNEL: OnceLock<(Sealing, Option<String>)> = OnceLock::new();
        match asked {
            RecordLayer::Adit => (Self::Adit, None),
            RecordLayer::Rustls => (Self::Rustls, None),
            RecordLayer::Kernel => KERNEL.get_or_init(|| Self::of_kernel(Kernel::detect())).clone(),
        }
    }

    /// The kernel, if it is the one.
    pub(super) fn kernel(self) -> Option<Kernel> {
        match self {
            Self::Kernel(kernel) => Some(kernel),
            Self::Adit | Self::Rustls => None,
        }
    }

    fn of_kernel(found: Result<Kernel, Missing>) -> (Self, Option<String>) {
        match found {
            Ok(kernel) if kernel.rekeys() => (Self::Kernel(kernel), None),
            Ok(kernel) => (
                Self::Kernel(kernel),
                Some(
                    "record layer `ktls`: this kernel cannot change the keys of a connection, as Linux does from 6.14 on: one \
                     that carries more than 128 GiB one way may be cut"
                        .to_owned(),
                ),
            ),
            Err(missing) => (
                Self::Adit,
                Some(format!(
                    "record layer `ktls` cannot be used ({missing}): the agent's own is used instead; {}",
                    missing.hint()
                )),
            ),
        }
    }
}

/// The connection after its handshake, by this agent's own record layer or by `kernel`. `early` is ciphertext that came right
/// behind the handshake.
///
/// # Errors
/// The kernel has taken half of it, or it has ended already.
pub(super) fn connection(
    kernel: Option<Kernel>,
    socket: Socket,
    records: Records,
    early: &mut [u8],
) -> io::Result<Wire> {
    // The kernel begins with what it receives next, so it must not be amid a record.
    let Some(kernel) = kernel.filter(|_| ends_with_a_record(early)) else {
        return Ok(Wire::new(socket, records, early));
    };
    let mut records = Box::new(records);
    let Some(plain) = open(&mut records, early)? else {
        // It says by an alert what was wrong.
        return Ok(Wire::new(socket, *records, &[]));
    };
    match take_over(kernel, socket, records)? {
        Handed::Over(socket, records) => Ok(Wire::of_kernel(socket, records).preloaded(&plain)),
        Handed::Back(socket, records, error) => {
            static TOLD: Once = Once::new();
            let suite = records.suite();
            TOLD.call_once(|| {
                tracing::warn!(%error, ?suite, "the kernel does not take the keys of a connection: its records are made by the agent");
            });
            Ok(Wire::new(socket, *records, &[]).preloaded(&plain))
        }
    }
}

/// Whether there is nothing but whole records, as far as their headers say.
fn ends_with_a_record(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match record::parse(bytes) {
            Ok(Some(len)) if len <= bytes.len() => bytes = &bytes[len..],
            _ => return false,
        }
    }
    true
}

/// Opens whole records: the data in them. `None`: something is wrong with them, and `records` knows.
fn open(records: &mut Records, mut early: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
    let mut plain = Vec::new();
    while !early.is_empty() {
        let Ok(Some(len)) = records.parse(early) else { return Ok(None) };
        let (record, behind) = early.split_at_mut(len);
        match records.open(record) {
            Ok(Received::Data(content)) => plain.extend_from_slice(&record[content]),
            Ok(Received::Nothing) => {}
            Ok(Received::Closed) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(_) => return Ok(None),
        }
        early = behind;
    }
    Ok(Some(plain))
}

#[cfg(test)]
mod tests;
