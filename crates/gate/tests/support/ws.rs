//! A WebSocket client that takes nothing for granted: what it sends may be wrong, and
//! what it receives is checked.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::{LONG, parse_v1, v1};

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Key and answer of RFC 6455 section 1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub struct WsClient<S> {
    pub io: S,
    /// Received and not looked at yet.
    pub buffer: Vec<u8>,
}

/// A frame of the gate's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a close frame; `None` if it has none.
    pub fn close_code(&self) -> Option<u16> {
        assert_eq!(self.opcode, CLOSE, "{self:?}");
        let code = self.payload.first_chunk::<2>()?;
        Some(u16::from_be_bytes(*code))
    }
}

/// An upgrade request with these further header lines.
pub fn request(path: &str, headers: &[&str]) -> Vec<u8> {
    let mut text = format!(
        "GET {path} HTTP/1.1\r\nHost: gate.example\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
    );
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Reads up to the end of an HTTP head; answers it and what came behind it.
pub async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let read = async {
        loop {
            if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                return end + 4;
            }
            let n = io.read_buf(&mut bytes).await.unwrap();
            assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
        }
    };
    let end = timeout(LONG, read).await.expect("no HTTP answer");
    let rest = bytes.split_off(end);
    (String::from_utf8(bytes).unwrap(), rest)
}

/// A masked frame. `first` is the whole first byte: FIN, reserved bits, opcode.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x92, 0x53, 0xf4];
    let mut frame = vec![first];
    match payload.len() {
        n @ 0..=125 => frame.push(0x80 | n as u8),
        n @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    frame
}

/// Parses strictly: whole, unmasked, unfragmented frames, shortest lengths, no reserved
/// bits. Answers the frame and its length; `None` while it is not whole.
pub fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "FIN and no reserved bits: {first:#x}");
    let opcode = first & 0x0f;
    assert!(matches!(opcode, BINARY | CLOSE | PING | PONG), "{first:#x}");
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (len, at) = match second {
        126 => {
            let len = u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]);
            assert!(len > 125);
            (len.into(), 4)
        }
        127 => {
            let len = u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
            assert!(len > 0xffff);
            (len as usize, 10)
        }
        short => (usize::from(short), 2),
    };
    assert!(
        opcode < CLOSE || len <= 125,
        "a control frame of {len} bytes"
    );
    let payload = bytes.get(at..at + len)?.to_vec();
    Some((Frame { opcode, payload }, at + len))
}

impl<S: AsyncRead + AsyncWrite + Unpin> WsClient<S> {
    pub async fn upgrade(io: S, path: &str) -> Self {
        Self::upgrade_with(io, path, &[]).await.0
    }

    /// Answers the client and the gate's head.
    pub async fn upgrade_with(mut io: S, path: &str, headers: &[&str]) -> (Self, String) {
        io.write_all(&request(path, headers)).await.unwrap();
        let (head, buffer) = read_head(&mut io).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains(ACCEPT), "{head}");
        (Self { io, buffer }, head)
    }

    /// A version 1 frame in one binary message.
    pub async fn send(&mut self, topic: &str, body: &[u8]) {
        self.send_frame(0x80 | BINARY, &v1(topic, body)).await;
    }

    pub async fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.io.write_all(&masked(first, payload)).await.unwrap();
    }

    /// The next frame; `None` once the gate has closed between two.
    pub async fn next(&mut self) -> Option<Frame> {
        timeout(LONG, self.read()).await.expect("no frame came")
    }

    /// The next frame, if one comes within `time`.
    pub async fn next_within(&mut self, time: Duration) -> Option<Frame> {
        timeout(time, self.read()).await.ok().flatten()
    }

    async fn read(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, len)) = parse(&self.buffer) {
                self.buffer.drain(..len);
                return Some(frame);
            }
            match self.io.read_buf(&mut self.buffer).await {
                Ok(n) if n > 0 => {}
                _ => {
                    assert!(self.buffer.is_empty(), "closed inside a frame");
                    return None;
                }
            }
        }
    }

    /// The next frame is a packet: its topic and body.
    pub async fn packet(&mut self) -> (String, Vec<u8>) {
        let frame = self.next().await.expect("a packet, not a close");
        assert_eq!(frame.opcode, BINARY, "{frame:?}");
        parse_v1(&frame.payload)
    }

    /// The gate says why, and then closes: the code.
    pub async fn closed(&mut self) -> Option<u16> {
        let frame = self.next().await.expect("a close frame before the close");
        let code = frame.close_code();
        assert_eq!(self.next().await, None, "nothing follows a close frame");
        code
    }

    pub async fn assert_echo(&mut self) {
        self.send("echo/echo/7", b"ping").await;
        let answer = self.packet().await;
        assert_eq!(answer, ("echo/echo/7".to_owned(), b"ping".to_vec()));
    }
}
