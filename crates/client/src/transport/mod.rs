//! Packets over a socket. One task polls both directions; neither ever waits for the other.

pub(crate) mod stream;
pub(crate) mod websocket;

use std::io;
use std::task::{Context, Poll};

use tidegate_protocol::Packet;

use crate::error::Closed;

/// A connection that carries packets.
pub(crate) trait Transport: Send + 'static {
    /// Takes a packet whose frame fits the limit, to be written by
    /// [`poll_flush`](Self::poll_flush). An error means that nothing can be written any more.
    fn queue(&mut self, packet: &Packet) -> io::Result<()>;

    /// Says goodbye after what is queued; nothing is queued any more.
    fn start_close(&mut self) -> io::Result<()>;

    /// Writes what is queued, the goodbye too; ready when all is written.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// What the gate sends. Not called again after [`Incoming::Ended`].
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming>;
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn queue(&mut self, packet: &Packet) -> io::Result<()> {
        (**self).queue(packet)
    }

    fn start_close(&mut self) -> io::Result<()> {
        (**self).start_close()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_flush(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        (**self).poll_read(cx)
    }
}

/// What comes from the gate.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A packet.
    Packet(Packet),
    /// The gate says goodbye: what it said is known, nothing more is to be sent.
    Goodbye(Closed),
    /// Nothing more comes.
    Ended(Closed),
}
