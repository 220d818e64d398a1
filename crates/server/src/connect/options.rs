//! What can be said on the command line, and the connection that it stands for.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use thiserror::Error;
use tidegate_client::{Builder, Cipher, Client, KeyError, Protocol};

use super::command::{self, SecondsError};
use crate::secret::Secret;

/// Arguments of `tidegate connect`.
///
/// Exit codes: 0 done, 1 a command of a script failed, 2 wrong usage, 3 cannot connect,
/// 4 the connection was closed by the gate or lost.
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectArgs {
    /// Address of the gate: tcp://host:port, tls://host:port, ws://host:port/path or
    /// wss://host:port/path
    pub(super) url: String,

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

    /// Keep nothing of what is typed; otherwise it is kept without secrets in
    /// $XDG_STATE_HOME/tidegate/history
    #[arg(long)]
    pub(super) no_history: bool,

    /// How long to wait for the connection, and for each answer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    pub(super) timeout: Duration,

    /// Topic under which the gate tells errors, where its listener has one
    #[arg(long, value_name = "TOPIC", default_value = "error")]
    pub(super) error_topic: String,

    /// Send an empty packet of this topic whenever nothing was sent for 20 seconds. A gate
    /// closes TCP clients that are silent; WebSocket has pings of its own
    #[arg(long, value_name = "TOPIC")]
    keep_alive: Option<String>,

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

    /// Send 'Authorization: Bearer TOKEN'. Other users of this machine can see it
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<Secret>,

    /// The same, with the token in a file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
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
    File { path: PathBuf, why: std::io::Error },
    #[error("--cipher: {0}")]
    Key(#[from] KeyError),
    #[error("{}: no token, but nothing or several lines", .0.display())]
    Token(PathBuf),
}

/// A silent TCP client is given a minute by default.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

fn parse_seconds(text: &str) -> Result<Duration, SecondsError> {
    command::seconds(text)
}

impl ConnectArgs {
    /// The connection that is wanted. What has no meaning for this kind of address is a
    /// mistake: the gate would not get it.
    pub(super) fn builder(&self) -> Result<Builder, OptionError> {
        let scheme = self.url.split("://").next().unwrap_or_default();
        let scheme = scheme.to_ascii_lowercase();
        let mut builder = Client::builder(&self.url)
            .protocol(Protocol::V1)
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
        if let Some(option) = self.upgrade.given()
            && matches!(&*scheme, "tcp" | "tls")
        {
            return Err(OptionError::NoMeaning(option, "ws:// and wss://"));
        }
        builder = self.tls.apply(builder)?;
        builder = self.upgrade.apply(builder)?;
        self.cipher.apply(builder)
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
    fn given(&self) -> Option<&'static str> {
        let options = [
            (!self.header.is_empty(), "--header"),
            (self.token.is_some(), "--token"),
            (self.token_file.is_some(), "--token-file"),
        ];
        options
            .iter()
            .find(|(given, _)| *given)
            .map(|(_, name)| *name)
    }

    fn apply(&self, mut builder: Builder) -> Result<Builder, OptionError> {
        for header in &self.header {
            let (name, value) = header.expose().split_once(':').ok_or(OptionError::Header)?;
            builder = builder.header(name.trim(), value.trim());
        }
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.expose().to_owned()),
            (None, Some(path)) => Some(secret_in(path)?),
            (None, None) => None,
        };
        if let Some(token) = token {
            builder = builder.header("Authorization", &format!("Bearer {token}"));
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

/// The one line of a file.
fn secret_in(path: &Path) -> Result<String, OptionError> {
    let text = String::from_utf8(read(path)?).unwrap_or_default();
    match text.trim() {
        token if !token.is_empty() && !token.contains(char::is_whitespace) => Ok(token.to_owned()),
        _ => Err(OptionError::Token(path.to_owned())),
    }
}
