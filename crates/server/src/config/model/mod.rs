//! The model: everything that can be configured.
//!
//! - This file: what concerns the whole gate. [`listener`]: where clients come in.
//! - [`limits`]: what they may do. [`auth`]: who they are. [`logins`]: how often.
//! - [`bus`]: how gates and services reach each other. [`store`]: where settings are kept.

pub(crate) mod auth;
pub(crate) mod bus;
pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod logins;
pub(crate) mod store;

use clap::ValueEnum;

use super::key::section;
use super::value::choice::choices;
use super::value::file::FilePath;
use super::value::text::{Exposed, Host, HttpAddress, Id, Network};
use crate::secret::Secret;
use auth::AuthConfig;
use bus::{BusKind, NatsConfig};
use limits::{GateLimitsConfig, LimitsConfig};
use listener::{TcpConfig, WebSocketConfig};
use logins::LoginsConfig;
use store::StoreConfig;

section! {
    /// The whole configuration.
    Config {
        /// The gate's id on the bus. While one gate has it, no other one starts with it.
        id: Option<Id> = None => unset("random").example("\"gate-1\""),

        /// How gates and services reach each other: within this process, or over NATS.
        bus: BusKind = BusKind::Local,

        /// Threads that serve connections.
        shards: Option<usize> = None => range(1, 1024).unset("one per core").example("2"),

        /// Services that run in the gate's process.
        services: Vec<BuiltIn> = Vec::new() => example("[\"echo\", \"chat\"]"),

        /// What clients may call, by service or by method; all that services open to them
        /// where this is not set. What is not listed answers as if it did not exist.
        expose: Option<Vec<Exposed>> = None
            => unset("all that services open to clients").example("[\"chat\", \"echo/echo\"]"),

        /// Networks whose word on a client's address is believed, by PROXY protocol or HTTP
        /// header; "unix" is whoever connects by a Unix-domain socket. A listener's own list
        /// wins.
        trusted_proxies: Vec<Network> = Vec::new() => example("[\"10.0.0.0/8\", \"unix\"]"),

        /// TCP listeners. There must be at least one listener of either kind.
        tcp: Vec<TcpConfig> = Vec::new(),

        /// WebSocket listeners.
        websocket: Vec<WebSocketConfig> = Vec::new(),

        /// What each connection may do. A listener's own limits win.
        limits: LimitsConfig = LimitsConfig::default(),

        /// What the whole gate may do.
        gate: GateLimitsConfig = GateLimitsConfig::default(),

        /// How NATS is reached, where the bus or the store is on it.
        nats: Option<NatsConfig> = None => unset("a server on this machine, without credentials"),

        /// Where the settings of bound users are kept.
        store: StoreConfig = StoreConfig::default(),

        /// Who clients are.
        auth: AuthConfig = AuthConfig::default(),

        /// How often one user may be logged in.
        logins: LoginsConfig = LoginsConfig::default(),

        /// The admin interface: health, metrics.
        admin: AdminConfig = AdminConfig::default(),

        /// The log, on standard error.
        log: LogConfig = LogConfig::default(),
    }
}

section! {
    /// The admin interface: health, metrics.
    AdminConfig {
        /// Where it is served; nowhere where none is given. Keep it on an address that only
        /// you reach.
        address: Option<HttpAddress> = None => unset("not served").example("\"127.0.0.1:3656\""),

        /// What a request must carry, as `Authorization: Bearer TOKEN`, for everything but
        /// health.
        token: Option<Secret> = None => range(16, 1024).unset("only health is served"),

        /// A file that holds the token.
        token_file: Option<FilePath> = None => example("\"admin-token\""),

        /// Hosts that a request may name in its Host header, beside IP addresses and
        /// localhost. It stops web pages that point a name of theirs at this machine.
        hosts: Vec<Host> = Vec::new() => example("[\"gate.example\"]"),
    }
}

section! {
    /// The log, on standard error.
    LogConfig {
        /// How lines look: "auto" is for people on a terminal, else JSON.
        format: LogFormat = LogFormat::Auto,

        /// The least important lines that are logged.
        level: LogLevel = LogLevel::Info,
    }
}

/// A service that the binary brings with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum BuiltIn {
    /// Answers what it is sent
    Echo,
    /// Rooms, names, private messages
    Chat,
    /// Tells clients who they are, and binds those that come with a token
    Auth,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum LogFormat {
    /// For people on a terminal, else JSON
    Auto,
    /// For people
    Human,
    /// One JSON object per line
    Json,
}

/// The least important lines that are still logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

choices!(BuiltIn, LogFormat, LogLevel);
