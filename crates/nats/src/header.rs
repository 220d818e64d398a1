//! Headers: the table of `docs/nats.md`, written and read in one place.
//!
//! Values are ASCII without line ends; text that may be anything is percent-encoded. Every
//! value has a bound, and one that is malformed, too long or repeated is refused.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;
use tidegate::Delivery;
use tidegate::protocol::name::is_token;
use tidegate_protocol::{GroupName, InstanceId, Name, SessionId, Snapshot, Topic, UserId};

/// The session on whose behalf a call is made, or that an event is about.
pub(crate) const SESSION: HeaderName = HeaderName::from_static("Tidegate-Session");
/// W3C Trace Context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `0` where the client does not want an answer.
pub(crate) const ANSWER: HeaderName = HeaderName::from_static("Tidegate-Answer");
/// The instance that answers.
pub(crate) const INSTANCE: HeaderName = HeaderName::from_static("Tidegate-Instance");
/// The text of an error.
pub(crate) const ERROR_TEXT: HeaderName = HeaderName::from_static("Nats-Service-Error");
/// The number of an error.
pub(crate) const ERROR_CODE: HeaderName = HeaderName::from_static("Nats-Service-Error-Code");
/// The name of an error.
pub(crate) const ERROR: HeaderName = HeaderName::from_static("Tidegate-Error");
/// A packet's topic.
pub(crate) const TOPIC: HeaderName = HeaderName::from_static("Tidegate-Topic");
/// A packet's delivery class.
pub(crate) const DELIVERY: HeaderName = HeaderName::from_static("Tidegate-Delivery");
/// How long to wait for room.
pub(crate) const DEADLINE: HeaderName = HeaderName::from_static("Tidegate-Deadline-Ms");
/// Many sessions of one gate.
pub(crate) const SESSIONS: HeaderName = HeaderName::from_static("Tidegate-Sessions");
/// A user.
pub(crate) const USER: HeaderName = HeaderName::from_static("Tidegate-User");
/// A group.
pub(crate) const GROUP: HeaderName = HeaderName::from_static("Tidegate-Group");
/// `1` where more parts of the reply follow.
pub(crate) const MORE: HeaderName = HeaderName::from_static("Tidegate-More");

/// The services that the publisher of an event for all who asked has told itself.
pub(crate) const NEAR: HeaderName = HeaderName::from_static("Tidegate-Near");

/// All of them, as the specification lists them.
#[cfg(test)]
pub(crate) fn all() -> [HeaderName; 15] {
    [
        SESSION,
        TRACEPARENT,
        ANSWER,
        INSTANCE,
        ERROR_CODE,
        ERROR_TEXT,
        ERROR,
        TOPIC,
        DELIVERY,
        DEADLINE,
        SESSIONS,
        USER,
        GROUP,
        MORE,
        NEAR,
    ]
}

/// Longest encoded snapshot: settings of 16 KiB, each byte as `\u00XX`, and the rest.
pub(crate) const MAX_SESSION: usize = 112 * 1024;
/// Most sessions in one request.
pub(crate) const MAX_SESSIONS: usize = 1000;
/// Longest text of an error, in bytes.
pub(crate) const MAX_ERROR_TEXT: usize = 1024;
/// Longest key of [`Delivery::Latest`], in bytes.
pub(crate) const MAX_KEY: usize = 1024;
/// Longest list of services that were told of an event.
pub(crate) const MAX_NEAR: usize = 4096;
/// Longest time to wait for room.
pub(crate) const MAX_DEADLINE: Duration = Duration::from_secs(60);

/// A message that is not what the specification says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: {why}")]
pub(crate) struct Malformed {
    /// Which part of it.
    pub(crate) what: &'static str,
    /// What is wrong. Holds no control characters.
    pub(crate) why: Cow<'static, str>,
}

impl Malformed {
    pub(crate) fn new(what: &'static str, why: &'static str) -> Self {
        Self {
            what,
            why: Cow::Borrowed(why),
        }
    }

    /// With the text of an error about foreign input.
    pub(crate) fn because(what: &'static str, why: &impl ToString) -> Self {
        Self {
            what,
            why: Cow::Owned(one_line(&why.to_string(), 200)),
        }
    }
}

/// The headers of a message that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headers<'a>(pub(crate) Option<&'a HeaderMap>);

