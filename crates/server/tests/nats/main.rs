//! The binary on NATS: gates and services of several processes, against real servers.
//!
//! - [`start`]: what keeps it from starting. [`state`]: readiness, while NATS comes and goes.
//! - [`services`]: services in processes of their own, and how they stop.
//! - [`stores`]: users' settings, kept where all gates find them.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod services;
mod start;
mod state;
mod stores;
#[path = "../support/mod.rs"]
mod support;

use std::process::Command;

use support::server::Server;
use tidegate_test_servers::Process;

/// A gate on this NATS server.
fn config(id: &str, url: &str) -> String {
    format!(
        r#"
id = "{id}"
bus = "nats"
[[tcp]]
address = "127.0.0.1:0"
v1_error_topic = "error"
[[websocket]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
token = "0123456789abcdef0123456789abcdef"
[nats]
servers = "{url}"
"#
    )
}

fn gate(id: &str, url: &str) -> Server {
    Server::start(&config(id, url), &[])
}

/// `tidegate service`; returns when it is ready.
async fn service(arguments: &[&str]) -> Process {
    let name = arguments[0];
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("service").args(arguments);
    let mut service = Process::start(name, command);
    service.line_with(&format!("{name} is ready")).await;
    service
}
