//! Options, and the way from an address to a connection.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::{Cipher, Packet, Topic, TopicError, V1};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::{Request, generate_key};
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::client::Client;
use crate::dial::{Dialer, Source};
use crate::error::Error;
use crate::frames::Frames;
use crate::options::{Options, Protocol};
use crate::tls::{Identity, TlsOptions};
use crate::transport::Transport;
use crate::transport::stream::StreamTransport;
use crate::transport::websocket::WebSocketTransport;
use crate::url::GateUrl;

/// What tungstenite reads into at once; allocated for the connection's life.
const WS_READ_BUFFER: usize = 4096;
/// Above what is ever queued there, so that only a flush writes.
const WS_WRITE_BUFFER: usize = 4 * V1::MAX_FRAME;

/// Options of a connection. Errors in them appear when connecting.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    url: String,
    headers: Vec<Header>,
    tls: TlsOptions,
    cipher: Option<Cipher>,
    keepalive: Option<(String, Duration)>,
    error_topic: Option<String>,
    settings: Settings,
    pub(crate) protocol: Protocol,
    pub(crate) extended: Options,
}

/// A header of the WebSocket request. Its value may be a secret.
#[derive(Clone)]
struct Header {
    name: String,
    value: String,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ..", self.name)
    }
}

/// What the connection itself needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) send_queue: usize,
    pub(crate) push_buffer: usize,
    pub(crate) keepalive: Option<(Topic, Duration)>,
    pub(crate) error_topic: Option<Topic>,
}

