//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tidegate_protocol::InstanceId;

use crate::auth::mint::TokenArgs;
use crate::config::command::ConfigCommand;
use crate::config::{BuiltIn, Given, LogFormat, LogLevel, Mistakes, Sources, environment};
use crate::connect::ConnectArgs;
use crate::secret::Secret;

/// Long-connection gateway: TCP and WebSocket clients in front, services behind
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// None: the demo.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const AFTER_HELP: &str = "\
Examples:
  tidegate                                      the demo: echo and chat on this machine
  tidegate connect tcp://127.0.0.1:3653         talk to it
  tidegate config init                          write tidegate.toml
  tidegate serve --config tidegate.toml         run a gate
  tidegate serve --tcp 0.0.0.0:3653 --service echo
  tidegate service chat --nats nats://127.0.0.1:4222

Without a command the demo runs.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a gate with an echo and a chat service on this machine, and say how to try it
    Demo(DemoArgs),
    /// Run a gate, as a configuration file and flags say
    #[command(after_help = SERVE_AFTER_HELP)]
    Serve(ServeArgs),
    /// Run services in a process of their own, for the gates of a bus
    #[command(after_help = SERVICE_AFTER_HELP)]
    Service(ServiceArgs),
    /// Write, check or print a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Connect to a gate, and talk to it by hand or from a script
    #[command(after_help = CONNECT_AFTER_HELP)]
    Connect(ConnectArgs),
    /// Make a token (JWT) that a gate accepts, with a key of its configuration or your own
    #[command(after_help = TOKEN_AFTER_HELP)]
    Token(TokenArgs),
}

const SERVE_AFTER_HELP: &str = "\
Flags win over the environment (TIDEGATE__LIMITS__READ_BUFFER=4096), the environment over the
file, the file over the defaults. A key that is unknown or wrong stops the start, and is named
with its place; tidegate config check tells all mistakes without starting.

