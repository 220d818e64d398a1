//! Listeners: where clients come in, and what their connections may do.
//!
//! - This file: how one is described.
//! - [`bind`]: its socket.
//! - [`endpoint`]: what its connections share, checked.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tidegate_protocol::ws::policy::{Origins, Policy};
use tidegate_protocol::{Codec, V1};

use crate::limits::Limits;
use crate::tls::Tls;

mod bind;
mod endpoint;
mod error;

pub(crate) use endpoint::Endpoint;
pub use error::{ListenError, ListenErrorKind};

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
    limits: Option<Limits>,
    v1_error_topic: Option<String>,
    ws: Option<Policy>,
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
            limits: None,
            v1_error_topic: None,
            ws,
        }
    }

    /// Checks everything and binds the socket; nothing is accepted yet.
    pub(crate) fn open(
        self,
        default: &Limits,
    ) -> Result<(std::net::TcpListener, Endpoint), ListenError> {
        let address = self.address.clone();
        let open = || {
            let (socket, local) = bind::bind(&address)?;
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
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .field("name", &self.name)
            .field("tls", &self.tls)
            .field("ws", &self.ws)
            .finish_non_exhaustive()
    }
}
