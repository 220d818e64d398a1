//! States, events and ends in words. Nothing here is escaped: texts of the gate are in it, and
//! may have line ends. Where several lines are meant there are several texts.

use std::fmt::Write;
use std::time::Duration;

use tidegate_client::{
    Cause, CloseReason, Closed, Drain, Error, ErrorCode, ErrorKind, Event, Gap, GapReason,
    NotResumed, Opened, PacketError, State, Stats,
};

/// Close codes from here on tell a client not to come back; those of the gate are below
/// [`CODES_END`].
const NOT_AGAIN: u16 = 4500;
const CODES_END: u16 = 5000;

/// What can be done about an attempt that failed.
pub(super) fn hint(error: &Error, extended: bool) -> Option<&'static str> {
    match error {
        Error::ConnectTimeout(_) => {
            Some("nobody answers as this address asks: is it tcp://, tls://, ws:// or wss://?")
        }
        // The error itself says so.
        Error::NoWelcome(_) => Some("try --protocol v1"),
        Error::NotExtended => {
            Some("this gate or listener may speak version 1 only: try --protocol v1")
        }
        Error::Closed(closed) => hint_of_end(closed, extended, false),
        _ => None,
    }
}

/// What can be done about an end. `heard`: whether the gate ever sent something.
pub(super) fn hint_of_end(closed: &Closed, extended: bool, heard: bool) -> Option<&'static str> {
    match (closed.cause, closed.reason()) {
        (_, Some(CloseReason::ExtendedProtocol)) if !extended => {
            Some("this listener wants the extended protocol: leave out --protocol v1")
        }
        // Plain TCP has no place for a reason.
        (Cause::Gate | Cause::Lost, None) if !extended && !heard => {
            Some("this listener may want the extended protocol: leave out --protocol v1")
        }
        (Cause::Gate, Some(CloseReason::AuthenticationRefused)) if extended => {
            Some("--token and --auth show who you are")
        }
        // What is taken for version 1 is hung up on without a word.
        (Cause::Gate | Cause::Lost, None) if extended && !heard => {
            Some("this gate or listener may speak version 1 only: try --protocol v1")
        }
        _ => None,
    }
}

/// A session, and what is spoken, as the gate has welcomed it.
pub(super) fn described(opened: &Opened) -> Vec<String> {
    let (ours, gates) = (span(opened.heartbeat), span(opened.gate_heartbeat));
    let heartbeat = match ours == gates {
        true => ours,
        false => format!("{ours}, the gate's {gates}"),
    };
    let (version, gate) = (opened.version, &opened.gate);
    vec![
        format!("extended protocol {version}, gate {gate}, heartbeat {heartbeat}"),
        session(opened),
    ]
}

fn session(opened: &Opened) -> String {
    let user = match &opened.user {
        Some(user) => format!("of user {user}"),
        None => "of a guest".to_owned(),
    };
    let resumable = match opened.resumable {
        Some(window) => format!("resumable for {}", span(window)),
        None => "not resumable".to_owned(),
    };
    format!("session {} {user}, {resumable}", opened.session)
}

/// Another connection after one that was lost.
pub(super) fn connected_again(opened: &Opened) -> Vec<String> {
    if opened.resumed {
        let again = match opened.written_again {
            0 => "nothing of yours had to be written again".to_owned(),
            1 => "1 packet of yours was written again".to_owned(),
            n => format!("{n} packets of yours were written again"),
        };
        return vec![format!(
            "resumed: session {} goes on; {again}",
            opened.session
        )];
    }
    let why = match &opened.refused {
        Some(refused) => format!(", not resumed: {}", not_resumed(refused)),
        None => String::new(),
    };
    vec![
        format!("connected again{why}"),
        format!("new {}", session(opened)),
    ]
}

/// Why a session does not go on.
fn not_resumed(refused: &NotResumed) -> String {
    let NotResumed { code, text, .. } = refused;
    match refused.refusal() {
        Some(known) if text.is_empty() => format!("{} ({code} {})", known.text(), known.name()),
        Some(known) => format!("{text} ({code} {})", known.name()),
        None => format!("{text} ({code})"),
    }
}

/// A connection that is gone, and when there will be another.
pub(super) fn waiting(why: &Closed, delay: Duration) -> String {
    format!("{}; trying again in {}", ended(why), span(delay))
}

/// How a connection ended for good.
pub(super) fn closed(closed: &Closed, extended: bool) -> String {
    let mut text = ended(closed);
    let not_again = |code| (NOT_AGAIN..CODES_END).contains(&code);
    if closed.code.is_some_and(not_again) {
        text.push_str("; connecting again does not help");
    }
    if closed.unsent > 0 {
        let packets = count(closed.unsent, "packet");
        let _ = match extended {
            true => write!(text, "; the gate has not acknowledged {packets}"),
            false => write!(text, "; {packets} may not have been sent"),
        };
    }
    text
}

