//! Packets over WebSocket: one binary message is one frame.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tidegate_protocol::{CloseReason, Packet};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Incoming, Transport};
use crate::error::{Cause, Closed};
use crate::frames::Frames;

/// Messages of a WebSocket. Pings are answered below, while reading.
pub(crate) struct WebSocketTransport<S> {
    socket: WebSocketStream<S>,
    frames: Frames,
}

impl<S> WebSocketTransport<S> {
    pub(crate) fn new(socket: WebSocketStream<S>, frames: Frames) -> Self {
        Self { socket, frames }
    }
}

impl<S> Transport for WebSocketTransport<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn queue(&mut self, packet: &Packet) -> io::Result<()> {
        let codec = self.frames.codec();
        let mut frame = Vec::with_capacity(codec.encoded_len(packet));
        codec.encode(packet, &mut frame);
        // Buffers only: the socket's write buffer is larger than what is ever queued.
        Pin::new(&mut self.socket)
            .start_send(Message::Binary(Bytes::from(frame)))
            .map_err(io_error)
    }

    fn start_close(&mut self) -> io::Result<()> {
        let goodbye = CloseFrame {
            code: CloseReason::ClientLeft.code().into(),
            reason: CloseReason::ClientLeft.text().into(),
        };
        Pin::new(&mut self.socket)
            .start_send(Message::Close(Some(goodbye)))
            .map_err(io_error)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io_error)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        let closed = loop {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(frame))) => match self.frames.codec().decode(&frame) {
                    Ok(packet) => return Poll::Ready(Incoming::Packet(packet)),
                    Err(e) => break Closed::new(Cause::Protocol, e.to_string()),
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    break Closed::new(Cause::Protocol, "it sent a message that is not binary");
                }
                Some(Ok(Message::Close(frame))) => {
                    let mut closed = Closed::new(Cause::Gate, "");
                    if let Some(frame) = frame {
                        closed.code = Some(frame.code.into());
                        closed.text = frame.reason.as_str().to_owned();
                    }
                    return Poll::Ready(Incoming::Goodbye(closed));
                }
                Some(Err(e)) => break ended(e),
                None => break Closed::new(Cause::Gate, ""),
            }
        };
        Poll::Ready(Incoming::Ended(closed))
    }
}

fn ended(error: Error) -> Closed {
    match error {
        Error::Io(e) => Closed::lost(&e),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            Closed::new(Cause::Lost, "it ended without a close frame")
        }
        other => Closed::new(Cause::Protocol, other.to_string()),
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(e) => e,
        other => io::Error::other(other),
    }
}
