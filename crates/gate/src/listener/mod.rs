//! Listeners: where clients come in, and what their connections may do.
//!
//! - This file: how one is described.
//! - [`bind`]: its address; [`unix`]: its file, where the address is one.
//! - [`socket`]: options of its sockets.
//! - [`endpoint`]: what its connections share, checked.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tidegate_protocol::ws::TextMessages;
use tidegate_protocol::ws::policy::{Origins, Policy};
use tidegate_protocol::{Cipher, Codec, ForwardedHeader, Legacy, V1};

use crate::limits::Limits;
use crate::proxy::{Proxies, TrustedNetwork};
use crate::tls::Tls;

mod bind;
mod endpoint;
mod error;
mod socket;
mod unix;

pub(crate) use bind::{Bound, Local};
pub(crate) use endpoint::Endpoint;
pub use error::{ListenError, ListenErrorKind};
pub use socket::KeepAlive;
use socket::SocketOptions;
pub(crate) use unix::SocketFile;

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
    protocol: Protocol,
    resume_over_plaintext: bool,
    ws: Option<Policy>,
    text: TextMessages,
    proxies: Proxies,
    socket: SocketOptions,
}

/// Which protocol the clients of a listener speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// Either: the first packet tells. A client that sends none within
    /// [`Limits::hello_wait`] speaks version 1.
    #[default]
    Any,
    /// Version 1.
    V1,
    /// The extended protocol: the first packet must be `$hello`.
    Extended,
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
            pub fn tls(self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
                self.tls_with(Tls::new(cert, key))
            }

            /// TLS with more to say: several certificates, clients' certificates. What
            /// cannot be loaded stops the start.
            pub fn tls_with(mut self, tls: Tls) -> Self {
                self.0.tls = Some(tls);
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

            /// Which protocol its clients speak. By default either.
            pub fn protocol(mut self, protocol: Protocol) -> Self {
                self.0.protocol = protocol;
                self
            }

            /// Resumes sessions on connections without TLS too: whoever can read the
            /// traffic can then take a session over. Off.
            pub fn resume_over_plaintext(mut self, allowed: bool) -> Self {
                self.0.resume_over_plaintext = allowed;
                self
            }

            /// Version 1 clients, which know no error packet, get errors as packets of
            /// this topic: JSON with `topic`, `code` and `message`.
            pub fn v1_error_topic(mut self, topic: impl Into<String>) -> Self {
                self.0.v1_error_topic = Some(topic.into());
                self
            }

            /// Where proxies are that are believed about whose connection they bring, as far
            /// as [`proxy_protocol`](Self::proxy_protocol) or, for WebSocket, `forwarded` says
            /// how they tell. Nobody, unless set.
            ///
            /// A client that a proxy named is what hooks and services see, and what counts for
            /// [`max_connections_per_address`](crate::GateLimits::max_connections_per_address).
            pub fn trusted_proxies(
                mut self,
                networks: impl IntoIterator<Item = TrustedNetwork>,
            ) -> Self {
                self.0.proxies.trusted = networks.into_iter().collect();
                self
            }

            /// Whether connections from trusted proxies begin with a PROXY protocol header,
            /// version 1 or 2, before TLS; one without it is refused. From anyone else such a
            /// header is nothing but wrong bytes. Off.
            pub fn proxy_protocol(mut self, on: bool) -> Self {
                self.0.proxies.protocol = on;
                self
            }

            /// TCP keep-alive. By default [`KeepAlive::default`]; `None`: off.
            pub fn keep_alive(mut self, keep_alive: Option<KeepAlive>) -> Self {
                self.0.socket.keep_alive = keep_alive;
                self
            }

            /// Unsent bytes in the kernel at which a TCP socket takes no more, so that what
            /// is stale and what is bounded is for the session's queue to decide. 16 KiB.
            pub fn notsent_lowat(mut self, bytes: u32) -> Self {
                self.0.socket.notsent_lowat = bytes;
                self
            }

            /// Whether an IPv6 address takes IPv6 clients only; unless set, the operating
            /// system decides, and `[::]` commonly takes IPv4 clients too.
            pub fn ipv6_only(mut self, only: bool) -> Self {
                self.0.socket.ipv6_only = Some(only);
                self
            }

            /// Permissions of a Unix-domain listener's file: who may write may connect.
            /// 0o660.
            pub fn unix_mode(mut self, mode: u32) -> Self {
                self.0.socket.unix_mode = Some(mode);
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
    /// Listens on `address`: `host:port` (port 0 takes a free one), `[v6]:port` (with a scope
    /// where one is needed: `[fe80::1%eth0]:3653`), or `unix:/path`.
    pub fn bind(address: impl Into<String>) -> Self {
        Self(Listener::new(address.into(), None))
    }
}

impl WebSocket {
    /// Listens on `address`, as [`Tcp::bind`] does. Path `/`, pages of the same host only.
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

    /// The header by which trusted proxies tell whose upgrade request it is; they must set or
    /// extend it, for it is all that is looked at. In the list the client is the address
    /// farthest to the right that is no trusted proxy's. Off.
    ///
    /// Behind a [`proxy_protocol`](Self::proxy_protocol) header it is the client named there
    /// that must be trusted.
    pub fn forwarded(mut self, header: ForwardedHeader) -> Self {
        self.0.proxies.forwarded = header;
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
            protocol: Protocol::Any,
            resume_over_plaintext: false,
            ws,
            text: TextMessages::Refused,
            proxies: Proxies::default(),
            socket: SocketOptions::default(),
        }
    }

    /// Checks everything and binds the socket; nothing is accepted yet.
    pub(crate) fn open(self, default: &Limits) -> Result<(Bound, Endpoint), ListenError> {
        let address = self.address.clone();
        let options = self.socket.clone();
        let open = || {
            let endpoint = self.endpoint(default)?;
            Ok((bind::bind(&address, &options)?, endpoint))
        };
        open().map_err(|why| ListenError {
            address: address.clone(),
            why,
        })
    }

    /// Checks everything, for connections that the caller brings.
    pub(crate) fn without_socket(self, default: &Limits) -> Result<Endpoint, ListenError> {
        let address = self.address.clone();
        let endpoint = self.endpoint(default);
        endpoint.map_err(|why| ListenError { address, why })
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
