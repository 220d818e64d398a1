//! From a client to its session: authentication, and the session's start.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tidegate_protocol::extended::Resumption;
use tidegate_protocol::ws::upgrade::UpgradeRequest;
use tidegate_protocol::{CloseReason, DeviceId, SessionId, Settings, Snapshot};
use tokio::time::timeout;

use super::Setup;
use super::hello::{First, Opening};
use crate::bus::{Event, EventTarget, GateError};
use crate::hooks::{Credentials, Identity, guarded};
use crate::session::LocalSession;
use crate::session::flow::Phase;

/// A session whose set-up goes on: ends if that is cut off.
pub(super) struct Unready(Option<LocalSession>);

impl Unready {
    pub(super) fn session(&self) -> LocalSession {
        // Taken only by the methods that consume it.
        #[expect(clippy::expect_used, reason = "see above")]
        self.0.clone().expect("present until consumed")
    }

    pub(super) fn ready(mut self) -> LocalSession {
        let session = self.session();
        self.0 = None;
        session
    }

    fn end(mut self, reason: CloseReason) {
        if let Some(session) = self.0.take() {
            let shard = session.core().at().shard.clone();
            shard.spawn(session.end(reason, (0, 0)));
        }
    }
}

impl Drop for Unready {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            let shard = session.core().at().shard.clone();
            shard.spawn(session.end(CloseReason::SetupTimeout, (0, 0)));
        }
    }
}

impl Setup {
    pub(super) async fn authenticate(
        &self,
        session: SessionId,
        certificates: Vec<Bytes>,
        upgrade: Option<Arc<UpgradeRequest>>,
        first: &First,
    ) -> Result<Identity, CloseReason> {
        let device = first.device();
        let Some((hook, deadline)) = &self.gate.hooks.authenticate else {
            return Ok(Identity {
                device,
                ..Identity::guest()
            });
        };
        let credentials = Credentials {
            session,
            peer: self.client.address(),
            network: self.at.endpoint.network(),
            listener: self.at.endpoint.name.clone(),
            upgrade,
            hello: first.auth(),
            device: device.clone(),
            certificates,
        };
        let answer = guarded("authenticate", &self.gate, || hook(credentials));
        match timeout(*deadline, answer).await {
            Ok(Some(Ok(identity))) => Ok(Identity {
                device: identity.device.or(device),
                ..identity
            }),
            Ok(Some(Err(refused))) => {
                if let Some(unlogged) = self.gate.end_log.admit() {
                    let (ip, listener) = (self.client.address().ip(), &self.at.endpoint.name);
                    tracing::info!(%ip, %listener, why = ?refused.0, unlogged, "authentication refused");
                }
                Err(CloseReason::AuthenticationRefused)
            }
            Ok(None) => Err(CloseReason::AuthenticationUnavailable),
            Err(_) => {
                if let Some(unlogged) = self.gate.end_log.admit() {
                    tracing::warn!(?deadline, unlogged, "the authenticate hook took too long");
                }
                Err(CloseReason::AuthenticationUnavailable)
            }
        }
    }

    fn new_session(
        &self,
        id: SessionId,
        device: Option<DeviceId>,
        settings: Settings,
    ) -> LocalSession {
        let info = Snapshot {
            id,
            gate: self.gate.id.clone(),
            user: None,
            device,
            settings,
            ip: self.client.address().ip(),
            network: self.at.endpoint.network(),
            trace_id: rand::random(),
        };
        let session = LocalSession::new(info, self.gate.clone(), self.at.clone());
        self.gate.sessions.insert(session.clone());
        self.at.shard.counters.sessions_started.add(1);
        session
    }

    /// Tells hook and services that the session begins; answers why it must not.
    async fn started(&self, session: &LocalSession) -> Option<CloseReason> {
        session.core().announced.store(true, Ordering::Release);
        if let Some(hook) = &self.gate.hooks.started {
            match guarded("started", &self.gate, || hook(session.clone())).await {
                Some(Ok(())) => {}
                Some(Err(refused)) => {
                    if let Some(unlogged) = self.gate.end_log.admit() {
                        tracing::info!(session = %session.id(), why = ?refused.0, unlogged, "refused by the started hook");
                    }
                    return Some(CloseReason::AuthenticationRefused);
                }
                None => return Some(CloseReason::Internal),
            }
        }
        let bus = &self.gate.bus;
        bus.event(EventTarget::WhoAsked, session.snapshot(), Event::Started);
        None
    }

    /// Why a session is closed whose user could not be bound.
    fn not_bound(&self, session: &LocalSession, error: &GateError) -> CloseReason {
        if let Phase::Closing(closing) = session.core().flow.lock().phase {
            return closing.reason;
        }
        if let Some(unlogged) = self.gate.end_log.admit() {
            let error = error.to_string();
            tracing::warn!(session = %session.id(), ?error, unlogged, "an authenticated user could not be bound");
        }
        CloseReason::AuthenticationUnavailable
    }

    /// Makes the session; ended again if it cannot be bound, or may not start. With terms
    /// it speaks the extended protocol; then it says how to resume it.
    pub(super) async fn begin(
        &self,
        id: SessionId,
        identity: Identity,
        opening: Option<Opening>,
    ) -> Result<(Unready, Option<Resumption>), CloseReason> {
        let session = self.new_session(id, identity.device, identity.settings);
        let unready = Unready(Some(session));
        let session = unready.session();
        let user = identity.user.as_ref();
        let yields = opening.as_ref().is_some_and(|opening| opening.was_replaced);
        let resumption = opening.and_then(|opening| self.extend(&session, opening, user));
        if let Some(user) = identity.user
            && let Err(error) = session.log_in(user, None, yields).await
        {
            let reason = match error {
                GateError::TooManyLogins if yields => CloseReason::Replaced,
                GateError::TooManyLogins => CloseReason::TooManyLogins,
                error => self.not_bound(&session, &error),
            };
            unready.end(reason);
            return Err(reason);
        }
        if let Some(reason) = self.started(&session).await {
            unready.end(reason);
            return Err(reason);
        }
        Ok((unready, resumption))
    }
}
