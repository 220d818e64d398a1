//! What services do to sessions over NATS: from plain NATS clients and from the kit.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../../gate/tests/harness/mod.rs"]
mod harness;

mod errors;
mod flood;
mod injection;
mod many;
mod operations;
mod order;
mod reach;
mod support;
