//! The `tidegate` binary: a gate as a server, its demo, and a client to talk to it.
//!
//! # Layout
//!
//! - [`cli`]: what can be typed.
//! - [`config`]: the configuration of `tidegate serve`, one typed model, and `tidegate config`.
//! - [`run`]: runs a gate from its start to its orderly stop. [`logging`], [`descriptors`]:
//!   what it sets up first. [`kernel`]: whether the system can carry it. [`systemd`]: whom
//!   it tells how it is.
//! - [`bus`]: reaches the bus that is configured. [`service`]: `tidegate service`, services in
//!   a process of their own.
//! - [`demo`]: `tidegate demo`, and what it prints. [`page`]: its status page.
//! - [`admin`]: `/healthz`, `/readyz` and `/metrics`. [`http`]: the small HTTP server of both.
//! - [`echo`], [`chat`]: the services that the binary brings with it.
//! - [`secret`]: text that no log shows.
//! - [`auth`]: who clients are, by token or certificate; `tidegate token`.
//! - [`connect`]: `tidegate connect`, the client.
//!
//! Exit codes of `demo`, `serve` and `service`: 0 after an orderly stop, 1 when it cannot start
//! or a second signal cut the stop short, 2 for a wrong configuration or usage.

mod admin;
mod auth;
mod bus;
mod chat;
mod cli;
mod config;
mod connect;
mod demo;
mod descriptors;
mod echo;
mod http;
mod kernel;
mod logging;
mod page;
mod run;
mod secret;
mod service;
mod systemd;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// The library imposes no allocator; the binary chooses one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads of the runtime that gates and clients are run from. A gate's connections are
/// on threads of its own.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let command = match Cli::parse().command {
        Some(command) => command,
        // `tidegate` alone is `tidegate demo`.
        None => match Cli::parse_from([OsString::from("tidegate"), "demo".into()]).command {
            Some(command) => command,
            None => return ExitCode::FAILURE,
        },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, format_args!("cannot start: {error}")),
    };
    runtime.block_on(async {
        let done = match command {
            Command::Demo(args) => demo::run(args).await,
            Command::Serve(args) => run::serve(args).await,
            Command::Service(args) => service::run(args).await,
            Command::Config(command) => return config::command::run(command),
            Command::Connect(args) => return connect::run(args).await,
            Command::Token(args) => auth::mint::run(args),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error.exit_code(), error),
        }
    })
}

/// Says why it ends, one line for each reason.
fn fail(code: u8, why: impl Display) -> ExitCode {
    for line in why.to_string().lines() {
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        // Whoever closed standard error does not want to know.
        let _ = writeln!(std::io::stderr(), "tidegate: {line}");
    }
    ExitCode::from(code)
}
