//! The gate that a configuration stands for.

use std::sync::Arc;

use tidegate::{Exposure, Gate, GateBuilder, MemoryStore};

use super::model::{BuiltIn, Config};
use crate::auth::Auth;
use crate::{chat, echo};

impl Config {
    /// The gate that this describes.
    pub(crate) fn gate(&self, auth: Option<&Arc<Auth>>) -> GateBuilder {
        let mut gate = Gate::builder()
            .limits(self.limits.limits())
            .gate_limits(self.gate.limits())
            .store(MemoryStore::with_max_users(self.store.max_users))
            .store_ttl(self.store.ttl.into());
        if let Some(id) = &self.id {
            gate = gate.id(id.as_str());
        }
        if let Some(shards) = self.shards {
            gate = gate.shards(shards);
        }
        for tcp in &self.tcp {
            gate = gate.listen(tcp.listener());
        }
        for ws in &self.websocket {
            gate = gate.listen(ws.listener(auth.and_then(|auth| auth.subprotocol())));
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
            // Each entry has been checked. Were one wrong, nothing would be exposed.
            let none = |_| Exposure::only::<&str>([]).unwrap_or_default();
            gate = gate.expose(Exposure::only(entries).unwrap_or_else(none));
        }
        gate
    }
}
