//! Listeners: where clients come in, and what their connections may do.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use thiserror::Error;
use tidegate_protocol::ws::TextMessages;
use tidegate_protocol::ws::policy::{Origins, Policy, PolicyError};
use tidegate_protocol::ws::upgrade::UpgradeLimits;
use tidegate_protocol::{Cipher, Codec, Legacy, Network, Topic, TopicError, V1, ws};

use crate::limits::{LimitError, Limits};
use crate::tls::{Tls, TlsError};

/// Connections allowed to wait in the kernel to be accepted.
const BACKLOG: i32 = 4096;

/// A TCP listener: a stream of frames.
#[derive(Debug, Clone)]
pub struct Tcp(Listener);

/// A WebSocket listener: one frame in each binary message.
#[derive(Debug, Clone)]
pub struct WebSocket(Listener);

/// A listener of either kind, to be given to a gate.
#[derive(Clone)]
pub struct Listener {
    address: String,
    name: Option<String>,
    tls: Option<Tls>,
    codec: Arc<dyn Codec>,
    cipher: Option<&'static str>,
    limits: Option<Limits>,
    v1_error_topic: Option<String>,
    ws: Option<Policy>,
    text: TextMessages,
}

macro_rules! common {
    ($kind:ident) => {
        impl $kind {
            /// The listener's name in logs, metrics and hooks; by default its address.
            pub fn name(mut self, name: impl Into<String>) -> Self {
                self.0.name = Some(name.into());
                self
            }

            /// TLS (1.2 and up) with this certificate chain and key, PEM files. What
            /// cannot be loaded stops the start.
            pub fn tls(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
                self.0.tls = Some(Tls {
                    cert: cert.into(),
                    key: key.into(),
                });
                self
            }

            /// Another frame than [`V1`].
            pub fn codec(mut self, codec: impl Codec) -> Self {
                self.0.codec = Arc::new(codec);
                self.0.cipher = None;
                self
            }

            /// The encrypted frames of old clients, in place of another codec. Neither
            /// cipher authenticates anything or stops replay: use TLS for all who can. The
            /// gate warns of each such listener when it starts.
            pub fn cipher(mut self, cipher: Cipher) -> Self {
                self.0.codec = Arc::new(Legacy::new(&cipher));
                self.0.cipher = Some(cipher.name());
                self
            }

            /// Limits of this listener's own, in place of the gate's.
            pub fn limits(mut self, limits: Limits) -> Self {
                self.0.limits = Some(limits);
                self
            }

            /// Version 1 clients, which know no error packet, get errors as packets of
            /// this topic: JSON with `topic`, `code` and `message`.
            pub fn v1_error_topic(mut self, topic: impl Into<String>) -> Self {
                self.0.v1_error_topic = Some(topic.into());
                self
            }
        }

        impl From<$kind> for Listener {
            fn from(listener: $kind) -> Listener {
                listener.0
            }
        }
    };
}

common!(Tcp);
common!(WebSocket);

impl Tcp {
    /// Listens on `address`, as `host:port`; port 0 takes a free one.
    pub fn bind(address: impl Into<String>) -> Self {
        Self(Listener::new(address.into(), None))
    }
}

impl WebSocket {
    /// Listens on `address`, as `host:port`; port 0 takes a free one. Path `/`, pages of
    /// the same host only.
    pub fn bind(address: impl Into<String>) -> Self {
        Self(Listener::new(address.into(), Some(Policy::default())))
    }

    /// The one path that is served; others get 404.
    pub fn path(self, path: impl Into<String>) -> Self {
        self.policy(|policy| policy.path = path.into())
    }

    /// Pages that may connect, by origin (`https://example.com`). Clients that send no
    /// Origin are not browsers and may always.
    pub fn origins<T: Into<String>>(self, origins: impl IntoIterator<Item = T>) -> Self {
        let origins = origins.into_iter().map(Into::into).collect();
        self.policy(|policy| policy.origins = Origins::List(origins))
    }

    /// Pages of any origin may connect.
    pub fn any_origin(self) -> Self {
        self.policy(|policy| policy.origins = Origins::Any)
    }

    /// Sub-protocols spoken here, the preferred one first.
    pub fn subprotocols<T: Into<String>>(self, names: impl IntoIterator<Item = T>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.policy(|policy| policy.subprotocols = names)
    }

    /// Whether a text message is taken for a frame, whatever bytes it has, as the gate
    /// that old clients were made for did. What the gate sends is binary all the same. Off.
    pub fn allow_text(mut self, allow: bool) -> Self {
        self.0.text = match allow {
            true => TextMessages::AnyBytes,
            false => TextMessages::Refused,
        };
        self
    }

