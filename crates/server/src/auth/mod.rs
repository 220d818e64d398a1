//! Who clients are, where no code says so: JSON Web Tokens and client certificates.
//!
//! - This file: what the gate asks ([`Auth`]), and the reload of keys.
//! - [`settings`]: what can be set. [`config`]: as the configuration has it.
//! - [`source`]: where a token is. [`certificate`]: who a certificate names.
//! - [`verify`]: whether a token is accepted; [`keys`], [`jwks`], [`material`]: what with;
//!   [`provider`]: the cryptography; [`json`]: objects without repeated names.
//! - [`service`]: `auth/login` and `auth/logout`. [`expiry`]: sessions that end with their
//!   tokens.
//! - [`mint`]: `tidegate token`.
//!
//! A client that brings no token is a guest or refused, as the settings say. One that
//! brings a bad one is refused, whatever they say.

mod certificate;
mod config;
mod expiry;
mod json;
mod jwks;
mod keys;
mod material;
pub(crate) mod mint;
mod provider;
mod service;
pub(crate) mod settings;
mod source;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use tidegate::bus::GateError;
use tidegate::{CloseReason, Gate, GateBuilder, Identity, Refused, Service, Session, SessionId};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use expiry::Expiries;
use keys::Keys;
use settings::{AuthError, AuthSettings, SUBPROTOCOL, TokenSource};
use source::Brought;
use verify::{TokenError, Verified, Verifier, now};

/// How often key files are looked at, and ended sessions forgotten.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often sessions are looked for whose tokens have ended.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// Decides who clients are.
pub(crate) struct Auth {
    settings: AuthSettings,
    jwt: Option<Verifier>,
    /// What the keys were last read from, good or bad: its hash.
    read: Mutex<Vec<u8>>,
    expiries: Option<Expiries>,
    gate: OnceLock<Gate>,
}

impl Auth {
    /// Reads the keys. Nobody is let in by keys that cannot be used.
    pub(crate) fn new(settings: AuthSettings) -> Result<Arc<Self>, AuthError> {
        let (jwt, content) = match settings.jwt.clone().map(Verifier::load).transpose()? {
            Some((verifier, content)) => (Some(verifier), content),
            None => (None, Vec::new()),
        };
        let closes = |jwt: &Verifier| jwt.settings.close_on_expiry;
        Ok(Arc::new(Self {
            expiries: jwt.as_ref().is_some_and(closes).then(Expiries::default),
            jwt,
            settings,
            read: Mutex::new(hash(&content)),
            gate: OnceLock::new(),
        }))
    }

    /// Has the gate ask who its clients are.
    pub(crate) fn on(self: &Arc<Self>, gate: GateBuilder) -> GateBuilder {
        let auth = self.clone();
        let gate = match &self.expiries {
            Some(_) => {
                let auth = self.clone();
                gate.on_resumed(move |session, attempt| {
                    if let Some(expiries) = &auth.expiries {
                        expiries.resumed(session.id(), attempt);
                    }
                })
            }
            None => gate,
        };
        gate.on_authenticate(self.settings.timeout, move |credentials| {
            let brought = Brought {
                hello: credentials.hello.as_deref(),
                request: credentials.upgrade.as_deref(),
            };
            let identity = auth.identify(credentials.session, brought, &credentials.certificates);
            async move { identity }
        })
    }

    /// The service with which sessions that have begun log in and out.
    pub(crate) fn service(self: &Arc<Self>) -> Service {
        service::service(self.clone())
    }

