//! A connected TCP socket, and who waits for it: the runtime, or a thread that has nothing else to do.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A listening socket that the runtime watches.
#[derive(Debug)]
pub struct Listener(AsyncFd<TcpListener>);

impl Listener {
    /// Has the runtime watch a listening socket, which must not block.
    ///
    /// # Errors
    /// If it cannot.
    pub fn new(socket: TcpListener) -> io::Result<Self> {
        watch(socket, Interest::READABLE).map(Self)
    }

    /// Its own address.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }

    /// The next connection. Nothing is lost if it is not waited for to the end.
    ///
    /// # Errors
    /// The kernel's: of the connection, or for want of something.
    pub async fn accept(&self) -> io::Result<(Tcp, SocketAddr)> {
        let accept = |socket: &TcpListener| {
            let (accepted, from) = acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
            let from = from.ok_or(Errno::AFNOSUPPORT)?;
            Ok((accepted, SocketAddr::try_from(from).map_err(io::Error::from)?))
        };
        let (accepted, from) = self.0.async_io(Interest::READABLE, accept).await?;
        // What was accepted has often sent something already.
        Ok((Tcp::new(accepted.into())?.assume(&[Direction::In, Direction::Out]), from))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One direction of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Reading.
    In = 1,
    /// Writing.
    Out = 2,
}

/// A connected socket that does not block.
#[derive(Debug)]
pub struct Tcp {
    io: Io,
    /// The directions that are taken to be ready before the runtime has said so: a wrong guess costs one system call.
    fresh: AtomicU8,
}

#[derive(Debug)]
enum Io {
    /// The runtime says when it is ready. What waits for a reset has a share.
    Runtime(Arc<AsyncFd<Arc<TcpStream>>>),
    /// Whoever polls it waits for it.
    Alone(Alone),
}

/// A socket that the runtime does not know. One thread polls it, so the flags order nothing.
#[derive(Debug)]
struct Alone {
    socket: Arc<TcpStream>,
    /// The directions that are not known to be exhausted, by [`Direction`], [`FAILED`] and [`HUNG_UP`].
    ready: AtomicU8,
    /// The directions that somebody waits for.
    wanted: AtomicU8,
}

/// The kernel has an error for it.
const FAILED: u8 = 4;
/// Both directions are closed.
const HUNG_UP: u8 = 8;

impl Tcp {
    /// Has the runtime watch a socket, which must not block.
    ///
    /// # Errors
    /// If it cannot.
    pub fn new(socket: TcpStream) -> io::Result<Self> {
        Ok(Self { io: Io::Runtime(Arc::new(watch(Arc::new(socket), BOTH)?)), fresh: AtomicU8::new(0) })
    }

    /// Takes these directions to be ready without asking.
    pub fn assume(self, directions: &[Direction]) -> Self {
        let fresh = directions.iter().fold(0, |flags, direction| flags | *direction as u8);
        Self { fresh: AtomicU8::new(fresh), ..self }
    }

    /// Takes over a socket that the runtime watches already.
    ///
    /// # Errors
    /// If it cannot.
    pub fn of(socket: tokio::net::TcpStream) -> io::Result<Self> {
        Self::new(socket.into_std()?)
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        match &self.io {
            Io::Runtime(watched) => watched.get_ref(),
            Io::Alone(alone) => &alone.socket,
        }
    }

    /// Lets somebody look at the socket without keeping it.
    pub fn watched(&self) -> Weak<TcpStream> {
        Arc::downgrade(match &self.io {
            Io::Runtime(watched) => watched.get_ref(),
            Io::Alone(alone) => &alone.socket,
        })
    }

    /// The far end's address.
    ///
    /// # Errors
    /// If it is no longer connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr()
    }

