//! The protocol of the Tidegate gateway: what travels on the wire and on the bus,
//! without I/O and without a clock.
//!
//! # Layout
//!
//! - [`packet`]: topic and body, the unit that clients and services exchange.
//! - [`topic`]: what a topic may be, and the router's grammar `service/method[/id]`.
//! - [`codec`]: the seam for frames, and the version 1 frame.
//! - [`legacy`]: the encrypted frames of old clients.
//! - [`ws`]: WebSocket (RFC 6455), the server's side.
//! - [`proxy`]: the header by which a proxy says whose connection it brings.
//! - [`forwarded`]: the HTTP headers that say so of a request.
//! - [`close`]: why connections end, each reason with its number.
//! - [`error`]: why a packet could not be served, each error with its number.
//! - [`extended`]: what clients speak that have sent `$hello`: heartbeats, errors, resume.
//! - [`session`]: the snapshot of a session that accompanies each call to a service.
//! - [`name`]: identifiers: gates, services, methods, instances, groups, users.

pub mod close;
pub mod codec;
pub mod error;
pub mod extended;
pub mod forwarded;
pub mod legacy;
pub mod name;
pub mod packet;
pub mod proxy;
pub mod session;
pub mod topic;
pub mod ws;

pub use close::CloseReason;
pub use codec::{Codec, FrameError, TooLarge, V1};
pub use error::ErrorCode;
pub use forwarded::ForwardedHeader;
pub use legacy::{Cipher, KeyError, Legacy};
pub use name::{DeviceId, GateId, GroupName, InstanceId, InvalidName, Name, UserId};
pub use packet::Packet;
pub use session::{Network, SessionId, Settings, SettingsError, Snapshot};
pub use topic::{Route, RouteError, Topic, TopicError};
