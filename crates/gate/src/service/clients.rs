//! Clients from a service's side: one session, a user's sessions, a group's, all.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::{
    DeviceId, GateId, GroupName, InstanceId, Name, Packet, SessionId, Settings, Snapshot, Topic,
    UserId,
};

use crate::bus::gate::{Connected, Sent};
use crate::bus::{Bus, GateError, GateReply, GateRequest, SessionOp, SessionReply};
use crate::session::Delivery;

/// For arguments that are checked already, where text would be checked.
impl From<Infallible> for GateError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn checked<T>(value: impl TryInto<T, Error: Into<GateError>>) -> Result<T, GateError> {
    value.try_into().map_err(Into::into)
}

/// The clients of every gate on the bus. An argument of handlers; cheap to clone.
///
/// Where there are several gates, each is asked; when one does not answer, its error is
/// the result although the others have done their part.
#[derive(Clone)]
pub struct Clients {
    bus: Arc<dyn Bus>,
}

impl Clients {
    /// The clients of the gates on `bus`.
    pub fn new(bus: Arc<dyn Bus>) -> Self {
        Self { bus }
    }

    /// One session, by the gate that holds it and its id.
    pub fn session(&self, gate: GateId, id: SessionId) -> SessionHandle {
        SessionHandle::new(self.bus.clone(), gate, id)
    }

    /// The sessions of a user. What is wrong with the id shows when it is used.
    pub fn to_user(&self, user: impl TryInto<UserId, Error: Into<GateError>>) -> ToUser<'_> {
        ToUser {
            clients: self,
            user: checked(user),
        }
    }

    /// The sessions in a group. What is wrong with the name shows when it is used.
    pub fn to_group(&self, name: impl TryInto<GroupName, Error: Into<GateError>>) -> ToGroup<'_> {
        ToGroup {
            clients: self,
            group: checked(name),
        }
    }

    /// Sends to every session; never waits for one. Answers how many took it.
    pub async fn broadcast(
        &self,
        topic: impl TryInto<Topic, Error: Into<GateError>>,
        body: impl Into<Bytes>,
    ) -> Result<Sent, GateError> {
        self.broadcast_as(topic, body, Delivery::Critical).await
    }

    /// Like [`broadcast`](Self::broadcast), for a packet that may give way to others.
    pub async fn broadcast_as(
        &self,
        topic: impl TryInto<Topic, Error: Into<GateError>>,
        body: impl Into<Bytes>,
        delivery: Delivery,
    ) -> Result<Sent, GateError> {
        let packet = Packet::new(checked(topic)?, body);
        self.sent(GateRequest::Broadcast(packet, delivery)).await
    }

    /// Which sessions each user has, in the order asked.
    pub async fn presence(&self, users: &[UserId]) -> Result<Vec<Vec<SessionId>>, GateError> {
        match self.ask(GateRequest::Presence(users.to_vec())).await? {
            GateReply::Presence(sessions) if sessions.len() == users.len() => Ok(sessions),
            _ => Err(GateError::OutcomeUnknown),
        }
    }

    /// How many sessions and how many connections there are.
    pub async fn count(&self) -> Result<(u64, u64), GateError> {
        match self.ask(GateRequest::Count).await? {
            GateReply::Count {
                sessions,
                connections,
            } => Ok((sessions, connections)),
            _ => Err(GateError::OutcomeUnknown),
        }
    }

    async fn ask(&self, request: GateRequest) -> Result<GateReply, GateError> {
        self.bus.every_gate(request).await
    }

    // A reply of another kind than asked for comes from a gate that is not ours: then
    // what it did is not known.

    async fn sent(&self, request: GateRequest) -> Result<Sent, GateError> {
        match self.ask(request).await? {
            GateReply::Sent(sent) => Ok(sent),
            _ => Err(GateError::OutcomeUnknown),
        }
    }

    async fn number(&self, request: GateRequest) -> Result<u64, GateError> {
        match self.ask(request).await? {
            GateReply::Number(number) => Ok(number),
            _ => Err(GateError::OutcomeUnknown),
        }
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients")
    }
}

