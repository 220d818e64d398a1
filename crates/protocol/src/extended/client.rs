//! A client's side of a session, across its connections.

use super::control::{
    ClientControl, Close, ControlError, Drain, ErrorPacket, Gap, GateControl, Hello, Refused,
    ResumeRequest, Resumption, Welcome,
};
use super::received::Received;
use super::retained::{BadCount, Retained};
use super::{ACK_PACKETS, is_counted};
use crate::packet::Packet;

/// What a client keeps of its session from one connection to the next: what it has taken,
/// what it wrote that the gate has not acknowledged, and the token to go on with.
///
/// One connection after the other: [`hello`](Self::hello) opens, [`welcome`](Self::welcome)
/// takes the answer, then [`write`](Self::write) and [`take`](Self::take) until it is lost.
#[derive(Debug, Default)]
pub struct ClientSession {
    sent: Retained<Packet>,
    received: Received,
    resumption: Option<Resumption>,
}

/// What a `$welcome` came to.
#[derive(Debug)]
pub enum Welcomed {
    /// The session goes on. What the gate has not taken is to be written again, before
    /// anything else, each with [`ClientSession::write`].
    Resumed {
        /// Oldest first.
        again: Vec<Packet>,
    },
    /// A session begins. Of what was written in the one before it is not known what came.
    Fresh {
        /// With their counts, oldest first.
        unknown: Vec<(u64, Packet)>,
        /// Why the one before does not go on, where it was asked for.
        refused: Option<Refused>,
    },
}

/// What a packet of the gate means to the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// A packet of a service, or an answer.
    Packet(Packet),
    /// A packet of the client was not served.
    Error(ErrorPacket),
    /// Packets that will not come.
    Gap(Gap),
    /// The answer to a ping.
    Pong(u64),
    /// To be written back at once.
    Reply(Packet),
    /// The session can, or cannot any more, be resumed.
    Token(Option<Refused>),
    /// The gate is going to close.
    Drain(Drain),
    /// The gate closes.
    Close(Close),
    /// Seen to here.
    Nothing,
}

/// A gate that does not keep to the protocol: the connection is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A count that cannot be.
    #[error(transparent)]
    Count(#[from] BadCount),
    /// A control packet that cannot be read.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A `$welcome` that does not answer what was asked.
    #[error("the gate resumes a session that was not asked for")]
    Welcome,
}

impl ClientSession {
    /// Whether there is a session to go on with.
    pub fn is_resumable(&self) -> bool {
        self.resumption.is_some()
    }

    /// Packets written that the gate has not acknowledged, and their bytes.
    pub fn unacknowledged(&self) -> (usize, usize) {
        (self.sent.len(), self.sent.bytes())
    }

    /// The first packet of a connection. `hello` says all but what to resume.
    pub fn hello(&mut self, hello: &Hello) -> Packet {
        let mut hello = hello.clone();
        hello.resume = self.resumption.as_ref().map(|resumption| ResumeRequest {
            token: resumption.token.clone(),
            received: self.received.told(),
        });
        ClientControl::Hello(Box::new(hello)).packet()
    }

    /// Takes the gate's answer to [`hello`](Self::hello).
    pub fn welcome(&mut self, welcome: &Welcome) -> Result<Welcomed, ProtocolError> {
        let asked = self.resumption.is_some();
        if welcome.resumed && !asked {
            return Err(ProtocolError::Welcome);
        }
        let welcomed = if welcome.resumed {
            let again = self.sent.rewind(welcome.received)?.collect();
            Welcomed::Resumed { again }
        } else {
            Welcomed::Fresh {
                unknown: self.give_up(),
                refused: welcome.refused.clone(),
            }
        };
        self.resumption.clone_from(&welcome.resume);
        Ok(welcomed)
    }

    /// Ends the session on this side: the next connection begins another. Answers what was
    /// written and not acknowledged, with its counts, oldest first: what came of it is not
    /// known.
    pub fn give_up(&mut self) -> Vec<(u64, Packet)> {
        self.resumption = None;
        self.received = Received::default();
        let sent = std::mem::take(&mut self.sent);
        let first = sent.acknowledged() + 1;
        (first..).zip(sent.into_items()).collect()
    }

    /// Notes a packet that is being written. It is kept until the gate acknowledges it: to
    /// be written again, or to know of what the outcome is not known. Answers its count;
    /// `None` if it is not counted.
    pub fn write(&mut self, packet: &Packet) -> Option<u64> {
        if !is_counted(&packet.topic) {
            return None;
        }
        let bytes = u32::try_from(packet.size()).unwrap_or(u32::MAX);
        Some(self.sent.write(packet.clone(), 1, bytes))
    }

    /// Takes a packet of the gate, behind its `$welcome`.
    pub fn take(&mut self, packet: Packet) -> Result<Taken, ProtocolError> {
        if !packet.topic.is_reserved() {
            self.received.take(1);
            return Ok(Taken::Packet(packet));
        }
        let control = match GateControl::read(&packet) {
            Ok(control) => control,
            // A later version's; it does not count.
            Err(ControlError::Topic) => return Ok(Taken::Nothing),
            Err(error) => return Err(error.into()),
        };
        Ok(match control {
            // There is one for each connection.
            GateControl::Welcome(_) => return Err(ProtocolError::Welcome),
            GateControl::Ping(n) => Taken::Reply(ClientControl::Pong(n).packet()),
            GateControl::Pong(n) => Taken::Pong(n),
            GateControl::Ack(count) => {
                self.sent.acknowledge(count)?;
                Taken::Nothing
            }
            GateControl::Error(error) => {
                self.received.take(1);
                Taken::Error(error)
            }
            GateControl::Gap(gap) => {
                self.received.take(gap.count);
                Taken::Gap(gap)
            }
            GateControl::Token(update) => {
                self.resumption = match (update.token, self.resumption.take()) {
                    (Some(token), Some(old)) => Some(Resumption { token, ..old }),
                    _ => None,
                };
                Taken::Token(update.refused)
            }
            GateControl::Drain(drain) => Taken::Drain(drain),
            GateControl::Close(close) => Taken::Close(close),
        })
    }

    /// Whether packets came that the gate has not been told of.
    pub fn owes_ack(&self) -> bool {
        self.received.unacknowledged() > 0
    }

    /// Whether so many packets came that they should be acknowledged now.
    pub fn is_ack_due(&self) -> bool {
        self.received.unacknowledged() >= u64::from(ACK_PACKETS)
    }

    /// The acknowledgement of all that was taken, if there is something to acknowledge.
    /// Right behind a `$welcome`, and then within [`ACK_DELAY`](super::ACK_DELAY).
    pub fn ack(&mut self) -> Option<Packet> {
        let count = self.received.acknowledge()?;
        Some(ClientControl::Ack(count).packet())
    }

    /// Confirms the token of a `$welcome`: the first packet of a connection that resumed.
    pub fn confirm(&mut self) -> Packet {
        ClientControl::Ack(self.received.told()).packet()
    }
}
