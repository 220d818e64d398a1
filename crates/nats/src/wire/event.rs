//! What services are told.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tidegate::bus::{Ended, Event};
use tidegate_protocol::{CloseReason, GateId, InstanceId};

use super::{Envelope, read_json};
use crate::header::Malformed;
use crate::subject::{AllEvent, ServiceEvent};

/// How an event is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventName {
    /// It goes to one service.
    Service(ServiceEvent),
    /// It goes to all who asked.
    All(AllEvent),
}

#[derive(Serialize, Deserialize)]
struct Disconnected<'a> {
    reason: u16,
    #[serde(default)]
    text: Cow<'a, str>,
    undelivered_packets: u64,
    undelivered_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Rebound {
    from: InstanceId,
}

#[derive(Serialize, Deserialize)]
struct Gone<'a> {
    gate: GateId,
    /// Sixteen hexadecimal digits: not every language has integers of 64 bits in JSON.
    incarnation: Cow<'a, str>,
}

/// Name and body of an event; none for one that this bus does not know.
pub(crate) fn encode(event: &Event) -> Option<(EventName, Vec<u8>)> {
    Some(match event {
        Event::Started => (EventName::All(AllEvent::Started), Vec::new()),
        Event::Dormant => (EventName::All(AllEvent::Dormant), Vec::new()),
        Event::Resumed => (EventName::All(AllEvent::Resumed), Vec::new()),
        Event::Disconnected(ended) => (
            EventName::Service(ServiceEvent::Disconnected),
            super::write_json(&Disconnected {
                reason: ended.reason.code(),
                text: ended.reason.text().into(),
                undelivered_packets: ended.undelivered_packets,
                undelivered_bytes: ended.undelivered_bytes,
            }),
        ),
        Event::Rebound { from } => (
            EventName::Service(ServiceEvent::Rebound),
            super::write_json(&Rebound { from: from.clone() }),
        ),
        _ => return None,
    })
}

/// Reads an event of one service.
pub(crate) fn decode(name: ServiceEvent, body: &[u8]) -> Result<Event, Malformed> {
    match name {
        ServiceEvent::Disconnected => {
            let ended: Disconnected<'_> = read_json(body)?;
            Ok(Event::Disconnected(Ended {
                // A gate of a later version may know more of them.
                reason: CloseReason::from_code(ended.reason).unwrap_or(CloseReason::Internal),
                undelivered_packets: ended.undelivered_packets,
                undelivered_bytes: ended.undelivered_bytes,
            }))
        }
        ServiceEvent::Rebound => {
            let Rebound { from } = read_json(body)?;
            Ok(Event::Rebound { from })
        }
    }
}

/// Reads an event of a session for all who asked; none for one that is not of a session.
pub(crate) fn decode_all(name: AllEvent) -> Option<Event> {
    match name {
        AllEvent::Started => Some(Event::Started),
        AllEvent::Dormant => Some(Event::Dormant),
        AllEvent::Resumed => Some(Event::Resumed),
        AllEvent::GateGone => None,
    }
}

/// A gate's death.
pub(crate) fn gate_gone(gate: &GateId, incarnation: u64) -> Envelope {
    Envelope::json(&Gone {
        gate: gate.clone(),
        incarnation: format!("{incarnation:016x}").into(),
    })
}

/// Reads which gate died, and which incarnation of it.
pub(crate) fn read_gate_gone(body: &[u8]) -> Result<(GateId, u64), Malformed> {
    let gone: Gone<'_> = read_json(body)?;
    let incarnation = super::gate::hex64(&gone.incarnation)?;
    Ok((gone.gate, incarnation))
}