impl Builder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            headers: Vec::new(),
            tls: TlsOptions::default(),
            cipher: None,
            keepalive: None,
            error_topic: None,
            protocol: Protocol::default(),
            extended: Options::default(),
            settings: Settings {
                connect_timeout: Duration::from_secs(10),
                request_timeout: Duration::from_secs(10),
                close_timeout: Duration::from_secs(2),
                send_queue: 100,
                push_buffer: 128,
                keepalive: None,
                error_topic: None,
            },
        }
    }

    /// The topic under which the gate tells errors (`v1_error_topic` of its listener). A
    /// request that was not served then fails with [`Error::NotServed`] and not by its
    /// timeout. Errors about other packets arrive as pushes. Default none.
    pub fn error_topic(mut self, topic: &str) -> Self {
        self.error_topic = Some(topic.to_owned());
        self
    }

    /// One deadline over name resolution, TCP, TLS, WebSocket and the gate's `$welcome`, at
    /// each connection. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How long [`Client::request`] waits for its answer. Default 10 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.request_timeout = timeout;
        self
    }

    /// How long closing may take: sending what is queued, and the gate's answer.
    /// Default 2 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.settings.close_timeout = timeout;
        self
    }

    /// How many packets may wait to be sent before [`Client::send`] waits itself.
    /// Default 100, at least 1.
    pub fn send_queue(mut self, packets: usize) -> Self {
        self.settings.send_queue = packets.max(1);
        self
    }

    /// How many packets are kept for a slow reader of [`Client::pushes`] before the
    /// oldest are overwritten. Default 128, at least 1; rounded up to a power of two.
    pub fn push_buffer(mut self, packets: usize) -> Self {
        // The channel panics beyond usize::MAX / 2.
        self.settings.push_buffer = packets.clamp(1, 1 << 20);
        self
    }

    /// Sends an empty one-way packet of this topic whenever nothing has been sent for
    /// `interval` (at least 1 ms). The plain protocol has no ping, so something has to be
    /// agreed on with the services. Off by default; a TCP client that only listens needs
    /// it, with an interval below the gate's heartbeat timeout (60 s by default).
    pub fn keepalive(mut self, topic: &str, interval: Duration) -> Self {
        self.keepalive = Some((topic.to_owned(), interval.max(Duration::from_millis(1))));
        self
    }

    /// Trusts these PEM certificates too, beside the public roots.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.ca_pem.push(pem.into());
        self
    }

    /// Trusts only what [`ca_pem`](Self::ca_pem) gives, not the public roots.
    pub fn without_public_roots(mut self) -> Self {
        self.tls.only_given_ca = true;
        self
    }

    /// Shows this certificate to a gate that asks for one: the chain from the client's own
    /// certificate on, and its key, both PEM. Without effect where there is no TLS.
    pub fn client_certificate(
        mut self,
        pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> Self {
        self.tls.identity = Some(Identity {
            chain: pem.into(),
            key: key_pem.into(),
        });
        self
    }

    /// The name that the gate's certificate must be for, where it is not the address's host.
    pub fn server_name(mut self, name: &str) -> Self {
        self.tls.server_name = Some(name.to_owned());
        self
    }

    /// Encrypts as old clients do, for a gate whose listener has this cipher and key; over
    /// TCP, TLS and WebSocket alike. Packets are then not authenticated and can be forged,
    /// replayed and reordered by whoever is on the way: prefer `tls://` and `wss://` without
    /// it. A gate with another key closes the connection. Off.
    pub fn cipher(mut self, cipher: Cipher) -> Self {
        self.cipher = Some(cipher);
        self
    }

    /// Adds a header to the WebSocket request (`Authorization`, `Origin`, …). The headers
    /// of the handshake itself cannot be given. Without effect on TCP.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(Header {
            name: name.to_owned(),
            value: value.to_owned(),
        });
        self
    }

    /// Connects. Must be called within a Tokio runtime with I/O and time enabled.
    ///
    /// With the extended protocol this is done when the gate has answered; the client
    /// connects again by itself from then on. An attempt that fails is an error here, and
    /// only here: see [`start`](Self::start).
    pub async fn connect(self) -> Result<Client, Error> {
        let source = self.source()?;
        self.connect_by(source).await
    }

    /// Begins to connect, again and again until it succeeds, and answers at once; packets
    /// wait meanwhile. [`Client::states`] tells how it goes. For the extended protocol;
    /// version 1 has one connection, which [`connect`](Self::connect) waits for.
    ///
    /// Must be called within a Tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    ///
    /// What is wrong with address and options.
    pub fn start(self) -> Result<Client, Error> {
        if self.protocol == Protocol::V1 {
            return Err(Error::ExtendedOnly);
        }
        let source = self.source()?;
        Ok(Client::extended(self.dialer(source)?, self.extended, None))
    }

    /// Connects over a stream that is open already, speaking TLS and WebSocket as the
    /// address says. For tunnels, and for tests over [`tokio::io::duplex`]. The client ends
    /// with the stream: there is no other to go on with.
    pub async fn connect_over<S>(self, stream: S) -> Result<Client, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream: Box<dyn crate::dial::Stream> = Box::new(stream);
        self.connect_by(Source::Once(Some(stream).into())).await
    }

    /// Connects over streams that `open` opens, one for each connection, speaking TLS and
    /// WebSocket as the address says.
    pub async fn connect_with<F, O, S>(self, open: F) -> Result<Client, Error>
    where
        F: Fn() -> O + Send + Sync + 'static,
        O: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let open = move || {
            let opening = open();
            let boxed = async { Ok(Box::new(opening.await?) as Box<dyn crate::dial::Stream>) };
            Box::pin(boxed) as _
        };
        self.connect_by(Source::Each(Box::new(open))).await
    }

    fn source(&self) -> Result<Source, Error> {
        let GateUrl { host, port, .. } = GateUrl::parse(&self.url)?;
        Ok(Source::Address { host, port })
    }

    /// What is wrong with the options shows before anything is sent.
    fn dialer(&self, source: Source) -> Result<Dialer, Error> {
        let url = GateUrl::parse(&self.url)?;
        self.extended.check()?;
        let plan = self.plan(&url)?;
        Ok(Dialer { source, plan })
    }

    async fn connect_by(self, source: Source) -> Result<Client, Error> {
        let dialer = self.dialer(source)?;
        match self.protocol {
            Protocol::Extended => {
                let (first, answer) = tokio::sync::oneshot::channel();
                let client = Client::extended(dialer, self.extended, Some(first));
                match answer.await {
                    Ok(connected) => connected.map(|()| client),
                    // The runtime is shut down.
                    Err(_) => Err(Error::Closed(client.closed().await)),
                }
            }
            Protocol::V1 => {
                let limit = dialer.plan.settings.connect_timeout;
                let dialed = tokio::time::timeout(limit, dialer.dial()).await;
                let dialed = dialed.unwrap_or(Err(Error::ConnectTimeout(limit)))?;
                let Plan {
                    frames, settings, ..
                } = dialer.plan;
                Ok(Client::start(dialed.transport, frames, settings))
            }
        }
    }

    fn plan(&self, url: &GateUrl) -> Result<Plan, Error> {
        let frames = Frames::new(self.cipher.as_ref());
        let keepalive = match &self.keepalive {
            Some((topic, interval)) => {
                let packet = Packet::new(Topic::new(topic)?, Bytes::new());
                if frames.fits(&packet).is_err() {
                    return Err(TopicError::TooLong.into());
                }
                Some((packet.topic, *interval))
            }
            None => None,
        };
        Ok(Plan {
            tls: match url.tls {
                true => Some(self.tls.connector(&url.host)?),
                false => None,
            },
            upgrade: match url.websocket {
                true => Some(self.upgrade(url)?),
                false => None,
            },
            frames,
            settings: Settings {
                keepalive,
                error_topic: self.error_topic.as_deref().map(Topic::new).transpose()?,
                ..self.settings.clone()
            },
        })
    }

    fn upgrade(&self, url: &GateUrl) -> Result<Request, Error> {
        let mut request = (&url.uri).into_client_request().map_err(upgrade_error)?;
        for Header { name, value } in &self.headers {
            let invalid = || Error::InvalidHeader(name.clone());
            let header = HeaderName::try_from(name.as_str()).map_err(|_| invalid())?;
            let value = HeaderValue::try_from(value.as_str()).map_err(|_| invalid())?;
            let of_the_handshake = matches!(
                header,
                header::CONNECTION
                    | header::UPGRADE
                    | header::SEC_WEBSOCKET_KEY
                    | header::SEC_WEBSOCKET_VERSION
                    | header::SEC_WEBSOCKET_EXTENSIONS
                    | header::CONTENT_LENGTH
                    | header::TRANSFER_ENCODING
            );
            if of_the_handshake {
                return Err(invalid());
            }
            if header == header::HOST {
                request.headers_mut().insert(header, value);
            } else {
                request.headers_mut().append(header, value);
            }
        }
        Ok(request)
    }
}