/// The sessions of one user, on every gate.
#[derive(Debug)]
pub struct ToUser<'a> {
    clients: &'a Clients,
    user: Result<UserId, GateError>,
}

impl ToUser<'_> {
    /// Sends to each; never waits. Answers how many took it.
    pub async fn send(
        self,
        topic: impl TryInto<Topic, Error: Into<GateError>>,
        body: impl Into<Bytes>,
    ) -> Result<Sent, GateError> {
        self.send_as(topic, body, Delivery::Critical).await
    }

    /// Like [`send`](Self::send), for a packet that may give way to others.
    pub async fn send_as(
        self,
        topic: impl TryInto<Topic, Error: Into<GateError>>,
        body: impl Into<Bytes>,
        delivery: Delivery,
    ) -> Result<Sent, GateError> {
        let packet = Packet::new(checked(topic)?, body);
        let request = GateRequest::SendToUser(self.user?, packet, delivery);
        self.clients.sent(request).await
    }

    /// Closes each; answers how many there were.
    pub async fn close(self) -> Result<u64, GateError> {
        self.clients
            .number(GateRequest::CloseUser(self.user?))
            .await
    }
}

/// The sessions in one group, on every gate.
#[derive(Debug)]
pub struct ToGroup<'a> {
    clients: &'a Clients,
    group: Result<GroupName, GateError>,
}

impl ToGroup<'_> {
    /// Sends to each; never waits. Answers how many took it.
    pub async fn send(
        self,
        topic: impl TryInto<Topic, Error: Into<GateError>>,
        body: impl Into<Bytes>,
    ) -> Result<Sent, GateError> {
        self.send_as(topic, body, Delivery::Critical).await
    }

    /// Like [`send`](Self::send), for a packet that may give way to others.
    pub async fn send_as(
        self,
        topic: impl TryInto<Topic, Error: Into<GateError>>,
        body: impl Into<Bytes>,
        delivery: Delivery,
    ) -> Result<Sent, GateError> {
        let packet = Packet::new(checked(topic)?, body);
        let request = GateRequest::SendToGroup(self.group?, packet, delivery);
        self.clients.sent(request).await
    }

    /// How many there are.
    pub async fn count(self) -> Result<u64, GateError> {
        self.clients
            .number(GateRequest::GroupCount(self.group?))
            .await
    }

    /// Which there are.
    pub async fn members(self) -> Result<Vec<Arc<Snapshot>>, GateError> {
        match self
            .clients
            .ask(GateRequest::GroupMembers(self.group?))
            .await?
        {
            GateReply::Members(members) => Ok(members),
            _ => Err(GateError::OutcomeUnknown),
        }
    }
}

/// One session, by its gate and id: what [`Session`](super::Session) does at the gate,
/// without a snapshot. Errors are as there.
#[derive(Clone)]
pub struct SessionHandle {
    bus: Arc<dyn Bus>,
    gate: GateId,
    id: SessionId,
}

impl SessionHandle {
    /// The session `id` of `gate`, which need not exist.
    pub fn new(bus: Arc<dyn Bus>, gate: GateId, id: SessionId) -> Self {
        Self { bus, gate, id }
    }

