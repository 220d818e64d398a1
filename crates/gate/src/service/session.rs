//! A session as a service sees it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tidegate_protocol::{
    DeviceId, GateId, GroupName, InstanceId, Name, Network, SessionId, Settings, SettingsError,
    Snapshot, Topic, UserId,
};

use super::clients::SessionHandle;
use crate::bus::gate::Connected;
use crate::bus::{Bus, GateError};
use crate::session::Delivery;

/// A session: a snapshot of it, and a handle to it.
///
/// What is read (`user`, `get`, ...) is read from the snapshot that came with the call;
/// nothing travels. What changes the session is asked of its gate, and answers
/// truthfully; the snapshot is then the one that the gate returned. Other calls may
/// change the session meanwhile: [`update`](Self::update) loads it as it is now.
///
/// The `_local` methods change this snapshot and nothing else; [`push`](Self::push)
/// sends the settings so changed to the gate. A clone has a snapshot of its own.
///
/// Every operation on the gate can fail with [`GateError::SessionGone`],
/// [`GateError::Unavailable`] and [`GateError::OutcomeUnknown`].
pub struct Session {
    snapshot: Mutex<Arc<Snapshot>>,
    bus: Arc<dyn Bus>,
    span_id: u64,
}

impl Session {
    /// A session from its snapshot. The kit makes those that handlers get.
    pub fn new(bus: Arc<dyn Bus>, snapshot: Arc<Snapshot>, span_id: u64) -> Self {
        Self {
            snapshot: Mutex::new(snapshot),
            bus,
            span_id,
        }
    }