    /// Ready when an attempt in `direction` may succeed.
    ///
    /// # Errors
    /// If the runtime ends.
    pub fn poll_ready(&self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<()>> {
        if self.fresh.load(Relaxed) & direction as u8 != 0 {
            return Poll::Ready(Ok(()));
        }
        match (&self.io, direction) {
            (Io::Runtime(watched), Direction::In) => watched.poll_read_ready(cx).map_ok(drop),
            (Io::Runtime(watched), Direction::Out) => watched.poll_write_ready(cx).map_ok(drop),
            (Io::Alone(alone), _) => alone.poll_ready(direction).map(Ok),
        }
    }

    /// One system call. `None`: the socket was not ready after all. `wanted`: less than that means that it is not ready for another
    /// call; 0 if it does not.
    pub fn attempt(
        &self,
        direction: Direction,
        wanted: usize,
        mut call: impl FnMut(&TcpStream) -> rustix::io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let mut call = |socket: &TcpStream| {
            loop {
                match call(socket) {
                    Err(Errno::INTR) => {}
                    result => return result,
                }
            }
        };
        let unwatched = match &self.io {
            Io::Runtime(_) if self.fresh.load(Relaxed) & direction as u8 != 0 => Some(&self.fresh),
            Io::Runtime(_) => None,
            Io::Alone(alone) => Some(&alone.ready),
        };
        if let Some(ready) = unwatched {
            let result = call(self.socket());
            if matches!(result, Err(Errno::AGAIN)) || matches!(result, Ok(len) if 0 < len && len < wanted) {
                ready.fetch_and(!(direction as u8), Relaxed);
            }
            return (result != Err(Errno::AGAIN)).then(|| result.map_err(io::Error::from));
        }
        let Io::Runtime(watched) = &self.io else { return None };
        let interest = match direction {
            Direction::In => Interest::READABLE,
            Direction::Out => Interest::WRITABLE,
        };
        let mut done = None;
        let result = watched.try_io(interest, |socket| {
            let len = call(socket)?;
            done = Some(len);
            if 0 < len && len < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(len) }
        });
        match (done, result) {
            (Some(len), _) => Some(Ok(len)),
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
            (None, result) => Some(result),
        }
    }

    /// Waits until an attempt in `direction` may succeed.
    ///
    /// # Errors
    /// If the runtime ends.
    pub async fn ready(&self, direction: Direction) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_ready(cx, direction)).await
    }

    /// Resolves when the socket has an error pending, so when its peer has reset it, whatever is still unread. Of a socket that
    /// the runtime does not know this is never heard; [`has_failed`](Self::has_failed) says it.
    pub fn reset(&self) -> impl Future<Output = io::Error> + Send + Sync + 'static {
        let watched = match &self.io {
            Io::Runtime(watched) => Some(Arc::clone(watched)),
            Io::Alone(_) => None,
        };
        async move {
            let Some(watched) = watched else { return std::future::pending().await };
            match watched.ready(Interest::ERROR).await {
                Ok(_) => error_of(watched.get_ref()),
                Err(error) => error,
            }
        }
    }

    /// The error that the kernel had for a socket that the runtime does not know, when it was last waited for.
    pub fn has_failed(&self) -> Option<io::Error> {
        match &self.io {
            Io::Alone(alone) if alone.ready.load(Relaxed) & FAILED != 0 => Some(error_of(&alone.socket)),
            _ => None,
        }
    }

    /// Takes the socket from the runtime: whoever polls it has to [wait](Self::interest) for it. Whether that could be done: not
    /// while something waits for its [reset](Self::reset).
    pub fn leave_runtime(&mut self) -> bool {
        let Io::Runtime(watched) = &mut self.io else { return true };
        let Some(_) = Arc::get_mut(watched) else { return false };
        let socket = Arc::clone(watched.get_ref());
        let ready = AtomicU8::new(Direction::In as u8 | Direction::Out as u8);
        self.fresh = AtomicU8::new(0);
        self.io = Io::Alone(Alone { socket, ready, wanted: AtomicU8::new(0) });
        true
    }

    /// Gives the socket back to the runtime.
    ///
    /// # Errors
    /// If it cannot watch it.
    pub fn join_runtime(&mut self) -> io::Result<()> {
        if let Io::Alone(alone) = &self.io {
            self.io = Io::Runtime(Arc::new(watch(Arc::clone(&alone.socket), BOTH)?));
        }
        Ok(())
    }

    /// What to wait for before it is polled again; nothing of one that the runtime watches, or of which nothing more is to come.
    pub fn interest(&self) -> Option<PollFlags> {
        let Io::Alone(alone) = &self.io else { return None };
        let (ready, wanted) = (alone.ready.load(Relaxed), alone.wanted.swap(0, Relaxed));
        // What the kernel says unasked would be said for ever.
        if ready & FAILED != 0 || (ready & HUNG_UP != 0 && wanted == 0) {
            return None;
        }
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, wanted & Direction::In as u8 != 0);
        flags.set(PollFlags::OUT, wanted & Direction::Out as u8 != 0);
        Some(flags)
    }

    /// What came of waiting.
    pub fn woke(&self, flags: PollFlags) {
        let Io::Alone(alone) = &self.io else { return };
        let mut ready = 0;
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            ready |= Direction::In as u8;
        }
        if flags.intersects(PollFlags::OUT | PollFlags::HUP | PollFlags::ERR) {
            ready |= Direction::Out as u8;
        }
        if flags.contains(PollFlags::ERR) {
            ready |= FAILED;
        }
        if flags.contains(PollFlags::HUP) {
            ready |= HUNG_UP;
        }
        alone.ready.fetch_or(ready, Relaxed);
    }
}

