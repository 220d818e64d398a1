//! A gate that means no good: whatever it is asked, it answers with attacks on terminals.

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept_hdr};

use super::frame;

/// What must not get to a terminal: each does something there, or hides something.
pub(crate) const CANARIES: &[&str] = &[
    "\x1b]0;canary\x07",
    "\x1b]52;c;Y2FuYXJ5\x07",
    "\x1b[2J",
    "\u{9b}2J",
    "\u{202e}",
    "\u{2066}",
    "\u{200b}",
    "\u{feff}",
    "\u{e0041}",
    "\r\n<< fake",
];

/// Every canary in one text.
pub(crate) fn canaries() -> String {
    CANARIES.concat()
}

/// Listens on WebSocket. A packet of topic `bye` ends it with a close text, one of `hang-up`
/// without, any other is answered. With clients of the extended protocol it speaks that.
pub(crate) struct Hostile {
    pub(crate) url: String,
    /// The headers of each client's request.
    pub(crate) headers: Receiver<Vec<(String, String)>>,
}

impl Hostile {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let (sender, headers) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let sender = sender.clone();
                thread::spawn(move || {
                    #[expect(clippy::result_large_err, reason = "tungstenite's own")]
                    let look = |request: &Request, response: Response| {
                        let headers = request.headers().iter();
                        let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
                        let headers = headers.map(|(n, v)| (n.to_string(), text(v.as_bytes())));
                        sender.send(headers.collect()).ok();
                        Ok::<_, ErrorResponse>(response)
                    };
                    serve(accept_hdr(stream.unwrap(), look).unwrap());
                });
            }
        });
        Self { url, headers }
    }
}

/// Topic and body of a frame.
fn read(packet: &[u8]) -> (String, &[u8]) {
    let topic_len = usize::from(u16::from_le_bytes([packet[2], packet[3]]));
    let (topic, body) = packet[4..].split_at(topic_len);
    (String::from_utf8(topic.to_vec()).unwrap(), body)
}

fn serve(mut socket: WebSocket<TcpStream>) {
    let evil = canaries();
    let (mut extended, mut count) = (false, 0);
    while let Ok(message) = socket.read() {
        let Message::Binary(packet) = message else {
            continue;
        };
        let (topic, body) = read(&packet);
        let mut packets = match &*topic {
            "$hello" => {
                extended = true;
                vec![welcome(body)]
            }
            topic if topic.starts_with('$') => Vec::new(),
            topic => attacks(topic),
        };
        if !topic.starts_with('$') {
            count += 1;
        }
        match (&*topic, extended) {
            ("bye", true) => {
                let close = json!({ "code": 4504, "text": evil, "reconnect": false });
                packets = vec![frame("$close", close.to_string().as_bytes())];
            }
            ("bye", false) => {
                let reason = "\x1b[2J\u{202e}\u{200b}".into();
                let goodbye = CloseFrame {
                    code: 4504.into(),
                    reason,
                };
                socket.close(Some(goodbye)).ok();
                continue;
            }
            ("hang-up", _) => return,
            (topic, true) if !topic.starts_with('$') => packets.extend(controls(topic, count)),
            _ => {}
        }
        for packet in packets {
            if socket.send(Message::Binary(packet.into())).is_err() {
                return;
            }
        }
    }
}

/// Packets of services, and the answer.
fn attacks(topic: &str) -> Vec<Vec<u8>> {
    let evil = canaries();
    let json = json!({ "key\u{202e}": "\u{9b}2J\u{200b}".repeat(30) });
    let json = json.to_string();
    let error = json!({ "topic": "a/b", "code": 1234, "message": evil });
    let error = error.to_string();
    let mut binary = evil.clone().into_bytes();
    binary.push(0xff);
    let packets = [
        // Control characters in topics are refused by the client itself.
        (
            "push/\u{202e}\u{2066}\u{200b}\u{feff}\u{e0041}",
            evil.as_bytes(),
        ),
        ("push/json", json.as_bytes()),
        ("push/binary", &binary),
        ("error", error.as_bytes()),
        (topic, evil.as_bytes()),
    ];
    packets.map(|(topic, body)| frame(topic, body)).into()
}

/// The answer to a `$hello`: the session of before does not go on.
fn welcome(hello: &[u8]) -> Vec<u8> {
    let hello: Value = serde_json::from_slice(hello).unwrap();
    let evil = canaries();
    let mut welcome = json!({
        "version": 1,
        "gate": evil,
        "session": evil,
        "user": evil,
        "capabilities": ["resume"],
        "heartbeat": { "client_ms": 25000, "gate_ms": 25000 },
        "max_packet": 65535,
        "resume": { "token": "token", "window_ms": 60000 },
        "resumed": false,
        "received": 0,
    });
    if !hello["resume"].is_null() {
        welcome["refused"] = json!({ "code": 2, "text": evil });
    }
    frame("$welcome", welcome.to_string().as_bytes())
}

/// Control packets behind the client's packet of this count.
fn controls(topic: &str, count: u64) -> Vec<Vec<u8>> {
    let evil = canaries();
    let hour = 3_600_000;
    let bodies = [
        ("$gap", json!({ "count": 3, "reason": "dropped" })),
        (
            "$error",
            json!({ "topic": topic, "packet": count, "code": 1234, "message": evil }),
        ),
        ("$token", json!({ "refused": { "code": 3, "text": evil } })),
        (
            "$drain",
            json!({ "deadline_ms": hour, "retry_after_ms": hour }),
        ),
    ];
    let packets = bodies.map(|(topic, body)| frame(topic, body.to_string().as_bytes()));
    packets.into()
}
