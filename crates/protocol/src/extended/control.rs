//! The control packets, read and written.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::{
    ACK, BYE, CLOSE, DRAIN, ERROR, GAP, HELLO, MAX_LIST, MAX_NAME, MAX_TOKEN, PING, PONG, TOKEN,
    WELCOME,
};
use crate::close::CloseReason;
use crate::name::{DeviceId, InvalidName};
use crate::packet::Packet;
use crate::topic::Topic;

/// A control packet of a client.
#[derive(Debug, Clone)]
pub enum ClientControl {
    /// See [`HELLO`].
    Hello(Box<Hello>),
    /// See [`PING`].
    Ping(u64),
    /// See [`PONG`].
    Pong(u64),
    /// See [`ACK`].
    Ack(u64),
    /// See [`BYE`].
    Bye,
}

/// A control packet of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateControl {
    /// See [`WELCOME`].
    Welcome(Box<Welcome>),
    /// See [`PING`].
    Ping(u64),
    /// See [`PONG`].
    Pong(u64),
    /// See [`ACK`].
    Ack(u64),
    /// See [`ERROR`].
    Error(ErrorPacket),
    /// See [`GAP`].
    Gap(Gap),
    /// See [`TOKEN`].
    Token(TokenUpdate),
    /// See [`DRAIN`].
    Drain(Drain),
    /// See [`CLOSE`].
    Close(Close),
}

/// A packet that is no control packet of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ControlError {
    /// The topic is not one of those that this side sends.
    #[error("no control packet has this topic")]
    Topic,
    /// The body is not eight bytes.
    #[error("the body has {0} bytes, 8 are needed")]
    Length(usize),
    /// The body is not the JSON that the topic asks for. Nothing of it is repeated: it may
    /// hold secrets.
    #[error("the body is not as it should be: {what} at line {line}, column {column}")]
    Json {
        /// What is wrong.
        what: &'static str,
        /// Where that was noticed, from 1.
        line: usize,
        /// In bytes, from 1; 0 at a line's end.
        column: usize,
    },
    /// A text or a list is too long.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// The device has control characters.
    #[error(transparent)]
    Device(#[from] InvalidName),
}

/// How a client opens.
#[derive(Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Versions that the client speaks.
    pub versions: Vec<u16>,
    /// What the client is, for logs: name and version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    /// Distinguishes devices of one user, where the gate allows so many logins for each.
    /// Without control characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// Names of what the client can do and wants; unknown ones mean nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// What the client shows to be let in: any JSON. The authenticate hook sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Box<RawValue>>,
    /// Heartbeat intervals that the client wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// The session that it wants to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<ResumeRequest>,
}

impl std::fmt::Debug for Hello {
    /// What the client shows to be let in is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello")
            .field("versions", &self.versions)
            .field("agent", &self.agent)
            .field("device", &self.device)
            .field("capabilities", &self.capabilities)
            .field("heartbeat", &self.heartbeat)
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}

/// Within which time, in milliseconds, each side sends something, a `$ping` if it has
/// nothing else to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The client.
    pub client_ms: u64,
    /// The gate.
    pub gate_ms: u64,
}

/// The session that a client wants to go on with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeRequest {
    /// The last token it was given.
    pub token: String,
    /// Packets of the gate that it has taken since the session began.
    pub received: u64,
}

impl std::fmt::Debug for ResumeRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResumeRequest")
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// How a gate answers a `$hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that is spoken from now on.
    pub version: u16,
    /// The gate's id.
    pub gate: String,
    /// The session's id.
    pub session: String,
    /// The user it is bound to; absent for a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Those of the client's capabilities that are in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Heartbeat intervals in force. A side that has heard nothing for twice the other's
    /// may take the connection for lost.
    pub heartbeat: Heartbeat,
    /// Largest frame, in bytes, both ways.
    pub max_packet: u32,
    /// How to go on with this session later. Absent: it ends with its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resumption>,
    /// Whether it is the session that the client asked for.
    pub resumed: bool,
    /// Where it asked for one and it is not: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// Packets of the client that the gate has taken since the session began.
    pub received: u64,
}

