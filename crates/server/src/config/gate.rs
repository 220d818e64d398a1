//! The gate that a configuration stands for.

use std::sync::Arc;

use thiserror::Error;
use tidegate::protocol::KeyError;
use tidegate::{Exposure, ExposureError, Gate, GateBuilder, MemoryStore, TrustedNetworkError};
use tidegate_store::{Embedded, EmbeddedOptions, OpenError};

use super::model::{BuiltIn, Config, StoreKind};
use crate::auth::Auth;
use crate::{chat, echo};

/// Why there is no gate. Only the store's is not found by the configuration's own checks.
#[derive(Debug, Error)]
pub(crate) enum Unusable {
    #[error("store: {0}")]
    Store(#[from] OpenError),
    #[error("store.path: the embedded store needs a file")]
    NoStorePath,
    #[error("encryption_key: {0}")]
    Key(#[from] KeyError),
    #[error("trusted_proxies: {0}")]
    Network(#[from] TrustedNetworkError),
    #[error("tls.client_ca: clients' certificates need an authority")]
    NoClientCa,
    #[error("expose: {0}")]
    Exposure(#[from] ExposureError),
}

impl Config {
    /// The gate that this describes. Opens the store, which may take a while.
    pub(crate) fn gate(&self, auth: Option<&Arc<Auth>>) -> Result<GateBuilder, Unusable> {
        let mut gate = Gate::builder()
            .limits(self.limits.limits())
            .gate_limits(self.gate.limits())
            .logins(self.logins.logins())
            .tls_watch(self.gate.tls_watch.on().map(|time| time.0))
            .store_ttl(self.store.ttl.into());
        gate = match self.store.kind {
            StoreKind::Memory => gate.store(MemoryStore::with_max_users(self.store.max_users)),
            StoreKind::Embedded => gate.store(self.embedded()?),
            StoreKind::Nats => return Err(Unusable::NoStorePath),
        };
        if let Some(id) = &self.id {
            gate = gate.id(id.as_str());
        }
        if let Some(shards) = self.shards {
            gate = gate.shards(shards);
        }
        for tcp in &self.tcp {
            gate = gate.listen(tcp.listener(&self.trusted_proxies)?);
        }
        for ws in &self.websocket {
            let own = auth.and_then(|auth| auth.subprotocol());
            gate = gate.listen(ws.listener(&self.trusted_proxies, own)?);
        }
        for service in &self.services {
            gate = match (service, auth) {
                (BuiltIn::Echo, _) => gate.service(echo::service()),
                (BuiltIn::Chat, _) => gate.service(chat::service()),
                (BuiltIn::Auth, Some(auth)) => gate.service(auth.service()),
                // Not what is let pass by the check.
                (BuiltIn::Auth, None) => gate,
            };
        }
        if let Some(auth) = auth {
            gate = auth.on(gate);
        }
        if let Some(entries) = &self.expose {
            let entries = entries.iter().map(|entry| entry.as_str());
            gate = gate.expose(Exposure::only(entries)?);
        }
        Ok(gate)
    }

    fn embedded(&self) -> Result<Embedded, Unusable> {
        let path = self.store.path.as_ref().ok_or(Unusable::NoStorePath)?;
        let options = EmbeddedOptions::default().max_users(Some(self.store.max_users as u64));
        Ok(Embedded::open(&path.0, options)?)
    }
}
