//! A WebSocket client that sends the headers it is told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::frame;
use crate::support::server::client;

pub(crate) struct Ws {
    stream: TcpStream,
    /// The answer to the upgrade.
    pub(crate) head: String,
}

/// What the gate sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// Topic and body.
    Packet(String, Vec<u8>),
    Close(u16),
}

impl Ws {
    pub(crate) fn open(address: SocketAddr, target: &str, headers: &[String]) -> Self {
        let mut stream = client(address);
        let mut request = format!(
            "GET {target} HTTP/1.1\r\nHost: gate.example\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for header in headers {
            request += &format!("{header}\r\n");
        }
        request += "\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self { stream, head }
    }

    pub(crate) fn send(&mut self, topic: &str, body: &[u8]) {
        let payload = frame(topic, body);
        let mut message = vec![0x82];
        match u8::try_from(payload.len()) {
            Ok(short @ ..126) => message.push(0x80 | short),
            _ => {
                message.push(0x80 | 126);
                message.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        // A mask of zeros is a mask.
        message.extend([0; 4]);
        message.extend(payload);
        self.stream.write_all(&message).unwrap();
    }

    pub(crate) fn next(&mut self) -> Got {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).unwrap();
        match head[0] {
            0x82 => {
                let topic = usize::from(u16::from_le_bytes([payload[2], payload[3]]));
                let body = payload.split_off(4 + topic);
                Got::Packet(String::from_utf8(payload[4..].to_vec()).unwrap(), body)
            }
            0x88 => Got::Close(u16::from_be_bytes([payload[0], payload[1]])),
            other => panic!("a frame that begins with {other:#x}"),
        }
    }

    /// The next packet's body; it must be the answer.
    pub(crate) fn ask(&mut self, topic: &str, body: &[u8]) -> Vec<u8> {
        self.send(topic, body);
        match self.next() {
            Got::Packet(answered, body) if answered == topic => body,
            got => panic!("{got:?} in place of an answer to {topic}"),
        }
    }

    /// The number of the error that answers.
    pub(crate) fn error(&mut self, topic: &str, body: &[u8]) -> u64 {
        self.send(topic, body);
        match self.next() {
            Got::Packet(under, body) if under == "error" => number(&body),
            got => panic!("{got:?} in place of an error of {topic}"),
        }
    }
}

/// The number in an error packet.
pub(crate) fn number(body: &[u8]) -> u64 {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    body["code"].as_u64().unwrap()
}
