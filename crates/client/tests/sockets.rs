//! The client of version 1 against small gates on real sockets: TCP, TLS, WebSocket.

#![expect(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tidegate_client::{Builder, Cause, Cipher, Client, CloseReason, ErrorKind, Packet, Protocol};
use tidegate_protocol::{Codec, V1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

fn v1(url: &str) -> Builder {
    Client::builder(url).protocol(Protocol::V1)
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Sends every frame back as it came, until the client has closed.
async fn echo_frames(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let mut head = [0; 2];
    while io.read_exact(&mut head).await.is_ok() {
        let mut frame = vec![0; usize::from(u16::from_le_bytes(head))];
        frame[..2].copy_from_slice(&head);
        io.read_exact(&mut frame[2..]).await.unwrap();
        io.write_all(&frame).await.unwrap();
        io.flush().await.unwrap();
    }
}

async fn many_requests(client: &Client) {
    let mut asking = Vec::new();
    for i in 0..200usize {
        let client = client.clone();
        asking.push(tokio::spawn(async move {
            let body = vec![i as u8; i * 300];
            assert_eq!(
                client.request("echo/echo", body.clone()).await.unwrap(),
                body
            );
        }));
    }
    for task in asking {
        task.await.unwrap();
    }
}

fn frame(topic: &str, body: &'static str) -> Vec<u8> {
    let mut frame = Vec::new();
    V1.encode(&Packet::try_new(topic, body).unwrap(), &mut frame);
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp() {
    let (listener, port) = listen().await;
    let gate = tokio::spawn(async move { echo_frames(listener.accept().await.unwrap().0).await });
    let client = v1(&format!("tcp://localhost:{port}"))
        .connect()
        .await
        .unwrap();
    many_requests(&client).await;
    let closed = client.close().await;
    assert_eq!((closed.cause, closed.unsent), (Cause::Client, 0));
    gate.await.unwrap();
}

#[tokio::test]
async fn nobody_listens() {
    let (listener, port) = listen().await;
    drop(listener);
    let error = v1(&format!("ws://127.0.0.1:{port}/"))
        .connect()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
}

/// As where the address of a WebSocket listener is taken for one of TCP.
#[tokio::test]
async fn a_server_of_http_is_told_apart() {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.unwrap();
        io.read_exact(&mut [0; 20]).await.unwrap();
        let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
        io.write_all(answer).await.unwrap();
        io.shutdown().await.unwrap();
        io.read_to_end(&mut Vec::new()).await.unwrap();
    });
    let connected = Client::builder(&format!("tcp://127.0.0.1:{port}")).connect();
    let error = connected.await.unwrap_err().to_string();
    assert!(error.contains("HTTP") && error.contains("ws://"), "{error}");
}

/// Sends every message back as it came, until the client has closed.
async fn echo_messages(io: impl AsyncRead + AsyncWrite + Unpin) {
    let mut ws = tokio_tungstenite::accept_async(io).await.unwrap();
    while let Some(Ok(message)) = ws.next().await {
        if message.is_binary() {
            ws.send(message).await.unwrap();
        }
    }
}

/// A CA in PEM, and a gate with a certificate of it for `gate.test`, which accepts
/// `connections` times and speaks WebSocket on the last.
async fn tls_gate(connections: usize) -> (String, u16, JoinHandle<()>) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new([]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["gate.test".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, port) = listen().await;
    let gate = tokio::spawn(async move {
        for left in (0..connections).rev() {
            let (socket, _) = listener.accept().await.unwrap();
            match acceptor.accept(socket).await {
                Ok(stream) if left == 0 => echo_messages(stream).await,
                Ok(stream) => echo_frames(stream).await,
                Err(_) => {}
            }
        }
    });
    (ca_pem, port, gate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_trusts_what_it_is_told() {
    let (ca, port, gate) = tls_gate(4).await;
    let url = format!("tls://127.0.0.1:{port}");

    let unknown = v1(&url).server_name("gate.test").connect().await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::Tls);
    let other_name = v1(&url).ca_pem(ca.as_str()).connect().await;
    assert_eq!(other_name.unwrap_err().kind(), ErrorKind::Tls);

    let client = v1(&url)
        .without_public_roots()
        .ca_pem(ca.as_str())
        .server_name("gate.test")
        .connect()
        .await
        .unwrap();
    many_requests(&client).await;
    assert_eq!(client.close().await.cause, Cause::Client);

    let client = v1(&format!("wss://127.0.0.1:{port}/"))
        .ca_pem(ca)
        .server_name("gate.test")
        .connect()
        .await
        .unwrap();
    many_requests(&client).await;
    assert_eq!(client.close().await.cause, Cause::Client);
    gate.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_clients_ciphers_on_every_transport() {
    let key = "0123456789abcdef";
    for cipher in [Cipher::aes_ecb(key), Cipher::aes_cbc(key)] {
        let cipher = cipher.unwrap();
        let (ca, tls_port, tls_gate) = tls_gate(2).await;
        let (listener, port) = listen().await;
        let gate = tokio::spawn(async move {
            echo_frames(listener.accept().await.unwrap().0).await;
            echo_messages(listener.accept().await.unwrap().0).await;
        });
        for url in [
            format!("tcp://127.0.0.1:{port}"),
            format!("ws://127.0.0.1:{port}/"),
            format!("tls://127.0.0.1:{tls_port}"),
            format!("wss://127.0.0.1:{tls_port}/"),
        ] {
            let builder = v1(&url).ca_pem(ca.as_str());
            let builder = builder.server_name("gate.test").cipher(cipher.clone());
            let client = builder.connect().await.unwrap();
            for len in [0, 1, 1000, 36_000] {
                let body = vec![b'x'; len];
                let answer = client.request("echo/echo", body.clone()).await;
                assert_eq!(answer.unwrap(), body, "{url}");
            }
            assert_eq!(client.close().await.cause, Cause::Client);
        }
        gate.await.unwrap();
        tls_gate.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket() {
    let (listener, port) = listen().await;
    let gate = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        #[expect(clippy::result_large_err, reason = "the handshake's signature")]
        let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            assert_eq!(request.uri().path(), "/game");
            assert_eq!(request.headers()["authorization"], "Bearer x");
            Ok(response)
        };
        let mut ws = tokio_tungstenite::accept_hdr_async(socket, check)
            .await
            .unwrap();
        ws.send(Message::Ping("are you there".into()))
            .await
            .unwrap();
        let mut pongs = 0;
        while let Some(message) = ws.next().await {
            match message.unwrap() {
                Message::Binary(frame) => ws.send(Message::Binary(frame)).await.unwrap(),
                Message::Pong(_) => pongs += 1,
                Message::Close(frame) => assert_eq!(u16::from(frame.unwrap().code), 1000),
                other => panic!("{other}"),
            }
        }
        assert_eq!(pongs, 1);
    });
    let client = v1(&format!("ws://127.0.0.1:{port}/game"))
        .header("authorization", "Bearer x")
        .connect()
        .await
        .unwrap();
    many_requests(&client).await;
    let closed = client.close().await;
    assert_eq!((closed.cause, closed.code), (Cause::Client, None));
    gate.await.unwrap();
}

#[tokio::test]
async fn the_close_frame_tells_why() {
    let (listener, port) = listen().await;
    let gate = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut ws = tokio_tungstenite::accept_async(socket).await.unwrap();
        let last = frame("news/last", "bye");
        ws.send(Message::Binary(last.into())).await.unwrap();
        let reason = CloseReason::Kicked;
        let close = CloseFrame {
            code: reason.code().into(),
            reason: reason.text().into(),
        };
        ws.close(Some(close)).await.unwrap();
        // The client answers it.
        let answer = ws.next().await.unwrap().unwrap();
        assert!(matches!(answer, Message::Close(Some(f)) if u16::from(f.code) == 4504));
        assert!(ws.next().await.is_none());
    });
    let client = v1(&format!("ws://127.0.0.1:{port}"))
        .connect()
        .await
        .unwrap();
    let mut pushes = client.pushes();
    let closed = client.closed().await;
    assert_eq!((closed.cause, closed.code), (Cause::Gate, Some(4504)));
    assert_eq!(closed.reason(), Some(CloseReason::Kicked));
    assert_eq!(
        closed.to_string(),
        "closed by the gate: closed by the service (4504)"
    );
    assert_eq!(pushes.recv().await.unwrap().unwrap().body, "bye");
    gate.await.unwrap();
}

