//! Violations of RFC 6455 and the close code each one earns.

use thiserror::Error;

/// Why a client's bytes are not acceptable. The connection is closed with
/// [`close_code`](WsError::close_code); nothing more is decoded from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WsError {
    /// A reserved bit is set though no extension was negotiated (RFC 6455 section 5.2).
    #[error("a reserved bit is set")]
    ReservedBits,
    /// Opcodes 3 to 7 and 11 to 15 mean nothing (section 5.2).
    #[error("reserved opcode {0:#x}")]
    ReservedOpcode(u8),
    /// A client must mask every frame (section 5.1).
    #[error("a client's frame is not masked")]
    NotMasked,
    /// The payload length does not use the shortest encoding (section 5.2).
    #[error("the payload length is not minimally encoded")]
    LengthNotMinimal,
    /// The top bit of a 64-bit payload length is set (section 5.2).
    #[error("the top bit of a 64-bit payload length is set")]
    LengthTopBit,
    /// A control frame announces more than 125 bytes (section 5.5).
    #[error("a control frame is longer than 125 bytes")]
    ControlTooLong,
    /// A control frame is fragmented (section 5.5).
    #[error("a control frame is fragmented")]
    ControlFragmented,
    /// A continuation frame, but no message is in progress (section 5.4).
    #[error("a continuation frame continues nothing")]
    UnexpectedContinuation,
    /// A new data frame, but the message in progress has not ended (section 5.4).
    #[error("a message begins inside another message")]
    ExpectedContinuation,
    /// The body of a close frame is a single byte (section 5.5.1).
    #[error("the body of a close frame is a single byte")]
    CloseTruncated,
    /// The code in a close frame must not be sent (section 7.4).
    #[error("close code {0} must not be sent")]
    CloseCode(u16),
    /// The reason in a close frame is not UTF-8 (sections 5.5.1 and 8.1).
    #[error("the reason of a close frame is not UTF-8")]
    CloseReasonNotUtf8,
    /// A text message, where only binary ones are accepted (section 7.4.1, code 1003).
    #[error("text messages are not accepted")]
    TextRefused,
    /// A text message is not UTF-8 (section 8.1).
    #[error("a text message is not UTF-8")]
    TextNotUtf8,
    /// A message, over all its fragments, announces more than `Limits::max_message` bytes.
    #[error("the message is too big")]
    MessageTooBig,
    /// A message has more frames than `Limits::max_fragments`.
    #[error("the message has too many fragments")]
    TooManyFragments,
}

impl WsError {
    /// The close code to answer with (RFC 6455 section 7.4.1): 1002 protocol error, 1003 data
    /// of a kind not accepted, 1007 not UTF-8, 1009 too big.
    pub fn close_code(&self) -> u16 {
        match self {
            WsError::ReservedBits
            | WsError::ReservedOpcode(_)
            | WsError::NotMasked
            | WsError::LengthNotMinimal
            | WsError::LengthTopBit
            | WsError::ControlTooLong
            | WsError::ControlFragmented
            | WsError::UnexpectedContinuation
            | WsError::ExpectedContinuation
            | WsError::CloseTruncated
            | WsError::CloseCode(_) => 1002,
            WsError::TextRefused => 1003,
            WsError::CloseReasonNotUtf8 | WsError::TextNotUtf8 => 1007,
            WsError::MessageTooBig | WsError::TooManyFragments => 1009,
        }
    }
}

/// Whether `code` may appear in a close frame (RFC 6455 sections 7.4.1 and 7.4.2).
///
/// 1004 is reserved, and 1005, 1006 and 1015 stand for events and never travel. 1012 to 1014
/// were registered with IANA after the RFC. 3000 to 4999 belong to libraries and applications.
pub fn is_legal_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
