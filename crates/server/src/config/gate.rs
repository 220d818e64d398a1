//! The gate that a configuration stands for.

use std::sync::Arc;

use thiserror::Error;
use tidegate::protocol::KeyError;
use tidegate::{Exposure, ExposureError, Gate, GateBuilder, MemoryStore, TrustedNetworkError};
use tidegate_nats::{KvStore, KvStoreError, KvStoreOptions};
use tidegate_redis::{RedisOptions, RedisStore};
use tidegate_store::{Embedded, EmbeddedOptions, OpenError};

use super::model::store::{RedisConfig, StoreKind};
use super::model::{BuiltIn, Config};
use crate::auth::Auth;
use crate::bus::Reached;
use crate::{chat, echo};

/// Why there is no gate. Only the store's is not found by the configuration's own checks.
#[derive(Debug, Error)]
pub(crate) enum Unusable {
    #[error("store: {0}")]
    Store(#[from] OpenError),
    #[error("store: {0}")]
    Redis(#[from] tidegate_redis::ConnectError),
    #[error("store: NATS at {servers}: {why}")]
    Bucket { servers: String, why: KvStoreError },
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
    /// The gate's id, or one that nobody has.
    pub(crate) fn gate_id(&self) -> String {
        match &self.id {
            Some(id) => id.as_str().to_owned(),
            None => format!("gate-{:016x}", rand::random::<u64>()),
        }
    }

    /// The gate that this describes, of this id, on `bus` where one is given. Opens the
    /// store, which may take a while.
    pub(crate) async fn gate(
        &self,
        id: &str,
        auth: Option<&Arc<Auth>>,
        bus: Option<&Reached>,
    ) -> Result<GateBuilder, Unusable> {
        let mut gate = Gate::builder()
            .id(id)
            .limits(self.limits.limits())
            .gate_limits(self.gate.limits())
            .logins(self.logins.logins())
            .tls_watch(self.gate.tls_watch.on().map(|time| time.0))
            .store_ttl(self.store.ttl.into());
        gate = match self.store.kind {
            StoreKind::Memory => gate.store(MemoryStore::with_max_users(self.store.max_users)),
            StoreKind::Embedded => gate.store(self.embedded()?),
            StoreKind::Redis => {
                let redis = self.store.redis.clone().unwrap_or_default();
                gate.store(RedisStore::connect(redis.options()).await?)
            }
            StoreKind::Nats => gate.store(self.bucket(id).await?),
        };
        if let Some(reached) = bus {
            gate = gate.bus(reached.bus.clone());
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

    async fn bucket(&self, name: &str) -> Result<KvStore, Unusable> {
        let nats = self.nats.clone().unwrap_or_default();
        let bucket = self.store.nats.clone().unwrap_or_default();
        let mut options = KvStoreOptions::default();
        options.replicas = bucket.replicas;
        options.in_memory = bucket.in_memory;
        options.max_bytes = bucket.max_bytes;
        options.create = bucket.create;
        options.timeout = bucket.timeout.into();
        let store = KvStore::connect(&nats.options(name), options).await;
        store.map_err(|why| Unusable::Bucket {
            servers: nats.at(),
            why,
        })
    }

    fn embedded(&self) -> Result<Embedded, Unusable> {
        let path = self.store.path.as_ref().ok_or(Unusable::NoStorePath)?;
        let options = EmbeddedOptions::default().max_users(Some(self.store.max_users as u64));
        Ok(Embedded::open(&path.0, options)?)
    }
}

impl RedisConfig {
    /// What the client of Redis makes of it.
    fn options(&self) -> RedisOptions {
        let mut options = RedisOptions::new(self.servers.0.iter().map(|s| s.as_str()))
            .database(self.database)
            .prefix(self.prefix.as_str())
            .connect_timeout(self.connect_timeout.into())
            .answer_timeout(self.answer_timeout.into())
            .in_flight(self.in_flight);
        if let Some(user) = &self.user {
            options = options.user(user.as_str());
        }
        options = match (&self.password_file, &self.password) {
            (Some(file), _) => options.password_file(&file.0),
            (None, Some(password)) => options.password(password.expose()),
            (None, None) => options,
        };
        let Some(tls) = &self.tls else {
            return options;
        };
        if let Some(ca) = &tls.ca {
            options = options.ca(&ca.0);
        }
        match (&tls.cert, &tls.key) {
            (Some(cert), Some(key)) => options.client_certificate(&cert.0, &key.0),
            _ => options,
        }
    }
}