impl<'a> Headers<'a> {
    /// The value, if it is there once and only once.
    fn one(
        self,
        name: HeaderName,
        what: &'static str,
        max: usize,
    ) -> Result<Option<&'a str>, Malformed> {
        let Some(map) = self.0 else { return Ok(None) };
        let mut values = map.get_all(name);
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(Malformed::new(what, "is there more than once"));
        }
        let value = value.as_str();
        match value.len() <= max {
            true => Ok(Some(value)),
            false => Err(Malformed::new(what, "is too long")),
        }
    }

    /// Text that is percent-encoded.
    fn text(
        self,
        name: HeaderName,
        what: &'static str,
        max: usize,
    ) -> Result<Option<String>, Malformed> {
        match self.one(name, what, 3 * max)? {
            None => Ok(None),
            Some(value) => percent_decode(value)
                .filter(|text| text.len() <= max)
                .map(Some)
                .ok_or(Malformed::new(what, "is not percent-encoded text")),
        }
    }

    fn required<T>(value: Option<T>, what: &'static str) -> Result<T, Malformed> {
        value.ok_or(Malformed::new(what, "is missing"))
    }

    pub(crate) fn session(self) -> Result<Option<Arc<Snapshot>>, Malformed> {
        const WHAT: &str = "Tidegate-Session";
        match self.one(SESSION, WHAT, MAX_SESSION)? {
            None => Ok(None),
            Some(json) => Snapshot::decode(json.as_bytes())
                .map(|snapshot| Some(Arc::new(snapshot)))
                .map_err(|e| Malformed::because(WHAT, &e)),
        }
    }

    /// The span of `traceparent`. By its standard one that cannot be read is ignored.
    pub(crate) fn span(self) -> Option<u64> {
        let value = self.one(TRACEPARENT, "traceparent", 64).ok().flatten()?;
        let mut parts = value.split('-');
        let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
        let lengths = [version.len(), trace.len(), span.len(), parts.next()?.len()];
        let hex = |s: &str| s.bytes().all(|b| b.is_ascii_hexdigit());
        if lengths != [2, 32, 16, 2] || !hex(trace) || !hex(span) {
            return None;
        }
        u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)
    }

    pub(crate) fn wants_answer(self) -> Result<bool, Malformed> {
        match self.one(ANSWER, "Tidegate-Answer", 1)? {
            None | Some("1") => Ok(true),
            Some("0") => Ok(false),
            Some(_) => Err(Malformed::new("Tidegate-Answer", "is neither 0 nor 1")),
        }
    }

    pub(crate) fn instance(self) -> Result<Option<InstanceId>, Malformed> {
        const WHAT: &str = "Tidegate-Instance";
        let value = self.one(INSTANCE, WHAT, 64)?;
        value
            .map(|v| InstanceId::new(v).map_err(|e| Malformed::because(WHAT, &e)))
            .transpose()
    }

    pub(crate) fn topic(self) -> Result<Topic, Malformed> {
        const WHAT: &str = "Tidegate-Topic";
        let value = Self::required(self.text(TOPIC, WHAT, Topic::MAX_LEN)?, WHAT)?;
        Topic::try_from(value).map_err(|e| Malformed::because(WHAT, &e))
    }

    pub(crate) fn delivery(self) -> Result<Delivery, Malformed> {
        const WHAT: &str = "Tidegate-Delivery";
        const LATEST: &str = "latest:";
        match self.one(DELIVERY, WHAT, LATEST.len() + 3 * MAX_KEY)? {
            None | Some("critical") => Ok(Delivery::Critical),
            Some("droppable") => Ok(Delivery::Droppable),
            Some(value) => value
                .strip_prefix(LATEST)
                .and_then(percent_decode)
                .filter(|key| key.len() <= MAX_KEY)
                .map(|key| Delivery::Latest(key.into()))
                .ok_or(Malformed::new(
                    WHAT,
                    "is none of critical, droppable, latest:<key>",
                )),
        }
    }

    pub(crate) fn deadline(self) -> Result<Duration, Malformed> {
        const WHAT: &str = "Tidegate-Deadline-Ms";
        let value = Self::required(self.one(DEADLINE, WHAT, 5)?, WHAT)?;
        decimal(value)
            .map(Duration::from_millis)
            .filter(|d| !d.is_zero() && *d <= MAX_DEADLINE)
            .ok_or(Malformed::new(WHAT, "is not 1 to 60000"))
    }

    pub(crate) fn sessions(self) -> Result<Vec<SessionId>, Malformed> {
        const WHAT: &str = "Tidegate-Sessions";
        let value = Self::required(self.one(SESSIONS, WHAT, MAX_SESSIONS * 33)?, WHAT)?;
        // Its bound is that of a thousand.
        let ids = value.split(',').map(str::parse).collect::<Result<_, _>>();
        ids.map_err(|e| Malformed::because(WHAT, &e))
    }

    pub(crate) fn user(self) -> Result<UserId, Malformed> {
        const WHAT: &str = "Tidegate-User";
        let value = Self::required(self.text(USER, WHAT, 256)?, WHAT)?;
        UserId::try_from(value).map_err(|e| Malformed::because(WHAT, &e))
    }

    pub(crate) fn group(self) -> Result<GroupName, Malformed> {
        const WHAT: &str = "Tidegate-Group";
        let value = Self::required(self.text(GROUP, WHAT, 128)?, WHAT)?;
        GroupName::try_from(value).map_err(|e| Malformed::because(WHAT, &e))
    }

    /// Whether more parts follow.
    pub(crate) fn more(self) -> Result<bool, Malformed> {
        match self.one(MORE, "Tidegate-More", 1)? {
            None | Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(_) => Err(Malformed::new("Tidegate-More", "is neither 0 nor 1")),
        }
    }

    /// Whether `service` has been told by the publisher itself.
    pub(crate) fn is_near(self, service: &str) -> Result<bool, Malformed> {
        const WHAT: &str = "Tidegate-Near";
        let Some(names) = self.one(NEAR, WHAT, MAX_NEAR)? else {
            return Ok(false);
        };
        match names.split(',').all(is_token) {
            true => Ok(names.split(',').any(|name| name == service)),
            false => Err(Malformed::new(WHAT, "is not a list of services")),
        }
    }

    /// The name of an error.
    pub(crate) fn error(self) -> Result<Option<&'a str>, Malformed> {
        self.one(ERROR, "Tidegate-Error", 64)
    }

    /// Number and text of an error. Text is for people: too much of it is cut, not refused.
    pub(crate) fn service_error(self) -> Result<Option<(u16, String)>, Malformed> {
        const WHAT: &str = "Nats-Service-Error-Code";
        let text = self.one(ERROR_TEXT, "Nats-Service-Error", usize::MAX)?;
        let text = || one_line(text.unwrap_or_default(), MAX_ERROR_TEXT);
        match self.one(ERROR_CODE, WHAT, 5)? {
            None => match self.one(ERROR_TEXT, "Nats-Service-Error", usize::MAX)? {
                // The services protocol asks for both; a text alone is an error, too.
                Some(_) => Ok(Some((0, text()))),
                None => Ok(None),
            },
            Some(code) => decimal(code)
                .and_then(|code| u16::try_from(code).ok())
                .map(|code| Some((code, text())))
                .ok_or(Malformed::new(WHAT, "is not 1 to 65535")),
        }
    }
}