/// How to go on with a session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumption {
    /// Good for one resume.
    pub token: String,
    /// How long the gate keeps a session without a connection, in milliseconds.
    pub window_ms: u64,
}

impl std::fmt::Debug for Resumption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resumption")
            .field("window_ms", &self.window_ms)
            .finish_non_exhaustive()
    }
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a session could not be resumed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ResumeRefusal {
            $($(#[$doc])* $name,)*
        }

        impl ResumeRefusal {
            /// Every refusal, in the order of the documentation.
            pub const ALL: &'static [ResumeRefusal] = &[$(ResumeRefusal::$name,)*];

            /// Its number.
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The same in words.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Its name, for logs and metric labels.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

refusals! {
    /// No session has this token.
    Unknown = 1, "no session has this token";
    /// The session waited for its client for as long as it may.
    Expired = 2, "the session has expired";
    /// More packets waited than are kept.
    Overflowed = 3, "more waited for the client than is kept";
    /// The client authenticated as another user than before.
    WrongUser = 4, "the session belongs to another user";
    /// The counts cannot be.
    BadCount = 5, "the count of packets cannot be";
    /// A token that was replaced. Whoever presented it ends the old session with one more packet.
    Spent = 6, "the token was used before";
    /// The session was ended: kicked, unbound, or bound to another user.
    Ended = 7, "the session was ended";
    /// This listener resumes no session, or not without TLS.
    NotHere = 8, "sessions are not resumed here";
    /// Too many wrong tokens came from the client's address.
    TooMany = 9, "too many wrong tokens";
}

/// Why a session was not resumed, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// See [`ResumeRefusal`].
    pub code: u16,
    /// In words.
    pub text: String,
}

impl From<ResumeRefusal> for Refused {
    fn from(refusal: ResumeRefusal) -> Self {
        Self {
            code: refusal.code(),
            text: refusal.text().to_owned(),
        }
    }
}

/// A packet of the client was not served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorPacket {
    /// The packet's topic; a request's id is in it.
    pub topic: String,
    /// Which of the client's packets it was, by its count, the session's first being 1.
    pub packet: u64,
    /// See [`ErrorCode`](crate::ErrorCode).
    pub code: u16,
    /// In words.
    pub message: String,
}

/// Packets that the client will not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// How many.
    pub count: u64,
    /// Why.
    pub reason: GapReason,
}

/// Why packets are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// Newer ones took their place.
    Replaced,
    /// They could be dropped, and had to be.
    Dropped,
    /// They do not fit a frame of this connection.
    TooLarge,
}

/// A new resume token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUpdate {
    /// In place of the one before; absent: the session ends with its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Why there is none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

impl std::fmt::Debug for TokenUpdate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenUpdate")
            .field("resumable", &self.token.is_some())
            .field("refused", &self.refused)
            .finish()
    }
}

/// The gate is going to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// In how many milliseconds it closes, at the latest.
    pub deadline_ms: u64,
    /// How long to wait before connecting again, in milliseconds, to which each client
    /// adds jitter of its own.
    pub retry_after_ms: u64,
}

/// Why the gate closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// See [`CloseReason`].
    pub code: u16,
    /// In words.
    pub text: String,
    /// Whether the client is invited to connect again.
    pub reconnect: bool,
    /// If so, how long it should wait first, in milliseconds, to which each client adds
    /// jitter of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Close {
    /// What is said of `reason`.
    pub fn new(reason: CloseReason, retry_after_ms: Option<u64>) -> Self {
        let reconnect = reason.may_reconnect();
        Self {
            code: reason.code(),
            text: reason.text().to_owned(),
            reconnect,
            retry_after_ms: retry_after_ms.filter(|_| reconnect),
        }
    }
}

impl ClientControl {
    /// Reads a packet whose topic begins with `$`, from a client.
    pub fn read(packet: &Packet) -> Result<Self, ControlError> {
        let body = &packet.body;
        Ok(match packet.topic.as_str() {
            HELLO => Self::Hello(Box::new(Hello::read(body)?)),
            PING => Self::Ping(integer(body)?),
            PONG => Self::Pong(integer(body)?),
            ACK => Self::Ack(integer(body)?),
            BYE => Self::Bye,
            _ => return Err(ControlError::Topic),
        })
    }

