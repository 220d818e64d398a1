//! Measures the gate as users run it: the release binary, in a process of its own.
//!
//! - [`idle`]: memory of connections that do nothing.
//! - [`nats`]: round trips and CPU of calls over NATS.
//! - [`server`]: starts the binary and looks at its process.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod idle;
mod nats;
mod server;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the Tidegate gateway.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Memory of idle connections, in user space, over TCP and WebSocket.
    Idle(idle::Args),
    /// Calls over NATS: round trip, rate and the gate's CPU, beside bare NATS and bare TCP.
    Nats(nats::Args),
    /// One of the processes that `nats` starts.
    #[command(hide = true)]
    NatsRole(nats::role::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().what {
        What::Idle(args) => idle::run(&args),
        What::Nats(args) => nats::run(&args),
        What::NatsRole(args) => nats::role::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
