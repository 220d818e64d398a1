//! What scripts get to see: one JSON object per line.
//!
//! `event` says what it is. `tidegate connect --help` lists them; new ones may come, and new
//! fields. The strings of an object may hold anything; what is dangerous on a terminal is
//! escaped in it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tidegate_client::{
    Cause, Closed, Error, ErrorKind, Event as Happened, GapReason, NotResumed, Opened, Packet,
    PacketError, State, Stats, Topic,
};

use super::escape::escape_json;
use super::json;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event<'a> {
    Answer {
        topic: &'a str,
        #[serde(flatten)]
        body: Body,
        elapsed_ms: f64,
    },
    Push {
        topic: &'a str,
        #[serde(flatten)]
        body: Body,
        /// Where the packet tells that another one was not served.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Fault<'a>>,
    },
    Failed {
        /// What the command was about; empty where it was not understood.
        topic: &'a str,
        error: Fault<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        elapsed_ms: Option<f64>,
    },
    Missed {
        packets: u64,
    },
    Closed(Ended<'a>),
    /// Another attempt to connect is made.
    Connecting {
        attempt: u32,
    },
    /// There is a connection; all but `protocol` is of the extended one.
    Open(Open<'a>),
    /// There is none, and the next attempt waits.
    Waiting {
        delay_ms: f64,
        #[serde(flatten)]
        why: Ended<'a>,
    },
    /// The answer to the command `state`.
    State {
        #[serde(flatten)]
        state: Now<'a>,
        sent: u64,
        received: u64,
        unacknowledged: u64,
        queued: u64,
    },
    /// Packets of the gate that will not come.
    Gap {
        packets: u64,
        reason: &'static str,
    },
    /// A one-way packet of a session that is gone.
    OutcomeUnknown {
        topic: &'a str,
    },
    /// A one-way packet that fits no frame of this gate.
    TooLarge {
        topic: &'a str,
        message: String,
    },
    /// The session ends with its connection from now on.
    NotResumable {
        refused: Option<NotGoneOn<'a>>,
    },
    /// The gate is going to close.
    Draining {
        deadline_ms: u64,
        retry_after_ms: u64,
    },
}

/// A state, as an answer.
#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum Now<'a> {
    Connecting {
        attempt: u32,
    },
    Open(Open<'a>),
    Waiting {
        delay_ms: f64,
        #[serde(flatten)]
        why: Ended<'a>,
    },
    Closed(Ended<'a>),
    Unknown,
}

#[derive(Serialize)]
struct Open<'a> {
    protocol: &'static str,
    #[serde(flatten)]
    session: Option<SessionOf<'a>>,
}

#[derive(Serialize)]
struct SessionOf<'a> {
    version: u16,
    gate: &'a str,
    session: &'a str,
    user: Option<&'a str>,
    resumed: bool,
    /// Why another session does not go on.
    refused: Option<NotGoneOn<'a>>,
    /// How long it waits for its client; null: it ends with its connection.
    resume_window_ms: Option<f64>,
    /// Of this client's packets, after it was resumed.
    written_again: usize,
    client_heartbeat_ms: f64,
    gate_heartbeat_ms: f64,
}

#[derive(Serialize)]
struct NotGoneOn<'a> {
    code: u16,
    name: Option<&'static str>,
    text: &'a str,
}

#[derive(Serialize)]
struct Ended<'a> {
    cause: &'static str,
    code: Option<u16>,
    name: Option<&'static str>,
    text: &'a str,
    may_reconnect: Option<bool>,
    unsent: u64,
}

/// `encoding` says what `body` is: `json` itself, a string of `text`, or one of `base64`.
#[derive(Serialize)]
struct Body {
    encoding: &'static str,
    body: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Fault<'a> {
    kind: &'static str,
    /// Of which packet, where that is not the command's.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    message: String,
}

/// The answer to a request.
pub(super) fn answer(packet: &Packet, took: Duration) -> String {
    line(&Event::Answer {
        topic: packet.topic.as_str(),
        body: body(&packet.body),
        elapsed_ms: milliseconds(took),
    })
}

/// A packet that answers nothing; it may tell of another one that was not served.
pub(super) fn push(packet: &Packet, error: Option<&(Topic, PacketError)>) -> String {
    line(&Event::Push {
        topic: packet.topic.as_str(),
        body: body(&packet.body),
        error: error.map(|(of, error)| Fault {
            topic: Some(of.as_str()),
            ..not_served(error)
        }),
    })
}

