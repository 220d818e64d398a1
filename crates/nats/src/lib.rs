//! The bus on NATS.

mod counters;
mod link;
mod mux;
mod options;

pub use link::ConnectError;
pub use options::{
    Auth, InvalidPrefix, NatsOptions, OptionsError, Prefix, Secret, SecretError, TlsFileError,
    TlsOptions,
};
