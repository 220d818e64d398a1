//! From an address, or streams that somebody else opens, to transports.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::builder::Plan;
use crate::error::Error;
use crate::transport::Transport;

/// A stream of bytes, of whatever kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

type Opened = BoxFuture<'static, io::Result<Box<dyn Stream>>>;

/// Where streams come from.
pub(crate) enum Source {
    /// Sockets to the address.
    Address { host: String, port: u16 },
    /// There is one, and never another.
    Once(Mutex<Option<Box<dyn Stream>>>),
    /// Each is opened by the client's owner.
    Each(Box<dyn Fn() -> Opened + Send + Sync>),
}

/// Makes connections, one after the other.
pub(crate) struct Dialer {
    pub(crate) source: Source,
    pub(crate) plan: Plan,
}

/// A connection that was made.
pub(crate) struct Dialed {
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) bytes: BytesRead,
}

impl Dialer {
    pub(crate) async fn dial(&self) -> Result<Dialed, Error> {
        let stream = self.open().await.map_err(Error::Connect)?;
        let bytes = BytesRead::default();
        let counted = Counted {
            stream,
            bytes: bytes.clone(),
        };
        Ok(Dialed {
            transport: self.plan.establish(counted).await?,
            bytes,
        })
    }

    async fn open(&self) -> io::Result<Box<dyn Stream>> {
        match &self.source {
            Source::Address { host, port } => {
                let socket = TcpStream::connect((host.as_str(), *port)).await?;
                // Writes are coalesced here already.
                socket.set_nodelay(true)?;
                Ok(Box::new(socket))
            }
            Source::Once(stream) => {
                let stream = stream.lock().take();
                stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
            }
            Source::Each(open) => open().await,
        }
    }

    /// Whether another connection can be made when this one is lost.
    pub(crate) fn can_again(&self) -> bool {
        !matches!(self.source, Source::Once(_))
    }
}

/// How many bytes have come on a connection: any of them is a sign of life, be it a part
/// of a frame.
#[derive(Debug, Clone, Default)]
pub(crate) struct BytesRead(Arc<AtomicU64>);

impl BytesRead {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A stream that counts what it reads.
struct Counted {
    stream: Box<dyn Stream>,
    bytes: BytesRead,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let bytes = (buf.filled().len() - before) as u64;
        self.bytes.0.fetch_add(bytes, Relaxed);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
