//! `adit ca …`: the certificate authority of this host.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ca::{Authority, Issued, MAX_CSR, NodeKey, PublicKey, Record, State, Summary, atomic};
use mesh_config::published::Generation;
use mesh_config::{NodeName, quote};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::{CliError, mesh_name, node_name};
use super::init::{CA, MESH_FILE, NODES, write_configuration};
use super::publisher::PUBLISHERS;
use super::terminal::Terminal;

/// The certificate authority of this host
#[derive(Debug, clap::Subcommand)]
pub enum CaCommand {
    /// Make a root and an intermediate in DIR/ca
    #[command(after_help = "Examples:\n  adit ca init lab")]
    Init {
        /// The mesh's name; that of DIR/mesh.toml if not given
        #[arg(value_name = "MESH")]
        mesh: Option<String>,
    },
    /// Make a key and a certificate for a node, in a directory ready for its host
    #[command(
        after_help = "Examples:\n  adit ca issue beta --out ./beta\n  adit ca issue alpha --out .   a new certificate for the key in this directory\n\nIf the directory has a key already, the key stays \
                            and gets a new certificate, which a running agent takes into use by itself."
    )]
    Issue {
        /// The node
        name: String,
        /// Where to; DIR/nodes/NAME if not given
        #[arg(long, value_name = "DIRECTORY")]
        out: Option<PathBuf>,
        /// How long it is valid: 90m, 12h, 7d
        #[arg(long, value_name = "TIME", default_value = "7d")]
        validity: String,
    },
    /// Certify a key that was made elsewhere, from its signing request (PKCS#10)
    #[command(
        after_help = "Examples:\n  adit ca sign beta.csr --node beta --out beta.pem\n\nOnly the key is taken from the \
                            request; its names are not."
    )]
    Sign {
        /// The request in PEM or DER; - for standard input
        csr: PathBuf,
        /// The node that the certificate is for
        #[arg(long, value_name = "NAME")]
        node: String,
        /// Where to write the chain; standard output if not given
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// How long it is valid: 90m, 12h, 7d
        #[arg(long, value_name = "TIME", default_value = "7d")]
        validity: String,
    },
    /// Make a key and a certificate for somebody who may sign mesh documents
    #[command(after_help = "Examples:\n  adit ca delegate anna\n  adit ca delegate anna --out ./anna --days 30\n  \
                            adit ca delegate anna --generation 2   after a publisher's key was stolen\n\nIt can sign documents, \
                            `adit publish`, and can be no node. If the directory has a publisher's key already, the key stays\nand \
                            gets a new certificate. The root's key has to be in DIR/ca for any generation but the first.")]
    Delegate {
        /// The publisher: a person, a host, a pipeline
        name: String,
        /// Where to; DIR/publishers/NAME if not given
        #[arg(long, value_name = "DIRECTORY")]
        out: Option<PathBuf>,
        /// How many days it is valid
        #[arg(long, value_name = "N", default_value = "365", value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// The generation of documents that it may sign
        #[arg(long, value_name = "G", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
        generation: u64,
    },
    /// List the certificates issued, oldest first
    #[command(after_help = "Examples:\n  adit ca list --json")]
    List,
    /// Show a node's latest certificate
    #[command(after_help = "Examples:\n  adit ca show beta")]
    Show {
        /// The node
        name: String,
    },
    /// Print the trust bundle: the root's certificate
    #[command(after_help = "Examples:\n  adit ca export > trust.pem")]
    Export,
}

/// Runs one of the commands on the authority in the context's directory.
///
/// # Errors
/// Exit status 2 for wrong names, times and requests, else 1.
pub fn run(command: &CaCommand, context: &mut Terminal<'_>) -> Result<(), CliError> {
    match command {
        CaCommand::Init { mesh } => init(mesh.as_deref(), context),
        CaCommand::Issue { name, out, validity } => issue(name, out.as_deref(), validity, context),
        CaCommand::Sign { csr, node, out, validity } => sign(csr, node, out.as_deref(), validity, context),
        CaCommand::Delegate { name, out, days, generation } => {
            delegate(name, out.as_deref(), *days, *generation, context)
        }
        CaCommand::List => list(context),
        CaCommand::Show { name } => show(name, context),
        CaCommand::Export => export(context),
    }
}

fn open(context: &mut Terminal<'_>) -> Result<Authority, CliError> {
    let authority = Authority::open(&context.dir.join(CA))?;
    for warning in authority.warnings() {
        context.note("warning", warning)?;
    }
    Ok(authority)
}

