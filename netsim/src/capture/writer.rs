//! The thread that writes captures.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::{CaptureLimits, Seen, Tally, format};
use crate::Error;
use crate::wire::Nanos;

/// What has been written lies in the file after so long a pause, so that it is there after a crash, too.
const PAUSE: Duration = Duration::from_millis(200);

/// All files of a capture.
pub(super) struct Files {
    queue: Receiver<Seen>,
    queued: Arc<AtomicUsize>,
    limits: CaptureLimits,
    files: Vec<Capturing>,
}

struct Capturing {
    path: PathBuf,
    file: BufWriter<File>,
    length: u64,
    last: Nanos,
    tally: Arc<Tally>,
}

impl Files {
    pub(super) fn new(queue: Receiver<Seen>, queued: Arc<AtomicUsize>, limits: CaptureLimits) -> Self {
        Self { queue, queued, limits, files: Vec::new() }
    }

    /// Begins a file for a link between two `ends`, and returns its number.
    pub(super) fn add(&mut self, path: &Path, ends: [&str; 2], tally: Arc<Tally>) -> Result<usize, Error> {
        let [left, right] = ends;
        let interface = |name: String, about: String| format::interface(&name, &about, self.limits.snap);
        let head = [
            format::section("netsim"),
            interface(format!("{left} > {right}"), format!("what came to the link from {left}")),
            interface(format!("{right} > {left}"), format!("what came to the link from {right}")),
            interface(format!("at {right}"), format!("what crossed the link and was dropped at {right}")),
            interface(format!("at {left}"), format!("what crossed the link and was dropped at {left}")),
        ];
        let head = head.concat();
        let made = File::create(path).map(BufWriter::new).and_then(|mut file| {
            file.write_all(&head)?;
            Ok(file)
        });
        let file = made.map_err(Error::kernel(format!("write the capture {}", path.display())))?;
        self.files.push(Capturing { path: path.to_owned(), file, length: head.len() as u64, last: 0, tally });
        Ok(self.files.len() - 1)
    }

    /// Writes until nobody can send any more.
    pub(super) fn write(mut self) -> Result<(), Error> {
        let mut wrong = None;
        loop {
            match self.queue.recv_timeout(PAUSE) {
                Ok(seen) => {
                    self.queued.fetch_sub(seen.bytes.len(), Ordering::Relaxed);
                    let file = &mut self.files[seen.link];
                    let written = file.packet(&seen, self.limits.file);
                    file.told(written, &mut wrong);
                }
                Err(RecvTimeoutError::Timeout) => {
                    for file in &mut self.files {
                        let flushed = file.file.flush();
                        file.told(flushed, &mut wrong);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for file in &mut self.files {
            let ended = file.end();
            file.told(ended, &mut wrong);
        }
        wrong.map_or(Ok(()), Err)
    }
}

impl Capturing {
    fn packet(&mut self, seen: &Seen, most: u64) -> std::io::Result<()> {
        let full = &self.tally.full;
        if full.load(Ordering::Relaxed) {
            return Ok(());
        }
        let interface = u32::try_from(seen.interface).unwrap_or_default();
        let length = u32::try_from(seen.length).unwrap_or(u32::MAX);
        let block = format::packet(interface, seen.at, &seen.bytes, length, &seen.fate.to_string());
        if self.length + block.len() as u64 > most {
            full.store(true, Ordering::Relaxed);
            return Ok(());
        }
        self.file.write_all(&block)?;
        self.length += block.len() as u64;
        self.last = self.last.max(seen.at);
        self.tally.written[seen.interface].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Says in the file how many packets are not in it.
    fn end(&mut self) -> std::io::Result<()> {
        for (interface, (seen, written)) in (0..).zip(self.tally.seen.iter().zip(&self.tally.written)) {
            let (seen, written) = (seen.load(Ordering::Relaxed), written.load(Ordering::Relaxed));
            self.file.write_all(&format::statistics(interface, self.last, seen, seen.saturating_sub(written)))?;
        }
        self.file.flush()
    }

    /// A file that cannot be written takes no more; the first error is kept.
    fn told(&mut self, outcome: std::io::Result<()>, wrong: &mut Option<Error>) {
        if let Err(error) = outcome {
            self.tally.full.store(true, Ordering::Relaxed);
            wrong.get_or_insert_with(|| Error::kernel(format!("write the capture {}", self.path.display()))(error));
        }
    }
}
