//! Frames of another kind, and codecs that do wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use tidegate::protocol::FrameError;
use tidegate::{CloseReason, Codec, Limits, Packet, Tcp, WebSocket};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

mod support;

#[path = "../examples/line_codec.rs"]
#[expect(dead_code, reason = "the example's main")]
mod line_codec;

use line_codec::Lines;
use support::ws::BINARY;
use support::{Rig, assert_echo, packet, quiet, read_all, v1};

#[tokio::test(start_paused = true)]
async fn lines_over_tcp() {
    let mut rig = Rig::new().await;
    let mut client = BufReader::new(rig.tcp_on(Tcp::bind("pipe").codec(Lines)));
    let session = rig.session().await;
    // In pieces, and several in one.
    for piece in [
        "echo/ec",
        "ho/1 hello wor",
        "ld\necho/echo/2 \r\necho/echo/3\n",
        "\n",
    ] {
        client.write_all(piece.as_bytes()).await.unwrap();
        quiet().await;
    }
    let mut text = String::new();
    for expected in [
        "echo/echo/1 hello world\n",
        "echo/echo/2 \n",
        "echo/echo/3 \n",
    ] {
        text.clear();
        client.read_line(&mut text).await.unwrap();
        assert_eq!(text, expected);
    }
    // An empty line has no topic.
    assert!(read_all(&mut client).await.is_empty());
    drop((client, session));
    assert_eq!(rig.reason().await, CloseReason::BadTopic);
}

#[tokio::test(start_paused = true)]
async fn lines_over_websocket_and_one_broadcast_in_two_codecs() {
    let rig = Rig::new().await;
    let mut lines = rig.ws_on(WebSocket::bind("pipe").codec(Lines)).await;
    let mut frames = rig.ws(Limits::default()).await;
    lines.send_frame(0x80 | BINARY, b"echo/echo/1 hello").await;
    assert_eq!(lines.next().await.unwrap().payload, b"echo/echo/1 hello\n");
    frames.assert_echo().await;
    let sent = rig.gate().broadcast(packet("news", 3)).await.unwrap();
    assert_eq!(sent.attached, 2);
    assert_eq!(lines.next().await.unwrap().payload, b"news xxx\n");
    assert_eq!(frames.packet().await, ("news".into(), b"xxx".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_line_longer_than_the_limit_is_refused() {
    let mut rig = Rig::new().await;
    let mut limits = Limits::default();
    limits.max_packet_size = 100;
    for (len, refused) in [(99, false), (100, true)] {
        let listener = Tcp::bind("pipe").codec(Lines).limits(limits.clone());
        let mut client = rig.tcp_on(listener);
        let line = format!("echo/take {}", "x".repeat(len - 10));
        client.write_all(line.as_bytes()).await.unwrap();
        quiet().await;
        client.write_all(b"\n").await.ok();
        if refused {
            assert!(read_all(&mut client).await.is_empty());
        }
        quiet().await;
        drop(client);
        let expected = match refused {
            true => CloseReason::FrameTooLarge,
            false => CloseReason::ClientLeft,
        };
        assert_eq!(rig.reason().await, expected);
    }
}

/// What a codec may do wrong.
#[derive(Clone, Copy)]
enum Wrong {
    /// Never knows how long the frame is.
    Endless,
    /// Lets too long ones through.
    TooLong,
    PanicsDecoding,
    PanicsEncoding,
}

impl Codec for Wrong {
    fn frame_len(&self, buffered: &[u8], _: usize) -> Result<Option<usize>, FrameError> {
        Ok(match self {
            Self::Endless => None,
            Self::TooLong => Some(1 << 30),
            Self::PanicsDecoding | Self::PanicsEncoding => Some(buffered.len()),
        })
    }

    fn decode(&self, _: &[u8]) -> Result<Packet, FrameError> {
        match self {
            Self::PanicsDecoding => panic!("in a codec"),
            _ => Ok(packet("echo/echo/1", 3)),
        }
    }

    fn encoded_len(&self, packet: &Packet) -> usize {
        packet.size()
    }

    fn encode(&self, _: &Packet, _: &mut Vec<u8>) {
        panic!("in a codec");
    }
}

#[tokio::test(start_paused = true)]
async fn a_codec_that_does_wrong_costs_its_connection_only() {
    let mut rig = Rig::new().await;
    let mut good = rig.tcp(Limits::default());
    for (wrong, reason) in [
        (Wrong::Endless, CloseReason::FrameTooLarge),
        (Wrong::TooLong, CloseReason::FrameTooLarge),
        (Wrong::PanicsDecoding, CloseReason::Internal),
        (Wrong::PanicsEncoding, CloseReason::Internal),
    ] {
        let mut client = rig.tcp_on(Tcp::bind("pipe").codec(wrong));
        let bytes = v1("a", &[0; 60_000]).repeat(10);
        let _ = client.write_all(&bytes).await;
        assert_eq!(rig.reason().await, reason);
        assert_echo(&mut good).await;
        drop(client);
    }
    drop(good);
    rig.settled().await;
}
