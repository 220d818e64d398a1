//! The way of a reply out.

use std::sync::Arc;

use async_nats::Subject;
use tidegate::bus::GateError;

use crate::counters::LogLimit;
use crate::header::Malformed;
use crate::link::{Link, NotSent};
use crate::subject::Prefix;
use crate::wire::{Envelope, error};

/// Lines a second about replies that were lost.
const LINES: u32 = 1;

/// Where a reply goes; nowhere if the asker did not want one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReplyTo(Option<Subject>);

impl ReplyTo {
    /// Nowhere.
    pub(super) const NOBODY: Self = Self(None);

    /// To where the asker wants it, if [replies](Prefix::takes_replies) may go there.
    pub(super) fn new(prefix: &Prefix, subject: Option<Subject>) -> Result<Self, Malformed> {
        let Some(subject) = subject else {
            return Ok(Self::NOBODY);
        };
        match prefix.takes_replies(&subject) {
            true => Ok(Self(Some(subject))),
            false => Err(Malformed::new("reply", "is not a subject for replies")),
        }
    }
}

/// Sends replies; they wait for room, but not for a connection.
#[derive(Clone)]
pub(super) struct Replies(Arc<Inner>);

struct Inner {
    link: Link,
    lines: LogLimit,
}

impl Replies {
    pub(super) fn new(link: Link) -> Self {
        Self(Arc::new(Inner {
            link,
            lines: LogLimit::new(LINES),
        }))
    }

    pub(super) fn link(&self) -> &Link {
        &self.0.link
    }

    pub(super) async fn send(&self, to: ReplyTo, reply: Envelope) {
        let Some(subject) = to.0 else { return };
        self.part(subject, reply).await;
    }

    /// A reply in parts.
    pub(super) async fn send_parts(&self, to: ReplyTo, parts: Vec<Envelope>) {
        let Some(subject) = to.0 else { return };
        for part in parts {
            if !self.part(subject.clone(), part).await {
                break;
            }
        }
    }

    /// Answers whether it was sent.
    async fn part(&self, subject: Subject, reply: Envelope) -> bool {
        let link = &self.0.link;
        let Envelope { headers, body } = reply;
        let mut sent = link.publish(subject.clone(), None, headers.clone(), body.clone());
        if sent == Err(NotSent::Full) {
            sent = link
                .publish_wait(subject.clone(), None, headers, body)
                .await;
        }
        match sent {
            Ok(()) => return true,
            Err(NotSent::TooLarge) => {
                // It was done, and what came of it cannot be told.
                let unknown = error::encode(&GateError::OutcomeUnknown);
                let _ = link
                    .publish_wait(subject, None, unknown.headers, unknown.body)
                    .await;
            }
            // The asker hears nothing, and knows that the outcome is unknown.
            Err(NotSent::Down | NotSent::Full | NotSent::Subject) => {}
        }
        if let (Err(why), Some(unlogged)) = (sent, self.0.lines.admit()) {
            tracing::warn!(%why, unlogged, "a reply of this gate was lost");
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_go_to_inboxes_and_nowhere_else() {
        let prefix = Prefix::new("a.b").unwrap();
        let to = |subject: &str| ReplyTo::new(&prefix, Some(Subject::from(subject)));
        for good in [
            "_INBOX.x.y",
            "a.b.inbox.chat.n.1",
            "a.bc.c.chat.say",
            "a",
            "_R_.x",
        ] {
            assert!(to(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a.b.c.chat.say",
            "a.b.e.chat.disconnected",
            "a.b.gate.g1.close.00000000000000000000000000000001",
            "a.b.inbox",
            "a.b.",
            "$KV.tidegate-users.u.x",
            "$JS.API.STREAM.DELETE.KV_tidegate-users",
            "x.*",
            "x.>",
            "x..y",
        ] {
            assert!(to(bad).is_err(), "{bad}");
        }
        assert_eq!(ReplyTo::new(&prefix, None), Ok(ReplyTo::NOBODY));
    }
}
