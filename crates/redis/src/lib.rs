//! A [`Store`](tidegate::store::Store) for [Tidegate](tidegate) on Redis, for gates on
//! several machines.
//!
//! ```no_run
//! use tidegate::Gate;
//! use tidegate_redis::{ConnectError, RedisOptions, RedisStore};
//!
//! # async fn run() -> Result<(), ConnectError> {
//! let options = RedisOptions::new(["rediss://redis.example:6379"])
//!     .user("tidegate")
//!     .password_file("/run/credentials/redis-password");
//! let gate = Gate::builder().store(RedisStore::connect(options).await?);
//! # Ok(())
//! # }
//! ```

mod address;
mod connection;
mod error;
mod link;
mod options;
mod store;

pub use error::ConnectError;
pub use options::RedisOptions;
pub use store::RedisStore;
