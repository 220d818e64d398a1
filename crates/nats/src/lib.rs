//! The bus on NATS.

mod header;
mod subject;
mod wire;

pub use subject::{InvalidPrefix, Prefix};
