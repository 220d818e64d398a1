//! Why a gate did not do what it was asked.

use std::borrow::Cow;

use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};
use tidegate::bus::GateError;
use tidegate_protocol::{
    DeviceId, GateId, GroupName, InstanceId, InvalidName, Name, SessionId, SettingsError, TooLarge,
    TopicError, UserId,
};

use super::Envelope;
use crate::header::{self, Headers, MAX_ERROR_TEXT, Malformed};

/// Names and numbers, as the specification lists them. The numbers are those that HTTP has
/// for the like: the services protocol asks for one, and people know them.
pub(crate) const NAMES: &[(&str, u16)] = &[
    ("bad-request", 400),
    ("name", 400),
    ("topic", 400),
    ("refused", 403),
    ("session-gone", 404),
    ("bound-to-another", 409),
    ("dormant", 409),
    ("too-many-logins", 409),
    ("too-large", 413),
    ("settings", 413),
    ("too-many", 429),
    ("queue-full", 429),
    ("overloaded", 429),
    ("store", 500),
    ("unavailable", 503),
    ("outcome-unknown", 504),
];

/// What an error's body tells, beside its name, for people and for a typed error.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Detail<'a> {
    pub(crate) error: Cow<'a, str>,
    pub(crate) text: Cow<'a, str>,
    /// Bytes, or number, that there would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
    /// Bytes that there may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    /// Of what there is too much, or what is malformed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    what: Option<Cow<'a, str>>,
}

const TOPIC_ERRORS: &[(&str, TopicError)] = &[
    ("empty", TopicError::Empty),
    ("not-utf8", TopicError::NotUtf8),
    ("control", TopicError::Control),
    ("too-long", TopicError::TooLong),
];
const TOO_MANY: &[&str] = &["groups", "instance bindings"];

fn invalid_names() -> impl Iterator<Item = InvalidName> {
    [
        Name::new("").err(),
        InstanceId::new("").err(),
        GateId::new("").err(),
        UserId::new("").err(),
        DeviceId::new("").err(),
        GroupName::new("").err(),
        "".parse::<SessionId>().err(),
    ]
    .into_iter()
    .flatten()
}

/// The name of an error.
fn name(error: &GateError) -> &'static str {
    match error {
        GateError::SessionGone => "session-gone",
        GateError::QueueFull => "queue-full",
        GateError::Dormant => "dormant",
        GateError::Refused => "refused",
        GateError::TooLarge(_) => "too-large",
        GateError::BoundToAnother => "bound-to-another",
        GateError::TooManyLogins => "too-many-logins",
        GateError::Settings(_) => "settings",
        GateError::Name(_) => "name",
        GateError::Topic(_) => "topic",
        GateError::TooMany(_) => "too-many",
        GateError::Store(_) => "store",
        GateError::Unavailable => "unavailable",
        GateError::Overloaded => "overloaded",
        // What is not known here is not known to be harmless.
        _ => "outcome-unknown",
    }
}

/// An error as it stands in a body.
pub(crate) fn detail(error: &GateError) -> Detail<'_> {
    let mut detail = Detail {
        error: name(error).into(),
        text: header::one_line(&error.to_string(), MAX_ERROR_TEXT).into(),
        ..Detail::default()
    };
    match error {
        GateError::TooLarge(TooLarge { len, max }) => {
            (detail.size, detail.limit) = (Some(*len), Some(*max));
        }
        GateError::Settings(SettingsError(size)) => detail.size = Some(*size),
        GateError::Name(InvalidName { kind, .. }) => detail.what = Some((*kind).into()),
        GateError::Topic(error) => {
            let found = TOPIC_ERRORS.iter().find(|(_, e)| e == error);
            detail.what = found.map(|(what, _)| (*what).into());
        }
        GateError::TooMany(what) => detail.what = Some((*what).into()),
        GateError::Store(text) => {
            detail.text = header::one_line(text, MAX_ERROR_TEXT).into();
        }
        _ => {}
    }
    detail
}

/// The error that a body tells of.
pub(crate) fn of_detail(detail: &Detail<'_>) -> GateError {
    let what = detail.what.as_deref().unwrap_or_default();
    match &*detail.error {
        "session-gone" => GateError::SessionGone,
        "queue-full" => GateError::QueueFull,
        "dormant" => GateError::Dormant,
        "refused" => GateError::Refused,
        "too-large" => GateError::TooLarge(TooLarge {
            len: detail.size.unwrap_or_default(),
            max: detail.limit.unwrap_or_default(),
        }),
        "bound-to-another" => GateError::BoundToAnother,
        "too-many-logins" => GateError::TooManyLogins,
        "settings" => GateError::Settings(SettingsError(detail.size.unwrap_or_default())),
        "name" => GateError::Name(invalid_names().find(|e| e.kind == what).unwrap_or(
            InvalidName {
                kind: "a name",
                rule: "as the gate has it",
            },
        )),
        "topic" => {
            let found = TOPIC_ERRORS.iter().find(|(name, _)| *name == what);
            GateError::Topic(found.map_or(TopicError::Control, |(_, error)| *error))
        }
        "too-many" => {
            let found = TOO_MANY.iter().find(|known| **known == what);
            GateError::TooMany(found.copied().unwrap_or("of something"))
        }
        "store" => GateError::Store(header::one_line(&detail.text, MAX_ERROR_TEXT)),
        // Nothing was done: the gate did not understand.
        "unavailable" | "bad-request" => GateError::Unavailable,
        "overloaded" => GateError::Overloaded,
        _ => GateError::OutcomeUnknown,
    }
}

/// A reply that tells of an error.
pub(crate) fn encode(error: &GateError) -> Envelope {
    envelope(&detail(error))
}

/// The reply to a request that is not what the specification says.
pub(crate) fn malformed(malformed: &Malformed) -> Envelope {
    envelope(&bad_request(malformed))
}

/// The same, as it stands in a body.
pub(crate) fn bad_request(malformed: &Malformed) -> Detail<'static> {
    Detail {
        error: "bad-request".into(),
        text: header::one_line(&malformed.to_string(), MAX_ERROR_TEXT).into(),
        ..Detail::default()
    }
}

fn envelope(detail: &Detail<'_>) -> Envelope {
    let mut headers = HeaderMap::new();
    header::put(&mut headers, header::ERROR, &detail.error);
    header::put_error(&mut headers, number(&detail.error), &detail.text);
    Envelope::new(headers, super::write_json(detail))
}

fn number(name: &str) -> u16 {
    let found = NAMES.iter().find(|(n, _)| *n == name);
    found.map_or(500, |(_, number)| *number)
}

/// The error that a reply tells of, if it is one.
pub(crate) fn decode(headers: Headers<'_>, body: &[u8]) -> Option<GateError> {
    let name = match headers.error() {
        Ok(Some(name)) => name,
        // Some other party's error: what became of the request it does not say.
        Ok(None) => match headers.service_error() {
            Ok(None) => return None,
            _ => return Some(GateError::OutcomeUnknown),
        },
        Err(_) => return Some(GateError::OutcomeUnknown),
    };
    let detail: Detail<'_> = super::read_json(body).unwrap_or_default();
    Some(of_detail(&Detail {
        error: name.into(),
        ..detail
    }))
}
