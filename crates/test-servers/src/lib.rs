//! Starts the servers that Tidegate's tests need, and makes them and the network fail: NATS (one
//! or a cluster of three), Redis, a [`Proxy`] that holds, delays and cuts,
//! [`Site`]s that can be cut off, certificates, and any
//! [`Process`] with its output kept.
//!
//! Everything here is for tests: what goes wrong is a panic that says what and where. What was
//! started is killed when its handle is dropped, also by a test that panics; its last output is
//! printed then. Servers listen on ports that no other test has, and keep them over a restart.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certificates;
mod cluster;
mod dir;
mod nats;
mod port;
mod process;
mod proxy;
mod redis;
mod site;
mod tool;

pub use certificates::Certificates;
pub use cluster::NatsCluster;
pub use dir::TempDir;
pub use nats::{NatsOptions, NatsServer};
pub use port::Port;
pub use process::{Process, eventually};
pub use proxy::Proxy;
pub use redis::{RedisOptions, RedisServer};
pub use site::{Site, with_namespaces};
pub use tool::{tool, workspace};
