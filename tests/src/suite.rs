//! Named tests, run so that a failure shows the agents' logs and a skip shows its reason. With `ADIT_TEST_TIMES` each says how long
//! it took.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{layer, scratch};

/// Most tests wait for a network most of the time, so more of them than cores run at once.
const AT_ONCE: usize = 6;

static ENTERED: OnceLock<Result<netsim::Entered, String>> = OnceLock::new();

/// What a test needs of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Loopback alone.
    Nothing,
    /// Network namespaces.
    Namespaces,
}

/// A test: its name is a sentence.
pub struct Test {
    name: String,
    needs: Needs,
    only_when_asked: bool,
    body: Box<dyn FnOnce() -> Result<()> + Send>,
}

impl Test {
    /// A test that runs anywhere.
    pub fn new(name: impl Into<String>, body: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        Self { name: name.into(), needs: Needs::Nothing, only_when_asked: false, body: Box::new(body) }
    }

    /// A test that is skipped, and says so, where there are no network namespaces.
    pub fn in_namespaces(name: impl Into<String>, body: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        Self { needs: Needs::Namespaces, ..Self::new(name, body) }
    }

    /// The same test, run only with `--ignored` or `--include-ignored`.
    pub fn only_when_asked(self) -> Self {
        Self { only_when_asked: true, ..self }
    }
}

/// Makes tests of functions: the function's name is the test's.
#[macro_export]
macro_rules! tests {
    ($kind:ident: $($name:ident),+ $(,)?) => {
        vec![$($crate::suite::Test::$kind(stringify!($name), $name)),+]
    };
}

/// Prepares the process: a network of its own where the machine allows one, and as many descriptors as it may have.
/// Call it first in `main`, while there is one thread.
pub fn prepare() {
    let entered = netsim::enter().map_err(|e| e.to_string());
    // A second call changes nothing.
    let _ = ENTERED.set(entered);
    raise_descriptors();
}

/// Lets the process have as many descriptors as the machine allows.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Less still runs most tests; those that need more fail and say on what.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Runs tests with the usual arguments of a test program.
pub fn run(tests: Vec<Test>) -> ExitCode {
    if let Err(error) = layer::of_this_run() {
        say(&format!("{error:#}"));
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let trials = tests.into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(test: Test) -> Trial {
    let Test { name, needs, only_when_asked, body } = test;
    let told = name.clone();
    let trial = Trial::ignorable_test(name, move || {
        if needs == Needs::Namespaces
            && let Some(Err(reason)) = ENTERED.get()
        {
            skipped(&told, reason);
            return Ok(Completion::ignored_with(reason));
        }
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(body));
        if std::env::var_os("ADIT_TEST_TIMES").is_some() {
            say(&format!("{:7.2} s {told}", started.elapsed().as_secs_f64()));
        }
        let verdict = scratch::finish();
        let failure = match outcome {
            Ok(Ok(())) => verdict.offences.first().cloned(),
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(panic) => Some(panic_text(&*panic)),
        };
        match failure {
            None => Ok(Completion::Completed),
            Some(message) => {
                say(&format!("=== logs of {told}\n{}", verdict.logs));
                Err(Failed::from(std::iter::once(message).chain(verdict.offences).collect::<Vec<_>>().join("\n")))
            }
        }
    });
    trial.with_ignored_flag(only_when_asked)
}

/// Says that a test could not do its work on this machine, and why.
pub fn skipped(test: &str, reason: &str) {
    say(&format!("SKIPPED: {test}: {reason}"));
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the test panicked").to_owned()
}

#[expect(clippy::print_stderr, reason = "the test program's report to the person who runs it")]
fn say(text: &str) {
    eprintln!("{text}");
}
