//! Every group of configuration keys does what the reference says of it, seen from outside:
//! the real binary with a file, and clients.
//!
//! What the gate does with each setting is tested in its own crate; here is that the setting
//! gets there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a panic is the report"
)]

mod certificates;
mod ciphers;
mod gate;
mod proxies;
mod secrets;
mod sessions;
mod sockets;
mod store;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "a part of it is enough here")]
#[path = "../auth/ws.rs"]
mod ws;

use std::io::{Read, Write};

use support::server::{Server, packet, run};

/// What a client on a stream hears of an echo.
pub(crate) fn echo(stream: &mut (impl Read + Write)) {
    stream
        .write_all(&support::frame("echo/echo/1", b"hi"))
        .unwrap();
    assert_eq!(packet(stream), ("echo/echo/1".into(), b"hi".into()));
}

/// What `tidegate connect` prints, out and error; and how it ends.
pub(crate) fn connect(url: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let ended = run(&[&["connect", url, "--timeout", "20"], arguments].concat());
    (ended.code, ended.stdout + &ended.stderr)
}

/// A token of `tidegate token` for a server's configuration.
pub(crate) fn token(server: &Server, user: &str, more: &[&str]) -> String {
    let config = server.path("tidegate.toml");
    let ended = run(&[&["token", "--config", &config, "--user", user], more].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.trim().to_owned()
}
