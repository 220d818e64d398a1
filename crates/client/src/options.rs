//! Options of the extended protocol.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use serde_json::value::to_raw_value;
use tidegate_protocol::extended::{Heartbeat, Hello, MAX_NAME, RESUME, VERSION};

use crate::builder::Builder;
use crate::error::Error;
use crate::extended::Backoff;
use crate::outbox::Bounds;

/// Fewest packets that [`Builder::max_queued`] takes: a gate acknowledges in steps.
const LEAST_QUEUED: usize = 32;

/// Which protocol a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// The extended protocol: the gate tells errors and reasons, a lost connection is made
    /// again, and the session goes on. A gate that does not answer to it is an error
    /// ([`Error::NoWelcome`], [`Error::NotExtended`]): there is no falling back.
    #[default]
    Extended,
    /// Version 1, for gates that know nothing else: one connection, and no word on errors.
    V1,
}

/// Why there is nothing to show to be let in.
pub type AuthError = Box<dyn std::error::Error + Send + Sync>;

/// What a client shows to be let in.
#[derive(Clone)]
pub(crate) enum Auth {
    Nothing,
    Value(Value),
    Asked(Arc<dyn Fn() -> BoxFuture<'static, Result<Value, AuthError>> + Send + Sync>),
}

impl fmt::Debug for Auth {
    /// It is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Value(_) => "Value(..)",
            Self::Asked(_) => "Asked(..)",
        })
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    auth: Auth,
    agent: String,
    device: String,
    resume: bool,
    heartbeat: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) bounds: Bounds,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            auth: Auth::Nothing,
            agent: concat!("tidegate-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            device: String::new(),
            resume: true,
            heartbeat: Duration::from_secs(25),
            backoff: Backoff::default(),
            bounds: Bounds {
                packets: 1000,
                bytes: 1024 * 1024,
            },
        }
    }
}

impl Builder {
    /// Which protocol to speak. Default [`Protocol::Extended`], which has the options below;
    /// [`keepalive`](Self::keepalive), [`error_topic`](Self::error_topic) and
    /// [`send_queue`](Self::send_queue) are for version 1 only.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// What the gate is shown to let the client in, at each connection: any JSON; what it
    /// must be is the gate owner's affair. Default nothing.
    pub fn auth(mut self, auth: impl Into<Value>) -> Self {
        self.extended.auth = Auth::Value(auth.into());
        self
    }

    /// Like [`auth`](Self::auth), asked for before each connection: for tokens that expire.
    /// If it fails, the attempt fails with [`Error::Auth`].
    pub fn auth_with<F, A>(mut self, auth: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<Value, AuthError>> + Send + 'static,
    {
        self.extended.auth = Auth::Asked(Arc::new(move || Box::pin(auth())));
        self
    }

    /// What this client is, for the gate's logs: at most 128 bytes. Default this crate's name
    /// and version.
    pub fn agent(mut self, agent: &str) -> Self {
        self.extended.agent = agent.to_owned();
        self
    }

    /// Tells devices of one user apart, where the gate limits the logins on each: at most
    /// 128 bytes, without control characters. Default none.
    pub fn device(mut self, device: &str) -> Self {
        self.extended.device = device.to_owned();
        self
    }

    /// Whether the session is to go on after its connection was lost. Default yes; a gate may
    /// not offer it, see [`Opened::resumable`](crate::Opened::resumable).
    pub fn resume(mut self, resume: bool) -> Self {
        self.extended.resume = resume;
        self
    }

    /// How long to wait before connecting again.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        let least = Duration::from_millis(1);
        self.extended.backoff = Backoff {
            base: backoff.base.max(least),
            cap: backoff.cap.max(least),
        };
        self
    }

    /// How many packets, and how many bytes of topic and body in them, may wait while there
    /// is no connection ([`Error::QueueFull`] is for the next), and how many written ones
    /// may be without an acknowledgement. Default 1,000 packets and 1 MiB; at least 32
    /// packets. One packet may wait whatever its size.
    pub fn max_queued(mut self, packets: usize, bytes: usize) -> Self {
        self.extended.bounds = Bounds {
            packets: packets.max(LEAST_QUEUED),
            bytes,
        };
        self
    }

    /// Within which time each side is to be heard, as far as the gate agrees; a side that
    /// was not heard for twice as long is taken for lost. Default 25 s.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.extended.heartbeat = interval;
        self
    }
}

impl Options {
    /// Checks what can be known to be wrong before connecting.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (name, text) in [("agent", &self.agent), ("device", &self.device)] {
            if text.len() > MAX_NAME || text.chars().any(char::is_control) {
                return Err(Error::InvalidName(name));
            }
        }
        Ok(())
    }

    /// What to say at a connection's beginning, but for the session to go on with.
    pub(crate) async fn hello(&self) -> Result<Hello, Error> {
        let auth = match &self.auth {
            Auth::Nothing => None,
            Auth::Value(value) => Some(value.clone()),
            Auth::Asked(ask) => Some(ask().await.map_err(Error::Auth)?),
        };
        let auth = auth.as_ref().map(to_raw_value).transpose();
        let interval = u64::try_from(self.heartbeat.as_millis()).unwrap_or(u64::MAX);
        Ok(Hello {
            versions: vec![VERSION],
            agent: self.agent.clone(),
            device: self.device.clone(),
            capabilities: match self.resume {
                true => vec![RESUME.to_owned()],
                false => Vec::new(),
            },
            auth: auth.map_err(|e| Error::Auth(Box::new(e)))?,
            heartbeat: Some(Heartbeat {
                client_ms: interval,
                gate_ms: interval,
            }),
            resume: None,
        })
    }
}
