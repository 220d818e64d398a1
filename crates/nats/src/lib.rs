//! The bus on NATS.

mod ask;
mod bucket;
mod bus;
mod call;
mod counters;
mod discover;
#[cfg(test)]
mod document;
mod events;
mod fan_out;
mod gates;
mod gone;
mod header;
mod instance;
mod lease;
mod line;
mod link;
mod locate;
mod members;
mod membership;
mod micro;
mod mux;
mod options;
mod record;
mod registrar;
mod rpc;
mod store;
mod subject;
mod view;
mod wire;

pub use bus::Nats;
pub use link::ConnectError;
pub use options::{Auth, NatsOptions, OptionsError, Secret, SecretError, TlsFileError, TlsOptions};
pub use store::{KvStore, KvStoreError, KvStoreOptions};
pub use subject::{InvalidPrefix, Prefix};
