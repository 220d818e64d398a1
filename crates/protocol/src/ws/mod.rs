//! The server side of WebSocket ([RFC 6455]): bytes in, events out. No I/O, no clock.
//!
//! | File | Holds |
//! | --- | --- |
//! | `upgrade` | the bounded, strict parser of the HTTP/1.1 upgrade request |
//! | `policy` | which upgrade requests are accepted (path, origin, subprotocol) and the 101 answer |
//! | `header` | one frame header and its mask |
//! | `decode` | client frames to messages and control events |
//! | `encode` | server frames |
//! | `error` | every violation and the close code it earns; which close codes are legal |
//!
//! No extension is ever negotiated, so reserved bits are always a violation, and a
//! compressed message can not exist.
//!
//! ```
//! use tidegate_protocol::ws::{Decoder, Event, Limits, TextMessages, encode_binary};
//!
//! let text = TextMessages::Refused;
//! let limits = Limits { max_message: 65_535, max_fragments: 64, text };
//! let mut decoder = Decoder::new();
//! let mut input = [0x82, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
//! let mut output = Vec::new();
//! let mut at = 0;
//! while at < input.len() {
//!     let (used, event) = decoder.decode(&mut input[at..], &limits)?;
//!     at += used;
//!     if let Some(Event::Message { payload, .. }) = event {
//!         encode_binary(&mut output, &payload);
//!     }
//! }
//! assert_eq!(output, [0x82, 2, b'h', b'i']);
//! # Ok::<(), tidegate_protocol::ws::WsError>(())
//! ```
//!
//! [RFC 6455]: https://www.rfc-editor.org/rfc/rfc6455

mod decode;
mod encode;
mod error;
mod header;
pub mod policy;
pub mod upgrade;

pub use decode::{CloseFrame, Decoder, Event, Limits, Payload, TextMessages};
pub use encode::{
    encode_binary, encode_close, encode_header, encode_ping, encode_pong, encode_text,
};
pub use error::{WsError, is_legal_close_code};
pub use header::{MAX_CONTROL_PAYLOAD, Opcode};
