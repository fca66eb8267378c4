//! What the ways of a link cost beside no tunnel, a plain relay and other programs, each between two hosts joined by a veth pair.
//!
//! `cargo bench -p adit-tests --bench paths [-- OPTIONS]`, after `cargo build --release`. It needs network namespaces.
//!
//! | option | |
//! |---|---|
//! | `--rounds N` | 3: every round goes through all systems, so that what else happens on the machine hits them alike |
//! | `--seconds S` | 4: of each measurement |
//! | `--systems A,B` | all that are here; part of a name is enough: `lanes,haproxy` |
//! | `--only A,B` | all: `bulk`, `connections`, `latency`, `loaded`, `memory` |
//! | `--congestion reno` | another congestion control than the kernel's default |
//! | `--guard` | lanes and the plain relay alone; status 1 if lanes are worse beside it than `guard.txt` allows |
//!
//! The load runs in processes of its own: this program again, with `load` as its first argument.
//!
//! Figures: throughput is counted by the receiving application after a warm-up; processor seconds are those of both ends together,
//! all their processes and threads, user and system; a new connection is connect, one byte there and back, close; latency is that of
//! 64 bytes there and back on one open connection, with nothing else running or beside one stream that takes all it can get; memory
//! is what one of 1,000 idle connections adds to the resident memory of the end that it adds more to.

mod figures;
mod guard;
mod load;
mod measure;
mod outside;
mod systems;

use std::process::ExitCode;
use std::str::FromStr;

use adit_tests::load::process::{LOAD, say};
use anyhow::{Context as _, Result, ensure};

use crate::figures::{Part, Row, medians, ratios};
use crate::systems::System;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == LOAD => load::run(rest),
        _ => {
            // While there is one thread.
            adit_tests::suite::prepare();
            measure(&arguments)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Those that want a value, and those that do not.
const OPTIONS: (&[&str], &[&str]) = (&["--rounds", "--seconds", "--systems", "--only", "--congestion"], &["--guard"]);

/// Says so if there is anything that this program does not know, before anything is measured.
fn known(arguments: &[String]) -> Result<()> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if OPTIONS.0.contains(&argument.as_str()) {
            rest.next();
        } else if !OPTIONS.1.contains(&argument.as_str()) {
            let all: Vec<_> = OPTIONS.0.iter().map(|name| format!("{name} VALUE")).collect();
            anyhow::bail!("`{argument}` is not an option; there are {}, {}", all.join(", "), OPTIONS.1.join(", "));
        }
    }
    Ok(())
}

fn option<T: FromStr>(arguments: &[String], name: &str) -> Result<Option<T>> {
    let Some(at) = arguments.iter().position(|a| a == name) else { return Ok(None) };
    let value = arguments.get(at + 1).and_then(|v| v.parse().ok());
    Ok(Some(value.with_context(|| format!("{name} needs a value"))?))
}

fn measure(arguments: &[String]) -> Result<()> {
    known(arguments)?;
    let rounds = option(arguments, "--rounds")?.unwrap_or(3_usize);
    let seconds = option(arguments, "--seconds")?.unwrap_or(4_u32);
    let congestion: Option<String> = option(arguments, "--congestion")?;
    let guarded = arguments.iter().any(|a| a == "--guard");
    let parts = parts(option(arguments, "--only")?)?;
    let systems = if guarded { vec![System::Relay, System::Lanes] } else { systems(option(arguments, "--systems")?)? };
    let mut measured: Vec<(System, Vec<Row>)> = systems.into_iter().map(|system| (system, Vec::new())).collect();
    for round in 1..=rounds {
        let mut left_out = Vec::new();
        for (system, rows) in &mut measured {
            match measure::one(*system, &parts, seconds, congestion.as_deref()) {
                Ok(row) => rows.push(row),
                // It is here and does not run: not what this is about.
                Err(error) if matches!(system, System::Outside(_)) => {
                    say(&format!("{} is left out: {error:#}", system.name()));
                    left_out.push(system.name());
                }
                Err(error) => return Err(error).with_context(|| format!("{}, round {round}", system.name())),
            }
            adit_tests::scratch::finish();
        }
        measured.retain(|(system, _)| !left_out.contains(&system.name()));
        say(&format!("round {round} of {rounds} done"));
    }
    let control = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
    say(&format!(
        "\nmedians of {rounds} rounds; congestion control {}; {} cores\n",
        congestion.as_deref().unwrap_or(control.trim()),
        std::thread::available_parallelism()?
    ));
    let medians: Vec<(&str, Row)> = measured.iter().map(|(system, rows)| (system.name(), medians(rows))).collect();
    let of = |wanted: &str| medians.iter().copied().find(|(name, _)| *name == wanted);
    if guarded {
        figures::print(&medians, of(System::Relay.name()));
        let (relay, lanes) = of(System::Relay.name()).zip(of(System::Lanes.name())).context("both were measured")?;
        return guard::judge(&ratios(&lanes.1, &relay.1));
    }
    figures::print(&medians, of("HAProxy, no encryption").or_else(|| of(System::NoTunnel.name())));
    Ok(())
}

fn parts(only: Option<String>) -> Result<Vec<Part>> {
    let Some(only) = only else { return Ok(Part::ALL.map(|(_, part)| part).to_vec()) };
    let part = |word: &str| {
        let found = Part::ALL.into_iter().find(|(name, _)| *name == word);
        found.map(|(_, part)| part).with_context(|| format!("--only knows no {word}"))
    };
    only.split(',').map(part).collect()
}

fn systems(wanted: Option<String>) -> Result<Vec<System>> {
    let (mut systems, missing) = System::all();
    missing.iter().for_each(|line| say(line));
    if let Some(wanted) = wanted.map(|w| w.to_lowercase()) {
        systems.retain(|system| wanted.split(',').any(|word| system.name().to_lowercase().contains(word)));
    }
    ensure!(!systems.is_empty(), "no such system is here");
    Ok(systems)
}
