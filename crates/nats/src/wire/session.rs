//! Operations on sessions, one and many, and their results.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate::bus::{Connected, GateError, GiveWay, SessionOp, SessionReply};
use tidegate::{Delivery, Packet};
use tidegate_protocol::{
    DeviceId, GroupName, InstanceId, Name, Settings, Snapshot, TooLarge, UserId,
};

use super::error::{self, Detail};
use super::{Envelope, read_json};
use crate::header::{self, Headers, MAX_DEADLINE, MAX_KEY, Malformed};
use crate::subject::SessionVerb;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bind {
    user: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<DeviceId>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    group: GroupName,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BindInstance {
    service: Name,
    instance: InstanceId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    service: Name,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    user: UserId,
    way: Way,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    No,
    IfDormant,
    Yes,
}

impl From<GiveWay> for Way {
    fn from(way: GiveWay) -> Self {
        match way {
            GiveWay::No => Self::No,
            GiveWay::IfDormant => Self::IfDormant,
            GiveWay::Yes => Self::Yes,
        }
    }
}

impl From<Way> for GiveWay {
    fn from(way: Way) -> Self {
        match way {
            Way::No => Self::No,
            Way::IfDormant => Self::IfDormant,
            Way::Yes => Self::Yes,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct IsConnected {
    connected: State,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Attached,
    Dormant,
    Gone,
}

/// How an operation travels. Refused where a part of it has no place there.
pub(crate) fn encode(op: SessionOp) -> Result<(SessionVerb, Envelope), GateError> {
    let empty = |verb| (verb, Envelope::default());
    Ok(match op {
        SessionOp::Load => empty(SessionVerb::Load),
        SessionOp::Bind(user, device) => {
            (SessionVerb::Bind, Envelope::json(&Bind { user, device }))
        }
        SessionOp::Unbind => empty(SessionVerb::Unbind),
        SessionOp::Set(settings) => (SessionVerb::Set, Envelope::json(&settings)),
        SessionOp::Del(key) => (SessionVerb::Del, Envelope::json(&Key { key })),
        SessionOp::Replace(settings) => (SessionVerb::Replace, Envelope::json(&settings)),
        SessionOp::Send(packet, delivery) => (SessionVerb::Send, envelope(packet, &delivery)?),
        SessionOp::SendWait(packet, deadline) => {
            let mut envelope = envelope(packet, &Delivery::Critical)?;
            let ms = deadline.min(MAX_DEADLINE).as_millis().max(1);
            header::put(envelope.headers_mut(), header::DEADLINE, &ms.to_string());
            (SessionVerb::SendWait, envelope)
        }
        SessionOp::Connected => empty(SessionVerb::Connected),
        SessionOp::Close => empty(SessionVerb::Close),
        SessionOp::Join(group) => (SessionVerb::Join, Envelope::json(&Group { group })),
        SessionOp::Leave(group) => (SessionVerb::Leave, Envelope::json(&Group { group })),
        SessionOp::BindInstance(service, instance) => (
            SessionVerb::BindInstance,
            Envelope::json(&BindInstance { service, instance }),
        ),
        SessionOp::UnbindInstance(service) => (
            SessionVerb::UnbindInstance,
            Envelope::json(&Service { service }),
        ),
        SessionOp::GiveWay(user, way) => (
            SessionVerb::GiveWay,
            Envelope::json(&Login {
                user,
                way: way.into(),
            }),
        ),
    })
}

/// Reads an operation.
pub(crate) fn decode(
    verb: SessionVerb,
    headers: Headers<'_>,
    body: &Bytes,
) -> Result<SessionOp, Malformed> {
    Ok(match verb {
        SessionVerb::Load => SessionOp::Load,
        SessionVerb::Bind => {
            let Bind { user, device } = read_json(body)?;
            SessionOp::Bind(user, device)
        }
        SessionVerb::Unbind => SessionOp::Unbind,
        SessionVerb::Set => SessionOp::Set(read_json(body)?),
        SessionVerb::Del => SessionOp::Del(read_json::<Key>(body)?.key),
        SessionVerb::Replace => SessionOp::Replace(read_json::<Settings>(body)?),
        SessionVerb::Send => {
            let (packet, delivery) = packet(headers, body)?;
            SessionOp::Send(packet, delivery)
        }
        SessionVerb::SendWait => {
            let (packet, _) = packet(headers, body)?;
            SessionOp::SendWait(packet, headers.deadline()?)
        }
        SessionVerb::Connected => SessionOp::Connected,
        SessionVerb::Close => SessionOp::Close,
        SessionVerb::Join => SessionOp::Join(read_json::<Group>(body)?.group),
        SessionVerb::Leave => SessionOp::Leave(read_json::<Group>(body)?.group),
        SessionVerb::BindInstance => {
            let BindInstance { service, instance } = read_json(body)?;
            SessionOp::BindInstance(service, instance)
        }
        SessionVerb::UnbindInstance => {
            SessionOp::UnbindInstance(read_json::<Service>(body)?.service)
        }
        SessionVerb::GiveWay => {
            let Login { user, way } = read_json(body)?;
            SessionOp::GiveWay(user, way.into())
        }
    })
}

/// A packet for clients: topic and delivery class in headers, its body as it is.
pub(super) fn envelope(packet: Packet, delivery: &Delivery) -> Result<Envelope, GateError> {
    if let Delivery::Latest(key) = delivery
        && key.len() > MAX_KEY
    {
        return Err(GateError::TooLarge(TooLarge {
            len: key.len(),
            max: MAX_KEY,
        }));
    }
    let mut headers = HeaderMap::new();
    header::put_text(&mut headers, header::TOPIC, packet.topic.as_str());
    header::put_delivery(&mut headers, delivery);
    Ok(Envelope::new(headers, packet.body))
}

/// Reads a packet for clients.
pub(super) fn packet(headers: Headers<'_>, body: &Bytes) -> Result<(Packet, Delivery), Malformed> {
    let packet = Packet::new(headers.topic()?, body.clone());
    Ok((packet, headers.delivery()?))
}

/// How the result of an operation travels.
pub(crate) fn encode_result(result: &Result<SessionReply, GateError>) -> Envelope {
    match result {
        Ok(SessionReply::Session(snapshot)) => Envelope::new(HeaderMap::new(), snapshot.encode()),
        Ok(SessionReply::Done) => Envelope::default(),
        Ok(SessionReply::Connected(connected)) => Envelope::json(&is_connected(*connected)),
        Err(error) => error::encode(error),
    }
}

/// Reads the result of an operation.
pub(crate) fn decode_result(
    verb: SessionVerb,
    headers: Headers<'_>,
    body: &[u8],
) -> Result<SessionReply, GateError> {
    if let Some(error) = error::decode(headers, body) {
        return Err(error);
    }
    // The gate has done it, and what it says of it cannot be read.
    let unknown = GateError::OutcomeUnknown;
    match verb {
        SessionVerb::Load
        | SessionVerb::Bind
        | SessionVerb::Unbind
        | SessionVerb::Set
        | SessionVerb::Del
        | SessionVerb::Replace => match Snapshot::decode(body) {
            Ok(snapshot) => Ok(SessionReply::Session(Arc::new(snapshot))),
            Err(_) => Err(unknown),
        },
        SessionVerb::Connected | SessionVerb::GiveWay => match read_json::<IsConnected>(body) {
            Ok(state) => Ok(SessionReply::Connected(match state.connected {
                State::Attached => Connected::Attached,
                State::Dormant => Connected::Dormant,
                State::Gone => Connected::Gone,
            })),
            Err(_) => Err(unknown),
        },
        SessionVerb::Send
        | SessionVerb::SendWait
        | SessionVerb::Close
        | SessionVerb::Join
        | SessionVerb::Leave
        | SessionVerb::BindInstance
        | SessionVerb::UnbindInstance => Ok(SessionReply::Done),
    }
}

fn is_connected(connected: Connected) -> IsConnected {
    IsConnected {
        connected: match connected {
            Connected::Attached => State::Attached,
            Connected::Dormant => State::Dormant,
            Connected::Gone => State::Gone,
        },
    }
}

/// One of many results, as it stands in a list.
#[derive(Serialize)]
#[serde(untagged)]
enum Item<'a> {
    Session { session: &'a Snapshot },
    Done { ok: bool },
    Connected(IsConnected),
    Failed(Detail<'a>),
}

/// How the results of an operation on many sessions travel: a list in the order asked, in
/// parts where it is long.
pub(crate) fn encode_results(results: &[Result<SessionReply, GateError>]) -> Vec<Envelope> {
    super::gate::list(results.iter().map(|result| {
        super::write_json(&match result {
            Ok(SessionReply::Session(session)) => Item::Session { session },
            Ok(SessionReply::Done) => Item::Done { ok: true },
            Ok(SessionReply::Connected(c)) => Item::Connected(is_connected(*c)),
            Err(error) => Item::Failed(error::detail(error)),
        })
    }))
}

/// Asks for an operation on many sessions.
#[cfg(test)]
pub(crate) fn many(op: &mut Envelope, sessions: &[tidegate_protocol::SessionId]) {
    header::put_sessions(op.headers_mut(), sessions);
}
