//! Agents that are killed amid a change, at other moments in each run, start with the old document or the new one, whole.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::JSON;
use crate::agent::Agent;
use crate::dice::{Dice, by_chance};
use crate::documents::{kept, publish};
use crate::mesh::{Mesh, SOON};
use crate::wait::{eventually, pass};

/// From the change of a file until it is in force, and more.
const FILE: Duration = Duration::from_millis(250);
/// From the command until the document has come to another node and is in force there, and more.
const PUBLISH: Duration = Duration::from_millis(400);

/// The mesh file of an agent is replaced `rounds` times, and the agent killed soon after.
pub fn amid_a_file(rounds: u64) -> Result<()> {
    by_chance(|dice| kills_amid_a_file(rounds, dice))
}

fn kills_amid_a_file(rounds: u64, dice: &mut Dice) -> Result<()> {
    let mesh = Mesh::pair("auto").agent_lines(JSON).build()?;
    let mut beta = mesh.start("beta")?;
    for version in 2..2 + rounds {
        mesh.replace_document("beta", &mesh.document(version, "auto", &[]))?;
        pass(dice.moment(FILE));
        beta.kill()?;
        beta.restart().with_context(|| format!("version {version}"))?;
        let status = beta.status()?;
        let config = &status["config"];
        ensure!(status["mesh_version"] == version && config["error"].is_null(), "version {version}: {config}");
        ensure!(config["loaded_digest"] == config["on_disk_digest"], "version {version}: {config}");
    }
    Ok(())
}

/// A document is published `rounds` times, and the agent that it comes to by way of another one is killed meanwhile: sometimes the
/// one that it is given to.
pub fn amid_a_publish(rounds: u64) -> Result<()> {
    by_chance(|dice| kills_amid_a_publish(rounds, dice))
}

fn kills_amid_a_publish(rounds: u64, dice: &mut Dice) -> Result<()> {
    let mesh = Mesh::pair("auto").agent_lines(JSON).build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let mut agents = [alpha, beta];
    let anna = mesh.publisher("anna")?;
    let text = |version: u64| format!("# round {version}\n{}", mesh.document(version, "auto", &[]));
    publish(&agents[0], &anna, &text(1))?;
    agents.iter().try_for_each(|agent| agent.wait_for_version(2, SOON))?;
    // Each publish raises the version by one, whether its answer was heard or not.
    let mut version = 2;
    for round in 0..rounds {
        let victim = usize::from(round % 4 != 3);
        let [first, second] = &mut agents;
        let (survivor, killed) = if victim == 1 { (first, second) } else { (second, first) };
        let given_to = if victim == 1 { &*survivor } else { &*killed };
        let directory = given_to.directory().to_owned();
        let done = thread::scope(|scope| {
            let publishes = scope.spawn(|| crate::documents::publish_in(&directory, &anna, &text(version), &[]));
            pass(dice.moment(PUBLISH));
            killed.kill()?;
            publishes.join().map_err(|_| anyhow!("it panicked"))?
        })?;
        let (old, new) = (version, version + 1);
        killed.restart().with_context(|| format!("round {round}"))?;
        // It may hear of the newer one while it is looked at.
        let started = eventually("it runs by what it keeps", SOON, || is_whole(killed));
        let started = started.with_context(|| format!("round {round}"))?;
        ensure!(started == old || started == new, "round {round}: version {started} after {old}");
        ensure!(victim == 1 && done.code == Some(0) || victim == 0, "round {round}: {done:?}");
        survivor.wait_for_link(killed.name())?;
        version = eventually("both run by the same", SOON, || {
            let [one, other] = [is_whole(killed)?, is_whole(survivor)?];
            ensure!(one == other, "{one} and {other}");
            Ok(one)
        })
        .with_context(|| format!("round {round}"))?;
        // One whose agent was killed before it had taken it in was not published.
        ensure!(version == new || victim == 0 && version == old, "round {round}: version {version} after {old}");
    }
    Ok(())
}

/// The version that an agent runs by, whose document lies on its disk whole.
fn is_whole(agent: &Agent) -> Result<u64> {
    let status = agent.status()?;
    let document = kept(agent.directory())?;
    let text = String::from_utf8(document.text)?;
    let version = status["mesh_version"].as_u64().context("no version")?;
    ensure!(text.contains(&format!("version = {version}\n")), "it runs by version {version}, and keeps {text}");
    ensure!(fs::read_to_string(agent.directory().join("mesh.toml"))?.starts_with("# round"), "half a mesh.toml");
    ensure!(status["config"]["error"].is_null(), "{}", status["config"]);
    Ok(version)
}
