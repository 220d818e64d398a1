//! Tidegate as a library: a long-connection gateway.
//!
//! ```no_run
//! use tidegate::{Gate, Guests, Service, Tcp, WebSocket};
//!
//! async fn echo(body: bytes::Bytes) -> bytes::Bytes {
//!     body
//! }
//!
//! # async fn run() -> Result<(), tidegate::StartError> {
//! Gate::builder()
//!     .listen(Tcp::bind("127.0.0.1:3653"))
//!     .listen(WebSocket::bind("127.0.0.1:3654"))
//!     .service(Service::new("echo").request("echo", echo).open_to(Guests))
//!     .run_until(tokio::signal::ctrl_c())
//!     .await
//! # }
//! ```
//!
//! # Layout
//!
//! The way of a packet in: `accept` → `setup` → `conn` (`read`) → `dispatch` →
//! [`bus`] → [`service`]. The way of a packet out: [`service`] → [`bus`] → `rpc` →
//! `session` (`send`, `flow`) → `conn` (`write`).
//!
//! - `gate`: the gate, its builder, how it runs and stops.
//! - `listener`, `accept`, `pace`, `admission`, `busy`, `proxy`, `setup`, `tls`,
//!   `transport`: from a socket to a connection.
//! - `conn`: one connection's task.
//! - `session`: sessions, users, groups; `dormant`, `token`, `wrong_tokens`: resuming them.
//! - `shard`, `clock`: the runtimes, their timers, broadcasts.
//! - `dispatch`: routing, and bindings to instances. `expose`: what clients may call.
//! - [`bus`]: the seam to services; `rpc`: what services may do to sessions.
//! - [`service`]: the kit that services are written with.
//! - [`store`]: where settings persist.
//! - `hooks`: where a user's code plugs in.
//! - [`limits`], `stats`, [`metrics`], `budget`: limits and defaults, counters and what is
//!   told of them, memory.

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

mod accept;
mod admission;
mod budget;
pub mod bus;
mod busy;
mod clock;
mod conn;
mod dispatch;
mod dormant;
mod expose;
mod gate;
mod hooks;
pub mod limits;
mod listener;
mod log_limit;
pub mod metrics;
mod pace;
mod proxy;
mod rpc;
pub mod service;
mod session;
mod setup;
mod shard;
mod shared_packet;
mod stats;
pub mod store;
mod tls;
mod token;
mod transport;
mod watch;
mod wrong_tokens;

pub use bus::OpenTo::{self, Bound, Guests, Internal};
pub use expose::{Exposure, ExposureError};
pub use gate::Gate;
pub use gate::builder::{GateBuilder, StartError};
pub use gate::run::RunningGate;
pub use hooks::{Credentials, Identity, Inbound, Refused};
pub use limits::{GateLimits, Limits, Rate};
pub use listener::{KeepAlive, ListenError, ListenErrorKind, Listener, Protocol, Tcp, WebSocket};
pub use proxy::{TrustedNetwork, TrustedNetworkError};
pub use service::{Clients, Json, Service, Session, State};
pub use session::logins::{Logins, LoginsOver, LoginsPer};
pub use session::{Backlog, Delivery, LocalSession};
pub use stats::Stats;
pub use store::{MemoryStore, Store};
pub use tidegate_protocol as protocol;
pub use tidegate_protocol::{
    Cipher, CloseReason, Codec, DeviceId, ErrorCode, ForwardedHeader, GateId, GroupName, Network,
    Packet, SessionId, Settings, Snapshot, Topic, UserId,
};
pub use tls::peer::PeerCertificate;
pub use tls::reload::{ListenerReload, ReloadOutcome, TlsExpiry, TlsReload};
pub use tls::{ClientAuth, Tls, TlsError};
