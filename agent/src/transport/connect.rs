//! TCP connections to the first address of a peer that answers, and the socket options of every TCP connection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::time::Instant;

use super::failure::Failure;
use super::race;
use crate::tcp::{Direction, Listener, Tcp};

/// Connects to the first of `addresses` that answers, each tried a quarter of a second after the one before or as soon
/// as that has failed. `prepare` may set more options of a socket that is about to connect.
///
/// # Errors
/// The failure that says most: an answer (refused) before silence, silence before a missing route.
pub async fn connect(
    addresses: &[SocketAddr],
    deadline: Instant,
    keepalive: Option<Duration>,
    prepare: impl Fn(&Socket, SocketAddr) + Clone + Send + Sync + 'static,
) -> Result<(Tcp, SocketAddr), Failure> {
    let attempt = move |address: SocketAddr| {
        let prepare = prepare.clone();
        async move {
            let stream = connect_one(address, prepare).await.map_err(|error| Failure::from_io(&error))?;
            // A host does not vanish from its own view.
            tune(&stream, keepalive.filter(|_| !address.ip().is_loopback()));
            Ok((stream, address))
        }
    };
    race::first(addresses, deadline, attempt).await
}

async fn connect_one(address: SocketAddr, prepare: impl Fn(&Socket, SocketAddr)) -> io::Result<Tcp> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    prepare(&socket, address);
    if let Err(error) = socket.connect(&address.into())
        && error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error())
    {
        return Err(error);
    }
    // Within a host the handshake is over by now, though the kernel says that it has begun: nothing is to be waited for.
    let connected = address.ip().is_loopback() && socket.peer_addr().is_ok();
    let stream = Tcp::new(socket.into())?;
    if connected {
        return Ok(stream.assume(&[Direction::Out]));
    }
    stream.ready(Direction::Out).await?;
    match stream.socket().take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

/// Sets what every TCP connection of the agent has: no delay, and probes after `keepalive` of silence so that a peer that
/// has vanished is noticed.
///
/// There is no TCP_USER_TIMEOUT: Linux aborts by it even while the peer acknowledges zero-window probes, so a reader that
/// pauses would lose its connection.
pub fn tune(stream: &impl AsFd, keepalive: Option<Duration>) {
    note(set(SockRef::from(stream), keepalive));
}

/// Sets on a listener for applications what every connection that it accepts inherits (tcp(7), socket(7)), so that no accept has
/// to: that of [`tune`], and of [`reset_unless_in_order`].
pub fn tune_listener(listener: &Listener, keepalive: Option<Duration>) {
    let socket = SockRef::from(listener);
    note(socket.set_linger(Some(Duration::ZERO)).and_then(|()| set(socket, keepalive)));
}

fn set(socket: SockRef<'_>, keepalive: Option<Duration>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let Some(time) = keepalive else { return Ok(()) };
    let interval = (time / 6).max(Duration::from_secs(1));
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(3))
}

fn note(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "socket options");
    }
}

/// Makes the end of an application's connection a RST, however it comes: by a fault, by a kill of this process. Only an orderly
/// end [takes it back](in_order). Else the kernel would close it with FIN, and half a transfer would look whole.
pub fn reset_unless_in_order(app: &Tcp) {
    note(SockRef::from(app).set_linger(Some(Duration::ZERO)));
}

/// The connection has ended in order: what is still under way to the application is delivered.
pub fn in_order(app: &Tcp) {
    note(SockRef::from(app).set_linger(None));
}

/// Whether an accept error means that this process or host has run out of something, so that accepting must pause.
pub fn is_exhausted(error: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOBUFS: i32 = 105;
    const ENOMEM: i32 = 12;
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::failure::Layer;

    #[tokio::test]
    async fn the_address_that_answers_is_taken_and_a_refusal_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let closed = {
            let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            l.local_addr().unwrap()
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        let (_, address) = connect(&[closed, good], deadline, None, |_, _| ()).await.unwrap();
        assert_eq!(address, good);
        let failure = connect(&[closed], deadline, None, |_, _| ()).await.unwrap_err();
        assert_eq!((failure.layer, failure.address), (Layer::Refused, Some(closed)));
    }
}
