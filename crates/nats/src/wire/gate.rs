//! Requests to gates, and their replies.
//!
//! A reply that is a list comes in parts where it is long: each a list of its own, all but the
//! last with the header that says that more follow.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate::bus::{GateError, GateInfo, GateReply, GateRequest, Sent};
use tidegate_protocol::{DeviceId, GateId, GroupName, SessionId, Snapshot, UserId};

use super::session::{envelope, packet};
use super::{Envelope, MAX_PART, MAX_PARTS, error, read_json, write_json};
use crate::header::{self, Headers, MAX_SESSIONS, Malformed};
use crate::subject::GateVerb;

/// Most users in one question.
pub(crate) const MAX_USERS: usize = 1000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    user: UserId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Users {
    users: Vec<UserId>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    group: GroupName,
}

#[derive(Serialize, Deserialize)]
struct SentBody {
    attached: u64,
    dormant: u64,
    missed: u64,
    full: u64,
    refused: u64,
    too_large: u64,
    #[serde(default)]
    unknown: u64,
}

#[derive(Serialize, Deserialize)]
struct Number {
    number: u64,
}

#[derive(Serialize, Deserialize)]
struct Count {
    sessions: u64,
    connections: u64,
}

/// A gate that lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LiveGate {
    pub(crate) gate: GateId,
    /// Which of the gates that have had this id.
    #[serde(with = "hex")]
    pub(crate) incarnation: u64,
    pub(crate) version: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
}

impl From<LiveGate> for GateInfo {
    fn from(live: LiveGate) -> Self {
        Self {
            id: live.gate,
            version: live.version,
            metadata: live.metadata,
        }
    }
}

/// Where a session of a user is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Located {
    pub(crate) session: SessionId,
    pub(crate) gate: GateId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<DeviceId>,
}

/// What can be asked: a request of the seam, or what is the bus's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Request(GateRequest),
    Ping,
    Fence,
    Gates,
    Locate(UserId),
}

/// How a request travels. Refused where a part of it has no place there.
pub(crate) fn encode(request: GateRequest) -> Result<(GateVerb, Envelope), GateError> {
    Ok(match request {
        GateRequest::Broadcast(packet, delivery) => {
            (GateVerb::Broadcast, envelope(packet, &delivery)?)
        }
        GateRequest::SendToUser(user, packet, delivery) => {
            let mut envelope = envelope(packet, &delivery)?;
            header::put_text(envelope.headers_mut(), header::USER, &user);
            (GateVerb::SendUser, envelope)
        }
        GateRequest::SendToGroup(group, packet, delivery) => {
            let mut envelope = envelope(packet, &delivery)?;
            header::put_text(envelope.headers_mut(), header::GROUP, &group);
            (GateVerb::SendGroup, envelope)
        }
        GateRequest::CloseUser(user) => (GateVerb::CloseUser, Envelope::json(&User { user })),
        GateRequest::Presence(users) => (GateVerb::Presence, Envelope::json(&Users { users })),
        GateRequest::GroupCount(group) => (GateVerb::GroupCount, Envelope::json(&Group { group })),
        GateRequest::GroupMembers(group) => {
            (GateVerb::GroupMembers, Envelope::json(&Group { group }))
        }
        GateRequest::Count => (GateVerb::Count, Envelope::default()),
    })
}

/// Reads a request.
pub(crate) fn decode(
    verb: GateVerb,
    headers: Headers<'_>,
    body: &Bytes,
) -> Result<Asked, Malformed> {
    Ok(Asked::Request(match verb {
        GateVerb::Broadcast => {
            let (packet, delivery) = packet(headers, body)?;
            GateRequest::Broadcast(packet, delivery)
        }
        GateVerb::SendUser => {
            let (packet, delivery) = packet(headers, body)?;
            GateRequest::SendToUser(headers.user()?, packet, delivery)
        }
        GateVerb::SendGroup => {
            let (packet, delivery) = packet(headers, body)?;
            GateRequest::SendToGroup(headers.group()?, packet, delivery)
        }
        GateVerb::CloseUser => GateRequest::CloseUser(read_json::<User>(body)?.user),
        GateVerb::Presence => {
            let Users { users } = read_json(body)?;
            if users.len() > MAX_USERS {
                return Err(Malformed::new("users", "are more than 1000"));
            }
            GateRequest::Presence(users)
        }
        GateVerb::GroupCount => GateRequest::GroupCount(read_json::<Group>(body)?.group),
        GateVerb::GroupMembers => GateRequest::GroupMembers(read_json::<Group>(body)?.group),
        GateVerb::Count => GateRequest::Count,
        GateVerb::Ping => return Ok(Asked::Ping),
        GateVerb::Fence => return Ok(Asked::Fence),
        GateVerb::Gates => return Ok(Asked::Gates),
        GateVerb::Locate => return Ok(Asked::Locate(read_json::<User>(body)?.user)),
    }))
}

