//! Packets over a byte stream: TCP, TLS.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tidegate_protocol::{FrameError, Packet, V1};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Incoming, Transport};
use crate::error::{Cause, Closed};
use crate::frames::Frames;

const READ_CHUNK: usize = 8192;
/// Buffers that grew beyond this are given back once empty.
const KEPT: usize = 16 * 1024;

/// Frames that follow each other.
pub(crate) struct StreamTransport<S> {
    io: S,
    frames: Frames,
    /// Bytes read; those before `taken` are done with.
    input: Vec<u8>,
    taken: usize,
    /// Bytes to write; those before `written` are written.
    output: Vec<u8>,
    written: usize,
    closing: bool,
}

impl<S> StreamTransport<S> {
    pub(crate) fn new(io: S, frames: Frames) -> Self {
        Self {
            io,
            frames,
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            written: 0,
            closing: false,
        }
    }

    /// The next whole packet among the bytes read.
    fn next_packet(&mut self) -> Result<Option<Packet>, FrameError> {
        let buffered = &self.input[self.taken..];
        let codec = self.frames.codec();
        let Some(len) = codec.frame_len(buffered, V1::MAX_FRAME)? else {
            return Ok(None);
        };
        let Some(frame) = buffered.get(..len) else {
            return Ok(None);
        };
        let packet = codec.decode(frame)?;
        self.taken += len;
        Ok(Some(packet))
    }

    /// Makes the rest of a partial frame the beginning of the buffer.
    fn compact(&mut self) {
        self.input.drain(..self.taken);
        self.taken = 0;
        if self.input.is_empty() && self.input.capacity() > KEPT {
            self.input = Vec::new();
        }
    }
}

impl<S> Transport for StreamTransport<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn queue(&mut self, packet: &Packet) -> io::Result<()> {
        self.frames.codec().encode(packet, &mut self.output);
        Ok(())
    }

    fn start_close(&mut self) -> io::Result<()> {
        self.closing = true;
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.output.get(self.written..).filter(|r| !r.is_empty()) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
        }
        self.written = 0;
        self.output.clear();
        if self.output.capacity() > KEPT {
            self.output = Vec::new();
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        if self.closing {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        loop {
            match self.next_packet() {
                Ok(Some(packet)) => return Poll::Ready(Incoming::Packet(packet)),
                Ok(None) => {}
                Err(e) => {
                    let closed = Closed::new(Cause::Protocol, e.to_string());
                    return Poll::Ready(Incoming::Ended(closed));
                }
            }
            self.compact();
            let mut chunk = [const { MaybeUninit::<u8>::uninit() }; READ_CHUNK];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut chunk));
            let closed = match read {
                Ok(()) if !chunk.filled().is_empty() => {
                    self.input.extend_from_slice(chunk.filled());
                    continue;
                }
                Ok(()) if self.input.is_empty() => Closed::new(Cause::Gate, ""),
                Ok(()) if self.input.starts_with(b"HTTP/") => {
                    let text = "it speaks HTTP: WebSocket addresses begin with ws:// or wss://";
                    Closed::new(Cause::Protocol, text)
                }
                Ok(()) => Closed::new(Cause::Lost, "it ended within a frame"),
                Err(e) => Closed::lost(&e),
            };
            return Poll::Ready(Incoming::Ended(closed));
        }
    }
}