/// A request that failed.
pub(super) fn failed(topic: &str, error: &Error, took: Duration) -> String {
    let error = match error {
        Error::NotServed(e) => not_served(e),
        other => fault(kind(other.kind()), other.to_string()),
    };
    line(&Event::Failed {
        topic,
        error,
        elapsed_ms: Some(milliseconds(took)),
    })
}

/// A command that was not understood or not obeyed.
pub(super) fn mistake(topic: &str, kind: &'static str, message: &str) -> String {
    line(&Event::Failed {
        topic,
        error: fault(kind, message.to_owned()),
        elapsed_ms: None,
    })
}

/// So many pushes were lost, because they came too fast.
pub(super) fn missed(packets: u64) -> String {
    line(&Event::Missed { packets })
}

/// How the connection ended.
pub(super) fn closed(closed: &Closed) -> String {
    line(&Event::Closed(ended(closed)))
}

/// How it stands with the connection.
pub(super) fn state(state: &State) -> String {
    line(&match now(state) {
        Now::Connecting { attempt } => Event::Connecting { attempt },
        Now::Open(open) => Event::Open(open),
        Now::Waiting { delay_ms, why } => Event::Waiting { delay_ms, why },
        Now::Closed(end) => Event::Closed(end),
        Now::Unknown => return asked_state(state, &Stats::default()),
    })
}

/// The same as an answer, with what has been counted.
pub(super) fn asked_state(state: &State, stats: &Stats) -> String {
    line(&Event::State {
        state: now(state),
        sent: stats.sent,
        received: stats.received,
        unacknowledged: stats.unacknowledged,
        queued: stats.waiting,
    })
}

/// What concerns no request; `None` for what is shown as a packet.
pub(super) fn event(event: &Happened) -> Option<String> {
    Some(line(&match event {
        Happened::Gap(gap) => Event::Gap {
            packets: gap.count,
            reason: match gap.reason {
                GapReason::Replaced => "replaced",
                GapReason::Dropped => "dropped",
                GapReason::TooLarge => "too-large",
            },
        },
        Happened::OutcomeUnknown(packet) => Event::OutcomeUnknown {
            topic: packet.topic.as_str(),
        },
        Happened::TooLarge(packet, error) => Event::TooLarge {
            topic: packet.topic.as_str(),
            message: error.to_string(),
        },
        Happened::NotResumable(why) => Event::NotResumable {
            refused: why.as_ref().map(refused),
        },
        Happened::Draining(drain) => Event::Draining {
            deadline_ms: drain.deadline_ms,
            retry_after_ms: drain.retry_after_ms,
        },
        _ => return None,
    }))
}

fn now(state: &State) -> Now<'_> {
    match state {
        State::Connecting { attempt } => Now::Connecting { attempt: *attempt },
        State::Open(opened) => Now::Open(open(opened)),
        State::Waiting { delay, why } => Now::Waiting {
            delay_ms: milliseconds(*delay),
            why: ended(why),
        },
        State::Closed(closed) => Now::Closed(ended(closed)),
        _ => Now::Unknown,
    }
}

fn open(opened: &Opened) -> Open<'_> {
    // Version 1 has nothing to tell.
    let extended = opened.version > 0;
    let session = SessionOf {
        version: opened.version,
        gate: &opened.gate,
        session: &opened.session,
        user: opened.user.as_deref(),
        resumed: opened.resumed,
        refused: opened.refused.as_ref().map(refused),
        resume_window_ms: opened.resumable.map(milliseconds),
        written_again: opened.written_again,
        client_heartbeat_ms: milliseconds(opened.heartbeat),
        gate_heartbeat_ms: milliseconds(opened.gate_heartbeat),
    };
    Open {
        protocol: if extended { "extended" } else { "v1" },
        session: extended.then_some(session),
    }
}

fn refused(refused: &NotResumed) -> NotGoneOn<'_> {
    NotGoneOn {
        code: refused.code,
        name: refused.refusal().map(|known| known.name()),
        text: &refused.text,
    }
}

fn ended(closed: &Closed) -> Ended<'_> {
    let reason = closed.reason();
    Ended {
        cause: match closed.cause {
            Cause::Client => "client",
            Cause::Gate => "gate",
            Cause::Lost => "lost",
            Cause::Unreachable => "unreachable",
            Cause::Protocol => "protocol",
            _ => "other",
        },
        code: closed.code,
        name: reason.map(|reason| reason.name()),
        text: &closed.text,
        may_reconnect: reason.map(|reason| reason.may_reconnect()),
        unsent: closed.unsent,
    }
}

