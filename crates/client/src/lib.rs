//! Client of the Tidegate gateway, for the plain version 1 protocol over
//! `tcp://`, `tls://`, `ws://` and `wss://`.
//!
//! ```no_run
//! # async fn example() -> Result<(), tidegate_client::Error> {
//! use tidegate_client::Client;
//!
//! let client = Client::connect("ws://127.0.0.1:3654/").await?;
//!
//! // What the gate sends unasked.
//! let mut pushes = client.pushes();
//! tokio::spawn(async move {
//!     while let Some(push) = pushes.recv().await {
//!         match push {
//!             Ok(packet) => println!("{}: {} bytes", packet.topic, packet.body.len()),
//!             Err(missed) => println!("read too slowly: {missed}"),
//!         }
//!     }
//! });
//!
//! let answer = client.request("echo/echo", "hello").await?;
//! assert_eq!(answer, "hello");
//! client.send("chat/wave", "").await?;
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What to know
//!
//! - One task owns the socket; a [`Client`] is a handle to it, cheap to clone. When the
//!   last handle is dropped, or [`Client::close`] is called, what is queued is sent and the
//!   connection is closed. [`Pushes`] do not keep it open.
//! - Packets leave in the order in which [`Client::send`] and [`Client::request`] queued
//!   them. Queued is not delivered: what a connection took with it is counted in
//!   [`Closed::unsent`].
//! - The plain protocol has no error packet: a request that the gate or a service could
//!   not serve ends in [`ErrorKind::Timeout`]; where the gate's listener has an error topic
//!   and [`Builder::error_topic`] names it, in [`ErrorKind::NotServed`] at once.
//! - The plain protocol has no ping. A gate closes a **TCP** client that sends nothing for
//!   its heartbeat timeout (60 s by default); a client that only listens sets
//!   [`Builder::keepalive`]. On WebSocket the gate pings, and pings are answered by
//!   themselves.
//! - There is no reconnecting here: [`Client::closed`] tells when and why it ended.
//!
//! # Layout
//!
//! - `url`: what a gate's address may be.
//! - `builder`: options, and the way from an address to a connection.
//! - `tls`: whom a `tls://` or `wss://` connection trusts, and who it says it is.
//! - `client`: the handle.
//! - `calls`: which requests wait for which answers.
//! - `pushes`: packets that answer no request.
//! - `task`: the task that owns the connection.
//! - `frames`: plain frames, or those of old clients.
//! - `transport`: packets over a byte stream, packets over WebSocket.
//! - `error`: what can fail, and why a connection ended.

mod builder;
mod calls;
mod client;
mod dial;
mod error;
mod extended;
mod frames;
mod options;
mod outbox;
mod pushes;
mod shared;
mod states;
mod task;
mod tls;
mod transport;
mod url;

pub use builder::Builder;
pub use client::Client;
pub use error::{Cause, Closed, Error, ErrorKind, PacketError, QueueFull};
pub use extended::Backoff;
pub use options::{AuthError, Protocol};
pub use pushes::{Missed, Pushes};
pub use shared::Stats;
pub use states::{Event, Events, NotResumed, Opened, State, States};
pub use url::UrlError;

// What this crate's signatures are made of.
pub use bytes::Bytes;
pub use serde_json::Value;
pub use tidegate_protocol::extended::{Drain, Gap, GapReason, ResumeRefusal};
pub use tidegate_protocol::{
    Cipher, CloseReason, ErrorCode, KeyError, Packet, RouteError, TooLarge, Topic, TopicError,
};
