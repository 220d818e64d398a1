//! The configuration of `tidegate serve`: one typed model, filled from the defaults, the
//! file and the flags, each winning over the one before.
//!
//! - This file: the model, what it must hold, and the gate it stands for.
//! - [`file`]: reading one, and saying where in it a mistake is.
//! - [`value`]: times, rates, `"off"`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;
use tidegate::limits::{MAX_TIME, MIN_TIME};
use tidegate::protocol::ws::policy::{Origins, Policy, PolicyError};
use tidegate::{Gate, GateBuilder, GateId, GateLimits, Limits, MemoryStore, Tcp, Topic, WebSocket};

use crate::{chat, echo};
use file::{KeyPath, Problem};
use value::{OrOff, RateValue, Time};

pub(crate) mod file;
pub(crate) mod value;

/// What is kept of users' settings, unless set: a day.
const STORE_TTL: Time = Time(Duration::from_secs(24 * 3600));
/// Users whose settings are kept, unless set. Each has at most 16 KiB.
const STORE_MAX_USERS: usize = 1_000_000;

/// Everything that can be configured.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The gate's id on the bus; random where none is given.
    pub(crate) id: Option<String>,
    /// Threads that serve connections; one per core where none is given.
    pub(crate) shards: Option<usize>,
    /// Services that run in this process.
    pub(crate) services: Vec<BuiltIn>,
    pub(crate) limits: LimitsConfig,
    pub(crate) gate: GateLimitsConfig,
    pub(crate) store: StoreConfig,
    pub(crate) tcp: Vec<TcpConfig>,
    pub(crate) websocket: Vec<WebSocketConfig>,
    pub(crate) admin: AdminConfig,
    pub(crate) log: LogConfig,
}

/// A service that the binary brings with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BuiltIn {
    /// Answers what it is sent
    Echo,
    /// Rooms, names, private messages
    Chat,
}

/// Where the settings of bound users are kept: in memory.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StoreConfig {
    /// How long they outlive their user's connection.
    pub(crate) ttl: Option<Time>,
    /// Of how many users.
    pub(crate) max_users: Option<usize>,
}

/// A TCP listener.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpConfig {
    pub(crate) address: String,
    pub(crate) name: Option<String>,
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) v1_error_topic: Option<String>,
    /// These win over the gate's.
    #[serde(default)]
    pub(crate) limits: LimitsConfig,
}

/// A WebSocket listener.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebSocketConfig {
    pub(crate) address: String,
    pub(crate) name: Option<String>,
    pub(crate) tls: Option<TlsConfig>,
    /// The one path that is served; `/` where none is given.
    pub(crate) path: Option<String>,
    /// Pages that may connect; those of the same host where none are given, `["*"]` for all.
    pub(crate) origins: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) subprotocols: Vec<String>,
    pub(crate) v1_error_topic: Option<String>,
    /// These win over the gate's.
    #[serde(default)]
    pub(crate) limits: LimitsConfig,
}

/// Certificate chain and key, PEM files. In a file, relative paths start where the file is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsConfig {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// The admin interface.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AdminConfig {
    /// None: there is none.
    pub(crate) address: Option<String>,
}

/// What is logged, and how. It goes to standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    pub(crate) format: Option<LogFormat>,
    pub(crate) level: Option<LogLevel>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people on a terminal, else JSON
    Auto,
    /// For people
    Human,
    /// One JSON object per line
    Json,
}

/// The least important lines that are still logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Declares the configurable form of a set of limits: the same keys, each optional.
macro_rules! limits {
    ($(#[$doc:meta])* $name:ident for $target:ty { $($key:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $name {
            $(pub(crate) $key: Option<$type>,)*
        }

        impl $name {
            #[cfg(test)]
            const KEYS: &[&str] = &[$(stringify!($key),)*];

            /// Sets what is given and leaves the rest.
            pub(crate) fn apply(&self, limits: &mut $target) {
                $(if let Some(value) = self.$key {
                    limits.$key = value.into();
                })*
            }
        }
    };
}