/// Puts `value` under `name`. A value that cannot stand in a header is an empty one: all that
/// is put is encoded before, or of types that hold no line ends.
pub(crate) fn put(map: &mut HeaderMap, name: HeaderName, value: &str) {
    map.insert(name, value.parse::<HeaderValue>().unwrap_or_default());
}

/// Puts a `traceparent`, where there is a trace: of zeros there is none.
pub(crate) fn put_trace(map: &mut HeaderMap, trace: u128, span: u64) {
    if trace != 0 && span != 0 {
        put(map, TRACEPARENT, &format!("00-{trace:032x}-{span:016x}-01"));
    }
}

/// Puts a delivery class, but for the default.
pub(crate) fn put_delivery(map: &mut HeaderMap, delivery: &Delivery) {
    match delivery {
        Delivery::Critical => {}
        Delivery::Droppable => put(map, DELIVERY, "droppable"),
        Delivery::Latest(key) => {
            put(map, DELIVERY, &format!("latest:{}", percent_encode(key)));
        }
    }
}

/// Puts text that may be anything.
pub(crate) fn put_text(map: &mut HeaderMap, name: HeaderName, text: &str) {
    put(map, name, &percent_encode(text));
}

/// Puts number and text of an error.
pub(crate) fn put_error(map: &mut HeaderMap, code: u16, text: &str) {
    put(map, ERROR_CODE, &code.to_string());
    put(map, ERROR_TEXT, &one_line(text, MAX_ERROR_TEXT));
}

/// Puts the services that have been told already: as many as there is room for.
pub(crate) fn put_near(map: &mut HeaderMap, services: &[Name]) {
    let mut names = String::new();
    for service in services {
        if names.len() + service.len() >= MAX_NEAR {
            break;
        }
        if !names.is_empty() {
            names.push(',');
        }
        names.push_str(service);
    }
    put(map, NEAR, &names);
}

/// Puts many sessions.
#[cfg(test)]
pub(crate) fn put_sessions(map: &mut HeaderMap, sessions: &[SessionId]) {
    let ids: Vec<String> = sessions.iter().map(ToString::to_string).collect();
    put(map, SESSIONS, &ids.join(","));
}

/// Writes all but `0x21..=0x7e`, and `%`, as `%XX`.
pub(crate) fn percent_encode(text: &str) -> Cow<'_, str> {
    let plain = |b: &u8| (0x21..=0x7e).contains(b) && *b != b'%';
    if text.as_bytes().iter().all(plain) {
        return Cow::Borrowed(text);
    }
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len() + 16);
    for b in text.bytes() {
        if plain(&b) {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(b >> 4)]));
            out.push(char::from(HEX[usize::from(b & 15)]));
        }
    }
    Cow::Owned(out)
}

/// Reads what [`percent_encode`] writes. Whoever writes it may encode more than need be.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let hex = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            0x21..=0x7e => b,
            _ => return None,
        });
    }
    String::from_utf8(out).ok()
}

/// Digits and nothing else: no sign, no blanks.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Foreign text on one line, at most `max` bytes of it.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if out.len() + c.len_utf8() > max {
            break;
        }
        out.push(c);
    }
    out
}
