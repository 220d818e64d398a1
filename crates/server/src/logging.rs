//! The log: to standard error, for people or as JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Starts to log.
pub(crate) fn start(config: LogConfig) {
    let level = match config.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let terminal = io::stderr().is_terminal();
    let human = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr);
    // The client of NATS tells each event as information, and there is one for each message
    // lost: what matters of them is counted, and logged by the bus.
    let quiet = match level {
        LevelFilter::INFO => LevelFilter::WARN,
        level => level,
    };
    let filter = Targets::new()
        .with_default(level)
        .with_target("async_nats", quiet);
    // Values that clients have a part in are written with their control characters
    // escaped: by `?` where they are logged, and by JSON.
    match human {
        true => log
            .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none())
            .with_target(false)
            .finish()
            .with(filter)
            .init(),
        false => log.json().flatten_event(true).finish().with(filter).init(),
    }
}