    fn policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        if let Some(policy) = &mut self.0.ws {
            change(policy);
        }
        self
    }
}

impl Listener {
    fn new(address: String, ws: Option<Policy>) -> Self {
        Self {
            address,
            name: None,
            tls: None,
            codec: Arc::new(V1),
            cipher: None,
            limits: None,
            v1_error_topic: None,
            ws,
            text: TextMessages::Refused,
        }
    }

    /// Checks everything and binds the socket; nothing is accepted yet.
    pub(crate) fn open(
        self,
        default: &Limits,
    ) -> Result<(std::net::TcpListener, Endpoint), ListenError> {
        let address = self.address.clone();
        let open = || {
            let (socket, local) = bind(&address)?;
            Ok((socket, self.endpoint(default, Some(local))?))
        };
        open().map_err(|why| ListenError {
            address: address.clone(),
            why,
        })
    }

    /// Checks everything, for connections that the caller brings.
    pub(crate) fn without_socket(self, default: &Limits) -> Result<Endpoint, ListenError> {
        let address = self.address.clone();
        let endpoint = self.endpoint(default, None);
        endpoint.map_err(|why| ListenError { address, why })
    }

    /// What connections of this listener need to know, without a socket.
    pub(crate) fn endpoint(
        self,
        default: &Limits,
        local: Option<SocketAddr>,
    ) -> Result<Endpoint, ListenErrorKind> {
        let limits = self.limits.unwrap_or_else(|| default.clone());
        limits.check()?;
        if let Some(policy) = &self.ws {
            policy.validate()?;
        }
        let v1_error_topic = self.v1_error_topic.map(Topic::try_from).transpose()?;
        if v1_error_topic.as_ref().is_some_and(Topic::is_reserved) {
            return Err(ListenErrorKind::ReservedErrorTopic);
        }
        let tls = self.tls.map(|tls| tls.load()).transpose()?;
        let ws = self.ws.map(|policy| WsEndpoint {
            policy,
            upgrade: UpgradeLimits {
                max_head: limits.max_upgrade_size,
            },
            decode: ws::Limits {
                max_message: limits.max_packet_size,
                max_fragments: limits.max_fragments,
                text: self.text,
            },
        });
        Ok(Endpoint {
            name: self.name.unwrap_or(self.address).into(),
            local,
            codec: self.codec,
            cipher: self.cipher,
            limits,
            v1_error_topic,
            ws,
            tls,
        })
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .field("name", &self.name)
            .field("tls", &self.tls)
            .field("cipher", &self.cipher)
            .field("ws", &self.ws)
            .finish_non_exhaustive()
    }
}

fn bind(address: &str) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no such address");
    for address in address.to_socket_addrs()? {
        match bind_one(address) {
            Ok(socket) => {
                let local = socket.local_addr()?;
                return Ok((socket, local));
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart need not wait for the last one's connections; a second gate on the
    // same port still fails.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What the connections of one listener share.
pub(crate) struct Endpoint {
    pub(crate) name: Arc<str>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) codec: Arc<dyn Codec>,
    /// The legacy cipher's name, where the codec is one.
    pub(crate) cipher: Option<&'static str>,
    pub(crate) limits: Limits,
    pub(crate) v1_error_topic: Option<Topic>,
    pub(crate) ws: Option<WsEndpoint>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

pub(crate) struct WsEndpoint {
    pub(crate) policy: Policy,
    pub(crate) upgrade: UpgradeLimits,
    pub(crate) decode: ws::Limits,
}

impl Endpoint {
    pub(crate) fn network(&self) -> Network {
        match self.ws {
            Some(_) => Network::Ws,
            None => Network::Tcp,
        }
    }
}

/// A listener that cannot be opened: the gate does not start.
#[derive(Debug, Error)]
#[error("listener {address}: {why}")]
pub struct ListenError {
    /// The address as configured.
    pub address: String,
    /// What is wrong.
    pub why: ListenErrorKind,
}

/// What is wrong with a listener.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenErrorKind {
    /// The address cannot be resolved or bound.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// WebSocket path, origin or sub-protocol.
    #[error(transparent)]
    WebSocket(#[from] PolicyError),
    /// The error topic is not a topic.
    #[error("v1_error_topic: {0}")]
    ErrorTopic(#[from] TopicError),
    /// The error topic begins with `$`: those are never sent to version 1 clients.
    #[error("v1_error_topic begins with $, which is reserved")]
    ReservedErrorTopic,
}
