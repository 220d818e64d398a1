//! Services of the kit over NATS, against a real server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "in a test's helpers too, they fail the test; figures are printed"
)]

mod declared;
mod killed;
mod odd;
mod order;
mod stop;
mod support;
