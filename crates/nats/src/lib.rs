//! The bus on NATS.

mod ask;
mod bus;
mod call;
mod counters;
#[cfg(test)]
mod document;
mod events;
mod header;
mod instance;
mod link;
mod micro;
mod mux;
mod options;
mod rpc;
mod subject;
mod wire;

pub use bus::Nats;
pub use link::ConnectError;
pub use options::{Auth, NatsOptions, OptionsError, Secret, SecretError, TlsFileError, TlsOptions};
pub use subject::{InvalidPrefix, Prefix};
