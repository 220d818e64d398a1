//! What fails, with real servers and processes: NATS frozen, killed and cut off, services and
//! gates killed, clocks that jump. Each test counts what became of every request.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod account;
mod away;
mod clock;
mod killed;
mod partition;
mod roles;
mod stage;
