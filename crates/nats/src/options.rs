//! How to reach NATS, and the bounds of what is kept for it.

use std::time::Duration;

use async_nats::ServerAddr;
use thiserror::Error;
use tidegate_protocol::name::is_token;

use crate::subject::{InvalidPrefix, Prefix};

mod auth;
mod tls;

pub use auth::{Auth, Secret, SecretError};
pub(crate) use auth::{Credentials, read as read_auth};
pub use tls::{TlsFileError, TlsOptions};

/// Most servers in one list.
const MAX_SERVERS: usize = 64;
/// Most slots of one lane: what its number in a reply's subject can tell apart.
pub(crate) const MAX_IN_FLIGHT: usize = 1 << 24;

/// How to reach NATS, and the bounds of what is kept for it.
///
/// ```
/// use tidegate_nats::{Auth, NatsOptions, Secret};
///
/// let mut options = NatsOptions::new(["nats://10.0.0.1:4222", "nats://10.0.0.2:4222"]);
/// options.name = "gate-1".to_owned();
/// options.auth = Auth::Token(Secret::file("/etc/tidegate/nats-token"));
/// assert!(options.check().is_ok());
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NatsOptions {
    /// The servers: `host`, `host:port`, `nats://host:port`, or `tls://host:port`.
    /// Those of the same cluster that they tell of are used too.
    pub servers: Vec<String>,
    /// Who the process is to them.
    pub auth: Auth,
    /// TLS to them.
    pub tls: TlsOptions,
    /// The first tokens of every subject: several systems can share a cluster.
    pub prefix: Prefix,
    /// The name of this process: the gate's id, or the service's name. Its replies arrive
    /// under it.
    pub name: String,
    /// For one attempt to connect.
    pub connect_timeout: Duration,
    /// At start, for how long to try. None: one attempt.
    pub wait: Option<Duration>,
    /// For an answer of another gate, or of NATS itself.
    pub ask_timeout: Duration,
    /// For the answer of a service; an upper bound, the gate's own timeout is the one that
    /// clients see.
    pub call_timeout: Duration,
    /// After how long a gate that is no longer heard of counts as dead. Whole seconds.
    pub lease: Duration,
    /// On how many servers the records of gates and users are kept: 1, 3 or 5.
    pub replicas: usize,
    /// Most calls of one lane that wait for an answer.
    pub in_flight: usize,
    /// Most messages of one lane that wait to be written to the socket.
    pub outbound: usize,
    /// Most messages that wait to be read, for each subscription.
    pub inbound: usize,
    /// Most events that one lane keeps while NATS cannot be reached.
    pub events: usize,
}

impl NatsOptions {
    /// The defaults, for these servers.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            auth: Auth::None,
            tls: TlsOptions::default(),
            prefix: Prefix::default(),
            name: "tidegate".to_owned(),
            connect_timeout: Duration::from_secs(2),
            wait: None,
            ask_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            lease: Duration::from_secs(10),
            replicas: 1,
            in_flight: 65_536,
            outbound: 8_192,
            inbound: 262_144,
            events: 10_000,
        }
    }

    /// Whether the options can be used, files apart.
    pub fn check(&self) -> Result<(), OptionsError> {
        self.addresses()?;
        if !is_token(&self.name) {
            return Err(OptionsError::Name(self.name.clone()));
        }
        self.auth.check()?;
        self.tls.check()?;
        let second = Duration::from_secs(1);
        let hour = Duration::from_secs(3600);
        let times = [
            ("connect_timeout", self.connect_timeout, second / 10),
            ("ask_timeout", self.ask_timeout, second / 10),
            ("call_timeout", self.call_timeout, second / 10),
            ("lease", self.lease, 2 * second),
            ("wait", self.wait.unwrap_or(second), Duration::ZERO),
        ];
        for (option, given, least) in times {
            if given < least || given > hour {
                return Err(OptionsError::Time {
                    option,
                    least,
                    most: hour,
                });
            }
        }
        if self.lease.subsec_nanos() != 0 {
            return Err(OptionsError::Lease(self.lease));
        }
        let most = MAX_IN_FLIGHT;
        let numbers = [
            ("in_flight", self.in_flight, most),
            ("outbound", self.outbound, most),
            ("inbound", self.inbound, most),
            ("events", self.events, most),
            ("replicas", self.replicas, 5),
        ];
        for (option, given, most) in numbers {
            if given == 0 || given > most {
                return Err(OptionsError::Number { option, most });
            }
        }
        if self.replicas.is_multiple_of(2) {
            return Err(OptionsError::Replicas(self.replicas));
        }
        Ok(())
    }

    /// The servers' addresses.
    pub(crate) fn addresses(&self) -> Result<Vec<ServerAddr>, OptionsError> {
        if self.servers.is_empty() || self.servers.len() > MAX_SERVERS {
            return Err(OptionsError::Servers(self.servers.len()));
        }
        self.servers.iter().map(|text| address(text)).collect()
    }

    /// The subject under which this process's replies arrive.
    pub(crate) fn inbox(&self) -> String {
        format!("{}.inbox.{}.n", self.prefix, self.name)
    }
}

/// Reads one server's address. Its text is not repeated in an error: it may hold a password.
fn address(text: &str) -> Result<ServerAddr, OptionsError> {
    let refused = |why| OptionsError::Server { why };
    if text.is_empty() || text.len() > 512 || text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(refused("it is empty, too long or holds blanks"));
    }
    // The client would read a comma-separated list as one host.
    if text.contains(',') {
        return Err(refused("it holds a comma: list the servers one by one"));
    }
    let address: ServerAddr = text
        .parse()
        .map_err(|_| refused("it is not host, host:port, nats://host:port or tls://host:port"))?;
    if address.has_user_pass() || address.password().is_some() {
        return Err(refused(
            "it holds credentials: give them as such, they would be logged with the address",
        ));
    }
    if !matches!(address.scheme(), "nats" | "tls") {
        return Err(refused("its scheme is neither nats nor tls"));
    }
    if address.host().is_empty() {
        return Err(refused("it has no host"));
    }
    Ok(address)
}

/// Options that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// None, or too many.
    #[error("{0} NATS servers are given; 1 to {MAX_SERVERS} are needed")]
    Servers(usize),
    /// Not an address.
    #[error("a NATS server's address cannot be used: {why}")]
    Server {
        /// Why.
        why: &'static str,
    },
    /// Not a name.
    #[error("the name {0:?} is not 1 to 64 letters, digits, _ or -")]
    Name(String),
    /// Not a prefix.
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
    /// The user's name is none.
    #[error("the NATS user is empty, too long or holds control characters")]
    User,
    /// A secret that cannot be read or is none.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Certificates or key that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// A duration beyond its bounds.
    #[error("{option} must be {least:?} to {most:?}")]
    Time {
        /// Which.
        option: &'static str,
        /// At least.
        least: Duration,
        /// At most.
        most: Duration,
    },
    /// A lease that NATS cannot keep.
    #[error("the lease must be whole seconds, not {0:?}")]
    Lease(Duration),
    /// A number beyond its bounds.
    #[error("{option} must be 1 to {most}")]
    Number {
        /// Which.
        option: &'static str,
        /// At most.
        most: usize,
    },
    /// An even number of replicas.
    #[error("{0} replicas cannot be: 1, 3 or 5")]
    Replicas(usize),
}

#[cfg(test)]
mod tests;
