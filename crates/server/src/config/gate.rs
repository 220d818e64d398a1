//! The gate that a configuration stands for.

use tidegate::{Gate, GateBuilder, MemoryStore};

use super::model::{BuiltIn, Config};
use crate::{chat, echo};

impl Config {
    /// The gate that this describes.
    pub(crate) fn gate(&self) -> GateBuilder {
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
            gate = gate.listen(ws.listener());
        }
        for service in &self.services {
            gate = match service {
                BuiltIn::Echo => gate.service(echo::service()),
                BuiltIn::Chat => gate.service(chat::service()),
                BuiltIn::Auth => gate,
            };
        }
        gate
    }
}