/// Options that have been checked.
pub(crate) struct Plan {
    tls: Option<(
        tokio_rustls::TlsConnector,
        rustls::pki_types::ServerName<'static>,
    )>,
    upgrade: Option<Request>,
    pub(crate) frames: Frames,
    pub(crate) settings: Settings,
}

impl Plan {
    /// Makes a stream a connection.
    pub(crate) async fn establish<S>(&self, stream: S) -> Result<Box<dyn Transport>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self.tls.clone() {
            Some((connector, name)) => {
                let stream = connector.connect(name, stream).await.map_err(Error::Tls)?;
                self.speak(stream).await
            }
            None => self.speak(stream).await,
        }
    }

    async fn speak<S>(&self, stream: S) -> Result<Box<dyn Transport>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(mut request) = self.upgrade.clone() else {
            return Ok(Box::new(StreamTransport::new(stream, self.frames.clone())));
        };
        // Each connection has a key of its own.
        let key = HeaderValue::try_from(generate_key());
        let key = key.map_err(|e| Error::Upgrade(Box::new(e)))?;
        request.headers_mut().insert(header::SEC_WEBSOCKET_KEY, key);
        let config = WebSocketConfig::default()
            .read_buffer_size(WS_READ_BUFFER)
            .write_buffer_size(WS_WRITE_BUFFER)
            .max_message_size(Some(V1::MAX_FRAME))
            .max_frame_size(Some(V1::MAX_FRAME));
        let (socket, _response) =
            tokio_tungstenite::client_async_with_config(request, stream, Some(config))
                .await
                .map_err(upgrade_error)?;
        Ok(Box::new(WebSocketTransport::new(
            socket,
            self.frames.clone(),
        )))
    }
}

fn upgrade_error(error: tungstenite::Error) -> Error {
    match error {
        tungstenite::Error::Http(response) => Error::UpgradeRefused(response.status().as_u16()),
        other => Error::Upgrade(Box::new(other)),
    }
}
