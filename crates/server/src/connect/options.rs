//! What can be said on the command line, and the connection that it stands for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};
use thiserror::Error;
use tidegate_client::{Backoff, Builder, Cipher, Client, KeyError, Protocol};

use super::command::{self, SecondsError};
use crate::secret::Secret;

/// Arguments of `tidegate connect`.
///
/// Exit codes: 0 done, 1 a command of a script failed, 2 wrong usage, 3 cannot connect or not
/// let in, 4 the session was closed by the gate, or the connection lost for good.
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectArgs {
    /// Address of the gate: tcp://host:port, tls://host:port, ws://host:port/path or
    /// wss://host:port/path
    pub(super) url: String,

    /// Which protocol to speak; version 1 where --cipher is given, else the extended one
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<ProtocolName>,

    /// Run this command and exit; may be given several times, runs in order
    #[arg(short = 'e', long = "execute", value_name = "COMMAND")]
    pub(super) execute: Vec<String>,

    /// Print one JSON object per line for each answer, push and failure
    #[arg(long, conflicts_with_all = ["compact", "full"])]
    pub(super) json: bool,

    /// Show each packet on one line
    #[arg(long)]
    pub(super) compact: bool,

    /// Show bodies whole, however long they are
    #[arg(long)]
    pub(super) full: bool,

    /// Connect again when the connection is lost, and go on with the session: the default on
    /// a terminal
    #[arg(long, conflicts_with = "no_reconnect")]
    reconnect: bool,

    /// End when the connection is lost: the default in scripts
    #[arg(long)]
    no_reconnect: bool,

    /// Keep nothing of what is typed; otherwise it is kept without secrets in
    /// $XDG_STATE_HOME/tidegate/history
    #[arg(long)]
    pub(super) no_history: bool,

    /// How long to wait for the connection, and for each answer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    pub(super) timeout: Duration,

    /// Topic under which errors are shown that answer no request. With version 1 it is the
    /// gate that sends them, where its listener has such a topic
    #[arg(long, value_name = "TOPIC", default_value = "error")]
    pub(super) error_topic: String,

    /// With version 1: send an empty packet of this topic whenever nothing was sent for 20
    /// seconds. A gate closes TCP clients that are silent; WebSocket and the extended
    /// protocol have pings of their own
    #[arg(long, value_name = "TOPIC")]
    keep_alive: Option<String>,

    #[command(flatten, next_help_heading = "Who you are")]
    auth: AuthArgs,

    #[command(flatten, next_help_heading = "TLS")]
    tls: TlsArgs,

    #[command(flatten, next_help_heading = "WebSocket")]
    upgrade: UpgradeArgs,

    #[command(flatten, next_help_heading = "Old ciphers")]
    cipher: CipherArgs,
}

#[derive(Debug, clap::Args)]
struct TlsArgs {
    /// Trust the certificates of this PEM file too
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// The name that the gate's certificate is for, where it is not the address's host
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,

    /// Show this certificate to the gate: a PEM file with the chain
    #[arg(long, value_name = "FILE", requires = "cert_key")]
    cert: Option<PathBuf>,

    /// Its key, a PEM file
    #[arg(long, value_name = "FILE", requires = "cert")]
    cert_key: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct UpgradeArgs {
    /// Send this header with the WebSocket request ('Name: value'); may be given several
    /// times. Other users of this machine can see it
    #[arg(long, value_name = "HEADER")]
    header: Vec<Secret>,
}

#[derive(Debug, clap::Args)]
struct AuthArgs {
    /// Show this token: as {"token": TOKEN} in the $hello of the extended protocol, and to
    /// WebSocket in 'Authorization: Bearer TOKEN'. Other users of this machine can see it
    #[arg(long, value_name = "TOKEN", group = "shown")]
    token: Option<Secret>,

    /// The same, with the token in a file
    #[arg(long, value_name = "FILE", group = "shown")]
    token_file: Option<PathBuf>,

    /// Show this in the $hello of the extended protocol: JSON, or else a text. Other users of
    /// this machine can see it
    #[arg(long, value_name = "JSON", group = "shown")]
    auth: Option<Secret>,

