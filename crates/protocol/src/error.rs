//! Why a packet could not be served: the one place where the numbers stand.
//!
//! Numbers below 1000 are the gate's; services use 1000 and up for their own.

use std::fmt;

/// A numbered error: the gate's own below 1000, a service's from 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub u16);

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $name: ErrorCode = ErrorCode($code);)*

            /// The gate's own codes, in the order of the documentation.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// What a code of the gate's own means; for a service's code, that it is one.
            pub const fn text(self) -> &'static str {
                match self.0 {
                    $($code => $text,)*
                    _ => "error of the service",
                }
            }

            /// The code's name for logs and metric labels, from a fixed set.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($code => stringify!($name),)*
                    _ => "SERVICE",
                }
            }
        }
    };
}

error_codes! {
    /// The topic does not follow the router's grammar.
    BAD_TOPIC = 1, "the topic is not service/method[/request-id]";
    /// The topic begins with `$`.
    RESERVED_TOPIC = 2, "the topic is reserved";
    /// No service offers this method to this client.
    NOT_FOUND = 3, "no such method for this client";
    /// A request method was called without a request id.
    ID_REQUIRED = 4, "the method is a request and needs a request id";
    /// The service is known but no instance can be reached now. The packet was not delivered.
    UNAVAILABLE = 5, "the service is unavailable";
    /// The packet was delivered, and what came of it is not known.
    OUTCOME_UNKNOWN = 6, "the outcome is unknown";
    /// The instance this session is bound to is gone. The packet was not delivered.
    INSTANCE_GONE = 7, "the bound instance is gone";
    /// The service or a hook failed while serving the packet.
    INTERNAL = 8, "internal error";
    /// A hook refused the packet.
    REFUSED = 9, "refused";
    /// The body is not what the method expects.
    BAD_BODY = 10, "the body is not what the method expects";
    /// The answer does not fit a frame.
    ANSWER_TOO_LARGE = 11, "the answer is too large";
    /// Too much is queued already. The packet was not delivered.
    OVERLOADED = 12, "overloaded";
}

impl ErrorCode {
    /// First number of the range for services.
    pub const FIRST_OF_SERVICES: u16 = 1000;

    /// Whether the number is in the range for services.
    pub const fn is_service(self) -> bool {
        self.0 >= Self::FIRST_OF_SERVICES
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), self.0)
    }
}