    /// The packet of it.
    pub fn packet(&self) -> Packet {
        match self {
            Self::Hello(hello) => json(HELLO, hello),
            Self::Ping(n) => fixed(PING, *n),
            Self::Pong(n) => fixed(PONG, *n),
            Self::Ack(n) => fixed(ACK, *n),
            Self::Bye => control(BYE, Bytes::new()),
        }
    }
}

impl GateControl {
    /// Reads a packet whose topic begins with `$`, from a gate.
    pub fn read(packet: &Packet) -> Result<Self, ControlError> {
        let body = &packet.body;
        Ok(match packet.topic.as_str() {
            WELCOME => Self::Welcome(Box::new(from_json(body)?)),
            PING => Self::Ping(integer(body)?),
            PONG => Self::Pong(integer(body)?),
            ACK => Self::Ack(integer(body)?),
            ERROR => Self::Error(from_json(body)?),
            GAP => Self::Gap(from_json(body)?),
            TOKEN => Self::Token(from_json(body)?),
            DRAIN => Self::Drain(from_json(body)?),
            CLOSE => Self::Close(from_json(body)?),
            _ => return Err(ControlError::Topic),
        })
    }

    /// The packet of it.
    pub fn packet(&self) -> Packet {
        match self {
            Self::Welcome(welcome) => json(WELCOME, welcome),
            Self::Ping(n) => fixed(PING, *n),
            Self::Pong(n) => fixed(PONG, *n),
            Self::Ack(n) => fixed(ACK, *n),
            Self::Error(error) => json(ERROR, error),
            Self::Gap(gap) => json(GAP, gap),
            Self::Token(token) => json(TOKEN, token),
            Self::Drain(drain) => json(DRAIN, drain),
            Self::Close(close) => json(CLOSE, close),
        }
    }
}

impl Hello {
    /// Reads the body of a `$hello`. Fields that this version does not know mean nothing.
    pub fn read(body: &[u8]) -> Result<Self, ControlError> {
        let hello: Self = from_json(body)?;
        let token = hello.resume.as_ref().map_or(0, |r| r.token.len());
        for (what, len, most) in [
            ("agent", hello.agent.len(), MAX_NAME),
            ("device", hello.device.len(), MAX_NAME),
            ("versions", hello.versions.len(), MAX_LIST),
            ("capabilities", hello.capabilities.len(), MAX_LIST),
            ("resume.token", token, MAX_TOKEN),
        ] {
            if len > most {
                return Err(ControlError::TooLong(what));
            }
        }
        hello.device()?;
        Ok(hello)
    }

    /// Its device; `None` where it does not tell one.
    pub fn device(&self) -> Result<Option<DeviceId>, InvalidName> {
        match self.device.is_empty() {
            true => Ok(None),
            false => DeviceId::new(&self.device).map(Some),
        }
    }

    /// Whether the client has asked for a capability.
    pub fn wants(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|c| c == capability)
    }
}

fn control(topic: &str, body: Bytes) -> Packet {
    #[expect(clippy::expect_used, reason = "the topics of this protocol are topics")]
    let topic = Topic::new(topic).expect("a constant");
    Packet::new(topic, body)
}

fn fixed(topic: &str, n: u64) -> Packet {
    control(topic, Bytes::copy_from_slice(&n.to_le_bytes()))
}

fn json(topic: &str, body: &impl Serialize) -> Packet {
    #[expect(clippy::expect_used, reason = "texts, numbers and lists of them")]
    let body = serde_json::to_vec(body).expect("always JSON");
    control(topic, body.into())
}

fn integer(body: &[u8]) -> Result<u64, ControlError> {
    let bytes = <[u8; 8]>::try_from(body).map_err(|_| ControlError::Length(body.len()))?;
    Ok(u64::from_le_bytes(bytes))
}

fn from_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ControlError> {
    use serde_json::error::Category;
    serde_json::from_slice(body).map_err(|error| ControlError::Json {
        what: match error.classify() {
            Category::Data => "a field is missing, there twice or of another type",
            Category::Eof => "it ends too early",
            Category::Io | Category::Syntax => "no JSON",
        },
        line: error.line(),
        column: error.column(),
    })
}
