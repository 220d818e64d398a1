//! The extended protocol: what a client speaks that has sent `$hello`.
//!
//! Control packets are packets like others, in the listener's frame; their topics begin
//! with `$`. Rare ones have a JSON body, the frequent ones (`$ping`, `$pong`, `$ack`) eight
//! bytes, an integer in little-endian order. `docs/protocol.md` specifies them.
//!
//! # Counting
//!
//! Each side counts the packets of each direction since the session began, as XEP-0198
//! (Stream Management) does, so that frames carry no number: every packet whose topic does
//! not begin with `$`, and every `$error`, counts one; a `$gap` counts as many as it says.
//! An acknowledgement says how many have been taken. What was written and not
//! acknowledged is [`retained`], and written again when the session is resumed.
//!
//! # Layout
//!
//! - This file: topics, version, capabilities, and the numbers that both sides start from.
//! - [`client`]: a client's side of a session, across its connections.
//! - [`control`]: the control packets, read and written.
//! - [`negotiate`]: what a gate answers to a `$hello`.
//! - [`retained`]: packets that were written and not acknowledged.
//! - [`received`]: packets that came, and when to acknowledge them.
//! - [`token`]: resume tokens: which one is good, which one was stolen.
//!
//! Nothing here does I/O, reads a clock or draws a random number.

use std::time::Duration;

use crate::topic::Topic;

pub mod client;
pub mod control;
pub mod negotiate;
pub mod received;
pub mod retained;
pub mod token;

pub use client::{ClientSession, ProtocolError, Taken, Welcomed};
pub use control::{
    ClientControl, Close, ControlError, Drain, ErrorPacket, Gap, GapReason, GateControl, Heartbeat,
    Hello, Refused, ResumeRefusal, ResumeRequest, Resumption, TokenUpdate, Welcome,
};
pub use negotiate::{Offer, Terms};
pub use received::Received;
pub use retained::{BadCount, Retained};
pub use token::{Presented, TokenHash, Tokens};

/// The version of the extended protocol that this crate speaks.
pub const VERSION: u16 = 1;

/// Opens the extended protocol. The client's first packet.
pub const HELLO: &str = "$hello";
/// Answers `$hello`. The gate's first packet.
pub const WELCOME: &str = "$welcome";
/// Asks the other side for a `$pong` with the same body.
pub const PING: &str = "$ping";
/// Answers a `$ping`.
pub const PONG: &str = "$pong";
/// How many packets of the other side have been taken since the session began.
pub const ACK: &str = "$ack";
/// The client leaves for good: its session ends at once.
pub const BYE: &str = "$bye";
/// A packet of the client was not served. Counts as a packet.
pub const ERROR: &str = "$error";
/// Packets that the client will not get. Counts as many as it says.
pub const GAP: &str = "$gap";
/// A resume token in place of the one before, or the news that there is none any more.
pub const TOKEN: &str = "$token";
/// The gate will close: the client should connect elsewhere, or again later.
pub const DRAIN: &str = "$drain";
/// Why the gate closes. Its last packet.
pub const CLOSE: &str = "$close";

/// The capability of sessions that outlive their connection.
pub const RESUME: &str = "resume";

/// Shortest heartbeat interval that a gate agrees to.
pub const MIN_HEARTBEAT: Duration = Duration::from_secs(1);
/// Packets after which a side acknowledges at the latest.
pub const ACK_PACKETS: u32 = 16;
/// Time after which a side acknowledges at the latest.
pub const ACK_DELAY: Duration = Duration::from_secs(1);

/// Bytes of a connection among which its `$hello` must be whole. A client that has sent more
/// without one is not one of the extended protocol.
pub const MAX_HELLO: usize = 16 * 1024;
/// Longest `agent` and `device` of a `$hello`, in bytes.
pub const MAX_NAME: usize = crate::name::MAX_DEVICE;
/// Most entries of `versions` and `capabilities` in a `$hello`.
pub const MAX_LIST: usize = 32;
/// Longest resume token as text, in bytes.
pub const MAX_TOKEN: usize = 256;

/// What is said of a `$hello` that is longer than [`MAX_HELLO`].
pub fn hello_too_long() -> String {
    format!("the $hello has more than {MAX_HELLO} bytes")
}

/// Whether a packet of this topic is counted, a `$gap` apart.
pub fn is_counted(topic: &Topic) -> bool {
    !topic.is_reserved() || topic.as_str() == ERROR
}
