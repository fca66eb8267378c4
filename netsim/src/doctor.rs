//! Finds out by doing what works on this machine, and what to allow where something does not.

use std::fmt;
use std::fs;
use std::io;
use std::net::UdpSocket;
use std::time::Duration;

use crate::Error;
use crate::backend::Backend;
use crate::backend::tap::DEVICE;
use crate::enter::{Entered, Unavailable, enter};
use crate::network::{Network, Settings};
use crate::topology::Topology;
use crate::wire::conditions::Conditions;

/// What works on this machine.
#[derive(Debug)]
pub struct Diagnosis {
    /// How the process came to its own network, or why it did not.
    pub entered: Result<Entered, Unavailable>,
    /// Whether a packet crosses a network over each backend. Not tried where the process has no network of its own.
    pub backends: Vec<(Backend, Result<(), Error>)>,
    /// What to allow, one thing each, in words for people.
    pub advice: Vec<String>,
}

impl Diagnosis {
    /// The backend to use: the first that works.
    #[must_use]
    pub fn backend(&self) -> Option<Backend> {
        self.backends.iter().find(|(_, outcome)| outcome.is_ok()).map(|(backend, _)| *backend)
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entered {
            Ok(Entered::Privileged) => writeln!(out, "namespaces: work, as root")?,
            Ok(Entered::UserNamespace) => writeln!(out, "namespaces: work, without privileges")?,
            Err(error) => writeln!(out, "namespaces: {}", chain(error))?,
        }
        for (backend, outcome) in &self.backends {
            let name = match backend {
                Backend::Tap => "TAP devices",
                Backend::Packet => "packet sockets",
            };
            match outcome {
                Ok(()) => writeln!(out, "{name}: work")?,
                Err(error) => writeln!(out, "{name}: {}", chain(error))?,
            }
        }
        self.advice.iter().try_for_each(|advice| writeln!(out, "{advice}"))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Moves the process into a network of its own, as [`enter()`] does and under the same conditions, and sends a packet over
/// each backend. Call it first in `main`, while there is one thread.
#[must_use]
pub fn doctor() -> Diagnosis {
    let seen = Seen::read();
    let entered = enter();
    let backends = match &entered {
        Ok(_) => [Backend::Tap, Backend::Packet].map(|backend| (backend, attempt(backend))).into(),
        Err(_) => Vec::new(),
    };
    let works = |wanted| backends.iter().any(|(backend, outcome)| *backend == wanted && Result::is_ok(outcome));
    let unknown = backends.iter().filter_map(|(_, outcome)| outcome.as_ref().err()).any(is_unknown_call);
    let advice = Seen { unknown, ..seen }.advise(entered.is_ok(), works(Backend::Tap), works(Backend::Packet));
    Diagnosis { entered, backends, advice }
}

/// Whether the kernel does not know a system call.
fn is_unknown_call(error: &Error) -> bool {
    let Error::Kernel { source, .. } = error else { return false };
    source.raw_os_error() == Some(libc::ENOSYS)
}

/// Sends a datagram from one host to another.
fn attempt(backend: Backend) -> Result<(), Error> {
    let mut topology = Topology::new();
    let (left, right) = (topology.host("left"), topology.host("right"));
    topology.link(left.at("10.255.0.1/24"), right.at("10.255.0.2/24"), Conditions::clean());
    let network = Network::start(&topology, &Settings::default().backend(backend))?;
    let (left, right) = (network.host(left), network.host(right));
    let wrong = || Error::kernel("send a datagram through the wire");
    let receiver = right.run(|| UdpSocket::bind((right.ip(), 9)))?.map_err(wrong())?;
    receiver.set_read_timeout(Some(Duration::from_millis(500))).map_err(wrong())?;
    let sender = left.run(|| UdpSocket::bind((left.ip(), 9)))?.map_err(wrong())?;
    let mut outcome = Err(io::ErrorKind::TimedOut.into());
    // A machine under load may take its time.
    for _ in 0..10 {
        sender.send_to(b"x", (right.ip(), 9)).map_err(wrong())?;
        outcome = receiver.recv(&mut [0; 1]).map(drop);
        if outcome.is_ok() {
            break;
        }
    }
    outcome.map_err(wrong())
}

/// What the machine says about itself.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Ubuntu 23.10 and later.
    apparmor: Option<String>,
    /// Debian before 11.
    clone: Option<String>,
    most: Option<String>,
    seccomp: bool,
    container: bool,
    device: Device,
    /// The kernel did not know a system call that was tried.
    unknown: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Device {
    #[default]
    Open,
    Missing,
    Closed,
}

impl Seen {
    fn read() -> Self {
        let setting =
            |path: &str| fs::read_to_string(format!("/proc/sys/{path}")).ok().map(|text| text.trim().to_owned());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let opened = fs::OpenOptions::new().read(true).write(true).open(DEVICE);
        Self {
            apparmor: setting("kernel/apparmor_restrict_unprivileged_userns"),
            clone: setting("kernel/unprivileged_userns_clone"),
            most: setting("user/max_user_namespaces"),
            seccomp: status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2')),
            container: ["/.dockerenv", "/run/.containerenv"].iter().any(|path| fs::exists(path).unwrap_or_default()),
            device: match opened {
                Ok(_) => Device::Open,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Device::Closed,
                Err(_) => Device::Missing,
            },
            unknown: false,
        }
    }

    fn advise(&self, namespaces: bool, tap: bool, packet: bool) -> Vec<String> {
        let mut advice = Vec::new();
        let mut say = |text: &str| advice.push(text.to_owned());
        if !namespaces {
            if self.apparmor.as_deref() == Some("1") {
                say("AppArmor keeps ordinary users from namespaces: \
                     sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a profile with `userns,` for this program");
            }
            if self.clone.as_deref() == Some("0") {
                say("the kernel keeps ordinary users from namespaces: sysctl kernel.unprivileged_userns_clone=1");
            }
            if self.most.as_deref() == Some("0") {
                say("no user namespaces are allowed: sysctl user.max_user_namespaces=10000");
            }
            if self.seccomp || self.container {
                say("a container's seccomp profile may forbid unshare and mount: \
                     --security-opt seccomp=unconfined --security-opt apparmor=unconfined, or --cap-add SYS_ADMIN");
            }
            if advice.is_empty() {
                advice.push("run it as root, or ask the administrator for user namespaces".to_owned());
            }
            return advice;
        }
        if !tap && !packet {
            if self.unknown {
                say(
                    "the kernel lacks a system call (epoll_pwait2): Linux 5.11 or later, and a container's seccomp profile \
                     that knows it",
                );
            } else if self.seccomp {
                say(
                    "a container's seccomp profile may forbid setns or epoll_pwait2: --security-opt seccomp=unconfined",
                );
            }
        }
        if !tap {
            match self.device {
                Device::Missing if self.container => say("give the container the device: --device /dev/net/tun"),
                Device::Missing => say("there is no /dev/net/tun: modprobe tun"),
                Device::Closed => {
                    say("/dev/net/tun is closed to this user: chmod 666 /dev/net/tun, as most systems have it")
                }
                Device::Open => {}
            }
            if packet {
                say("until then scenarios use packet sockets, which do the same");
            }
        }
        advice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_has_its_advice() {
        let is = |value: &str| Some(value.to_owned());
        let none = Seen::default();
        let table = [
            (
                Seen { apparmor: is("1"), ..none.clone() },
                (false, false, false),
                "apparmor_restrict_unprivileged_userns=0",
            ),
            (Seen { clone: is("0"), ..none.clone() }, (false, false, false), "unprivileged_userns_clone=1"),
            (Seen { most: is("0"), ..none.clone() }, (false, false, false), "user.max_user_namespaces=10000"),
            (Seen { seccomp: true, ..none.clone() }, (false, false, false), "seccomp=unconfined"),
            (none.clone(), (false, false, false), "as root"),
            (Seen { seccomp: true, ..none.clone() }, (true, false, false), "setns or epoll_pwait2"),
            (Seen { unknown: true, ..none.clone() }, (true, false, false), "Linux 5.11"),
            (Seen { device: Device::Missing, ..none.clone() }, (true, false, true), "modprobe tun"),
            (Seen { device: Device::Missing, container: true, ..none.clone() }, (true, false, true), "--device"),
            (Seen { device: Device::Closed, ..none.clone() }, (true, false, true), "chmod 666"),
        ];
        for (seen, (namespaces, tap, packet), expected) in table {
            let advice = seen.advise(namespaces, tap, packet).join("\n");
            assert!(advice.contains(expected), "{seen:?}: {advice}");
        }
        assert!(none.advise(true, true, true).is_empty());
    }
}
