//! Measures the gate as users run it: the release binary, in a process of its own.
//!
//! - [`idle`]: memory of connections that do nothing.
//! - [`server`]: starts the binary and looks at its process.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod idle;
mod server;

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
}

fn main() -> ExitCode {
    let result = match Args::parse().what {
        What::Idle(args) => idle::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