/// How a reply travels: in one message, or in parts.
pub(crate) fn encode_result(result: &Result<GateReply, GateError>) -> Vec<Envelope> {
    let one = match result {
        Ok(GateReply::Sent(sent)) => Envelope::json(&SentBody {
            attached: sent.attached,
            dormant: sent.dormant,
            missed: sent.missed,
            full: sent.full,
            refused: sent.refused,
            too_large: sent.too_large,
            unknown: sent.unknown,
        }),
        Ok(GateReply::Number(number)) => Envelope::json(&Number { number: *number }),
        Ok(GateReply::Count {
            sessions,
            connections,
        }) => Envelope::json(&Count {
            sessions: *sessions,
            connections: *connections,
        }),
        Ok(GateReply::Presence(users)) => return list(users.iter().map(write_json)),
        Ok(GateReply::Members(members)) => return list(members.iter().map(|m| m.encode())),
        Err(error) => error::encode(error),
    };
    vec![one]
}

/// A list, in as many parts as it takes; more of them than there may be are an error.
pub(crate) fn list(items: impl Iterator<Item = Vec<u8>>) -> Vec<Envelope> {
    let mut parts = Vec::new();
    let mut part = vec![b'['];
    for item in items {
        if part.len() > 1 {
            if part.len() + item.len() > MAX_PART {
                parts.push(std::mem::replace(&mut part, vec![b'[']));
            } else {
                part.push(b',');
            }
        }
        part.extend_from_slice(&item);
    }
    parts.push(part);
    if parts.len() > MAX_PARTS {
        return vec![error::encode(&GateError::Overloaded)];
    }
    let last = parts.len() - 1;
    let parts = parts.into_iter().enumerate().map(|(i, mut part)| {
        part.push(b']');
        let mut headers = HeaderMap::new();
        if i < last {
            header::put(&mut headers, header::MORE, "1");
        }
        Envelope::new(headers, part)
    });
    parts.collect()
}

/// Puts a reply together from its parts, in the order in which they come.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    so_far: Option<GateReply>,
    count: usize,
}

impl Parts {
    /// Takes one part. Answers the reply when it is whole.
    pub(crate) fn take(
        &mut self,
        verb: GateVerb,
        headers: Headers<'_>,
        body: &[u8],
    ) -> Option<Result<GateReply, GateError>> {
        if let Some(error) = error::decode(headers, body) {
            return Some(Err(error));
        }
        // It was done, and what was said of it cannot be read.
        let unknown = Some(Err(GateError::OutcomeUnknown));
        self.count += 1;
        if self.count > MAX_PARTS {
            return unknown;
        }
        let (Ok(more), Ok(part)) = (headers.more(), read_part(verb, body)) else {
            return unknown;
        };
        let whole = match (self.so_far.take(), part) {
            (None, part) => part,
            (Some(GateReply::Presence(mut users)), GateReply::Presence(others)) => {
                users.extend(others);
                GateReply::Presence(users)
            }
            (Some(GateReply::Members(mut members)), GateReply::Members(others)) => {
                members.extend(others);
                GateReply::Members(members)
            }
            _ => return unknown,
        };
        match more {
            true => {
                self.so_far = Some(whole);
                None
            }
            false => Some(Ok(whole)),
        }
    }
}

fn read_part(verb: GateVerb, body: &[u8]) -> Result<GateReply, Malformed> {
    Ok(match verb {
        GateVerb::Broadcast | GateVerb::SendUser | GateVerb::SendGroup => {
            let sent: SentBody = read_json(body)?;
            GateReply::Sent(sent.into())
        }
        GateVerb::CloseUser | GateVerb::GroupCount => {
            GateReply::Number(read_json::<Number>(body)?.number)
        }
        GateVerb::Presence => GateReply::Presence(read_json(body)?),
        GateVerb::GroupMembers => GateReply::Members(read_json::<Vec<Arc<Snapshot>>>(body)?),
        GateVerb::Count => {
            let Count {
                sessions,
                connections,
            } = read_json(body)?;
            GateReply::Count {
                sessions,
                connections,
            }
        }
        GateVerb::Ping | GateVerb::Fence | GateVerb::Gates | GateVerb::Locate => {
            return Err(Malformed::new("reply", "is not one of the seam's"));
        }
    })
}

impl From<SentBody> for Sent {
    fn from(body: SentBody) -> Self {
        Self {
            attached: body.attached,
            dormant: body.dormant,
            missed: body.missed,
            full: body.full,
            refused: body.refused,
            too_large: body.too_large,
            unknown: body.unknown,
        }
    }
}

/// A list of gates, or of places, for a question of the bus's own.
pub(crate) fn encode_list<T: Serialize>(items: &[T]) -> Vec<Envelope> {
    list(items.iter().take(MAX_SESSIONS).map(write_json))
}

/// Sixteen hexadecimal digits.
pub(crate) fn hex64(text: &str) -> Result<u64, Malformed> {
    let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(text, 16)
        .ok()
        .filter(|_| digits)
        .ok_or(Malformed::new(
            "incarnation",
            "is not 16 hexadecimal digits",
        ))
}

mod hex {
    use super::{Cow, hex64};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(v: &u64, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{v:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        hex64(&Cow::<'de, str>::deserialize(d)?).map_err(D::Error::custom)
    }
}
