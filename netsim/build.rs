//! Builds the library that gives other programs a simulated clock (`shim/clock.rs`), which the crate then carries with it:
//! a scenario needs no compiler.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "shim/clock.rs";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var_os("OUT_DIR").unwrap_or_default();
    let out = Path::new(&out).join("clock.so");
    let mut command = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition=2024", "--crate-name=netsim_clock", "--crate-type=cdylib"]);
    command.args(["-Copt-level=2", "-Cpanic=abort", "-Cstrip=symbols", "-Coverflow-checks=off"]);
    // What unwinds is in the core library and never called; without a value for its name nothing could load this.
    command.arg("-Clink-arg=-Wl,--defsym=rust_eh_personality=0");
    if let Ok(target) = env::var("TARGET") {
        command.args(["--target", &target]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("-Clinker=");
        option.push(linker);
        command.arg(option);
    }
    let built = command.arg("-o").arg(&out).arg(SOURCE).output();
    if built.as_ref().is_ok_and(|output| output.status.success()) {
        return;
    }
    // Everything else works without it. Whoever asks for it in a scenario is told.
    let why =
        built.map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stderr).into_owned());
    for line in why.lines().take(5) {
        println!("cargo::warning=no simulated clocks for other programs: {line}");
    }
    if let Err(error) = fs::write(&out, b"") {
        println!("cargo::error=cannot write {}: {error}", out.display());
    }
}
