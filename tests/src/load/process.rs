//! A part of a load in a process of its own: this program once more, with `load` as its first argument.
//!
//! What is measured then shares neither descriptors nor memory with the load, and thousands of connections find room below
//! the limit of descriptors of one process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::place::Place;

/// The first argument of such a process.
pub const LOAD: &str = "load";

/// A process of load, killed when it is no longer needed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts this program on `place` with `load` and these arguments.
    pub fn start(place: &Place, arguments: &[&str]) -> Result<Self> {
        let mut command = place.command(std::env::current_exe()?);
        command.arg(LOAD).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, input, output })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it something.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").context("the load has ended")
    }

    /// The next line that it says. It is for the process to bound how long that takes.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the load has ended early");
        Ok(line.trim().to_owned())
    }

    /// Waits until it says `word`.
    pub fn expect(&mut self, word: &str) -> Result<()> {
        let line = self.line()?;
        ensure!(line == word, "the load said {line:?} instead of {word:?}");
        Ok(())
    }

    /// The numbers on the next line.
    pub fn numbers(&mut self) -> Result<Vec<f64>> {
        let line = self.line()?;
        line.split(' ').map(|n| n.parse().with_context(|| format!("the load said {line:?}"))).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says a line to the process that has started this one.
#[expect(clippy::print_stdout, reason = "the way to the process that has started this one")]
pub fn say(line: &str) {
    println!("{line}");
}
