//! The bus on NATS.

mod counters;
mod header;
mod link;
mod micro;
mod mux;
mod options;
mod subject;
mod wire;

pub use link::ConnectError;
pub use options::{Auth, NatsOptions, OptionsError, Secret, SecretError, TlsFileError, TlsOptions};
pub use subject::{InvalidPrefix, Prefix};
