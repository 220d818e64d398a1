//! Old clients: encrypted frames, text messages, and what an attacker can see of either.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidegate::bus::gate::GateError;
use tidegate::protocol::Legacy;
use tidegate::{Cipher, CloseReason, Codec, Limits, Packet, Stats, Tcp, WebSocket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

mod support;

use support::ws::{BINARY, CLOSE, TEXT};
use support::{LONG, Rig, WsClient, log, packet, quiet, read_all};

const KEY: &str = "a key of 32 bytes: 0123456789abc";

fn ecb() -> Cipher {
    Cipher::aes_ecb(KEY).unwrap()
}

fn cbc() -> Cipher {
    Cipher::aes_cbc(KEY).unwrap()
}

fn seal(cipher: &Cipher, topic: &str, body: &[u8]) -> Vec<u8> {
    let packet = Packet::try_new(topic, body.to_vec()).unwrap();
    let mut frame = Vec::new();
    Legacy::new(cipher).encode(&packet, &mut frame);
    frame
}

async fn read_frame(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let read = async {
        let mut frame = vec![0; 2];
        io.read_exact(&mut frame).await.unwrap();
        frame.resize(u16::from_le_bytes([frame[0], frame[1]]).into(), 0);
        io.read_exact(&mut frame[2..]).await.unwrap();
        frame
    };
    timeout(LONG, read).await.expect("no frame came")
}

/// A frame whose rest is this.
fn frame(rest: &[u8]) -> Vec<u8> {
    [&(2 + rest.len() as u16).to_le_bytes(), rest].concat()
}

// --- packets

#[tokio::test(start_paused = true)]
async fn old_clients_are_served_over_tcp_and_websocket() {
    let rig = Rig::new().await;
    let mut plain = rig.tcp(Limits::default());
    for cipher in [ecb(), cbc()] {
        let mut tcp = rig.tcp_on(Tcp::bind("pipe").cipher(cipher.clone()));
        let mut ws = rig
            .ws_on(WebSocket::bind("pipe").cipher(cipher.clone()))
            .await;
        let hello = seal(&cipher, "echo/echo/1", b"hello");
        // In pieces too, and several at once.
        for piece in [&hello[..1], &hello[1..5], &[&hello[5..], &hello].concat()] {
            tcp.write_all(piece).await.unwrap();
            quiet().await;
        }
        assert_eq!(read_frame(&mut tcp).await, hello);
        assert_eq!(read_frame(&mut tcp).await, hello);
        ws.send_frame(0x80 | BINARY, &hello).await;
        assert_eq!(ws.next().await.unwrap().payload, hello);
        // One broadcast, to each in its form.
        rig.gate().broadcast(packet("news", 3)).await.unwrap();
        let news = seal(&cipher, "news", b"xxx");
        assert_eq!(read_frame(&mut tcp).await, news);
        assert_eq!(ws.next().await.unwrap().payload, news);
        assert_eq!(
            support::read_v1(&mut plain).await,
            Some(("news".into(), b"xxx".to_vec()))
        );
    }
}

fn assert_too_large(sent: Result<(), GateError>) {
    assert!(matches!(sent, Err(GateError::TooLarge(_))), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_when_encrypted_is_refused_to_its_sender() {
    let mut rig = Rig::new().await;
    for (cipher, most) in [(ecb(), 36_847), (cbc(), 49_135)] {
        let mut client = rig.tcp_on(Tcp::bind("pipe").cipher(cipher.clone()));
        let session = rig.session().await;
        assert_too_large(session.send(packet("t", most)));
        assert_too_large(session.send(packet("t", 65_000)));
        session.send(packet("t", most - 1)).unwrap();
        let expected = seal(&cipher, "t", &vec![b'x'; most - 1]);
        assert_eq!(read_frame(&mut client).await, expected);
    }
    // The limit is that of the encrypted frame.
    let mut limits = Limits::default();
    limits.max_packet_size = 1000;
    for (cipher, most) in [(None, 996), (Some(ecb()), 547), (Some(cbc()), 739)] {
        let mut listener = Tcp::bind("pipe").limits(limits.clone());
        if let Some(cipher) = cipher {
            listener = listener.cipher(cipher);
        }
        let _client = rig.tcp_on(listener);
        let session = rig.session().await;
        assert_too_large(session.send(packet("t", most)));
        session.send(packet("t", most - 1)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn text_messages_are_frames_where_the_listener_allows_it() {
    let mut rig = Rig::new().await;
    // 200 bytes: no UTF-8 text begins like the length of that.
    let plain = support::v1("echo/echo/1", &[b'x'; 185]);
    assert_eq!(plain[..2], [200, 0]);
    for (cipher, frame) in [
        (None, plain),
        (Some(ecb()), seal(&ecb(), "echo/echo/1", b"hello")),
        (Some(cbc()), seal(&cbc(), "echo/echo/1", b"hello")),
    ] {
        let listener = || {
            let listener = WebSocket::bind("pipe");
            match &cipher {
                Some(cipher) => listener.cipher(cipher.clone()),
                None => listener,
            }
        };
        let mut client = rig.ws_on(listener().allow_text(true)).await;
        let (start, end) = frame.split_at(3);
        client.send_frame(0x80 | TEXT, &frame).await;
        client.send_frame(TEXT, start).await;
        client.send_frame(0x80, end).await;
        client.send_frame(0x80 | BINARY, &frame).await;
        for _ in 0..3 {
            let answer = client.next().await.unwrap();
            assert_eq!((answer.opcode, &answer.payload), (BINARY, &frame));
        }
        drop(client);
        assert_eq!(rig.reason().await, CloseReason::ConnectionLost);
        // By default, and where it is switched off again.
        for listener in [listener(), listener().allow_text(true).allow_text(false)] {
            let mut client = rig.ws_on(listener).await;
            client.send_frame(0x80 | TEXT, &frame).await;
            assert_eq!(client.closed().await, Some(1003));
            drop(client);
            assert_eq!(rig.reason().await, CloseReason::TextNotAllowed);
        }
    }
}

// --- the padding oracle

/// What an attacker who has captured a frame makes of its ciphertext: everything that a
/// padding oracle is asked, and cruder things.
fn forgeries(rest: &[u8]) -> Vec<Vec<u8>> {
    let mut forged = Vec::new();
    let mut push = |rest: &[u8]| forged.push(rest.to_vec());
    // Every value of every byte of the last block but one, every bit of the others.
    let last_but_one = rest.len() - 32..rest.len() - 16;
    for i in 0..rest.len() {
        let flips: Vec<u8> = match last_but_one.contains(&i) {
            true => (1..=255).collect(),
            false => (0..8).map(|bit| 1 << bit).collect(),
        };
        for flip in flips {
            let mut rest = rest.to_vec();
            rest[i] ^= flip;
            push(&rest);
        }
    }
    // Cut everywhere, and a byte added.
    for len in 0..rest.len() {
        push(&rest[..len]);
    }
    push(&[rest, b"\0"].concat());
    let blocks: Vec<&[u8]> = rest.chunks(16).collect();
    for (i, block) in blocks.iter().enumerate() {
        // One block behind one of the attacker's, whose last byte has every value.
        for last in 0..=255 {
            let mut chosen = [0x5a; 16];
            chosen[15] = last;
            push(&[&chosen, *block].concat());
        }
        // By itself, left out, twice.
        push(block);
        let mut other = blocks.clone();
        other.remove(i);
        push(&other.concat());
        other.splice(i..i, [*block, *block]);
        push(&other.concat());
        // In another's place.
        for j in 0..i {
            let mut other = blocks.clone();
            other.swap(i, j);
            push(&other.concat());
        }
    }
    forged
}

/// All that a client sees after it has sent one frame: the bytes, up to the close.
async fn seen_over_tcp(mut io: impl AsyncRead + AsyncWrite + Unpin, frame: &[u8]) -> Vec<u8> {
    io.write_all(frame).await.unwrap();
    // A frame that was cut may be one of which the gate expects more.
    read_all(&mut io).await
}

/// The same over WebSocket.
async fn seen_over_ws(
    mut client: WsClient<impl AsyncRead + AsyncWrite + Unpin>,
    frame: &[u8],
) -> Vec<u8> {
    client.send_frame(0x80 | BINARY, frame).await;
    read_all(&mut client.io).await
}

/// The close frame of a malformed frame, as bytes.
fn goodbye() -> Vec<u8> {
    let reason = CloseReason::BadFrame;
    let payload = [&reason.code().to_be_bytes()[..], reason.text().as_bytes()].concat();
    [&[0x80 | CLOSE, payload.len() as u8], &payload[..]].concat()
}

/// Every refusal shows the same bytes, and leaves the same in hooks, counters and log.
#[tokio::test(start_paused = true)]
async fn a_padding_oracle_learns_nothing() {
    log::keep();
    for cipher in [cbc(), ecb()] {
        let mut rig = Rig::new().await;
        let said = b"to: alice, amount: 100, memo: rent";
        let captured = seal(&cipher, "bank/send/1", said);
        let is_ecb = matches!(cipher, Cipher::AesEcb(_));
        let all: Vec<_> = match is_ecb {
            true => forgeries(&STANDARD.decode(&captured[2..]).unwrap())
                .iter()
                .map(|forged| frame(STANDARD.encode(forged).as_bytes()))
                .collect(),
            false => forgeries(&captured[2..]).iter().map(|f| frame(f)).collect(),
        };
        // Of ECB, blocks moved about may be packets: that it cannot stop. What is wrong
        // inside is not told from a wrong padding there either.
        let codec = Legacy::new(&cipher);
        let tried = all.len();
        let is_refused = |forged: &Vec<u8>| codec.decode(forged).is_err();
        let mut refused: Vec<_> = all.into_iter().filter(is_refused).collect();
        assert_eq!(refused.len() < tried, is_ecb, "{cipher:?}");
        refused.push(support::v1("echo/echo/1", b"plain and longer than that"));
        for forged in &refused {
            let client = rig.tcp_on(Tcp::bind("pipe").cipher(cipher.clone()));
            assert_eq!(seen_over_tcp(client, forged).await, b"", "{forged:02x?}");
            assert_eq!(rig.reason().await, CloseReason::BadFrame);
            let client = rig
                .ws_on(WebSocket::bind("pipe").cipher(cipher.clone()))
                .await;
            assert_eq!(
                seen_over_ws(client, forged).await,
                goodbye(),
                "{forged:02x?}"
            );
            assert_eq!(rig.reason().await, CloseReason::BadFrame);
        }
        rig.settled().await;
        let n = 2 * refused.len() as u64;
        for reason in CloseReason::ALL {
            let expected = if *reason == CloseReason::BadFrame {
                n
            } else {
                0
            };
            assert_eq!(rig.gate().closed(*reason), expected, "{reason:?}");
        }
        let stats = rig.gate().stats();
        let mut expected = Stats::default();
        (expected.sessions_started, expected.sessions_ended) = (n, n);
        (expected.bytes_in, expected.bytes_out) = (stats.bytes_in, stats.bytes_out);
        expected.accepted = stats.accepted;
        assert_eq!(stats, expected);
        assert!(n > 10_000, "{n}");
    }
    // What differs between lines is whose they are, and how many were left out.
    let mut lines = log::own_lines_with("session ended");
    assert!(!lines.is_empty());
    for line in &mut lines {
        let (id, rest) = line.split_once("ip=").unwrap();
        assert!(id.contains("session="), "{line}");
        *line = rest.split_once("unlogged=").unwrap().0.to_owned();
    }
    lines.dedup();
    assert_eq!(
        lines,
        ["192.0.2.1 reason=\"BadFrame\" code=4500 undelivered=0 "]
    );
}

/// The same on sockets, with the question that an oracle is asked first.
#[tokio::test]
async fn a_padding_oracle_learns_nothing_over_sockets() {
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").cipher(cbc()))
            .listen(WebSocket::bind("127.0.0.1:0").cipher(cbc()))
    })
    .await;
    let captured = seal(&cbc(), "bank/send/1", b"to: alice, amount: 100, memo: rent");
    let at = captured.len() - 17;
    for flip in 1..=255 {
        let mut forged = captured.clone();
        forged[at] ^= flip;
        let socket = TcpStream::connect(rig.address(0)).await.unwrap();
        assert_eq!(seen_over_tcp(socket, &forged).await, b"");
        let socket = TcpStream::connect(rig.address(1)).await.unwrap();
        let client = WsClient::upgrade(socket, "/").await;
        assert_eq!(seen_over_ws(client, &forged).await, goodbye());
    }
    rig.settled().await;
    assert_eq!(rig.gate().closed(CloseReason::BadFrame), 2 * 255);
}

// --- what the ciphers do not do, and that everybody is told

/// What the warnings say is so: a test that the ciphers are as weak as that.
#[tokio::test(start_paused = true)]
async fn neither_replay_nor_reordering_nor_forgery_is_stopped() {
    let rig = Rig::new().await;
    for cipher in [ecb(), cbc()] {
        let one = seal(&cipher, "echo/echo/1", b"one");
        let two = seal(&cipher, "echo/echo/2", b"two");
        // Captured from somebody, sent by somebody else: in another order, and again.
        let mut client = rig.tcp_on(Tcp::bind("pipe").cipher(cipher));
        for frame in [&two, &one, &one] {
            client.write_all(frame).await.unwrap();
            assert_eq!(read_frame(&mut client).await, *frame, "deterministic, too");
        }
    }
    // Without the key: a block of ECB, twelve bytes of the packet, is left out.
    let said = b"alice gets 1 dollar, no1000000 dollars";
    let captured = seal(&ecb(), "echo/echo/1", said);
    let mut blocks = STANDARD.decode(&captured[2..]).unwrap();
    blocks.drain(32..48);
    let forged = frame(STANDARD.encode(blocks).as_bytes());
    let expected = seal(&ecb(), "echo/echo/1", b"alice gets 1000000 dollars");
    let mut client = rig.tcp_on(Tcp::bind("pipe").cipher(ecb()));
    client.write_all(&forged).await.unwrap();
    assert_eq!(read_frame(&mut client).await, expected);
}

#[tokio::test]
async fn the_start_warns_of_each_listener_with_a_cipher() {
    log::keep();
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").name("old").cipher(ecb()))
            .listen(WebSocket::bind("127.0.0.1:0").name("older").cipher(cbc()))
            .listen(Tcp::bind("127.0.0.1:0").name("new"))
            .listen(
                Tcp::bind("127.0.0.1:0")
                    .name("changed")
                    .cipher(ecb())
                    .codec(tidegate::protocol::V1),
            )
    })
    .await;
    let lines = log::own_lines_with("legacy cipher");
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, name, cipher) in [
        (&lines[0], "old", "aes-ecb"),
        (&lines[1], "older", "aes-cbc"),
    ] {
        assert!(line.starts_with("WARN "), "{line}");
        assert!(
            line.contains(&format!("listener={name} cipher=\"{cipher}\"")),
            "{line}"
        );
        for word in [
            "old clients only",
            "unauthenticated",
            "deterministic",
            "forged",
            "replayed",
            "reordered",
            "use TLS",
        ] {
            assert!(line.contains(word), "{word} in {line}");
        }
    }
    let listener = Tcp::bind("127.0.0.1:0").cipher(cbc());
    assert!(!format!("{listener:?}").contains("a key"));
    assert!(log::own_lines_with("a key of").is_empty());
    drop(rig);
}

/// Each page that offers a cipher says what it does not do.
#[test]
fn the_documents_say_what_the_ciphers_do_not_do() {
    for (name, page) in [
        (
            "docs/protocol.md",
            include_str!("../../../docs/protocol.md"),
        ),
        (
            "docs/coming-from-river.md",
            include_str!("../../../docs/coming-from-river.md"),
        ),
        ("CHANGELOG.md", include_str!("../../../CHANGELOG.md")),
        ("README.md", include_str!("../../../README.md")),
    ] {
        let words = page.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "aes-ecb",
            "aes-cbc",
            "not authenticated",
            "replay",
            "reorder",
            "forge",
            "TLS",
        ] {
            assert!(words.contains(part), "{name} does not say {part:?}");
        }
    }
    // The reference; a WebSocket listener's keys are those of TCP and more.
    let page = include_str!("../../../docs/configuration.md");
    let (_, row) = page.split_once("### `tcp.cipher`").unwrap();
    let (row, _) = row.split_once("###").unwrap();
    for part in [
        "unauthenticated",
        "deterministic",
        "change, repeat and reorder",
        "TLS",
    ] {
        assert!(row.contains(part), "the reference does not say {part:?}");
    }
}