    /// The gate that holds it.
    pub fn gate(&self) -> &GateId {
        &self.gate
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The session as it is now.
    pub async fn load(&self) -> Result<Arc<Snapshot>, GateError> {
        self.change(SessionOp::Load).await
    }

    /// Binds it to a user.
    pub async fn bind(
        &self,
        user: impl TryInto<UserId, Error: Into<GateError>>,
    ) -> Result<Arc<Snapshot>, GateError> {
        self.change(SessionOp::Bind(checked(user)?, None)).await
    }

    /// Binds it to a user on a device, which the session then has.
    pub async fn bind_device(
        &self,
        user: impl TryInto<UserId, Error: Into<GateError>>,
        device: impl TryInto<DeviceId, Error: Into<GateError>>,
    ) -> Result<Arc<Snapshot>, GateError> {
        let op = SessionOp::Bind(checked(user)?, Some(checked(device)?));
        self.change(op).await
    }

    /// Makes it a guest.
    pub async fn unbind(&self) -> Result<Arc<Snapshot>, GateError> {
        self.change(SessionOp::Unbind).await
    }

    /// Overwrites the settings given and leaves the others.
    pub async fn set(&self, settings: Settings) -> Result<Arc<Snapshot>, GateError> {
        self.change(SessionOp::Set(settings)).await
    }

    /// Removes one setting.
    pub async fn del(&self, key: impl Into<String>) -> Result<Arc<Snapshot>, GateError> {
        self.change(SessionOp::Del(key.into())).await
    }

    /// Replaces all settings.
    pub async fn replace(&self, settings: Settings) -> Result<Arc<Snapshot>, GateError> {
        self.change(SessionOp::Replace(settings)).await
    }

    /// Queues a packet for the client, or fails at once.
    pub async fn send(
        &self,
        topic: impl TryInto<Topic, Error: Into<GateError>>,
        body: impl Into<Bytes>,
    ) -> Result<(), GateError> {
        self.send_as(topic, body, Delivery::Critical).await
    }

    /// Like [`send`](Self::send), for a packet that may give way to others.
    pub async fn send_as(
        &self,
        topic: impl TryInto<Topic, Error: Into<GateError>>,
        body: impl Into<Bytes>,
        delivery: Delivery,
    ) -> Result<(), GateError> {
        let packet = Packet::new(checked(topic)?, body);
        self.done(SessionOp::Send(packet, delivery)).await
    }

    /// Queues a packet for the client; waits for room, at most `deadline`.
    pub async fn send_wait(
        &self,
        topic: impl TryInto<Topic, Error: Into<GateError>>,
        body: impl Into<Bytes>,
        deadline: Duration,
    ) -> Result<(), GateError> {
        let packet = Packet::new(checked(topic)?, body);
        self.done(SessionOp::SendWait(packet, deadline)).await
    }

    /// Whether it lives, and whether it has a connection.
    pub async fn connected(&self) -> Result<Connected, GateError> {
        match self.op(SessionOp::Connected).await? {
            SessionReply::Connected(connected) => Ok(connected),
            _ => Err(GateError::OutcomeUnknown),
        }
    }

    /// Closes it once what is queued now has been written.
    pub async fn close(&self) -> Result<(), GateError> {
        self.done(SessionOp::Close).await
    }

    /// Joins a group.
    pub async fn join(
        &self,
        group: impl TryInto<GroupName, Error: Into<GateError>>,
    ) -> Result<(), GateError> {
        self.done(SessionOp::Join(checked(group)?)).await
    }

    /// Leaves a group.
    pub async fn leave(
        &self,
        group: impl TryInto<GroupName, Error: Into<GateError>>,
    ) -> Result<(), GateError> {
        self.done(SessionOp::Leave(checked(group)?)).await
    }

    /// Binds it to one instance of a service.
    pub async fn bind_instance(
        &self,
        service: impl TryInto<Name, Error: Into<GateError>>,
        instance: impl TryInto<InstanceId, Error: Into<GateError>>,
    ) -> Result<(), GateError> {
        let op = SessionOp::BindInstance(checked(service)?, checked(instance)?);
        self.done(op).await
    }

    /// Ends its binding to an instance of a service.
    pub async fn unbind_instance(
        &self,
        service: impl TryInto<Name, Error: Into<GateError>>,
    ) -> Result<(), GateError> {
        self.done(SessionOp::UnbindInstance(checked(service)?))
            .await
    }

    async fn op(&self, op: SessionOp) -> Result<SessionReply, GateError> {
        self.bus.session(&self.gate, self.id, op).await
    }

    async fn change(&self, op: SessionOp) -> Result<Arc<Snapshot>, GateError> {
        match self.op(op).await? {
            SessionReply::Session(snapshot) => Ok(snapshot),
            _ => Err(GateError::OutcomeUnknown),
        }
    }

    async fn done(&self, op: SessionOp) -> Result<(), GateError> {
        match self.op(op).await? {
            SessionReply::Done | SessionReply::Session(_) => Ok(()),
            SessionReply::Connected(_) => Err(GateError::OutcomeUnknown),
        }
    }
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHandle")
            .field("gate", &self.gate)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
