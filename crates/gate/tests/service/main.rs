//! The service kit on the local bus.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

#[macro_use]
#[path = "../support/forward.rs"]
mod forward;

mod declare;
mod running;
mod support;
