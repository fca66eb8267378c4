//! Scenarios: a network, programs, faults with their times, and what must hold, in one TOML file.
//!
//! ```text
//!   text ──▶ document ──▶ Scenario ──▶ schedule(seed) ──▶ run ──▶ report::Record
//!            every problem   checked:     faults with      on a Network
//!            at its place    nothing in   times, no
//!                            it is wrong  chance left
//! ```
//!
//! Everything but `run` is pure: no clock, no network. What a scenario may hold is in `docs/simulator.md`.
//!
//! ```
//! use netsim::scenario::{Scenario, Surroundings};
//!
//! let text = r#"
//! hosts = ["alpha", "beta"]
//!
//! [[fault]]
//! at = "1s"
//! for = "2s"
//! kind = "pair"
//! on = ["alpha", "beta"]
//!
//! [[check]]
//! at = "1.5s"
//! kind = "unreachable"
//! "#;
//! let scenario = Scenario::parse(text, "cut.toml", &Surroundings::default()).expect("it checks");
//! assert_eq!(scenario.name(), "cut");
//! assert_eq!(scenario.schedule(7).len(), 1);
//!
//! let problems = Scenario::parse("hosts = [\"alpha\"]\nsed = 3\n", "typo.toml", &Surroundings::default()).unwrap_err();
//! assert_eq!(problems[0].to_string(), "typo.toml:2:1: error: unknown key `sed` in the scenario\n  |\n\
//!                                      2 | sed = 3\n  | ^^^\n  help: did you mean `seed`?");
//! ```

mod addresses;
mod checks;
mod clients;
mod conditions;
mod document;
mod faults;
mod layout;
mod names;
mod problem;
mod programs;
mod random;
mod read;
mod run;
mod shrink;
mod units;
mod visit;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::topology::Topology;
use crate::{Backend, plan};
use checks::Check;
use clients::ClientSpec;
use document::Item;
use layout::Furnishing;
use names::{Directory, Names};
use problem::Problems;
use programs::{ProgramSpec, ServiceSpec, Step};

pub use faults::{Fault, Injection, Shape};
pub use problem::Problem;
pub use programs::Surroundings;
pub use random::Random;
pub use run::{Options, Outcome, RunError, Told, run};
pub use shrink::{Shrunk, minimise};
pub use visit::{Visit, running};

/// The greatest scenario that is read, in bytes.
const MOST: u64 = 1 << 20;

/// A scenario that has been checked.
#[derive(Debug, Clone)]
pub struct Scenario {
    name: String,
    about: String,
    seed: Option<u64>,
    lasts: Option<Duration>,
    backend: Option<Backend>,
    congestion_control: Option<String>,
    /// Where relative paths begin.
    folder: PathBuf,
    topology: Topology,
    directory: Directory,
    furnishings: Vec<Furnishing>,
    steps: Vec<Step>,
    programs: Vec<ProgramSpec>,
    services: Vec<ServiceSpec>,
    clients: Vec<ClientSpec>,
    faults: Vec<Injection>,
    checks: Vec<Check>,
    random: Option<Random>,
}

impl Scenario {
    /// Reads and checks the scenario in `path`. Programs are looked for in the table, beside the scenario, and in `PATH`.
    ///
    /// # Errors
    /// Every problem of the scenario, or the one that keeps it from being read.
    pub fn load(path: &Path, around: &Surroundings) -> Result<Self, Vec<Problem>> {
        let text = read_text(path).map_err(|problem| vec![*problem])?;
        Self::parse(&text, &path.display().to_string(), around)
    }

    /// Reads and checks a scenario. `file` is what problems call it.
    ///
    /// # Errors
    /// Every problem, by its place.
    pub fn parse(text: &str, file: &str, around: &Surroundings) -> Result<Self, Vec<Problem>> {
        let problems = Problems::new(file, text);
        let scenario = read::read(&problems, file, around);
        if !problems.any()
            && let Some(scenario) = scenario
        {
            // What the topology's own check finds has no place.
            return match plan::plan(&scenario.topology, 1) {
                Ok(_) => Ok(scenario),
                Err(error) => Err(vec![Problem::with_file(file, &error.to_string(), None)]),
            };
        }
        Err(problems.finish())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is about, in its own words; may be empty.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// The seed that it names.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// Its hosts, in order.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.directory.host_names()
    }

    /// How many faults and checks it has; random faults are counted as well, and what is checked of clients.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let random = self.random.as_ref().map_or(0, |random| random.count as usize);
        let clients = self.clients.iter().map(|client| 1 + usize::from(client.back_within.is_some())).sum::<usize>();
        let clients = clients + usize::from(!self.clients.is_empty());
        (self.faults.len() + random, self.checks.len() + clients)
    }

    /// All faults with their times, for a seed: those that it names, and those that chance makes. Sorted by time.
    #[must_use]
    pub fn schedule(&self, seed: u64) -> Vec<Injection> {
        let mut all = self.faults.clone();
        if let Some(random) = &self.random {
            all.extend(random::expand(random, &self.directory, seed));
        }
        all.sort_by_key(|injection| injection.at);
        all
    }

    /// Writes a schedule, so that [`read_schedule`](Self::read_schedule) reads the same.
    #[must_use]
    pub fn write_schedule(&self, schedule: &[Injection], seed: u64) -> String {
        let mut text = format!("# All that happens in {} with this seed.\nseed = {seed}\n", self.name);
        for injection in schedule {
            text.push('\n');
            text += &faults::write(injection);
        }
        text
    }

    /// Reads a schedule that was written for this scenario: the seed and the faults.
    ///
    /// # Errors
    /// Every problem, by its place.
    pub fn read_schedule(&self, text: &str, file: &str) -> Result<(u64, Vec<Injection>), Vec<Problem>> {
        let problems = Problems::new(file, text);
        let found = read::schedule(&problems, &Names::new(&self.directory, &problems));
        if problems.any() { Err(problems.finish()) } else { Ok(found) }
    }

    /// The same, out of a file.
    ///
    /// # Errors
    /// Every problem, or the one that keeps it from being read.
    pub fn load_schedule(&self, path: &Path) -> Result<(u64, Vec<Injection>), Vec<Problem>> {
        let text = read_text(path).map_err(|problem| vec![*problem])?;
        self.read_schedule(&text, &path.display().to_string())
    }
}

/// Reads an ordinary file of at most a mebibyte.
fn read_text(path: &Path) -> Result<String, Box<Problem>> {
    let file = path.display().to_string();
    let fail = |message: &str, hint: &str| Box::new(Problem::with_file(&file, message, Some(hint)));
    let unreadable =
        |error: std::io::Error| fail(&format!("cannot be read: {error}"), "give the path of a scenario that exists");
    // Asked before opening: opening a pipe would wait for its writer.
    let kind = std::fs::metadata(path).map_err(unreadable)?;
    if !kind.is_file() {
        return Err(fail("is not an ordinary file", "give the path of a scenario file"));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(MOST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MOST {
        return Err(fail("is greater than a mebibyte", "see that the path is right"));
    }
    String::from_utf8(bytes).map_err(|_| fail("is not UTF-8", "save the file as UTF-8"))
}

/// The scenario files directly in a folder, by name: those that end in `.toml`.
///
/// # Errors
/// When the folder cannot be read.
pub fn files_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "toml") && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