fn ended(closed: &Closed) -> String {
    let mut text = match closed.cause {
        Cause::Client => "closed by this client",
        Cause::Gate => "closed by the gate",
        Cause::Lost => "connection lost",
        Cause::Unreachable => "cannot connect",
        Cause::Protocol => "the gate broke the protocol",
        _ => "closed",
    }
    .to_owned();
    let known = closed.reason().map(|reason| reason.text());
    let said = (!closed.text.is_empty()).then_some(closed.text.as_str());
    if let Some(why) = said.or(known) {
        let _ = write!(text, ": {why}");
    }
    match (closed.code, closed.reason()) {
        (Some(code), Some(reason)) => drop(write!(text, " ({code} {})", reason.name())),
        (Some(code), None) => drop(write!(text, " ({code})")),
        _ => {}
    }
    text
}

/// What concerns no request; `None` for what is shown as a packet.
pub(super) fn event(event: &Event) -> Option<String> {
    Some(match event {
        Event::Gap(gap) => self::gap(gap),
        Event::OutcomeUnknown(packet) => format!(
            "{}: the session in which it was sent is gone; it may have been served or not",
            packet.topic
        ),
        Event::TooLarge(packet, error) => format!("{}: not sent: {error}", packet.topic),
        Event::NotResumable(why) => {
            let why = why.as_ref().map(|why| format!(": {}", not_resumed(why)));
            format!(
                "the session ends with its connection, it cannot be resumed any more{}",
                why.unwrap_or_default()
            )
        }
        Event::Draining(drain) => draining(drain),
        _ => return None,
    })
}

fn gap(gap: &Gap) -> String {
    let why = match gap.reason {
        GapReason::Replaced => "replaced by newer ones",
        GapReason::Dropped => "dropped, there was no room for more",
        GapReason::TooLarge => "too large for this connection",
    };
    format!(
        "{} of the gate will not come: {why}",
        count(gap.count, "packet")
    )
}

fn draining(drain: &Drain) -> String {
    let ms = |ms| span(Duration::from_millis(ms));
    format!(
        "the gate is going to close within {}: it asks to connect again after {}",
        ms(drain.deadline_ms),
        ms(drain.retry_after_ms)
    )
}

/// What `state` says.
pub(super) fn state(state: &State, stats: &Stats, extended: bool) -> Vec<String> {
    let mut texts = match state {
        State::Open(opened) if extended => described(opened),
        state => vec![other_state(state, extended)],
    };

    let Stats {
        sent,
        received,
        unacknowledged,
        waiting,
        ..
    } = stats;
    texts.push(match extended {
        true => format!(
            "sent {sent}, received {received}, not acknowledged {unacknowledged}, waiting {waiting}"
        ),
        false => format!("sent {sent}, received {received}"),
    });
    texts
}

fn other_state(state: &State, extended: bool) -> String {
    match state {
        State::Connecting { attempt } => format!("connecting, attempt {attempt}"),
        State::Open(_) => "connected by version 1".to_owned(),
        State::Waiting { why, delay } => {
            format!("{}; the next attempt waits {}", ended(why), span(*delay))
        }
        State::Closed(end) => closed(end, extended),
        _ => "unknown".to_owned(),
    }
}

/// Why a request failed.
pub(super) fn error(error: &Error) -> String {
    match error {
        Error::NotServed(e) => packet_error(e),
        // A connection that did not come to be.
        Error::Closed(e) => closed(e, true),
        other => other.to_string(),
    }
}

/// Why a packet was not served.
pub(super) fn packet_error(error: &PacketError) -> String {
    let ErrorCode(number) = error.code;
    // A message that says nothing new is left out.
    let text = match error.message.is_empty() {
        true => error.code.text(),
        false => &error.message,
    };
    format!("{text} ({number} {})", error.code.name())
}

/// Whether it is the caller's mistake.
pub(super) fn is_usage(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidUrl | ErrorKind::InvalidOption | ErrorKind::InvalidTopic
    )
}

/// A number of things.
pub(super) fn count(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// A time that people wait.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match time {
        t if t < Duration::from_secs(1) => format!("{} ms", t.as_millis()),
        t if t < Duration::from_secs(10) && t.subsec_millis() != 0 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}

/// A time that was measured.
pub(super) fn duration(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1000.0;
    match ms < 1000.0 {
        true => format!("{ms:.1} ms"),
        false => format!("{:.1} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(duration(Duration::from_micros(449)), "0.4 ms");
        assert_eq!(duration(Duration::from_millis(1500)), "1.5 s");
        for (ms, shown) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1 s"),
            (1234, "1.2 s"),
            (25_000, "25 s"),
            (120_400, "120 s"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), shown);
        }
    }

    #[test]
    fn gaps_and_drains() {
        let gap = |count, reason| super::gap(&Gap { count, reason });
        assert_eq!(
            gap(3, GapReason::Dropped),
            "3 packets of the gate will not come: dropped, there was no room for more"
        );
        assert_eq!(
            gap(1, GapReason::TooLarge),
            "1 packet of the gate will not come: too large for this connection"
        );
        let drain = Drain {
            deadline_ms: 10_000,
            retry_after_ms: 800,
        };
        assert_eq!(
            event(&Event::Draining(drain)).unwrap(),
            "the gate is going to close within 10 s: it asks to connect again after 800 ms"
        );
    }

    #[test]
    fn resuming() {
        let mut opened = Opened::default();
        (opened.session, opened.gate) = ("s1".into(), "g1".into());
        (opened.resumed, opened.written_again) = (true, 2);
        assert_eq!(
            connected_again(&opened),
            ["resumed: session s1 goes on; 2 packets of yours were written again"]
        );
    }
}
