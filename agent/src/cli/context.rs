//! What every command knows: the directory, the admin socket, and how to write.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::error::CliError;
use super::style::Paint;
use super::terminal::Terminal;
use crate::admin::client::{Client, ClientError};
use crate::clock::Clock;

/// What every command knows.
#[derive(Debug, Clone)]
pub struct Context {
    /// The agent's directory.
    pub dir: PathBuf,
    /// Machine-readable output.
    pub json: bool,
    /// Only errors.
    pub quiet: bool,
    /// How much more to tell.
    pub verbose: u8,
    /// Colours on standard output.
    pub color: bool,
    /// The running agent's admin socket.
    pub admin_socket: PathBuf,
    /// Wall time.
    pub clock: Clock,
}

impl Context {
    /// The running agent.
    pub fn client(&self) -> Client {
        Client::new(&self.admin_socket)
    }

    /// Where a command that works on files answers to.
    pub fn terminal<'a>(&self, out: &'a mut dyn Write, err: &'a mut dyn Write) -> Terminal<'a> {
        Terminal { dir: self.dir.clone(), json: self.json, quiet: self.quiet, clock: self.clock, out, err }
    }

    /// Colours, if they are wanted.
    pub(super) fn paint(&self) -> Paint {
        Paint::new(self.color && !self.json)
    }

    /// Why the agent could not be asked, with what to do about it.
    pub fn failed(&self, error: ClientError) -> CliError {
        let message = with_causes(&error);
        let (code, exit, hint) = match error {
            ClientError::NotRunning(_) => {
                let dir = self.dir.display();
                (
                    "not_running",
                    3,
                    Some(format!("start it with `adit run --dir {dir}`, or name its directory by --dir")),
                )
            }
            ClientError::Permission(_) => {
                ("permission_denied", 1, Some("run the command as the agent's user, or with sudo".into()))
            }
            ClientError::Silent(_) => ("no_answer", 1, Some("look at the agent's log; if it hangs, restart it".into())),
            ClientError::Lost(_) => ("agent_stopped", 1, Some("look at the agent's log for why it stopped".into())),
            ClientError::Answer(_) => {
                let hint = "the agent and the command line may be of different versions: restart the agent";
                ("bad_answer", 1, Some(hint.into()))
            }
            ClientError::Io { .. } => ("io", 1, None),
            ClientError::Agent { status, body } => {
                let exit = match status {
                    400 => 2,
                    403 => 4,
                    _ => 1,
                };
                // One for the life of a process that ends with it.
                (&*body.code.leak(), exit, body.hint)
            }
        };
        CliError { code, message, hint, exit }
    }

    /// Writes one JSON document and a line feed.
    ///
    /// # Errors
    /// As [`written`].
    pub fn write_json(&self, out: &mut dyn Write, document: &impl Serialize) -> Result<(), CliError> {
        let mut text = serde_json::to_string(document).map_err(|e| written(Err(e.into())).err().unwrap_or(told(1)))?;
        text.push('\n');
        written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }
}

/// An error with everything behind it, in one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The end of a command that has said everything itself: only the exit status is left. Its message is empty.
pub fn told(exit: u8) -> CliError {
    CliError { code: "", message: String::new(), hint: None, exit }
}

/// What a write to standard output came to. A reader that has gone away (`| head`) ends the command in peace.
///
/// # Errors
/// [`told`] with 0 if the reader is gone; else the failure.
pub fn written(outcome: io::Result<()>) -> Result<(), CliError> {
    outcome.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => told(0),
        _ => CliError {
            code: "output",
            message: format!("cannot write the answer: {error}"),
            hint: Some("is the disk full?".into()),
            exit: 1,
        },
    })
}

/// Ready when the user has pressed Ctrl-C, or the process is asked to end in another way.
pub(super) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let mut signals: Vec<_> = kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect();
    // One without a handler ends the process by itself.
    std::future::poll_fn(|cx| match signals.iter_mut().any(|signal| signal.poll_recv(cx).is_ready()) {
        true => std::task::Poll::Ready(()),
        false => std::task::Poll::Pending,
    })
    .await;
}

/// The agent's directory: the flag or `ADIT_DIR` (which the argument parser reads), `/etc/adit` for root,
/// `$XDG_CONFIG_HOME/adit`, `~/.config/adit`.
///
/// # Errors
/// None of them is known.
pub fn directory(flag: Option<PathBuf>) -> Result<PathBuf, CliError> {
    let root = rustix::process::geteuid().is_root();
    choose_directory(flag, root, |name| std::env::var_os(name).map(PathBuf::from)).ok_or_else(|| CliError {
        code: "no_directory",
        message: "no directory: neither --dir, ADIT_DIR, XDG_CONFIG_HOME nor HOME says where it is".into(),
        hint: Some("add --dir DIR".into()),
        exit: 2,
    })
}

fn choose_directory(flag: Option<PathBuf>, root: bool, variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let given = |path: Option<PathBuf>| path.filter(|p| !p.as_os_str().is_empty());
    given(flag).or_else(|| given(variable("ADIT_DIR"))).or_else(|| {
        if root {
            return Some("/etc/adit".into());
        }
        // The XDG base directory specification has relative paths ignored.
        let xdg = variable("XDG_CONFIG_HOME").filter(|p| p.is_absolute());
        let config = xdg.or_else(|| given(variable("HOME")).map(|home| home.join(".config")));
        config.map(|c| c.join("adit"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_comes_from_the_flag_the_variable_or_the_user() {
        let choose = |flag: Option<&str>, root: bool, set: &[(&str, &str)]| {
            let variable = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v));
            choose_directory(flag.map(Into::into), root, variable).map(|p| p.display().to_string())
        };
        let all = [("ADIT_DIR", "/a"), ("XDG_CONFIG_HOME", "/x"), ("HOME", "/home/u")];
        assert_eq!(choose(Some("/f"), true, &all).unwrap(), "/f");
        assert_eq!(choose(None, true, &all).unwrap(), "/a");
        assert_eq!(choose(None, true, &all[1..]).unwrap(), "/etc/adit");
        assert_eq!(choose(None, false, &all[1..]).unwrap(), "/x/adit");
        assert_eq!(choose(None, false, &[("XDG_CONFIG_HOME", "x"), all[2]]).unwrap(), "/home/u/.config/adit");
        assert_eq!(choose(None, false, &[("ADIT_DIR", ""), all[2]]).unwrap(), "/home/u/.config/adit");
        assert_eq!(choose(None, false, &[]), None);
    }
}