limits! {
    /// What each connection may do.
    LimitsConfig for Limits {
        concurrent_tasks: u16,
        read_buffer: usize,
        max_packet_size: usize,
        send_queue_packets: u32,
        send_queue_bytes: u32,
        setup_timeout: Time,
        heartbeat_timeout: Time,
        partial_frame_timeout: Time,
        write_timeout: Time,
        close_timeout: Time,
        call_timeout: Time,
        bind_deadline: OrOff<Time>,
        packet_rate: OrOff<RateValue>,
        byte_rate: OrOff<RateValue>,
        max_upgrade_size: usize,
        max_fragments: u32,
    }
}

limits! {
    /// What the whole gate may do.
    GateLimitsConfig for GateLimits {
        max_connections: usize,
        max_connections_per_address: usize,
        memory_budget: u64,
        shutdown_timeout: Time,
        store_timeout: Time,
        max_groups_per_session: usize,
        max_instance_bindings: usize,
    }
}

impl Config {
    /// Checks everything that can be checked before anything is opened.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let at = KeyPath::new();
        if let Some(id) = &self.id {
            GateId::new(id).map_err(|e| at.key("id").is(e))?;
        }
        if self.shards == Some(0) {
            return Err(at.key("shards").is("at least 1 is needed"));
        }
        let mut limits = Limits::default();
        check_limits(&self.limits, &mut limits, &at.key("limits"))?;
        self.check_gate(&at.key("gate"))?;
        for (i, tcp) in self.tcp.iter().enumerate() {
            let at = at.key("tcp").index(i);
            check_listener(&tcp.address, &tcp.v1_error_topic, &at)?;
            check_limits(&tcp.limits, &mut limits.clone(), &at.key("limits"))?;
        }
        for (i, ws) in self.websocket.iter().enumerate() {
            let at = at.key("websocket").index(i);
            check_listener(&ws.address, &ws.v1_error_topic, &at)?;
            check_limits(&ws.limits, &mut limits.clone(), &at.key("limits"))?;
            ws.policy().validate().map_err(|e| match e {
                PolicyError::Path(_) => at.key("path").is(e),
                PolicyError::Origin(_) => at.key("origins").is(e),
                _ => at.key("subprotocols").is(e),
            })?;
        }
        if let Some(address) = &self.admin.address {
            check_address(address, &at.key("admin").key("address"))?;
        }
        Ok(())
    }

    fn check_gate(&self, at: &KeyPath) -> Result<(), Problem> {
        for (key, time) in [
            ("shutdown_timeout", self.gate.shutdown_timeout),
            ("store_timeout", self.gate.store_timeout),
        ] {
            let possible = |time: Time| time.0 >= MIN_TIME && time.0 <= MAX_TIME;
            if !time.is_none_or(possible) {
                return Err(at.key(key).is("it must be between 100 ms and a year"));
            }
        }
        for (key, number) in [
            ("max_connections", self.gate.max_connections),
            (
                "max_connections_per_address",
                self.gate.max_connections_per_address,
            ),
        ] {
            if number == Some(0) {
                return Err(at.key(key).is("at least 1 is needed"));
            }
        }
        Ok(())
    }

    /// The gate that this describes.
    pub(crate) fn gate(&self) -> GateBuilder {
        let mut limits = Limits::default();
        self.limits.apply(&mut limits);
        let mut gate_limits = GateLimits::default();
        self.gate.apply(&mut gate_limits);
        let max_users = self.store.max_users.unwrap_or(STORE_MAX_USERS);
        let mut gate = Gate::builder()
            .store(MemoryStore::with_max_users(max_users))
            .store_ttl(self.store.ttl.unwrap_or(STORE_TTL).into());
        if let Some(id) = &self.id {
            gate = gate.id(id);
        }
        if let Some(shards) = self.shards {
            gate = gate.shards(shards);
        }
        for tcp in &self.tcp {
            gate = gate.listen(tcp.listener(&limits));
        }
        for ws in &self.websocket {
            gate = gate.listen(ws.listener(&limits));
        }
        for (i, service) in self.services.iter().enumerate() {
            if self.services[..i].contains(service) {
                continue;
            }
            gate = gate.service(match service {
                BuiltIn::Echo => echo::service(),
                BuiltIn::Chat => chat::service(),
            });
        }
        gate.limits(limits).gate_limits(gate_limits)
    }
}