    /// The snapshot as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.lock().clone()
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.snapshot.lock().id
    }

    /// The gate that holds it.
    pub fn gate(&self) -> GateId {
        self.snapshot.lock().gate.clone()
    }

    /// The user it is bound to; none for a guest.
    pub fn user(&self) -> Option<UserId> {
        self.snapshot.lock().user.clone()
    }

    /// The client's device, as far as it is known: as authenticated, or as the client says.
    pub fn device(&self) -> Option<DeviceId> {
        self.snapshot.lock().device.clone()
    }

    /// The user id as a number, where there is one and it is a decimal one.
    pub fn user_u64(&self) -> Option<u64> {
        self.snapshot.lock().user.as_ref()?.as_u64()
    }

    /// Whether the session has no user.
    pub fn is_guest(&self) -> bool {
        self.snapshot.lock().is_guest()
    }

    /// The setting under `key`.
    pub fn get(&self, key: &str) -> Option<String> {
        self.snapshot.lock().settings.get(key).map(str::to_owned)
    }

    /// All settings.
    pub fn settings(&self) -> Settings {
        self.snapshot.lock().settings.clone()
    }

    /// The client's address.
    pub fn ip(&self) -> IpAddr {
        self.snapshot.lock().ip
    }

    /// What the client's connection runs over.
    pub fn network(&self) -> Network {
        self.snapshot.lock().network
    }

    /// Groups all calls of the session in traces (W3C Trace Context trace-id).
    pub fn trace_id(&self) -> u128 {
        self.snapshot.lock().trace_id
    }

    /// The call that brought this session, in traces (W3C Trace Context parent-id).
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// The session without its snapshot: to keep, and to use from elsewhere.
    pub fn handle(&self) -> SessionHandle {
        let snapshot = self.snapshot.lock();
        SessionHandle::new(self.bus.clone(), snapshot.gate.clone(), snapshot.id)
    }

    /// Loads the session as it is now.
    pub async fn update(&self) -> Result<(), GateError> {
        let loaded = self.handle().load().await?;
        self.adopt(loaded)
    }

    /// Binds the session to a user: text of 1 to 256 bytes, or a number. Refused with
    /// [`GateError::BoundToAnother`] while it is bound to another, and with
    /// [`GateError::TooManyLogins`] where the gate allows the user no more sessions.
    pub async fn bind(
        &self,
        user: impl TryInto<UserId, Error: Into<GateError>>,
    ) -> Result<(), GateError> {
        let bound = self.handle().bind(user).await?;
        self.adopt(bound)
    }

    /// The same, on a device that the service knows better: text of 1 to 128 bytes. The
    /// session has it from then on.
    pub async fn bind_device(
        &self,
        user: impl TryInto<UserId, Error: Into<GateError>>,
        device: impl TryInto<DeviceId, Error: Into<GateError>>,
    ) -> Result<(), GateError> {
        let bound = self.handle().bind_device(user, device).await?;
        self.adopt(bound)
    }

    /// Makes the session a guest.
    pub async fn unbind(&self) -> Result<(), GateError> {
        let unbound = self.handle().unbind().await?;
        self.adopt(unbound)
    }

    /// Sets one setting and leaves the others. All settings of a session have at most
    /// 16 KiB ([`GateError::Settings`]).
    pub async fn set(
        &self,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<(), GateError> {
        self.set_batch([(key.into(), value.into())]).await
    }

    /// Sets several settings, all or none, and leaves the others.
    pub async fn set_batch<K: Into<String>, V: Into<String>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), GateError> {
        let mut settings = Settings::new();
        settings.merge(pairs)?;
        let changed = self.handle().set(settings).await?;
        self.adopt(changed)
    }

    /// Sets all settings of the local snapshot at the gate and leaves the others there.
    pub async fn push(&self) -> Result<(), GateError> {
        let changed = self.handle().set(self.settings()).await?;
        self.adopt(changed)
    }

    /// Replaces all settings.
    pub async fn replace(&self, settings: Settings) -> Result<(), GateError> {
        let changed = self.handle().replace(settings).await?;
        self.adopt(changed)
    }

    /// Removes one setting; one that is not there is no error.
    pub async fn del(&self, key: impl Into<String>) -> Result<(), GateError> {
        let changed = self.handle().del(key).await?;
        self.adopt(changed)
    }

    /// Queues a packet for the client, or fails at once: [`GateError::QueueFull`],
    /// [`GateError::Refused`] by a hook, [`GateError::TooLarge`].
    pub async fn send(
        &self,
        topic: impl TryInto<Topic, Error: Into<GateError>>,
        body: impl Into<Bytes>,
    ) -> Result<(), GateError> {
        self.handle().send(topic, body).await
    }

    /// Like [`send`](Self::send), for a packet that may give way to others. While the
    /// session is dormant, what is not critical is refused: [`GateError::Dormant`].
    pub async fn send_as(
        &self,
        topic: impl TryInto<Topic, Error: Into<GateError>>,
        body: impl Into<Bytes>,
        delivery: Delivery,
    ) -> Result<(), GateError> {
        self.handle().send_as(topic, body, delivery).await
    }

    /// Like [`send`](Self::send), the body as JSON.
    pub async fn send_json(
        &self,
        topic: impl TryInto<Topic, Error: Into<GateError>>,
        body: &(impl Serialize + ?Sized),
    ) -> Result<(), SendJsonError> {
        let body = serde_json::to_vec(body)?;
        Ok(self.send(topic, body).await?)
    }

    /// Like [`send`](Self::send), but waits for room, at most `deadline`.
    pub async fn send_wait(
        &self,
        topic: impl TryInto<Topic, Error: Into<GateError>>,
        body: impl Into<Bytes>,
        deadline: Duration,
    ) -> Result<(), GateError> {
        self.handle().send_wait(topic, body, deadline).await
    }

    /// Whether the session lives, and whether it has a connection.
    pub async fn connected(&self) -> Result<Connected, GateError> {
        self.handle().connected().await
    }

    /// Closes the session once what is queued now has been written.
    pub async fn close(&self) -> Result<(), GateError> {
        self.handle().close().await
    }

    /// Joins a group.
    pub async fn join(
        &self,
        group: impl TryInto<GroupName, Error: Into<GateError>>,
    ) -> Result<(), GateError> {
        self.handle().join(group).await
    }

    /// Leaves a group; not being in it is no error.
    pub async fn leave(
        &self,
        group: impl TryInto<GroupName, Error: Into<GateError>>,
    ) -> Result<(), GateError> {
        self.handle().leave(group).await
    }

    /// Binds the session to one instance of a service: its packets for the service go
    /// there from now on.
    pub async fn bind_instance(
        &self,
        service: impl TryInto<Name, Error: Into<GateError>>,
        instance: impl TryInto<InstanceId, Error: Into<GateError>>,
    ) -> Result<(), GateError> {
        self.handle().bind_instance(service, instance).await
    }

    /// Ends the session's binding to an instance of a service.
    pub async fn unbind_instance(
        &self,
        service: impl TryInto<Name, Error: Into<GateError>>,
    ) -> Result<(), GateError> {
        self.handle().unbind_instance(service).await
    }

    /// Sets the user here only; `None` makes it look like a guest.
    pub fn set_user_local(&self, user: Option<UserId>) {
        Arc::make_mut(&mut *self.snapshot.lock()).user = user;
    }

    /// Sets one setting here only. Fails when all would exceed 16 KiB.
    pub fn set_local(
        &self,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<(), SettingsError> {
        self.edit(|settings| settings.merge([(key, value)]))
    }

    /// Removes one setting here only; answers whether it was there.
    pub fn remove_local(&self, key: &str) -> bool {
        self.edit(|settings| settings.remove(key))
    }

    /// Replaces all settings here only.
    pub fn replace_local(&self, settings: Settings) {
        self.edit(|own| *own = settings);
    }

    /// Takes the settings that are not there yet, here only; existing keys win. Fails
    /// when all would exceed 16 KiB.
    pub fn import_local(&self, settings: &Settings) -> Result<(), SettingsError> {
        self.edit(|own| own.import(settings))
    }

    fn edit<R>(&self, f: impl FnOnce(&mut Settings) -> R) -> R {
        f(&mut Arc::make_mut(&mut *self.snapshot.lock()).settings)
    }

    fn adopt(&self, snapshot: Arc<Snapshot>) -> Result<(), GateError> {
        *self.snapshot.lock() = snapshot;
        Ok(())
    }
}

impl Clone for Session {
    fn clone(&self) -> Self {
        Self::new(self.bus.clone(), self.snapshot(), self.span_id)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        // Settings and address may be private: a dump of a session shows neither.
        f.debug_struct("Session")
            .field("id", &snapshot.id)
            .field("gate", &snapshot.gate)
            .field("user", &snapshot.user)
            .finish_non_exhaustive()
    }
}

/// Why a body was not sent as JSON.
#[derive(Debug, thiserror::Error)]
pub enum SendJsonError {
    /// The value cannot be written as JSON. Nothing was sent.
    #[error("the body cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The gate did not take the packet.
    #[error(transparent)]
    Gate(#[from] GateError),
}

impl From<SendJsonError> for crate::bus::CallError {
    fn from(error: SendJsonError) -> Self {
        match error {
            SendJsonError::Gate(error) => error.into(),
            SendJsonError::Json(error) => {
                tracing::error!(%error, "a packet cannot be written as JSON");
                tidegate_protocol::ErrorCode::INTERNAL.into()
            }
        }
    }
}