fn init(mesh: Option<&str>, context: &mut Terminal<'_>) -> Result<(), CliError> {
    let mesh_file = context.dir.join(MESH_FILE);
    let mesh = match mesh {
        Some(text) => mesh_name(text)?,
        None if !mesh_file.exists() => {
            let message = format!("no mesh is named, and there is no {}", mesh_file.display());
            return Err(CliError::usage("no-mesh", message).hint("name it: `adit ca init MESH`"));
        }
        None => mesh_config::load(&mesh_file)?.mesh.name().clone(),
    };
    let dir = context.dir.join(CA);
    let authority = Authority::create(&dir, &mesh, context.clock.now())?;
    let value = json!({"mesh": mesh, "directory": dir, "not_after": rfc3339(authority.not_after())});
    let text = format!(
        "the certificate authority of mesh `{mesh}` is made in {0}\nmove {0}/root.key to a safe place, off this host: \
         it is only needed for a new intermediate, which is due by {1}\n",
        dir.display(),
        rfc3339(authority.not_after()),
    );
    Ok(context.answer(&value, &text)?)
}

fn issue(name: &str, out: Option<&Path>, validity: &str, context: &mut Terminal<'_>) -> Result<(), CliError> {
    let node = node_name(name)?;
    let validity = duration(validity)?;
    let mut authority = open(context)?;
    let mesh_file = context.dir.join(MESH_FILE);
    let document = mesh_file.exists().then(|| mesh_config::read_text(&mesh_file)).transpose();
    let document = document.map_err(|problem| CliError::from(vec![*problem]))?;
    if let Some(checked) = document.as_ref().and_then(|text| mesh_config::Mesh::check(text, MESH_FILE).ok())
        && checked.mesh.node(node.as_str()).is_none()
    {
        let file = mesh_file.display();
        context.note("warning", format_args!("{file} does not name {node}: no member lets it in until it does"))?;
    }
    let dir = out.map_or_else(|| context.dir.join(NODES).join(node.as_str()), Path::to_owned);
    let key_file = dir.join(ca::NODE_KEY);
    let key = if key_file.exists() { NodeKey::load(&key_file)?.0 } else { NodeKey::generate()? };
    let issued = authority.issue(&node, &key.public_key(), Some(validity), context.clock.now())?;
    ca::write_node_directory(&dir, &key, &issued.chain_pem, authority.trust_pem())?;
    if let Some(document) = document {
        write_configuration(&dir, &node, &document)?;
    }
    context.note("warning", format_args!("{} holds a private key: carry it by a safe way", dir.display()))?;
    let value = json!({"certificate": certificate_json(&node, &issued), "directory": dir});
    let until = rfc3339(issued.not_after);
    Ok(context.answer(&value, &format!("{node} is certified until {until}: {}\n", dir.display()))?)
}

fn sign(
    csr: &Path,
    name: &str,
    out: Option<&Path>,
    validity: &str,
    context: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let node = node_name(name)?;
    let validity = duration(validity)?;
    let key = PublicKey::from_csr(&read_request(csr)?).map_err(ca::Error::from)?;
    let mut authority = open(context)?;
    let issued = authority.issue(&node, &key, Some(validity), context.clock.now())?;
    let mut value = json!({"certificate": certificate_json(&node, &issued), "chain_pem": issued.chain_pem});
    let Some(out) = out else { return Ok(context.answer(&value, &issued.chain_pem)?) };
    atomic::write(out, issued.chain_pem.as_bytes(), atomic::PUBLIC)?;
    value["file"] = json!(out);
    let until = rfc3339(issued.not_after);
    Ok(context.answer(&value, &format!("{node} is certified until {until}: {}\n", out.display()))?)
}

fn delegate(
    name: &str,
    out: Option<&Path>,
    days: u32,
    generation: u64,
    context: &mut Terminal<'_>,
) -> Result<(), CliError> {
    let name = node_name(name)?;
    let generation = Generation::new(generation)
        .ok_or_else(|| CliError::usage("generation", "a generation is a whole number from 1 up"))?;
    let validity = std::time::Duration::from_secs(u64::from(days) * 86_400);
    let mut authority = open(context)?;
    let dir = out.map_or_else(|| context.dir.join(PUBLISHERS).join(name.as_str()), Path::to_owned);
    let key_file = dir.join(ca::PUBLISHER_KEY);
    let key = if key_file.exists() { NodeKey::load(&key_file)?.0 } else { NodeKey::generate()? };
    let issued = authority.delegate(&name, &key.public_key(), generation, Some(validity), context.clock.now())?;
    ca::write_publisher_directory(&dir, &key, &issued.chain_pem)?;
    let place = dir.display();
    context.note("warning", format_args!("{place} holds a private key: whoever has it can change the whole mesh"))?;
    let mut value =
        json!({"certificate": certificate_json(&name, &issued), "directory": dir, "generation": generation});
    value["publisher"] = json!(true);
    let until = rfc3339(issued.not_after);
    let text = format!("{name} may sign mesh documents of generation {generation} until {until}: {place}\n");
    Ok(context.answer(&value, &text)?)
}

/// Reads a request, and no more than one byte above the limit, which is enough to refuse it.
fn read_request(path: &Path) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let limit = MAX_CSR as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(CliError::failed("io", format!("cannot read {}: {error}", path.display()))
            .hint("name a file with a PKCS#10 request, or - for standard input")),
    }
}