    /// The same, with what to show in a file
    #[arg(long, value_name = "FILE", group = "shown")]
    auth_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProtocolName {
    /// Sessions that outlive their connection, errors and reasons in words, heartbeats
    Extended,
    /// The plain protocol, for gates and listeners that know nothing else
    V1,
}

#[derive(Debug, clap::Args)]
struct CipherArgs {
    /// Encrypt packets as old clients do, where the gate's listener does. It keeps packets
    /// from being read, not from being forged or replayed: prefer tls:// and wss://
    #[arg(long, value_name = "CIPHER", requires = "key_given")]
    cipher: Option<CipherName>,

    /// The key. Other users of this machine can see it
    #[arg(long, value_name = "KEY", requires = "cipher", group = "key_given")]
    key: Option<Secret>,

    /// The key is in this file, without the line end that may follow it
    #[arg(long, value_name = "FILE", requires = "cipher", group = "key_given")]
    key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CipherName {
    /// AES-128, each block for itself
    AesEcb,
    /// AES, 16, 24 or 32 bytes of key
    AesCbc,
}

/// Options that make no sense.
#[derive(Debug, Error)]
pub(super) enum OptionError {
    #[error("{0} has a meaning with {1} only")]
    NoMeaning(&'static str, &'static str),
    #[error("--header wants 'Name: value'")]
    Header,
    #[error("{path}: {why}", path = path.display())]
    File { path: PathBuf, why: io::Error },
    #[error("--cipher: {0}")]
    Key(#[from] KeyError),
    #[error("{}: no token, but nothing or several lines", .0.display())]
    Token(PathBuf),
}

/// What some options are for.
const EXTENDED: &str = "the extended protocol";

/// Somebody waits for it, and there are not many of them.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(500),
    cap: Duration::from_secs(5),
};

/// A silent TCP client is given a minute by default.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

fn parse_seconds(text: &str) -> Result<Duration, SecondsError> {
    command::seconds(text)
}

impl ConnectArgs {
    /// The connection that is wanted. What has no meaning for this kind of address is a
    /// mistake: the gate would not get it.
    pub(super) fn builder(&self, reconnect: bool) -> Result<Builder, OptionError> {
        let extended = self.extended();
        let scheme = self.url.split("://").next().unwrap_or_default();
        let scheme = scheme.to_ascii_lowercase();
        let mut builder = Client::builder(&self.url)
            .protocol(match extended {
                true => Protocol::Extended,
                false => Protocol::V1,
            })
            // Who does not come back leaves nothing that waits.
            .resume(reconnect)
            .backoff(BACKOFF)
            .connect_timeout(self.timeout)
            .request_timeout(self.timeout)
            .error_topic(&self.error_topic);
        if let Some(topic) = &self.keep_alive {
            builder = builder.keepalive(topic, KEEP_ALIVE);
        }
        if let Some(option) = self.tls.given()
            && matches!(&*scheme, "tcp" | "ws")
        {
            return Err(OptionError::NoMeaning(option, "tls:// and wss://"));
        }
        let websocket = !matches!(&*scheme, "tcp" | "tls");
        if !websocket && !self.upgrade.header.is_empty() {
            return Err(OptionError::NoMeaning("--header", "ws:// and wss://"));
        }
        if !extended && self.reconnect {
            return Err(OptionError::NoMeaning("--reconnect", EXTENDED));
        }
        builder = self.tls.apply(builder)?;
        builder = self.upgrade.apply(builder)?;
        builder = self.auth.apply(builder, extended, websocket)?;
        self.cipher.apply(builder)
    }
}

impl ConnectArgs {
    /// Whether the extended protocol is to be spoken. The ciphers are for those that know
    /// version 1 only.
    pub(super) fn extended(&self) -> bool {
        match self.protocol {
            Some(protocol) => protocol == ProtocolName::Extended,
            None => self.cipher.cipher.is_none(),
        }
    }

