//! Why connections and sessions end: the one place where the numbers stand.
//!
//! Numbers 1000 to 1015 are RFC 6455's. Of the gate's own, 4000 to 4499 invite the
//! client to reconnect, 4500 to 4999 tell it not to. The number is the same in the
//! WebSocket close frame, in logs, in metrics and in hooks.

use std::fmt;

macro_rules! close_reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a connection or a session ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CloseReason {
            $($(#[$doc])* $name,)*
        }

        impl CloseReason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [CloseReason] = &[$(CloseReason::$name,)*];

            /// The reason's number.
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The reason in words, as it stands in a close frame (at most 123 bytes).
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The reason's name, for logs and metric labels.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

close_reasons! {
    /// The client said goodbye, or closed its side in order.
    ClientLeft = 1000, "goodbye";
    /// WebSocket protocol violation (RFC 6455).
    WebSocketProtocol = 1002, "WebSocket protocol error";
    /// A text message where only binary ones are allowed.
    TextNotAllowed = 1003, "text messages are not accepted";
    /// The connection broke without a goodbye. Never sent.
    ConnectionLost = 1006, "connection lost";
    /// A text message or close reason that is not UTF-8.
    InvalidUtf8 = 1007, "invalid UTF-8";
    /// A WebSocket message over the limit.
    MessageTooBig = 1009, "message too big";

    /// The gate stops; another gate, or this one in a while, will serve.
    Shutdown = 4000, "the gate is shutting down";
    /// The client's socket took no byte for the write deadline.
    Slow = 4001, "the connection is too slow";
    /// No byte arrived within the heartbeat timeout.
    HeartbeatTimeout = 4002, "heartbeat timeout";
    /// The gate's byte budget was exceeded and this connection held much of it.
    MemoryPressure = 4003, "the gate is short of memory";
    /// A fault in the gate or in a hook.
    Internal = 4004, "internal error";
    /// The set-up deadline passed before the connection was ready.
    SetupTimeout = 4005, "set-up took too long";
    /// A frame began and did not end within its deadline.
    PartialFrameTimeout = 4006, "a frame was not completed in time";
    /// Authentication could not be decided: its hook timed out or failed.
    AuthenticationUnavailable = 4007, "authentication is unavailable";
    /// There are as many connections as there may be, in all or from one address. Never sent:
    /// WebSocket clients get HTTP 503 where that is possible.
    TooManyConnections = 4008, "too many connections";

    /// A session without a connection whose client did not come back in time. Never sent.
    NotResumed = 4009, "the client did not come back";
    /// More packets waited for a session without a connection than are kept. Never sent.
    ResumeOverflow = 4010, "more waited for the client than is kept";

    /// A frame that cannot be read.
    BadFrame = 4500, "malformed frame";
    /// A frame that announces more than the packet limit.
    FrameTooLarge = 4501, "frame exceeds the packet limit";
    /// A topic that is empty, not UTF-8, or has control characters.
    BadTopic = 4502, "malformed topic";
    /// Authentication said no.
    AuthenticationRefused = 4503, "authentication refused";
    /// A service, or the gate's owner, closed the session.
    Kicked = 4504, "closed by the service";
    /// A guest did not log in within the listener's bind deadline.
    BindDeadline = 4505, "not logged in in time";
    /// The client did not keep to the extended protocol.
    ExtendedProtocol = 4507, "extended protocol error";
    /// Client and gate speak no version of the extended protocol in common.
    NoCommonVersion = 4508, "no version in common";
    /// A resume token was presented again after it had been replaced.
    TokenStolen = 4509, "the resume token was used twice";
    /// The same user, or the same device of the user, has logged in elsewhere.
    Replaced = 4510, "logged in elsewhere";
    /// The user has as many sessions as are allowed.
    TooManyLogins = 4511, "logged in too often";
    /// The TLS or WebSocket handshake failed. Only counted: there is no frame to say it in.
    Handshake = 4506, "handshake failed";
}

impl CloseReason {
    /// Whether the client is invited to connect again.
    pub const fn may_reconnect(self) -> bool {
        matches!(self.code(), 1006 | 4000..=4499)
    }

    /// Whether a session that can be resumed outlives a connection that ends so. A `$bye` of
    /// the client's ends it whatever follows.
    pub const fn keeps_session(self) -> bool {
        matches!(
            self,
            Self::ClientLeft
                | Self::ConnectionLost
                | Self::HeartbeatTimeout
                | Self::PartialFrameTimeout
                | Self::Slow
        )
    }

    /// The reason with this number, if there is one.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.code() == code)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_texts_fit_a_close_frame() {
        for (i, a) in CloseReason::ALL.iter().enumerate() {
            assert!(a.text().len() <= 123);
            assert_eq!(CloseReason::from_code(a.code()), Some(*a));
            for b in &CloseReason::ALL[i + 1..] {
                assert_ne!(a.code(), b.code());
            }
        }
    }
}
