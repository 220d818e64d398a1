//! What a connection's end means for the next.

use std::time::Duration;

use tidegate_protocol::CloseReason;
use tidegate_protocol::extended::Close;

use super::named;
use crate::error::{Cause, Closed, Error};

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) closed: Closed,
    pub(super) next: Next,
}

/// What comes behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: the client ends.
    Stop,
    /// Another connection, after a while: as long as the gate asked for, and some more.
    Later(Option<Duration>),
    /// Another at once: it was waited for already.
    Now,
}

/// An attempt that came to nothing.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) next: Next,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            next: Next::Later(None),
        }
    }
}

impl From<Ending> for Failure {
    fn from(ending: Ending) -> Self {
        Self {
            error: Error::Closed(ending.closed),
            next: ending.next,
        }
    }
}

impl Ending {
    /// This side has closed.
    pub(super) fn by_client() -> Self {
        Self {
            closed: Closed::by_client(),
            next: Next::Stop,
        }
    }

    /// The gate said why.
    pub(super) fn said(close: Close) -> Self {
        let mut closed = Closed::new(Cause::Gate, close.text);
        closed.code = Some(close.code);
        Self {
            closed,
            next: match close.reconnect {
                true => Next::Later(close.retry_after_ms.map(named)),
                false => Next::Stop,
            },
        }
    }

    /// The transport ended; a WebSocket may have said why. A gate that closes says so first:
    /// an end without a word is the network's, however orderly it looks.
    pub(super) fn transport(mut closed: Closed) -> Self {
        if closed.cause == Cause::Gate && closed.code.is_none() {
            closed = Closed {
                cause: Cause::Lost,
                text: "it ended without a $close".to_owned(),
                ..closed
            };
        }
        let next = match closed.code {
            Some(code) if !invites(code) => Next::Stop,
            _ => Next::Later(None),
        };
        Self { closed, next }
    }

    /// The gate does not keep to the protocol. Another connection may find another gate.
    pub(super) fn protocol(error: &dyn std::error::Error) -> Self {
        Self {
            closed: Closed::new(Cause::Protocol, error.to_string()),
            next: Next::Later(None),
        }
    }
}

/// Whether a WebSocket close code lets a client connect again. Those of the gate say so
/// themselves; of RFC 6455's, those that blame the client do not.
fn invites(code: u16) -> bool {
    match (code, CloseReason::from_code(code)) {
        (4000..=4999, Some(reason)) => reason.may_reconnect(),
        (4500..=4999, None) => false,
        (1002 | 1003 | 1007..=1010, _) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_say_whether_to_come_back() {
        for code in [1000, 1001, 1006, 1011, 1012, 1013, 4000, 4007, 4300, 4499] {
            assert!(invites(code), "{code}");
        }
        for code in [1002, 1003, 1007, 1008, 1009, 4500, 4504, 4700, 4999] {
            assert!(!invites(code), "{code}");
        }
    }

    #[test]
    fn an_end_without_a_word_is_no_close_of_the_gate() {
        let mut closed = Closed::new(Cause::Gate, "");
        let silent = Ending::transport(closed.clone());
        assert_eq!(silent.closed.cause, Cause::Lost);
        assert_eq!(silent.next, Next::Later(None));
        closed.code = Some(4504);
        assert_eq!(Ending::transport(closed).closed.cause, Cause::Gate);
    }

    #[test]
    fn the_gate_decides_when_to_come_back() {
        let close = |reconnect, retry_after_ms| Close {
            code: 4000,
            text: "later".into(),
            reconnect,
            retry_after_ms,
        };
        let ms = Duration::from_millis;
        let next = |reconnect, after| Ending::said(close(reconnect, after)).next;
        assert_eq!(next(true, Some(700)), Next::Later(Some(ms(700))));
        assert_eq!(next(true, None), Next::Later(None));
        assert_eq!(next(false, Some(700)), Next::Stop);
        let day = Some(ms(24 * 60 * 60 * 1000));
        assert_eq!(next(true, Some(u64::MAX)), Next::Later(day));
    }
}
