//! What travels from services to gates: the RPC surface that every gate serves.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use thiserror::Error;
use tidegate_protocol::{
    DeviceId, GroupName, InstanceId, InvalidName, Name, Packet, SessionId, Settings, SettingsError,
    Snapshot, TooLarge, TopicError, UserId,
};

use super::users::GiveWay;
use crate::session::Delivery;

/// A gate as the bus sees it.
pub trait GateEndpoint: Send + Sync + 'static {
    /// Applies `op` to one session; per session in the order handed in.
    fn session(
        &self,
        session: SessionId,
        op: SessionOp,
    ) -> BoxFuture<'static, Result<SessionReply, GateError>>;

    /// Serves a request that concerns the whole gate.
    fn gate(&self, request: GateRequest) -> BoxFuture<'static, Result<GateReply, GateError>>;
}

/// What can be done to one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionOp {
    /// Answers the session as it is now.
    Load,
    /// Binds the session to a user. Refused while it is bound to another, and where there
    /// are too many of the user. On this device, or on the one that the session knows.
    Bind(UserId, Option<DeviceId>),
    /// Makes the session a guest.
    Unbind,
    /// Overwrites the settings given and leaves the others (`set`, `set_batch`, `push`).
    Set(Settings),
    /// Removes one setting; a key that is not there is no error.
    Del(String),
    /// Replaces all settings.
    Replace(Settings),
    /// Queues a packet for the client; answers at once.
    Send(Packet, Delivery),
    /// Queues a packet for the client; waits for room, at most this long.
    SendWait(Packet, Duration),
    /// Answers whether the session lives, and whether it has a connection.
    Connected,
    /// Closes the session once what is queued now has been written.
    Close,
    /// Joins a group.
    Join(GroupName),
    /// Leaves a group; not being in it is no error.
    Leave(GroupName),
    /// Binds the session to one instance of a service.
    BindInstance(Name, InstanceId),
    /// Ends the session's binding to an instance of a service.
    UnbindInstance(Name),
    /// The user logs in once more: how this login stands, and whether it has to go. Between
    /// gates. Answered with [`Connected::Gone`] by what is no login of the user any more.
    GiveWay(UserId, GiveWay),
}

/// What a [`SessionOp`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionReply {
    /// Done, and the session as it is now.
    Session(Arc<Snapshot>),
    /// Queued, closed, joined, left.
    Done,
    /// For [`SessionOp::Connected`] and [`SessionOp::GiveWay`].
    Connected(Connected),
}

/// Whether a session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connected {
    /// It has a connection.
    Attached,
    /// It waits to be resumed.
    Dormant,
    /// It is no more.
    Gone,
}

/// What can be asked of a whole gate, and so of all gates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateRequest {
    /// Sends to every session.
    Broadcast(Packet, Delivery),
    /// Sends to every session bound to the user.
    SendToUser(UserId, Packet, Delivery),
    /// Sends to every session in the group.
    SendToGroup(GroupName, Packet, Delivery),
    /// Closes every session bound to the user.
    CloseUser(UserId),
    /// Which sessions each user has.
    Presence(Vec<UserId>),
    /// How many sessions the group has.
    GroupCount(GroupName),
    /// Which sessions the group has.
    GroupMembers(GroupName),
    /// How many sessions and connections there are.
    Count,
}

/// What a [`GateRequest`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateReply {
    /// For the three sends.
    Sent(Sent),
    /// Sessions closed, or members counted.
    Number(u64),
    /// For [`GateRequest::Presence`], in the order asked.
    Presence(Vec<Vec<SessionId>>),
    /// For [`GateRequest::GroupMembers`].
    Members(Vec<Arc<Snapshot>>),
    /// For [`GateRequest::Count`].
    Count {
        /// Sessions, attached and dormant.
        sessions: u64,
        /// Connections, those in set-up too.
        connections: u64,
    },
}

impl GateReply {
    /// Sums up two gates' replies to one request.
    ///
    /// # Errors
    /// [`GateError::OutcomeUnknown`] if they answer different questions.
    pub fn sum(self, other: Self) -> Result<Self, GateError> {
        Ok(match (self, other) {
            (GateReply::Sent(mut a), GateReply::Sent(b)) => {
                a.add(b);
                GateReply::Sent(a)
            }
            (GateReply::Number(a), GateReply::Number(b)) => GateReply::Number(a + b),
            (GateReply::Presence(mut a), GateReply::Presence(b)) if a.len() == b.len() => {
                for (sessions, more) in a.iter_mut().zip(b) {
                    sessions.extend(more);
                }
                GateReply::Presence(a)
            }
            (GateReply::Members(mut a), GateReply::Members(b)) => {
                a.extend(b);
                GateReply::Members(a)
            }
            (
                GateReply::Count {
                    sessions,
                    connections,
                },
                GateReply::Count {
                    sessions: more_sessions,
                    connections: more_connections,
                },
            ) => GateReply::Count {
                sessions: sessions + more_sessions,
                connections: connections + more_connections,
            },
            // Gates that answer one question in different ways: something was done, and
            // what it was cannot be told.
            _ => return Err(GateError::OutcomeUnknown),
        })
    }
}

/// How many sessions a send to many reached, by what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Attached sessions whose queue took it.
    pub attached: u64,
    /// Dormant sessions that keep it.
    pub dormant: u64,
    /// Dormant sessions for which it was not kept, not being critical.
    pub missed: u64,
    /// Sessions whose queue was full.
    pub full: u64,
    /// Sessions for which the outbound hook refused it.
    pub refused: u64,
    /// Sessions whose frame it does not fit.
    pub too_large: u64,
    /// Gates of which no reply came: what they did is not known, and their sessions are not
    /// in the other counts.
    pub unknown: u64,
}

impl Sent {
    /// Sessions that took it.
    pub fn taken(&self) -> u64 {
        self.attached + self.dormant
    }

    /// Adds another count to this one.
    pub fn add(&mut self, other: Sent) {
        self.attached += other.attached;
        self.dormant += other.dormant;
        self.missed += other.missed;
        self.full += other.full;
        self.refused += other.refused;
        self.too_large += other.too_large;
        self.unknown += other.unknown;
    }
}

/// Why a gate did not do what a service asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GateError {
    /// The session has ended, or never was on that gate.
    #[error("the session is gone")]
    SessionGone,
    /// The session's queue has no room. Nothing was queued.
    #[error("the session's queue is full")]
    QueueFull,
    /// The session has no connection now, and the packet is not one that waits for it.
    #[error("the session is dormant")]
    Dormant,
    /// The outbound hook refused the packet.
    #[error("refused by a hook")]
    Refused,
    /// The packet does not fit the connection's frame.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The session is bound to another user, or is being bound.
    #[error("the session is bound to another user")]
    BoundToAnother,
    /// The user, or the device, has as many logins as there may be. Nothing was changed.
    #[error("the user is logged in as often as is allowed")]
    TooManyLogins,
    /// The settings would exceed their bound. Nothing was changed.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Not an identifier.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Not a topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The session is in as many groups, or bound to as many instances, as one may be.
    #[error("the session has too many {0}")]
    TooMany(&'static str),
    /// The store did not do its part in time; see the operation for what holds then.
    #[error("the store failed: {0}")]
    Store(String),
    /// The gate has too many requests under way. Nothing was done.
    #[error("the gate is overloaded")]
    Overloaded,
    /// No gate with that id can be reached. Nothing was done.
    #[error("the gate is unavailable")]
    Unavailable,
    /// The gate was asked, and what came of it is not known.
    #[error("the outcome is unknown")]
    OutcomeUnknown,
}