fn list(context: &mut Terminal<'_>) -> Result<(), CliError> {
    let authority = open(context)?;
    let certificates = authority.list(context.clock.now());
    let value = json!({
        "certificates": certificates.iter().map(|(record, state)| record_json(record, *state)).collect::<Vec<_>>()
    });
    let widest = certificates.iter().map(|(record, _)| record.node().as_str().len()).max().unwrap_or(0).max(4);
    let mut text = format!("{:<32}  {:<widest$}  {:<20}  {:<20}  STATE\n", "SERIAL", "NODE", "NOT BEFORE", "NOT AFTER");
    for (record, state) in &certificates {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{}  {:<widest$}  {:<20}  {:<20}  {}",
            record.serial(),
            record.node(),
            rfc3339(record.not_before()),
            rfc3339(record.not_after()),
            if record.publisher() { format!("{}, publisher", word(*state)) } else { word(*state).to_owned() }
        );
    }
    Ok(context.answer(&value, &text)?)
}

fn show(name: &str, context: &mut Terminal<'_>) -> Result<(), CliError> {
    let node = node_name(name)?;
    let authority = open(context)?;
    let own = || authority.records().iter().filter(|record| *record.node() == node);
    let Some(record) = own().next_back() else {
        let message = format!("no certificate was issued to {} here", quote(node.as_str()));
        return Err(CliError::failed("unknown-node", message).hint("`adit ca list` shows all that were"));
    };
    let state = record.state(context.clock.now());
    let Some(summary) = Summary::of(record.der()) else {
        let path = authority.dir().join("index").display().to_string();
        return Err(CliError::failed("damaged", format!("{path} holds something else than a certificate")));
    };
    let earlier = own().count() - 1;
    let mut value = record_json(record, state);
    for (key, more) in [
        ("subject", json!(summary.subject)),
        ("names", json!(summary.names)),
        ("usages", json!(summary.usages)),
        ("fingerprint", json!(summary.fingerprint)),
        ("pem", json!(record.to_pem())),
    ] {
        value[key] = more;
    }
    let text = format!(
        "node         {node}\nstate        {}\nserial       {}\nsubject      {}\nissuer       {}\nnames        {}\n\
         usages       {}\nnot before   {}\nnot after    {}\nSHA-256      {}\nearlier      {earlier}\n{}",
        word(state),
        record.serial(),
        summary.subject,
        summary.issuer,
        summary.names.join(", "),
        summary.usages.join(", "),
        rfc3339(summary.not_before),
        rfc3339(summary.not_after),
        summary.fingerprint,
        record.to_pem(),
    );
    Ok(context.answer(&json!({"certificate": value, "earlier": earlier}), &text)?)
}

fn export(context: &mut Terminal<'_>) -> Result<(), CliError> {
    let authority = open(context)?;
    let value = json!({
        "mesh": authority.mesh(),
        "trust_pem": authority.trust_pem(),
        "intermediate_pem": authority.intermediate_pem(),
        "files": {"trust": authority.dir().join("root.pem"), "intermediate": authority.dir().join("intermediate.pem")},
    });
    Ok(context.answer(&value, authority.trust_pem())?)
}

/// A length of time: a whole number and one of s, m, h, d.
fn duration(text: &str) -> Result<std::time::Duration, CliError> {
    let parsed = text.char_indices().next_back().and_then(|(at, unit)| {
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        text[..at].parse::<u64>().ok()?.checked_mul(seconds)
    });
    parsed.map(std::time::Duration::from_secs).ok_or_else(|| {
        CliError::usage("time", format!("{} is not a length of time", quote(text))).hint("write 90m, 12h or 7d")
    })
}

/// A certificate that was just issued, with the keys of `ca list`.
pub(super) fn certificate_json(node: &NodeName, issued: &Issued) -> Value {
    json!({
        "serial": issued.serial,
        "node": node,
        "not_before": rfc3339(issued.not_before),
        "not_after": rfc3339(issued.not_after),
        "issuer": issued.issuer,
    })
}

fn record_json(record: &Record, state: State) -> Value {
    json!({
        "serial": record.serial(),
        "node": record.node(),
        "publisher": record.publisher(),
        "not_before": rfc3339(record.not_before()),
        "not_after": rfc3339(record.not_after()),
        "issuer": record.issuer(),
        "state": state,
    })
}

fn word(state: State) -> &'static str {
    match state {
        State::Valid => "valid",
        State::Expired => "expired",
        State::Revoked => "revoked",
    }
}

/// RFC 3339, UTC, whole seconds, as certificates tell time.
fn rfc3339(time: OffsetDateTime) -> String {
    // Dates of certificates have four digits for the year, which is all this format asks.
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
#[path = "ca_tests.rs"]
mod tests;
