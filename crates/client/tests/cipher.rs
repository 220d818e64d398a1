//! The client as an old client: encrypted frames over a stream and over WebSocket.

#![expect(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tidegate_client::{Builder, Cause, Cipher, Client, ErrorKind, Protocol};
use tidegate_protocol::{Codec, Legacy, Packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

const KEY: &str = "0123456789abcdef";

fn ciphers() -> [Cipher; 2] {
    [Cipher::aes_ecb(KEY).unwrap(), Cipher::aes_cbc(KEY).unwrap()]
}

fn seal(cipher: &Cipher, topic: &str, body: &'static str) -> Vec<u8> {
    let mut frame = Vec::new();
    Legacy::new(cipher).encode(&Packet::try_new(topic, body).unwrap(), &mut frame);
    frame
}

async fn open(cipher: &Cipher, options: impl FnOnce(Builder) -> Builder) -> (Client, DuplexStream) {
    let (ours, theirs) = duplex(256 * 1024);
    let builder = Client::builder("tcp://gate:1")
        .protocol(Protocol::V1)
        .cipher(cipher.clone());
    let client = options(builder).connect_over(ours).await.unwrap();
    (client, theirs)
}

/// What the client writes and reads are the bytes that were captured from an old gate.
#[tokio::test(start_paused = true)]
async fn frames_are_those_of_old_clients() {
    let captured = [
        "2e003137426d56784f2f33396b44525945695a74494e785636585046673751627278524869433876495a374c633d",
        "2200bb55d70481dcf0b04613cb86e65fb129dac669d3c157f4665ac0bc4c4110254b",
    ];
    for (cipher, captured) in ciphers().iter().zip(captured) {
        let (client, mut gate) = open(cipher, |b| b).await;
        let answering = async {
            let mut frame = vec![0; captured.len() / 2];
            gate.read_exact(&mut frame).await.unwrap();
            let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, captured);
            // In two pieces.
            gate.write_all(&frame[..9]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            gate.write_all(&frame[9..]).await.unwrap();
        };
        let (answer, ()) = tokio::join!(client.request("svc/echo", "hello"), answering);
        assert_eq!(answer.unwrap(), "hello");
        assert_eq!(client.close().await.cause, Cause::Client);
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_when_encrypted_is_too_large() {
    for (cipher, most) in ciphers().iter().zip([36_847, 49_135]) {
        let (client, mut gate) = open(cipher, |b| b).await;
        let error = client.send("t", vec![0; most]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let error = client.request("a/b", vec![0; most - 4]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        client.send("t", vec![0; most - 1]).await.unwrap();
        let mut head = [0; 2];
        gate.read_exact(&mut head).await.unwrap();
        assert!(u16::from_le_bytes(head) > 65_500);
        // A keepalive is a packet, too.
        let long = "t".repeat(most + 1);
        let builder = Client::builder("tcp://gate:1")
            .protocol(Protocol::V1)
            .cipher(cipher.clone());
        let keepalive = builder.keepalive(&long, Duration::from_secs(1));
        let error = keepalive.connect_over(duplex(1).0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidTopic);
    }
}

/// A gate with another key, or none, sends what cannot be read; that is told in one way.
#[tokio::test(start_paused = true)]
async fn a_gate_that_does_not_have_the_key() {
    let other = Cipher::aes_cbc("fedcba9876543210").unwrap();
    let mut texts = Vec::new();
    for cipher in ciphers() {
        let plain = b"\x1a\0\x03\0a/bhello hello hello!!";
        for frame in [seal(&other, "a/b", "hello hello hello"), plain.to_vec()] {
            let (client, mut gate) = open(&cipher, |b| b).await;
            gate.write_all(&frame).await.unwrap();
            let closed = client.closed();
            let closed = timeout(Duration::from_secs(9), closed).await.unwrap();
            assert_eq!(closed.cause, Cause::Protocol);
            texts.push(closed.text);
        }
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(!texts[0].contains(KEY));
}

#[tokio::test(start_paused = true)]
async fn one_encrypted_frame_in_each_message() {
    for cipher in ciphers() {
        let (ours, theirs) = duplex(64 * 1024);
        let push = seal(&cipher, "news", "push");
        let gate = tokio::spawn(async move {
            let mut ws = tokio_tungstenite::accept_async(theirs).await.unwrap();
            ws.send(Message::Binary(push.into())).await.unwrap();
            let Message::Binary(frame) = ws.next().await.unwrap().unwrap() else {
                panic!("not binary");
            };
            while let Some(Ok(_)) = ws.next().await {}
            frame
        });
        let builder = Client::builder("ws://gate/")
            .protocol(Protocol::V1)
            .cipher(cipher.clone());
        assert!(!format!("{builder:?}").contains("0123456789"));
        let client = builder.connect_over(ours).await.unwrap();
        let packet = client.pushes().recv().await.unwrap().unwrap();
        assert_eq!(
            (packet.topic.as_str(), &packet.body[..]),
            ("news", &b"push"[..])
        );
        client.send("chat/say", "hello").await.unwrap();
        client.close().await;
        assert_eq!(gate.await.unwrap(), seal(&cipher, "chat/say", "hello"));
    }
}
