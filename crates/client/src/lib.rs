//! Client of the Tidegate gateway over `tcp://`, `tls://`, `ws://` and `wss://`: it connects
//! again when its connection is lost, and goes on with its session.
//!
//! ```no_run
//! # async fn example() -> Result<(), tidegate_client::Error> {
//! use tidegate_client::{Client, State};
//!
//! let client = Client::builder("wss://gate.example/")
//!     .auth("eyJ…")
//!     .connect()
//!     .await?;
//!
//! // What the gate sends unasked, under one topic or all that begin so.
//! let mut room = client.subscribe("chat/room/");
//! tokio::spawn(async move {
//!     while let Some(push) = room.recv().await {
//!         match push {
//!             Ok(packet) => println!("{}: {} bytes", packet.topic, packet.body.len()),
//!             Err(missed) => println!("read too slowly: {missed}"),
//!         }
//!     }
//! });
//!
//! // How it stands with its gate.
//! let mut states = client.states();
//! tokio::spawn(async move {
//!     while let Some(state) = states.recv().await {
//!         match state {
//!             State::Open(open) if open.resumed => println!("back, nothing was lost"),
//!             State::Open(open) => println!("session {}", open.session),
//!             State::Waiting { delay, why } => println!("{why}; again in {delay:?}"),
//!             other => println!("{other:?}"),
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
//!   session ends. [`Pushes`], [`States`] and [`Events`] do not keep it open.
//! - [`Builder::connect`] fails if the first attempt does; [`Builder::start`] goes on trying.
//!   From then on a connection that is lost is made again, after a wait drawn from a growing
//!   range ([`Backoff`]), until the gate says not to come back.
//! - Where the gate resumes the session ([`Opened::resumed`]) nothing is lost, repeated or
//!   reordered, in either direction, and requests get their answers. A gate resumes over TLS
//!   only, unless its owner allows more ([`Opened::resumable`]). Where it does not, requests
//!   that were sent end in [`Error::OutcomeUnknown`], one-way packets in
//!   [`Event::OutcomeUnknown`]: the gate may have served them. Packets that still waited are
//!   sent in the new session.
//! - What the client is not to miss and did not ask for comes as an [`Event`]: gaps in the
//!   pushes, one-way packets that were not served, a gate that drains.
//! - Packets leave in the order in which [`Client::send`] and [`Client::request`] queued
//!   them. Queued is not delivered: what was not acknowledged in the end is counted in
//!   [`Closed::unsent`]. How much may wait is bounded ([`Builder::max_queued`]).
//!
//! # Version 1
//!
//! For gates that know nothing else, [`Builder::protocol`] with [`Protocol::V1`]: one
//! connection, of which [`Client::closed`] tells when and why it ended.
//!
//! - There is no error packet: a request that the gate or a service could not serve ends in
//!   [`ErrorKind::Timeout`]; where the gate's listener has an error topic and
//!   [`Builder::error_topic`] names it, in [`ErrorKind::NotServed`] at once.
//! - There is no ping. A gate closes a **TCP** client that sends nothing for its heartbeat
//!   timeout (60 s by default); a client that only listens sets [`Builder::keepalive`]. On
//!   WebSocket the gate pings, and pings are answered by themselves.
//!
//! # Layout
//!
//! - `url`: what a gate's address may be.
//! - `builder`, `options`: options, and the way from an address to a connection.
//! - `dial`: from an address to a transport, once for each connection.
//! - `tls`: whom a `tls://` or `wss://` connection trusts, and who it says it is.
//! - `client`: the handle.
//! - `shared`: what the handles and the task share.
//! - `calls`: which requests wait for which answers.
//! - `outbox`: packets that wait to be written.
//! - `pushes`, `states`: what is told to readers.
//! - `extended`: the task that connects, and connects again.
//! - `task`: a link that reads and writes packets; the task of version 1.
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
pub use futures_util::Stream;
pub use serde_json::Value;
pub use tidegate_protocol::extended::{Drain, Gap, GapReason, ResumeRefusal};
pub use tidegate_protocol::{
    Cipher, CloseReason, ErrorCode, KeyError, Packet, RouteError, TooLarge, Topic, TopicError,
};