    /// The subprotocol that WebSocket listeners must agree on with clients that send their
    /// token as another: the answer to a browser has to name one that it offered.
    pub(crate) fn subprotocol(&self) -> Option<&'static str> {
        let jwt = self.settings.jwt.as_ref()?;
        jwt.sources
            .contains(&TokenSource::Subprotocol)
            .then_some(SUBPROTOCOL)
    }

    /// Looks after key files and expired sessions, until what it returns is dropped.
    pub(crate) fn watch(self: &Arc<Self>, gate: &Gate) -> Watch {
        // One gate is served by one of these.
        let _ = self.gate.set(gate.clone());
        let keys = tokio::spawn(watch_keys(self.clone()));
        let expiry = tokio::spawn(watch_expiry(self.clone(), gate.clone()));
        Watch([keys.abort_handle(), expiry.abort_handle()])
    }

    /// Who a client is that brought this, and these certificates.
    fn identify(
        &self,
        session: SessionId,
        brought: Brought<'_>,
        certificates: &[Bytes],
    ) -> Result<Identity, Refused> {
        let refused = |why: &dyn std::fmt::Display| Refused::new(why.to_string());
        let certified = certificate::user(certificates, self.settings.client_certificate)
            .map_err(|e| refused(&e))?;
        let verified = match &self.jwt {
            Some(jwt) => {
                let token = source::find(brought, &jwt.settings.sources);
                match token.map_err(|e| refused(&e))? {
                    Some(token) => Some(jwt.verify(&token).map_err(|e| refused(&e))?),
                    None => None,
                }
            }
            None => None,
        };
        match (verified, certified) {
            (Some(token), Some(user)) if token.user != user => Err(Refused::new(
                "token and certificate are for different users",
            )),
            (Some(token), _) => {
                self.expires(session, Some(token.expires));
                let mut identity = Identity::user(token.user);
                identity.settings = token.settings;
                Ok(identity)
            }
            (None, Some(user)) => Ok(Identity::user(user)),
            (None, None) if self.settings.guests => Ok(Identity::guest()),
            (None, None) => Err(Refused::new("no proof of who it is, and no guests")),
        }
    }

    fn verify(&self, token: &str) -> Result<Verified, TokenError> {
        match &self.jwt {
            Some(jwt) => jwt.verify(token),
            None => Err(TokenError::NoKey),
        }
    }

    /// The session ends at that time, or does not; where sessions do.
    fn expires(&self, session: SessionId, at: Option<u64>) {
        let (Some(expiries), Some(jwt)) = (&self.expiries, &self.jwt) else {
            return;
        };
        match at {
            Some(at) => {
                // For as long as a token is accepted.
                let at = at.saturating_add(jwt.settings.leeway.as_secs());
                expiries.set(session, at);
            }
            None => expiries.remove(session),
        }
    }

    /// Closes a session that guesses.
    async fn close(&self, session: &Session) -> Result<(), GateError> {
        let local = self.gate.get().and_then(|gate| gate.session(session.id()));
        match local {
            Some(local) => {
                local.close(CloseReason::AuthenticationRefused);
                Ok(())
            }
            None => session.close().await,
        }
    }

    /// The gate's own line about the packet, which is limited in number, has the code only.
    fn log_refusal(&self, session: &Session, why: TokenError) {
        tracing::debug!(session = %session.id(), %why, "login refused");
    }

    /// Reads the keys again, changed or not. Those that cannot be used leave the old ones
    /// in place; either way it is logged. Blocks: files are read.
    pub(crate) fn reload(&self) {
        self.read_again(true);
    }

    /// Reads the keys again if their file has changed.
    fn look(&self) {
        self.read_again(false);
    }

    fn read_again(&self, even_unchanged: bool) {
        let Some(jwt) = &self.jwt else {
            return;
        };
        let source = &jwt.settings.key;
        let Some(file) = source.file() else {
            return;
        };
        let mut read = self.read.lock();
        let content = Keys::read(source);
        let seen = match &content {
            Ok(content) => hash(content),
            Err(error) => hash(error.why.as_bytes()),
        };
        if seen == *read && !even_unchanged {
            return;
        }
        *read = seen;
        let keys =
            content.and_then(|content| Keys::parse(source, &content, &jwt.settings.algorithms));
        match keys {
            Ok(keys) => {
                let number = keys.keys.len();
                jwt.change_keys(keys);
                tracing::info!(file = %file.display(), keys = number, "token keys reloaded");
            }
            Err(error) => {
                tracing::error!(%error, "token keys not reloaded; the old ones stay in use");
            }
        }
    }
}

async fn watch_keys(auth: Arc<Auth>) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let auth = auth.clone();
        // A disk may be slow. An error is a panic there: all is as it was.
        let _ = tokio::task::spawn_blocking(move || auth.look()).await;
    }
}

async fn watch_expiry(auth: Arc<Auth>, gate: Gate) {
    let Some(expiries) = &auth.expiries else {
        return;
    };
    let (mut expire, mut forget) = (interval(EXPIRE_EVERY), interval(LOOK_EVERY));
    for tick in [&mut expire, &mut forget] {
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            _ = expire.tick() => {
                let closed = expiries.close_due(&gate, now());
                if closed > 0 {
                    tracing::info!(closed, "sessions closed whose tokens have expired");
                }
            }
            _ = forget.tick() => expiries.forget_ended(&gate),
        }
    }
}

/// Ends the watch when dropped.
pub(crate) struct Watch([AbortHandle; 2]);

impl Drop for Watch {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

fn hash(content: &[u8]) -> Vec<u8> {
    digest(&SHA256, content).as_ref().to_vec()
}
