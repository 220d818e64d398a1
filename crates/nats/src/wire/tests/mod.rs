//! What travels is read as it was written, stands in bytes as specified, and nothing foreign
//! gets through any field.

#![allow(clippy::unwrap_used)]

mod golden;
mod hostile;
mod round_trip;

use std::sync::Arc;

use async_nats::HeaderMap;
use tidegate_protocol::{GateId, Network, SessionId, Settings, Snapshot, UserId};

use super::Envelope;

pub(super) fn snapshot(name: &str) -> Arc<Snapshot> {
    let mut settings = Settings::new();
    settings.merge([("name", name)]).unwrap();
    Arc::new(Snapshot {
        id: SessionId(0x2a),
        gate: GateId::new("gate-1").unwrap(),
        user: Some(UserId::new("ada").unwrap()),
        device: None,
        settings,
        ip: "203.0.113.7".parse().unwrap(),
        network: Network::Tcp,
        trace_id: 7,
    })
}

/// The headers as they stand in a message, sorted.
pub(super) fn lines(headers: Option<&HeaderMap>) -> Vec<String> {
    let all = headers.into_iter().flat_map(HeaderMap::iter);
    let mut lines: Vec<_> = all
        .flat_map(|(name, values)| {
            let name: &str = name.as_ref();
            values.iter().map(move |value| format!("{name}: {value}"))
        })
        .collect();
    lines.sort();
    lines
}

/// Nothing in a header ends its line, or is beyond ASCII; but for the text of an error.
pub(super) fn is_clean(envelope: &Envelope) -> bool {
    lines(envelope.headers.as_ref()).iter().all(|line| {
        let people = line.starts_with("Nats-Service-Error: ");
        line.chars()
            .all(|c| !c.is_control() && (people || c.is_ascii()))
    })
}
