//! A gate that wants to know who its clients are.

#![expect(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use tidegate_client::{Client, Error, ErrorKind, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An authority, and what it signed: for the gate, for a client.
struct Authority {
    pem: String,
    der: rustls::pki_types::CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// A gate that lets in who has a certificate of `ca`, and echoes one frame to each.
async fn gate(ca: &Authority) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.der.clone()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .unwrap();
    let (certificate, key) = ca.sign("localhost");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tls://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(socket).await else {
                continue;
            };
            let mut frame = [0; 64];
            let len = stream.read(&mut frame).await.unwrap();
            stream.write_all(&frame[..len]).await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.read(&mut frame).await;
        }
    });
    url
}

#[tokio::test]
async fn a_certificate_opens_the_gate_and_its_lack_does_not() {
    let ca = Authority::new();
    let url = gate(&ca).await;
    let builder = || {
        Client::builder(&url)
            .protocol(Protocol::V1)
            .ca_pem(ca.pem.as_bytes())
    };

    let (certificate, key) = ca.sign("client");
    let client = builder()
        .client_certificate(certificate.pem(), key.serialize_pem())
        .connect()
        .await
        .unwrap();
    assert_eq!(client.request("a/b", "hello").await.unwrap(), "hello");
    client.close().await;

    let (stranger, stranger_key) = Authority::new().sign("client");
    for builder in [
        builder(),
        builder().client_certificate(stranger.pem(), stranger_key.serialize_pem()),
    ] {
        // In TLS 1.3 the client is done before the gate has looked.
        let refused = match builder.connect().await {
            Ok(client) => client.request("a/b", "hello").await.unwrap_err(),
            Err(e) => e,
        };
        assert!(
            matches!(refused.kind(), ErrorKind::Tls | ErrorKind::Closed),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn what_is_no_certificate_is_said_before_anything_is_sent() {
    let ca = Authority::new();
    let (certificate, key) = ca.sign("client");
    let (_, other_key) = ca.sign("client");
    for (pem, key_pem) in [
        (String::new(), key.serialize_pem()),
        (certificate.pem(), String::new()),
        (certificate.pem(), other_key.serialize_pem()),
        (key.serialize_pem(), certificate.pem()),
    ] {
        let builder = Client::builder("tls://localhost:1").client_certificate(pem, key_pem);
        assert!(!format!("{builder:?}").contains("PRIVATE"));
        let error = builder.connect().await.unwrap_err();
        assert!(matches!(error, Error::InvalidClientCertificate), "{error}");
    }
}

#[test]
fn options_keep_their_secrets() {
    let builder = Client::builder("ws://h/").header("Authorization", "Bearer canary");
    let shown = format!("{builder:?}");
    assert!(
        shown.contains("Authorization") && !shown.contains("canary"),
        "{shown}"
    );
}