/// What both kinds of listeners have.
macro_rules! listener {
    ($listener:expr, $config:expr, $limits:expr) => {{
        let mut limits = $limits.clone();
        $config.limits.apply(&mut limits);
        let mut listener = $listener.limits(limits);
        if let Some(name) = &$config.name {
            listener = listener.name(name);
        }
        if let Some(tls) = &$config.tls {
            listener = listener.tls(&tls.cert, &tls.key);
        }
        if let Some(topic) = &$config.v1_error_topic {
            listener = listener.v1_error_topic(topic);
        }
        listener
    }};
}

impl TcpConfig {
    fn listener(&self, limits: &Limits) -> Tcp {
        listener!(Tcp::bind(&self.address), self, limits)
    }
}

impl WebSocketConfig {
    fn listener(&self, limits: &Limits) -> WebSocket {
        let mut listener = listener!(WebSocket::bind(&self.address), self, limits);
        let policy = self.policy();
        listener = listener.path(policy.path).subprotocols(policy.subprotocols);
        match policy.origins {
            Origins::SameHost => listener,
            Origins::Any => listener.any_origin(),
            Origins::List(origins) => listener.origins(origins),
        }
    }

    fn policy(&self) -> Policy {
        let origins = match self.origins.as_deref() {
            None => Origins::SameHost,
            Some([all]) if all == "*" => Origins::Any,
            Some(list) => Origins::List(list.to_vec()),
        };
        Policy {
            path: self.path.clone().unwrap_or_else(|| "/".to_owned()),
            origins,
            subprotocols: self.subprotocols.clone(),
        }
    }
}

fn check_limits(given: &LimitsConfig, limits: &mut Limits, at: &KeyPath) -> Result<(), Problem> {
    use tidegate::limits::LimitError;
    given.apply(limits);
    limits.check().map_err(|e| {
        let (LimitError::TooSmall { name, .. }
        | LimitError::TooLarge { name, .. }
        | LimitError::Time { name, .. }) = e
        else {
            return at.is(e);
        };
        at.key(name).is(e)
    })
}

fn check_listener(
    address: &str,
    v1_error_topic: &Option<String>,
    at: &KeyPath,
) -> Result<(), Problem> {
    check_address(address, &at.key("address"))?;
    if let Some(topic) = v1_error_topic {
        Topic::new(topic).map_err(|e| at.key("v1_error_topic").is(e))?;
    }
    Ok(())
}

/// Whether it is `host:port`; an IPv6 address stands in brackets.
pub(crate) fn check_address(address: &str, at: &KeyPath) -> Result<(), Problem> {
    let is_host = |host: &str| match host.strip_prefix('[') {
        Some(v6) => v6
            .strip_suffix(']')
            .is_some_and(|v6| matches!(v6.parse(), Ok(IpAddr::V6(_)))),
        None => {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            !host.is_empty() && host.bytes().all(allowed)
        }
    };
    match address.rsplit_once(':') {
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err(at.is("not an address; host:port is wanted, such as 127.0.0.1:3653")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of a struct's fields, as its Debug form tells them.
    fn fields(debug: &str) -> Vec<String> {
        let lines = debug
            .lines()
            .filter(|l| l.starts_with("    ") && !l.starts_with("     "));
        let names = lines.filter_map(|line| Some(line.trim().split_once(": ")?.0.to_owned()));
        names.collect()
    }

    #[test]
    fn every_limit_can_be_configured() {
        assert_eq!(
            fields(&format!("{:#?}", Limits::default())),
            LimitsConfig::KEYS
        );
        let gate = format!("{:#?}", GateLimits::default());
        assert_eq!(fields(&gate), GateLimitsConfig::KEYS);
    }

    #[test]
    fn addresses() {
        let check = |address| check_address(address, &KeyPath::new()).is_ok();
        for right in [
            "127.0.0.1:0",
            "[::1]:3653",
            "[::]:1",
            "gate.example:65535",
            "localhost:1",
        ] {
            assert!(check(right), "{right}");
        }
        for wrong in [
            "",
            ":1",
            "127.0.0.1",
            "::1:3653",
            "[1.2.3.4]:1",
            "a:65536",
            "a:-1",
            "a b:1",
            "tcp://a:1",
        ] {
            assert!(!check(wrong), "{wrong}");
        }
    }
}