#[tokio::test]
async fn websocket_messages_that_are_no_packets() {
    let bad = [
        Message::Text("hello".into()),
        Message::Binary(vec![9, 0, 1, 0, b'a'].into()),
        Message::Binary(vec![0; 70_000].into()),
    ];
    for message in bad {
        let (listener, port) = listen().await;
        let gate = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut ws = tokio_tungstenite::accept_async(socket).await.unwrap();
            ws.send(message).await.unwrap();
            while let Some(Ok(_)) = ws.next().await {}
        });
        let client = v1(&format!("ws://127.0.0.1:{port}/"))
            .connect()
            .await
            .unwrap();
        assert_eq!(client.closed().await.cause, Cause::Protocol);
        gate.await.unwrap();
    }
}

#[tokio::test]
async fn a_websocket_that_breaks_off_is_lost() {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut ws = tokio_tungstenite::accept_async(socket).await.unwrap();
        ws.next().await.unwrap().unwrap();
        drop(ws);
    });
    let client = v1(&format!("ws://127.0.0.1:{port}/"))
        .connect()
        .await
        .unwrap();
    client.send("a/b", "").await.unwrap();
    let closed = client.closed().await;
    assert_eq!((closed.cause, closed.code), (Cause::Lost, None));
}

#[tokio::test]
async fn an_upgrade_that_is_refused() {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        #[expect(clippy::result_large_err, reason = "the handshake's signature")]
        let refuse = |_: &Request, _: Response| -> Result<Response, ErrorResponse> {
            let mut response = ErrorResponse::new(None);
            *response.status_mut() = StatusCode::FORBIDDEN;
            Err(response)
        };
        let _ = tokio_tungstenite::accept_hdr_async(socket, refuse).await;
    });
    let refused = v1(&format!("ws://127.0.0.1:{port}/")).connect().await;
    let error = refused.unwrap_err();
    assert!(
        matches!(error, tidegate_client::Error::UpgradeRefused(403)),
        "{error}"
    );
}
