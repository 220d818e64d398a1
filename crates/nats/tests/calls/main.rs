//! Calls and events over NATS, against a server and services that know nothing of Tidegate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

mod connect;
mod events;
mod faults;
mod near;
mod requests;
mod support;
