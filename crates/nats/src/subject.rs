//! Subjects: the grammar of `docs/nats.md`, built and read in one place.
//!
//! Whatever comes from outside stands in a subject as one whole token of
//! `[A-Za-z0-9_-]{1,64}`; what may be any text (users, groups) stands in none. Calls and events of a
//! service have three tokens after the prefix and nothing else has, so that an instance can
//! take them all with `<prefix>.*.<service>.*`.

use std::fmt;
use std::sync::Arc;

use async_nats::Subject;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tidegate::bus::Caller;
use tidegate::protocol::name::is_token;
use tidegate_protocol::{GateId, InstanceId, InvalidName, Name, SessionId};

/// The queue group of everything that is served by one of several.
pub(crate) const QUEUE: &str = "q";
/// Longest token of a prefix, in bytes.
const MAX_PREFIX_TOKEN: usize = 32;
/// Most tokens of a prefix.
const MAX_PREFIX_TOKENS: usize = 3;

/// The first tokens of every subject: what keeps two installations on one NATS apart.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Prefix(Arc<str>);

/// Text that is not a subject prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a subject prefix has 1 to 3 tokens, joined by dots, each 1 to 32 of A-Z a-z 0-9 _ -")]
pub struct InvalidPrefix;

impl Prefix {
    /// Checks and copies `text`.
    pub fn new(text: &str) -> Result<Self, InvalidPrefix> {
        let good = text.split('.').count() <= MAX_PREFIX_TOKENS
            && text
                .split('.')
                .all(|t| is_token(t) && t.len() <= MAX_PREFIX_TOKEN);
        good.then(|| Self(Arc::from(text))).ok_or(InvalidPrefix)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self(Arc::from("tidegate"))
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Closed sets of tokens.
macro_rules! tokens {
    ($($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $token:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The token.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $token,)* }
            }

            /// The one with this token.
            pub(crate) fn from_token(token: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|x| x.as_str() == token)
            }
        }
    )*};
}

tokens! {
    /// What a message to a service is, and on whose behalf.
    Class {
        /// A call of a client that has no user.
        Guest = "g",
        /// A call of a client that has a user.
        Client = "c",
        /// A call of a service.
        Service = "s",
        /// An event.
        Event = "e",
    }

    /// Events of a session that go to one service.
    ServiceEvent {
        /// The session ended.
        Disconnected = "disconnected",
        /// The session was bound to an instance that is gone, and now is to this one.
        Rebound = "rebound",
    }

    /// Events that go to every service that asks.
    AllEvent {
        /// A session began.
        Started = "started",
        /// A session lost its connection, and waits.
        Dormant = "dormant",
        /// The client of a dormant session came back.
        Resumed = "resumed",
        /// A gate died.
        GateGone = "gate-gone",
    }

    /// What can be done to a session.
    SessionVerb {
        Load = "load",
        Bind = "bind",
        Unbind = "unbind",
        Set = "set",
        Del = "del",
        Replace = "replace",
        Send = "send",
        SendWait = "send-wait",
        Connected = "connected",
        Close = "close",
        Join = "join",
        Leave = "leave",
        BindInstance = "bind-instance",
        UnbindInstance = "unbind-instance",
        /// Between gates.
        GiveWay = "give-way",
    }

    /// What can be asked of one gate, of any gate, or of every gate.
    GateVerb {
        /// Who is there.
        Ping = "ping",
        Broadcast = "broadcast",
        SendUser = "send-user",
        SendGroup = "send-group",
        CloseUser = "close-user",
        Presence = "presence",
        GroupCount = "group-count",
        GroupMembers = "group-members",
        Count = "count",
        /// The live gates.
        Gates = "gates",
        /// On which gates a user's sessions are.
        Locate = "locate",
        /// Answered after everything that was asked before it.
        Fence = "fence",
    }
}

impl Class {
    /// The class of a call on behalf of `caller`.
    pub(crate) fn of(caller: Caller) -> Self {
        match caller {
            Caller::Guest => Self::Guest,
            Caller::Bound => Self::Client,
            Caller::Internal => Self::Service,
        }
    }