Services of this process are those that the program brings with it (--service, or
services = [\"echo\", \"chat\"] in the file). With --nats, or bus = \"nats\", clients reach the
services of other processes too: those of tidegate service, and yours, in any language. Rust
programs can embed a gate with its services, with the library.

SIGTERM and SIGINT (Ctrl-C) stop the gate in order: /readyz answers 503, listeners close,
calls under way finish, clients are told. A second signal ends it at once.

Exit codes: 0 stopped in order, 1 cannot start (a port or the id is taken, a certificate
cannot be used, NATS cannot be reached) or cut short, 2 wrong configuration or usage.

Examples:
  tidegate serve --config tidegate.toml
  tidegate serve --id gate-1 --tcp 0.0.0.0:3653 --nats nats://127.0.0.1:4222
  tidegate serve --tcp 0.0.0.0:3653 --ws 0.0.0.0:3654 --admin 127.0.0.1:3656 --service echo";

const SERVICE_AFTER_HELP: &str = "\
Takes file, environment and flags as tidegate serve does, and of them [nats], [log] and
gate.shutdown_timeout. A line on standard output says when a service is ready. SIGTERM and
SIGINT (Ctrl-C) stop it in order: nothing new is taken, what is under way finishes. A second
signal ends it at once.

Exit codes: 0 stopped in order, 1 cannot start (NATS cannot be reached, the instance is
taken) or cut short, 2 wrong configuration or usage.

Examples:
  tidegate service chat --nats nats://127.0.0.1:4222
  tidegate service echo chat --config services.toml";

const CONNECT_AFTER_HELP: &str = "\
Without -e, commands are read from standard input: edited, with completion and history, where
that is a terminal. help lists them. Results go to standard output, what went wrong and what
happens to the connection to standard error; with --json all goes to standard output.

The extended protocol tells errors and reasons, and lets a session outlive its connection: one
that is lost is made again, on a terminal and with --reconnect, and the session goes on where
the gate still has it. A gate that invites nobody back (close codes from 4500) is not asked
again. Scripts end with their connection, and their session with it, unless --reconnect says
otherwise; requests then wait for the next connection, up to --timeout.

With --json each line is an object, and its \"event\" one of:
  answer      to a request: topic, encoding (json, text or base64), body, elapsed_ms
  push        topic, encoding, body; error: which packet was not served, code, name, message
  failed      a command: topic, error (kind, code, name, message), elapsed_ms
  missed      packets: so many came faster than they were shown
  gap         packets that the gate left out; reason: replaced, dropped or too-large
  open        a connection: protocol; extended also version, gate, session, user, resumed,
              refused (code, name, text: why not resumed), resume_window_ms, written_again,
              client_heartbeat_ms, gate_heartbeat_ms
  waiting     none: cause, code, name, text, may_reconnect, unsent, and delay_ms to the next
  connecting  attempt
  draining    the gate is going to close: deadline_ms, retry_after_ms
  not-resumable    the session ends with its connection from now on: refused
  outcome-unknown  a packet sent in a session that is gone: topic
  too-large   a packet that fits no frame of the new gate: topic, message
  state       answers state: state (open, waiting, ...) with the fields above, sent, received,
              unacknowledged, queued
  closed      the end: as waiting, without delay_ms
open, waiting and connecting are told where connections are made again.

Exit codes: 0 done, 1 a command of a script failed, 2 wrong usage, 3 cannot connect or not let
in, 4 closed by the gate or lost.

Examples:
  tidegate connect tcp://127.0.0.1:3653
  tidegate connect ws://127.0.0.1:3654/ -e 'echo/echo hello'
  tidegate connect wss://gate.example/ --ca ca.pem --token-file token
  tidegate connect tls://gate.example:3653 --auth-file proof.json --reconnect
  tidegate connect tls://gate.example:3653 --cert me.pem --cert-key me.key
  tidegate connect tcp://gate.example:3653 --protocol v1
  tidegate connect tcp://gate.example:3653 --cipher aes-cbc --key-file key
  tidegate connect tcp://127.0.0.1:3653 -e 'chat/login bob' -e 'wait-for chat/said 60'
  tidegate connect tcp://127.0.0.1:3653 --json < commands | jq .body";

const TOKEN_AFTER_HELP: &str = "\
Only the token goes to standard output. There is no key but those that you set: one that is
only public signs nothing, and --key names the private one.

Exit codes: 0 made, 1 the keys cannot be used, 2 wrong configuration or usage.

Examples:
  tidegate token --config tidegate.toml --user ada --ttl 10m
  tidegate token --config tidegate.toml --user ada --key private.pem --setting role=admin";

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where TCP clients connect; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3653")]
    pub(crate) tcp: String,

    /// Where WebSocket clients connect
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3654")]
    pub(crate) ws: String,

    /// Where the chat page is
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3655")]
    pub(crate) page: String,

    /// Where /healthz, /readyz and /metrics are
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3656")]
    pub(crate) admin: String,

    /// Web pages of this origin may connect too (http://192.168.1.5:3655), beside those of
    /// --page; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) ws_origin: Vec<String>,

    /// Where browsers find the gate's WebSocket listener, if something lies between: a proxy,
    /// a mapped port
    #[arg(long, value_name = "URL")]
    pub(crate) ws_url: Option<String>,

    /// Tell clients about errors in packets of this topic; the version 1 protocol has no
    /// word for them
    #[arg(long, value_name = "TOPIC", default_value = "error")]
    pub(crate) v1_error_topic: String,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    from: ConfigArgs,

    /// The gate's id: 1 to 64 of A-Z a-z 0-9 _ -; random where none is given
    #[arg(long, value_name = "ID")]
    id: Option<String>,

    /// Threads that serve connections; one per core where none is given
    #[arg(long, value_name = "NUMBER")]
    shards: Option<String>,

    /// Where TCP clients connect; may be given several times. The first one takes the place
    /// of the address in the file's first [[tcp]], and so on; more are added, without TLS
    #[arg(long, value_name = "ADDRESS")]
    tcp: Vec<String>,

    /// Where WebSocket clients connect; as with --tcp
    #[arg(long, value_name = "ADDRESS")]
    ws: Vec<String>,

    /// Where /healthz, /readyz and /metrics are; nowhere where none is given
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,

    /// Services to run in this process
    #[arg(long = "service", value_name = "SERVICE", value_delimiter = ',')]
    services: Vec<BuiltIn>,

    #[command(flatten)]
    nats: NatsArgs,

    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    /// Services to run
    #[arg(value_name = "SERVICE", required = true)]
    pub(crate) services: Vec<Detached>,

    /// What this instance is called on the bus: 1 to 64 of A-Z a-z 0-9 _ -; random where none
    /// is given
    #[arg(long, value_name = "ID", value_parser = instance)]
    pub(crate) instance: Option<InstanceId>,

    #[command(flatten)]
    from: ConfigArgs,

    #[command(flatten)]
    nats: NatsArgs,

    #[command(flatten)]
    log: LogArgs,
}

/// A service that can be in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Detached {
    /// Answers what it is sent
    Echo,
    /// Rooms, names, private messages
    Chat,
}

impl Detached {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Chat => "chat",
        }
    }
}

fn instance(text: &str) -> Result<InstanceId, &'static str> {
    InstanceId::new(text).map_err(|_| "expected 1 to 64 of A-Z a-z 0-9 _ -")
}

#[derive(Debug, Args)]
struct NatsArgs {
    /// Be on NATS, with this server; may be given several times, for servers of one cluster.
    /// Credentials are keys of the file: [nats]
    #[arg(long = "nats", value_name = "URL", value_delimiter = ',')]
    servers: Vec<String>,
}

