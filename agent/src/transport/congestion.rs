//! Which congestion control the kernel uses on a TCP connection of the agent.
//!
//! On a short path it decides what a byte costs more than the cipher does: bbr (draft-cardwell-iccrg-bbr-congestion-control)
//! paces what it sends by timers, and each of them is a wake-up; cubic (RFC 9438) and reno (RFC 5681) send what the window
//! allows. On long and lossy paths bbr earns what it costs. So [`Congestion::Auto`] goes by the round trip that the kernel has
//! measured: cubic, or else reno, where it is short, and what the system is set to elsewhere.
//!
//! The kernel lets a process choose among those of `net.ipv4.tcp_allowed_congestion_control`, and root any that is loaded
//! (tcp(7), TCP_CONGESTION). One that may not be chosen is passed by: the system's own stays.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;

use super::tcp_info;
use crate::tcp::Tcp;
use crate::vocabulary::Congestion;

/// A path with a round trip up to this is short: within a host, a rack, a room.
pub const SHORT: Duration = Duration::from_millis(1);
/// What suits a short path, best first.
const FOR_SHORT: [&str; 2] = ["cubic", "reno"];
impl Congestion {
    /// What to try on a connection with this round trip, best first. Nothing: the system's own stays.
    fn candidates(&self, round_trip: Option<Duration>) -> impl Iterator<Item = &str> {
        let (several, one): (&[&str], _) = match self {
            Self::Auto if round_trip.is_some_and(|round_trip| round_trip <= SHORT) => (&FOR_SHORT, None),
            Self::Auto | Self::System => (&[], None),
            Self::Named(name) => (&[], Some(name.as_str())),
        };
        several.iter().copied().chain(one)
    }

    /// Sets it on an established connection to another agent. Whether what is in use does not pace what it sends.
    pub fn set_between_agents(&self, socket: &Tcp) -> bool {
        let round_trip = matches!(self, Self::Auto).then(|| tcp_info::round_trip(socket.socket())).flatten();
        let chosen = set(&SockRef::from(socket), self.candidates(round_trip));
        tracing::debug!(peer = ?socket.peer_addr().ok(), ?round_trip, congestion = chosen.unwrap_or("system"), "congestion control");
        in_use(socket).is_some_and(|name| FOR_SHORT.contains(&&*name))
    }

    /// Sets it on a listener for applications, or on a socket before it is connected to one, at `address`: of this host, if it has
    /// anything to say.
    pub fn set_towards_application<'s>(&self, socket: impl Into<SockRef<'s>>, address: SocketAddr) {
        if *self == Self::Auto && address.ip().is_loopback() {
            set(&socket.into(), self.candidates(Some(Duration::ZERO)));
        }
    }

    /// Why the kernel does not let this process have what was asked for by name.
    pub fn missing(&self) -> Option<String> {
        let Self::Named(name) = self else { return None };
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
        let error = socket.set_tcp_congestion(name.as_str().as_bytes()).err()?;
        Some(format!("congestion control `{name}` cannot be used ({error}): the system's own is used instead"))
    }
}

/// The name of what a connection uses.
pub fn in_use(socket: &impl AsFd) -> Option<String> {
    // The kernel fills its field of 16 bytes with zeros.
    let name = SockRef::from(socket).tcp_congestion().ok()?;
    Some(String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned())
}

/// Sets the first that the kernel takes.
fn set<'n>(socket: &SockRef<'_>, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    names.into_iter().find(|name| socket.set_tcp_congestion(name.as_bytes()).is_ok())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::vocabulary::CongestionName;

    #[test]
    fn auto_goes_by_the_round_trip_and_a_name_by_nothing() {
        let named = Congestion::Named(CongestionName::new("bbr").unwrap());
        let at = |congestion: &Congestion, micros: u64| -> Vec<String> {
            congestion.candidates(Some(Duration::from_micros(micros))).map(str::to_owned).collect()
        };
        assert_eq!(at(&Congestion::Auto, 0), ["cubic", "reno"]);
        assert_eq!(at(&Congestion::Auto, 1_000), ["cubic", "reno"]);
        assert_eq!(at(&Congestion::Auto, 1_001), [""; 0]);
        assert_eq!(Congestion::Auto.candidates(None).count(), 0, "nothing is known of the path");
        assert_eq!(at(&Congestion::System, 0), [""; 0]);
        assert_eq!(at(&named, 0), ["bbr"]);
        assert_eq!(at(&named, 200_000), ["bbr"]);
    }

    #[tokio::test]
    async fn a_connection_within_the_host_gets_what_suits_a_short_path_and_one_that_is_missing_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let [client, server] = [client, server].map(|end| Tcp::of(end).unwrap());
        let of = |socket: &Tcp| in_use(socket).unwrap();
        let system = of(&client);
        let unpaced = FOR_SHORT.contains(&&*system);
        assert_eq!((Congestion::System.set_between_agents(&client), of(&client)), (unpaced, system));
        assert!(Congestion::Auto.set_between_agents(&client), "neither of them paces");
        assert!(FOR_SHORT.contains(&&*of(&client)), "reno may always be chosen: {}", of(&client));
        let reno = Congestion::Named(CongestionName::new("reno").unwrap());
        assert!(reno.set_between_agents(&server));
        assert_eq!((of(&server), reno.missing()), ("reno".to_owned(), None));
        let missing = Congestion::Named(CongestionName::new("no_such_one").unwrap());
        assert!(missing.set_between_agents(&server));
        assert_eq!(of(&server), "reno", "what cannot be had changes nothing");
        assert!(missing.missing().unwrap().contains("`no_such_one`"));
    }
}
