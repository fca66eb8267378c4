//! A disk that is full, a clock that is wrong: the agent says so, and what can go on goes on.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use adit_tests::load::{Ending, Server, many};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::{Agent, Mesh, binary, eventually, tests};
use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![in_namespaces:
        an_agent_carries_on_while_its_disk_is_full,
        an_agent_that_starts_on_a_full_disk_says_so,
    ];
    for (name, offset, sees) in CLOCKS {
        tests.push(Test::new(format!("a_clock_that_is_{name}_is_told"), move || wrong_clock(offset, sees)));
    }
    tests
}

/// A small disk, mounted where a directory was, with the same files. Only this test program and its children see it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn in_place_of(directory: &Path) -> Result<Self> {
        let mut files = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
        // A directory in it is the agent's to make.
        files.retain(|file| file.file_type().is_ok_and(|kind| kind.is_file()));
        let read = |file: &fs::DirEntry| Ok((file.path(), fs::read(file.path())?, file.metadata()?.permissions()));
        let files = files.iter().map(read).collect::<Result<Vec<_>>>()?;
        mount("tmpfs", directory, "tmpfs", MountFlags::empty(), Some(c"size=512k,mode=700")).context("mount a disk")?;
        let disk = Self(directory.to_owned());
        for (path, content, permissions) in files {
            fs::write(&path, content)?;
            fs::set_permissions(&path, permissions)?;
        }
        Ok(disk)
    }

    /// Leaves not a byte of room.
    fn fill(&self) -> Result<()> {
        let mut filler = fs::File::create(self.filler())?;
        let mut piece = &[0x55; 4096][..];
        while !piece.is_empty() {
            match filler.write(piece) {
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::StorageFull => piece = &piece[..piece.len() / 2],
                Err(e) => return Err(e).context("fill the disk"),
            }
        }
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What an agent still has open there goes with the agent.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn an_agent_carries_on_while_its_disk_is_full() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let disk = SmallDisk::in_place_of(&mesh.directory("alpha"))?;
    let (mut alpha, beta, _) = mesh.start_pair()?;
    let _server = Server::echo(&mesh.place("alpha"), mesh.target("app", "alpha"))?;
    let bursts = |number| -> Result<()> {
        (0..number).try_for_each(|_| many::echoes(&mesh.place("beta"), mesh.listener("app", "beta"), 50, 10_000))
    };
    bursts(1)?;
    disk.fill()?;
    // Each connection is two lines of the log: far more than the rest of the page that the disk still had for it.
    bursts(4)?;
    let lines = |agent: &Agent| Ok::<_, anyhow::Error>(agent.log()?.matches("connection.close").count());
    let lost = 250 - lines(&alpha)?;
    ensure!(lost > 100, "the disk was not full: {lost} lines are missing");
    // A link comes up with lines to be written, too.
    drop(beta);
    let beta = mesh.start("beta")?;
    beta.wait_for_link("alpha")?;
    bursts(1)?;
    alpha.ensure_running()?;
    ensure!(alpha.status()?["state"] == "ready");

    disk.make_room()?;
    let before = lines(&alpha)?;
    bursts(1)?;
    eventually("the log goes on where there is room", SOON, || {
        let now = lines(&alpha)?;
        ensure!(now >= before + 50, "{before} then {now} lines");
        Ok(())
    })
}

fn an_agent_that_starts_on_a_full_disk_says_so() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let directory = mesh.directory("alpha");
    let disk = SmallDisk::in_place_of(&directory)?;
    disk.fill()?;
    for arguments in [&["run"][..], &["run", "--json"]] {
        let mut command = mesh.place("alpha").command(binary::path()?);
        command.arg("--dir").arg(&directory).args(arguments);
        let output = binary::run(&mut command, SOON)?;
        ensure!(output.code == Some(1) && !output.stderr.contains("panicked"), "{output:?}");
        let told = format!("{}{}", output.stdout, output.stderr);
        ensure!(told.contains("state") && told.contains("is the disk full?"), "{output:?}");
    }
    disk.make_room()?;
    let alpha = mesh.start("alpha")?;
    ensure!(alpha.status()?["state"] == "ready");
    Ok(())
}

/// What both agents should make of a clock.
#[derive(Debug, Clone, Copy)]
enum Sees {
    /// A skew that certificates bear.
    Skew,
    /// A date at which no certificate of the mesh is valid: `reason` is what the agent with the wrong clock says.
    Invalid(&'static str),
}

const DAY: i64 = 86_400;

/// Beta's clock, in seconds ahead. Certificates are of seven days and dated back by five minutes.
const CLOCKS: [(&str, i64, Sees); 8] = [
    ("four_minutes_behind", -240, Sees::Skew),
    ("an_hour_ahead", 3_600, Sees::Skew),
    ("an_hour_behind", -3_600, Sees::Invalid("not yet valid")),
    ("a_month_ahead", 30 * DAY, Sees::Invalid("expired")),
    ("a_month_behind", -30 * DAY, Sees::Invalid("not yet valid")),
    ("ten_years_behind", -3_652 * DAY, Sees::Invalid("not yet valid")),
    ("beyond_all_time", i64::MAX, Sees::Invalid("not yet valid")),
    ("before_all_time", i64::MIN, Sees::Invalid("not yet valid")),
];

fn wrong_clock(offset: i64, sees: Sees) -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let alpha = mesh.start("alpha")?;
    let clock = ("ADIT_CLOCK_OFFSET".to_owned(), offset.to_string());
    let mut beta = mesh.start_with("beta", std::slice::from_ref(&clock))?;
    let mut check = mesh.place("beta").command(binary::path()?);
    check.arg("--dir").arg(mesh.directory("beta")).args(["check", "--json"]).envs([clock]);
    let checked = binary::run(&mut check, SOON)?;
    match sees {
        Sees::Skew => {
            beta.wait_for_link("alpha")?;
            for (agent, peer, ahead) in [(&alpha, "beta", offset), (&beta, "alpha", -offset)] {
                let skew = agent.peer(peer)?["skew"].as_f64().context("no skew is shown")?;
                ensure!((skew - ahead as f64).abs() < 5.0, "{}: {skew}, not {ahead}", agent.name());
            }
            ensure!(checked.code == Some(0), "{checked:?}");
            let _server = Server::echo(&mesh.place("alpha"), mesh.target("app", "alpha"))?;
            many::echoes(&mesh.place("beta"), mesh.listener("app", "beta"), 10, 10_000)?;
        }
        Sees::Invalid(how) => {
            // Told at the start, in `status`, by `check`, and to whoever asks for the peer.
            beta.wait_for_log(&["certificate", how, "this host's clock says"], SOON)?;
            let status = beta.status()?;
            ensure!(status["warnings"].to_string().contains("clock"), "{status}");
            ensure!(checked.code == Some(2) && checked.stdout.contains(how), "{checked:?}");
            ensure!(checked.stdout.contains("this host's clock says"), "{checked:?}");
            let end = mesh.end_of("app", "beta", SOON * 2)?;
            ensure!(end == Ending::Reset(0), "the application should be reset, not {end:?}");
            let peer = beta.peer("alpha")?;
            ensure!(peer["state"] != "up" && peer["error"].as_str().is_some_and(|e| e.contains("clock")), "{peer}");
            ensure!(alpha.peer("beta")?["state"] != "up");
            beta.ensure_running()?;
        }
    }
    Ok(())
}
