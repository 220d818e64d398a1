//! The bus on NATS.

mod bus;
mod call;
mod counters;
mod events;
mod header;
mod link;
mod micro;
mod mux;
mod options;
mod store;
mod subject;
mod wire;

pub use bus::Nats;
pub use link::ConnectError;
pub use options::{Auth, NatsOptions, OptionsError, Secret, SecretError, TlsFileError, TlsOptions};
pub use store::{KvStore, KvStoreError, KvStoreOptions};
pub use subject::{InvalidPrefix, Prefix};