    /// On whose behalf a call of this class is; none for events.
    pub(crate) fn caller(self) -> Option<Caller> {
        match self {
            Self::Guest => Some(Caller::Guest),
            Self::Client => Some(Caller::Bound),
            Self::Service => Some(Caller::Internal),
            Self::Event => None,
        }
    }
}

/// Builders. What is a `&str` here is checked here; other types are tokens by birth.
impl Prefix {
    fn join(&self, tokens: &[&str]) -> Subject {
        let len = self.0.len() + tokens.iter().map(|t| t.len() + 1).sum::<usize>();
        let mut subject = String::with_capacity(len);
        subject.push_str(&self.0);
        for token in tokens {
            subject.push('.');
            subject.push_str(token);
        }
        Subject::from(subject)
    }

    /// A call, or an event, to one of a service's instances.
    pub(crate) fn call(
        &self,
        class: Class,
        service: &str,
        method: &str,
    ) -> Result<Subject, InvalidName> {
        check(service)?;
        check(method)?;
        Ok(self.join(&[class.as_str(), service, method]))
    }

    /// A call, or an event, to this instance.
    pub(crate) fn instance_call(
        &self,
        class: Class,
        service: &str,
        instance: &InstanceId,
        method: &str,
    ) -> Result<Subject, InvalidName> {
        check(service)?;
        check(method)?;
        Ok(self.join(&["i", service, instance, class.as_str(), method]))
    }

    /// All calls and events to one of a service's instances.
    pub(crate) fn calls_of(&self, service: &Name) -> Subject {
        self.join(&["*", service, "*"])
    }

    /// All calls and events to this instance.
    pub(crate) fn instance_calls_of(&self, service: &Name, instance: &InstanceId) -> Subject {
        self.join(&["i", service, instance, "*", "*"])
    }

    /// An event for every service that asks for it.
    pub(crate) fn all(&self, event: AllEvent) -> Subject {
        self.join(&["all", event.as_str()])
    }

    /// All events for services that ask.
    pub(crate) fn all_events(&self) -> Subject {
        self.join(&["all", "*"])
    }

    /// An operation on a session of a gate.
    pub(crate) fn session(&self, gate: &GateId, verb: SessionVerb, session: SessionId) -> Subject {
        self.join(&["gate", gate, verb.as_str(), &session.to_string()])
    }

    /// An operation on many sessions of a gate.
    #[cfg(test)]
    pub(crate) fn many(&self, gate: &GateId, verb: SessionVerb) -> Subject {
        self.join(&["gate", gate, "many", verb.as_str()])
    }

    /// A request to one gate.
    pub(crate) fn node(&self, gate: &GateId, verb: GateVerb) -> Subject {
        self.join(&["gate", gate, "node", verb.as_str()])
    }

    /// Everything that is asked of this gate alone.
    pub(crate) fn gate_calls(&self, gate: &GateId) -> Subject {
        self.join(&["gate", gate, ">"])
    }

    /// A request that any gate serves, for all of them.
    pub(crate) fn any(&self, verb: GateVerb) -> Subject {
        self.join(&["any", verb.as_str()])
    }

    /// Everything that any gate may serve.
    pub(crate) fn any_calls(&self) -> Subject {
        self.join(&["any", "*"])
    }

    /// A request that every gate serves for itself.
    pub(crate) fn gates(&self, verb: GateVerb) -> Subject {
        self.join(&["gates", verb.as_str()])
    }

    /// Everything that every gate serves.
    pub(crate) fn gates_calls(&self) -> Subject {
        self.join(&["gates", "*"])
    }

    /// Where `owner` (a gate, or a service's account) takes replies. The last token keeps a
    /// library's own `<inbox>.<id>` from having three tokens after the prefix.
    #[cfg(test)]
    pub(crate) fn inbox(&self, owner: &str) -> Result<Subject, InvalidName> {
        check(owner)?;
        Ok(self.join(&["inbox", owner, "n"]))
    }
}