    /// Whether a connection that is lost is to be made again. Scripts want to know.
    pub(super) fn reconnects(&self, scripted: bool) -> bool {
        self.extended() && !self.no_reconnect && (self.reconnect || !scripted)
    }
}

impl TlsArgs {
    fn given(&self) -> Option<&'static str> {
        let options = [
            (self.ca.is_some(), "--ca"),
            (self.server_name.is_some(), "--server-name"),
            (self.cert.is_some(), "--cert"),
        ];
        options
            .iter()
            .find(|(given, _)| *given)
            .map(|(_, name)| *name)
    }

    fn apply(&self, mut builder: Builder) -> Result<Builder, OptionError> {
        if let Some(path) = &self.ca {
            builder = builder.ca_pem(read(path)?);
        }
        if let Some(name) = &self.server_name {
            builder = builder.server_name(name);
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.cert_key) {
            builder = builder.client_certificate(read(cert)?, read(key)?);
        }
        Ok(builder)
    }
}

impl UpgradeArgs {
    fn apply(&self, mut builder: Builder) -> Result<Builder, OptionError> {
        for header in &self.header {
            let (name, value) = header.expose().split_once(':').ok_or(OptionError::Header)?;
            builder = builder.header(name.trim(), value.trim());
        }
        Ok(builder)
    }
}

impl AuthArgs {
    fn apply(
        &self,
        mut builder: Builder,
        extended: bool,
        websocket: bool,
    ) -> Result<Builder, OptionError> {
        let shown = match (&self.auth, &self.auth_file) {
            (Some(auth), _) => Some(("--auth", auth.expose().to_owned())),
            (None, Some(path)) => Some(("--auth-file", text_in(path)?)),
            (None, None) => None,
        };
        if let Some((option, shown)) = shown {
            if !extended {
                return Err(OptionError::NoMeaning(option, EXTENDED));
            }
            let auth = serde_json::from_str(&shown).unwrap_or_else(|_| Value::from(shown.trim()));
            builder = builder.auth(auth);
        }
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.expose().to_owned()),
            (None, Some(path)) => Some(secret_in(path)?),
            (None, None) => None,
        };
        let Some(token) = token else {
            return Ok(builder);
        };
        if !extended && !websocket {
            let option = match self.token {
                Some(_) => "--token",
                None => "--token-file",
            };
            return Err(OptionError::NoMeaning(
                option,
                "ws://, wss:// and the extended protocol",
            ));
        }
        if websocket {
            builder = builder.header("Authorization", &format!("Bearer {token}"));
        }
        if extended {
            builder = builder.auth(json!({ "token": token }));
        }
        Ok(builder)
    }
}

impl CipherArgs {
    fn apply(&self, builder: Builder) -> Result<Builder, OptionError> {
        let Some(cipher) = self.cipher else {
            return Ok(builder);
        };
        let key = match (&self.key, &self.key_file) {
            (Some(key), _) => key.expose().as_bytes().to_vec(),
            (None, Some(path)) => without_line_end(read(path)?),
            (None, None) => Vec::new(),
        };
        Ok(builder.cipher(match cipher {
            CipherName::AesEcb => Cipher::aes_ecb(key)?,
            CipherName::AesCbc => Cipher::aes_cbc(key)?,
        }))
    }
}

fn without_line_end(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

fn read(path: &Path) -> Result<Vec<u8>, OptionError> {
    fs::read(path).map_err(|why| OptionError::File {
        path: path.to_owned(),
        why,
    })
}

/// A file's text.
fn text_in(path: &Path) -> Result<String, OptionError> {
    String::from_utf8(read(path)?).map_err(|why| OptionError::File {
        path: path.to_owned(),
        why: io::Error::new(io::ErrorKind::InvalidData, why.utf8_error()),
    })
}

/// The one line of a file.
fn secret_in(path: &Path) -> Result<String, OptionError> {
    let text = String::from_utf8(read(path)?).unwrap_or_default();
    match text.trim() {
        token if !token.is_empty() && !token.contains(char::is_whitespace) => Ok(token.to_owned()),
        _ => Err(OptionError::Token(path.to_owned())),
    }
}
