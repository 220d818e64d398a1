//! From a client to its session: authentication, and the session's start.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tidegate_protocol::extended::{Resumption, Terms};
use tidegate_protocol::ws::upgrade::UpgradeRequest;
use tidegate_protocol::{CloseReason, SessionId, Settings, Snapshot};
use tokio::time::timeout;

use super::Setup;
use crate::bus::{Event, EventTarget};
use crate::hooks::{Credentials, Identity, guarded};
use crate::session::LocalSession;

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
        hello: Option<Bytes>,
    ) -> Result<Identity, CloseReason> {
        let Some((hook, deadline)) = &self.gate.hooks.authenticate else {
            return Ok(Identity::guest());
        };
        let credentials = Credentials {
            session,
            peer: self.client.address(),
            network: self.at.endpoint.network(),
            listener: self.at.endpoint.name.clone(),
            upgrade,
            hello,
            certificates,
        };
        let answer = guarded("authenticate", &self.gate, || hook(credentials));
        match timeout(*deadline, answer).await {
            Ok(Some(Ok(identity))) => Ok(identity),
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

    fn new_session(&self, id: SessionId, settings: Settings) -> LocalSession {
        let info = Snapshot {
            id,
            gate: self.gate.id.clone(),
            user: None,
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

    /// Makes the session; ended again if it cannot be bound, or may not start. With terms
    /// it speaks the extended protocol; then it says how to resume it.
    pub(super) async fn begin(
        &self,
        id: SessionId,
        identity: Identity,
        terms: Option<(Terms, Option<SessionId>)>,
    ) -> Result<(Unready, Option<Resumption>), CloseReason> {
        let unready = Unready(Some(self.new_session(id, identity.settings)));
        let session = unready.session();
        let user = identity.user.as_ref();
        let resumption = terms.and_then(|terms| self.extend(&session, terms, user));
        if let Some(user) = identity.user
            && let Err(error) = session.bind(user).await
        {
            if let Some(unlogged) = self.gate.end_log.admit() {
                let error = error.to_string();
                tracing::warn!(session = %session.id(), ?error, unlogged, "an authenticated user could not be bound");
            }
            let reason = CloseReason::AuthenticationUnavailable;
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
