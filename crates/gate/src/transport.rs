//! What bytes come from and go to: a socket, with or without TLS, or anything that a
//! caller brings.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A byte stream of the caller's: an in-memory pipe, a Unix socket.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// See the module.
pub(crate) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<Socket>>),
    Other(Box<dyn Stream>),
}

/// The socket under TLS. What is written above it may stay in TLS's buffer: whether the
/// client takes bytes shows only here.
pub(crate) struct Socket {
    tcp: TcpStream,
    progress: bool,
}

/// What a look at a socket that is not being read showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Nothing, or bytes that wait to be read.
    There,
    /// It has closed, and nothing waits to be read.
    Left,
    /// The connection is broken.
    Lost,
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
            Self::Other(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
            Self::Other(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
            Self::Other(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
            Self::Other(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

impl Transport {
    /// TLS over this socket, once `handshake` is done. What TLS keeps back is bounded.
    pub(crate) async fn tls(
        tcp: TcpStream,
        handshake: &tokio_rustls::TlsAcceptor,
    ) -> io::Result<Self> {
        let progress = false;
        let mut stream = handshake.accept(Socket { tcp, progress }).await?;
        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Whether the socket took bytes, since last asked, that this could not show.
    pub(crate) fn take_progress(&mut self) -> bool {
        match self {
            Self::Tls(s) => std::mem::take(&mut s.get_mut().0.progress),
            Self::Tcp(_) | Self::Other(_) => false,
        }
    }

    /// Whether the peer is still there, without taking anything from the socket.
    pub(crate) fn look(&self) -> Peer {
        let socket = match self {
            Self::Tcp(s) => s,
            Self::Tls(s) => &s.get_ref().0.tcp,
            Self::Other(_) => return Peer::There,
        };
        // Bytes that wait to be read would hide a reset.
        if is_broken(socket) {
            return Peer::Lost;
        }
        let socket = SockRef::from(socket);
        let mut byte = [std::mem::MaybeUninit::uninit()];
        match socket.peek(&mut byte) {
            Ok(0) => Peer::Left,
            Ok(_) => Peer::There,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Peer::There,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Peer::There,
            Err(_) => Peer::Lost,
        }
    }
}

fn is_broken(socket: &TcpStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let broken = PollFlags::ERR | PollFlags::HUP;
    matches!(poll(&mut fds, Some(&at_once)), Ok(n) if n > 0) && fds[0].revents().intersects(broken)
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.progress |= matches!(result, Poll::Ready(Ok(n)) if n > 0);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.progress |= matches!(result, Poll::Ready(Ok(n)) if n > 0);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Prepares an accepted socket: no delay for small packets, and little unsent data in
/// the kernel, so that the session's queue decides what is stale and what is bounded.
pub(crate) fn prepare(socket: &std::net::TcpStream) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    SockRef::from(socket).set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    Ok(())
}

/// Bytes that TLS keeps for a socket that takes none: about one record.
const TLS_BUFFER: usize = 16 * 1024;

/// Unsent bytes in the kernel at which a socket stops taking more.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOTSENT_LOWAT: u32 = 16 * 1024;