impl Alone {
    fn poll_ready(&self, direction: Direction) -> Poll<()> {
        if self.ready.load(Relaxed) & direction as u8 != 0 {
            return Poll::Ready(());
        }
        self.wanted.fetch_or(direction as u8, Relaxed);
        Poll::Pending
    }
}

impl AsFd for Tcp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl AsRawFd for Tcp {
    fn as_raw_fd(&self) -> RawFd {
        self.socket().as_raw_fd()
    }
}

/// A socket of the standard library.
trait StdSocket: AsRawFd {}
impl StdSocket for TcpListener {}
impl StdSocket for Arc<TcpStream> {}

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

#[expect(unsafe_code, reason = "the runtime has no safe way to be told of a socket that is to be taken from it again")]
fn watch<T: StdSocket>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: the standard library's sockets keep their descriptor open for as long as they live, and give no other; nothing here
    // replaces them.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest) }?)
}

fn error_of(socket: &TcpStream) -> io::Error {
    match SockRef::from(socket).take_error() {
        Ok(Some(error)) | Err(error) => error,
        Ok(None) => io::ErrorKind::ConnectionReset.into(),
    }
}

/// Polls until an attempt was made.
///
/// # Errors
/// The kernel's.
pub fn poll(
    tcp: &Tcp,
    cx: &mut Context<'_>,
    direction: Direction,
    wanted: usize,
    mut call: impl FnMut(&TcpStream) -> rustix::io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(tcp.poll_ready(cx, direction))?;
        if let Some(result) = tcp.attempt(direction, wanted, &mut call) {
            return Poll::Ready(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::task::Waker;
    use std::time::Duration;

    use super::*;

    fn read(tcp: &Tcp, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        poll(tcp, cx, Direction::In, 0, |socket| rustix::io::read(socket, &mut [0; 8]))
    }

    /// Whoever connects often sends before the runtime has looked at the socket once.
    #[tokio::test]
    async fn what_was_accepted_is_read_and_written_before_the_runtime_knows_of_it_and_waited_for_after_that() {
        let listener = Listener::new({
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        })
        .unwrap();
        let mut app = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        app.write_all(b"first").unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let cx = &mut Context::from_waker(Waker::noop());
        // Nothing is awaited from here on, so the runtime sees nothing.
        assert!(matches!(read(&tcp, cx), Poll::Ready(Ok(5))));
        let written = poll(&tcp, cx, Direction::Out, 6, |socket| rustix::io::write(socket, b"answer"));
        assert!(matches!(written, Poll::Ready(Ok(6))));
        app.read_exact(&mut [0; 6]).unwrap();
        assert!(read(&tcp, cx).is_pending() && tcp.fresh.load(Relaxed) & Direction::In as u8 == 0);
        app.write_all(b"second").unwrap();
        let second = tokio::time::timeout(Duration::from_secs(10), std::future::poll_fn(|cx| read(&tcp, cx)));
        assert_eq!(second.await.expect("it is told").unwrap(), 6);
    }
}
