//! Certificates: what is loaded, which one a client gets, what clients show of their own,
//! tickets, and new certificates in a gate that runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

#[path = "../support/mod.rs"]
mod support;

mod client;
mod clients;
mod load;
mod log;
mod names;
mod pki;
mod reload;
mod suites;
mod tickets;
