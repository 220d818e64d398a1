//! What bytes come from and go to: a socket, with or without TLS, or anything that a
//! caller brings.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::proxy::Remote;

/// A byte stream of the caller's: an in-memory pipe, say.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// See the module.
pub(crate) enum Transport {
    Plain(Socket),
    Tls(Box<TlsStream<Watched>>),
    Other(Box<dyn Stream>),
}

/// A connected socket.
pub(crate) enum Socket {
    Tcp(TcpStream),
    /// In a box, so that two kinds of socket take no more room than one.
    Unix(Box<UnixStream>),
}

/// The socket under TLS. What is written above it may stay in TLS's buffer: whether the
/// client takes bytes shows only here.
pub(crate) struct Watched {
    socket: Socket,
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
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
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
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
            Self::Other(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
            Self::Other(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
            Self::Other(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

impl Transport {
    /// TLS over this socket, once `handshake` is done. What TLS keeps back is bounded.
    /// When it fails, the client has been told why, and the socket comes back.
    pub(crate) async fn tls(
        socket: Socket,
        handshake: &tokio_rustls::TlsAcceptor,
    ) -> Result<Self, (io::Error, Self)> {
        let progress = false;
        let accept = handshake
            .accept(Watched { socket, progress })
            .into_fallible();
        let mut stream = match accept.await {
            Ok(stream) => stream,
            Err((error, io)) => return Err((error, Self::Plain(io.socket))),
        };
        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Whether the socket took bytes, since last asked, that this could not show.
    pub(crate) fn take_progress(&mut self) -> bool {
        match self {
            Self::Tls(s) => std::mem::take(&mut s.get_mut().0.progress),
            Self::Plain(_) | Self::Other(_) => false,
        }
    }

    /// Whether the peer is still there, without taking anything from the socket.
    pub(crate) fn look(&self) -> Peer {
        match self {
            Self::Plain(s) => s.look(),
            Self::Tls(s) => s.get_ref().0.socket.look(),
            Self::Other(_) => Peer::There,
        }
    }
}

impl Socket {
    /// A socket accepted from `peer`. Must be called on the runtime that will serve it.
    pub(crate) fn open(socket: socket2::Socket, peer: Remote) -> io::Result<Self> {
        Ok(match peer {
            Remote::Unix => Self::Unix(Box::new(UnixStream::from_std(socket.into())?)),
            Remote::Ip(_) => Self::Tcp(TcpStream::from_std(socket.into())?),
        })
    }

    fn look(&self) -> Peer {
        // Bytes that wait to be read would hide a reset.
        if self.is_broken() {
            return Peer::Lost;
        }
        let socket = SockRef::from(self);
        let mut byte = [std::mem::MaybeUninit::uninit()];
        match socket.peek(&mut byte) {
            Ok(0) => Peer::Left,
            Ok(_) => Peer::There,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Peer::There,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Peer::There,
            Err(_) => Peer::Lost,
        }
    }

    fn is_broken(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(self, PollFlags::empty())];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let broken = match self {
            Self::Tcp(_) => PollFlags::ERR | PollFlags::HUP,
            // Here the peer hangs up when it closes in order, and its last bytes wait.
            Self::Unix(_) => PollFlags::ERR,
        };
        matches!(poll(&mut fds, Some(&at_once)), Ok(n) if n > 0)
            && fds[0].revents().intersects(broken)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(s) => s.as_fd(),
            Self::Unix(s) => s.as_fd(),
        }
    }
}

/// Does the same with either socket.
macro_rules! either {
    ($socket:expr, $s:ident => $what:expr) => {
        match $socket {
            Socket::Tcp($s) => $what,
            Socket::Unix($s) => $what,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), s => Pin::new(s).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, s => s.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), s => Pin::new(s).poll_shutdown(cx))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.progress |= matches!(result, Poll::Ready(Ok(n)) if n > 0);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.progress |= matches!(result, Poll::Ready(Ok(n)) if n > 0);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Bytes that TLS keeps for a socket that takes none: about one record.
const TLS_BUFFER: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// An idle connection pays for none of the other kinds.
    #[test]
    fn a_transport_is_as_small_as_a_tcp_socket() {
        assert_eq!(size_of::<Transport>(), size_of::<TcpStream>());
    }

    #[tokio::test]
    async fn a_look_at_a_unix_peer() {
        let pair = || {
            let (client, server) = UnixStream::pair().unwrap();
            (client, Socket::Unix(Box::new(server)))
        };
        let (mut client, mut server) = pair();
        assert_eq!(server.look(), Peer::There);
        client.write_all(b"last words").await.unwrap();
        drop(client);
        assert_eq!(server.look(), Peer::There, "what it said waits to be read");
        server.read_exact(&mut [0; 10]).await.unwrap();
        assert_eq!(server.look(), Peer::Left);
        let (client, mut server) = pair();
        server.write_all(b"unread").await.unwrap();
        drop(client);
        assert_eq!(server.look(), Peer::Lost, "it did not want what was said");
    }
}