impl NatsArgs {
    fn given(self) -> Vec<Given> {
        let mut given = Vec::new();
        for (i, server) in self.servers.into_iter().enumerate() {
            if i == 0 {
                given.push(Given::new("--nats", "bus", "nats"));
                given.push(Given::new("--nats", "nats.servers", "[]"));
            }
            given.push(Given::new("--nats", &format!("nats.servers.{i}"), server));
        }
        given
    }
}

/// Where a configuration comes from.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Sets any key, as in --set limits.read_buffer=4096 or --set tcp.0.name=players; may be
    /// given several times. Others on this machine can see flags: give secrets in files
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Secret>,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct LogArgs {
    /// How log lines look (they go to standard error)
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    /// The least important lines that are logged
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
}

impl LogArgs {
    /// What was given.
    pub(crate) fn given(self) -> impl Iterator<Item = Given> {
        let format = self
            .log_format
            .map(|format| word("--log-format", "log.format", format));
        let level = self
            .log_level
            .map(|level| word("--log-level", "log.level", level));
        format.into_iter().chain(level)
    }
}

impl ConfigArgs {
    /// File, environment, and `flags` with what `--set` says over them.
    pub(crate) fn sources(self, mut flags: Vec<Given>) -> Result<Sources, Mistakes> {
        for set in &self.set {
            flags.push(Given::set(set)?);
        }
        Ok(Sources {
            file: self.config,
            environment: environment(),
            flags,
        })
    }
}

impl ServeArgs {
    /// File, environment and flags.
    pub(crate) fn sources(self) -> Result<Sources, Mistakes> {
        let mut flags = Vec::new();
        let one = |flag, key, value: Option<String>| value.map(|v| Given::new(flag, key, v));
        flags.extend(one("--id", "id", self.id));
        flags.extend(one("--shards", "shards", self.shards));
        flags.extend(one("--admin", "admin.address", self.admin));
        for (flag, kind, addresses) in [("--tcp", "tcp", self.tcp), ("--ws", "websocket", self.ws)]
        {
            for (i, address) in addresses.into_iter().enumerate() {
                flags.push(Given::new(flag, &format!("{kind}.{i}.address"), address));
            }
        }
        for (i, service) in self.services.into_iter().enumerate() {
            if i == 0 {
                flags.push(Given::new("--service", "services", "[]"));
            }
            flags.push(word("--service", &format!("services.{i}"), service));
        }
        flags.extend(self.nats.given());
        flags.extend(self.log.given());
        self.from.sources(flags)
    }
}

impl ServiceArgs {
    /// File, environment and flags.
    pub(crate) fn sources(self) -> Result<Sources, Mistakes> {
        let mut flags = self.nats.given();
        flags.extend(self.log.given());
        self.from.sources(flags)
    }
}

/// One of a few words, which clap has read already.
fn word(flag: &'static str, key: &str, value: impl ValueEnum) -> Given {
    let word = value.to_possible_value();
    let word = word.map(|word| word.get_name().to_owned());
    Given::new(flag, key, word.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loaded;

    #[test]
    fn the_command_line_is_well_declared() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_win_and_keep_what_they_do_not_name() {
        let file = std::env::temp_dir().join(format!("tidegate-cli-{}.toml", std::process::id()));
        let text = "id = \"a\"\nshards = 3\nservices = [\"echo\"]\n\
            [[tcp]]\naddress = \"a:1\"\ntls = { cert = \"c\", key = \"k\" }\n";
        std::fs::write(&file, text).unwrap();
        let path = file.to_str().unwrap();
        let flags = [
            "--id",
            "b",
            "--tcp",
            "b:2",
            "--tcp",
            "c:3",
            "--log-level",
            "debug",
        ];
        let args = ["tidegate", "serve", "--config", path]
            .into_iter()
            .chain(flags);
        let Some(Command::Serve(serve)) = Cli::parse_from(args).command else {
            panic!("not serve");
        };
        let config = Loaded::load(&serve.sources().unwrap()).unwrap().config;
        std::fs::remove_file(&file).unwrap();
        assert_eq!(config.id.unwrap().as_str(), "b");
        assert_eq!(config.shards, Some(3));
        assert_eq!(config.services, [BuiltIn::Echo]);
        assert_eq!(config.log.level, LogLevel::Debug);
        assert_eq!(config.tcp.len(), 2);
        let tls = config.tcp[0].tls.as_ref().unwrap();
        assert_eq!(config.tcp[0].address.as_str(), "b:2");
        assert_eq!(
            tls.cert.0,
            file.parent().unwrap().join("c"),
            "beside the file"
        );
        assert!(config.tcp[1].tls.is_none());
    }
}