/// Reply subjects.
impl Prefix {
    /// Whether a reply may go there. A reply subject is the asker's choice, and NATS lets who
    /// answers publish where the asker may not: calls of clients, operations of gates, the
    /// records of users. Replies go to inboxes and nowhere else.
    pub(crate) fn takes_replies(&self, subject: &str) -> bool {
        let ours = subject
            .strip_prefix(self.as_str())
            .and_then(|rest| rest.strip_prefix('.'));
        let is_inbox = ours.is_none_or(|rest| rest.starts_with("inbox."));
        let is_subject = !subject.split('.').any(|t| matches!(t, "" | "*" | ">"));
        is_inbox && is_subject && !subject.starts_with('$')
    }
}

/// A message for a service's instance, by its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToService<'a> {
    /// A call, or an event of class [`Class::Event`].
    One {
        class: Class,
        service: &'a str,
        /// Named where only this instance will do.
        instance: Option<&'a str>,
        /// The method, or the event.
        name: &'a str,
    },
    /// An event for all who asked.
    All(AllEvent),
}

/// A message for a gate, by its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToGate {
    /// To one session.
    Session(SessionVerb, SessionId),
    /// To many sessions.
    Many(SessionVerb),
    /// To this gate.
    Node(GateVerb),
    /// To any gate, on behalf of all.
    Any(GateVerb),
    /// To every gate.
    Gates(GateVerb),
}

/// Readers. What is not exactly of the grammar is refused.
impl Prefix {
    fn tokens<'a>(&self, subject: &'a str) -> Option<[Option<&'a str>; 6]> {
        let rest = subject.strip_prefix(&*self.0)?.strip_prefix('.')?;
        let mut tokens = [None; 6];
        for (i, token) in rest.split('.').enumerate() {
            // More than five tokens is nothing of ours: the sixth place stays empty.
            *tokens.get_mut(i).filter(|_| i < 5)? = Some(token).filter(|t| is_token(t));
            tokens[i]?;
        }
        Some(tokens)
    }

    /// Reads the subject of a message that reached an instance.
    pub(crate) fn to_service<'a>(&self, subject: &'a str) -> Option<ToService<'a>> {
        match self.tokens(subject)? {
            [Some("all"), Some(event), None, ..] => AllEvent::from_token(event).map(ToService::All),
            [Some(class), Some(service), Some(name), None, ..] => Some(ToService::One {
                class: Class::from_token(class)?,
                service,
                instance: None,
                name,
            }),
            [
                Some("i"),
                Some(service),
                instance @ Some(_),
                Some(class),
                Some(name),
                None,
            ] => Some(ToService::One {
                class: Class::from_token(class)?,
                service,
                instance,
                name,
            }),
            _ => None,
        }
    }

    /// Reads the subject of a message that reached `gate`.
    pub(crate) fn to_gate(&self, gate: &GateId, subject: &str) -> Option<ToGate> {
        match self.tokens(subject)? {
            [Some("gate"), Some(id), Some(verb), Some(last), None, ..] if *gate == *id => {
                match verb {
                    "many" => SessionVerb::from_token(last).map(ToGate::Many),
                    "node" => GateVerb::from_token(last).map(ToGate::Node),
                    verb => Some(ToGate::Session(
                        SessionVerb::from_token(verb)?,
                        last.parse().ok()?,
                    )),
                }
            }
            [Some("any"), Some(verb), None, ..] => GateVerb::from_token(verb).map(ToGate::Any),
            [Some("gates"), Some(verb), None, ..] => GateVerb::from_token(verb).map(ToGate::Gates),
            _ => None,
        }
    }
}

/// Text of any kind as one token of 43 characters: base64url of its SHA-256.
pub(crate) fn hash(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()))
}

fn check(token: &str) -> Result<(), InvalidName> {
    match is_token(token) {
        true => Ok(()),
        false => Err(InvalidName {
            kind: "a token of a subject",
            rule: "1 to 64 of A-Z a-z 0-9 _ -",
        }),
    }
}