fn line(event: &Event<'_>) -> String {
    // Strings and numbers: nothing in it can fail.
    let json = serde_json::to_string(event).unwrap_or_default();
    escape_json(&json).into_owned()
}

fn body(bytes: &[u8]) -> Body {
    let (encoding, body) = match std::str::from_utf8(bytes) {
        Ok(text) if json::is_json(text) => ("json", RawValue::from_string(json::on_one_line(text))),
        Ok(text) => ("text", to_raw_value(text)),
        Err(_) => ("base64", to_raw_value(&STANDARD.encode(bytes))),
    };
    Body {
        encoding,
        body: body.ok(),
    }
}

fn fault(kind: &'static str, message: String) -> Fault<'static> {
    Fault {
        kind,
        topic: None,
        code: None,
        name: None,
        message,
    }
}

fn not_served(error: &PacketError) -> Fault<'static> {
    Fault {
        code: Some(error.code.0),
        name: Some(error.code.name()),
        ..fault("not-served", error.message.clone())
    }
}

fn kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Timeout => "timeout",
        ErrorKind::InvalidTopic => "invalid-topic",
        ErrorKind::TooLarge => "too-large",
        ErrorKind::NotServed => "not-served",
        ErrorKind::Closed => "closed",
        ErrorKind::QueueFull => "queue-full",
        ErrorKind::OutcomeUnknown => "outcome-unknown",
        _ => "other",
    }
}

/// To the microsecond.
fn milliseconds(took: Duration) -> f64 {
    took.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(topic: &str, body: &[u8]) -> Packet {
        Packet::try_new(topic, body.to_vec()).unwrap()
    }

    #[test]
    fn answers_and_pushes() {
        let took = Duration::from_nanos(1_234_567);
        assert_eq!(
            answer(&packet("a/b/1", b"{\"n\":1.00,\r\n\"n\":2}"), took),
            r#"{"event":"answer","topic":"a/b/1","encoding":"json","body":{"n": 1.00, "n": 2},"elapsed_ms":1.234}"#
        );
        assert_eq!(
            push(&packet("a/b", b"17"), None),
            r#"{"event":"push","topic":"a/b","encoding":"text","body":"17"}"#
        );
        assert_eq!(
            push(&packet("a/b", &[0xff, 0]), None),
            r#"{"event":"push","topic":"a/b","encoding":"base64","body":"/wA="}"#
        );
        let error = br#"{"topic":"c/d","code":3,"message":"no"}"#;
        let shown = push(&packet("error", error), PacketError::read(error).as_ref());
        let wanted = r#""error":{"kind":"not-served","topic":"c/d","code":3,"name":"NOT_FOUND","message":"no"}}"#;
        assert!(shown.ends_with(wanted), "{shown}");
    }

    #[test]
    fn what_is_dangerous_means_the_same_and_does_nothing() {
        let evil = "\u{1b}]0;x\u{7}\u{9b}\u{202e}\u{e0041}\n";
        let inner = "{\"a\":\"\u{7f}\u{202e}\u{e0041}\"}";
        for (topic, text) in [("x\u{202e}", evil), ("x", inner)] {
            let shown = push(&packet(topic, text.as_bytes()), None);
            assert!(
                !shown.contains(super::super::escape::is_dangerous),
                "{shown}"
            );
            let back: serde_json::Value = serde_json::from_str(&shown).unwrap();
            assert_eq!(back["topic"], topic);
            match back["encoding"] == "json" {
                true => assert_eq!(back["body"]["a"], "\u{7f}\u{202e}\u{e0041}"),
                false => assert_eq!(back["body"], text),
            }
        }
    }

    #[test]
    fn failures() {
        let error = Error::RequestTimeout(Duration::from_secs(1));
        assert_eq!(
            failed("a/b", &error, Duration::from_secs(1)),
            r#"{"event":"failed","topic":"a/b","error":{"kind":"timeout","message":"no answer after 1s"},"elapsed_ms":1000.0}"#
        );
        assert_eq!(
            mistake("", "usage", "unknown"),
            r#"{"event":"failed","topic":"","error":{"kind":"usage","message":"unknown"}}"#
        );
    }
}
