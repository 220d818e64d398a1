//! A TLS client that looks at what it gets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki::Pair;
use crate::support::{LONG, read_v1, v1};

pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

pub(crate) type Io = TlsStream<TcpStream>;

/// A client; what it begins with may be changed.
#[derive(Clone)]
pub(crate) struct Client {
    /// The name it asks for; an address for none.
    pub(crate) name: ServerName<'static>,
    pub(crate) config: ClientConfig,
}

impl Client {
    /// Believes any certificate.
    pub(crate) fn any() -> Self {
        Self::with(&VERSIONS, Any(SCHEMES.to_vec()), None)
    }

    pub(crate) fn version(version: &'static SupportedProtocolVersion) -> Self {
        Self::with(&[version], Any(SCHEMES.to_vec()), None)
    }

    /// Knows these signatures only.
    pub(crate) fn schemes(
        version: &'static SupportedProtocolVersion,
        known: &[SignatureScheme],
    ) -> Self {
        Self::with(&[version], Any(known.to_vec()), None)
    }

    /// Shows a certificate, if asked.
    pub(crate) fn showing(version: &'static SupportedProtocolVersion, own: Option<&Pair>) -> Self {
        Self::with(&[version], Any(SCHEMES.to_vec()), own)
    }

    /// Believes what these authorities sign for `localhost`.
    pub(crate) fn trusting(roots: RootCertStore) -> Self {
        let mut client = Self::any();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
        let mut dangerous = client.config.dangerous();
        dangerous.set_certificate_verifier(verifier.build().unwrap());
        client
    }

    fn with(
        versions: &[&'static SupportedProtocolVersion],
        verifier: Any,
        own: Option<&Pair>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder
                .with_client_auth_cert(own.certificates(), own.private_key())
                .unwrap(),
        };
        config.resumption = Resumption::disabled();
        Self {
            name: ServerName::try_from("localhost").unwrap(),
            config,
        }
    }

    pub(crate) fn named(mut self, name: Option<&str>) -> Self {
        let name = name.unwrap_or("127.0.0.1").to_owned();
        self.name = ServerName::try_from(name).unwrap();
        self
    }

    /// Keeps tickets, and comes back with them.
    pub(crate) fn resuming(mut self) -> Self {
        self.config.resumption = Resumption::in_memory_sessions(8);
        self
    }

    pub(crate) async fn connect(&self, to: SocketAddr) -> io::Result<Io> {
        let socket = TcpStream::connect(to).await?;
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        let handshake = connector.connect(self.name.clone(), socket);
        timeout(LONG, handshake).await.expect("no handshake")
    }

    /// Connects, and calls the echo service: a TLS 1.3 client hears only then that it
    /// was refused.
    pub(crate) async fn served(&self, to: SocketAddr) -> Result<Io, String> {
        let text = |e: io::Error| e.to_string();
        let mut io = self.connect(to).await.map_err(text)?;
        io.write_all(&v1("echo/echo/1", b"x")).await.map_err(text)?;
        let mut first = [0; 2];
        let read = tokio::io::AsyncReadExt::read_exact(&mut io, &mut first);
        timeout(LONG, read)
            .await
            .expect("no answer")
            .map_err(text)?;
        // The rest of the answer.
        let mut rest = vec![0; usize::from(u16::from_le_bytes(first)) - 2];
        let read = tokio::io::AsyncReadExt::read_exact(&mut io, &mut rest);
        timeout(LONG, read)
            .await
            .expect("no answer")
            .map_err(text)?;
        Ok(io)
    }

    /// The server's own certificate.
    pub(crate) async fn shown(&self, to: SocketAddr) -> CertificateDer<'static> {
        leaf(&self.connect(to).await.unwrap())
    }
}

pub(crate) fn leaf(io: &Io) -> CertificateDer<'static> {
    io.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// Sends a packet, and waits for its echo.
pub(crate) async fn echo(io: &mut Io, n: u32) {
    let topic = format!("echo/echo/{n}");
    io.write_all(&v1(&topic, b"ping")).await.unwrap();
    assert_eq!(read_v1(io).await, Some((topic, b"ping".to_vec())));
}

/// A wait between two looks at the same thing.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

pub(crate) const SCHEMES: [SignatureScheme; 6] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PKCS1_SHA256,
];

/// Believes any certificate, and any signature of these kinds.
#[derive(Debug)]
struct Any(Vec<SignatureScheme>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        assert!(self.0.contains(&signature.scheme));
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        assert!(self.0.contains(&signature.scheme));
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
