//! A gate that means no good: whatever it is asked, it answers with attacks on terminals.

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

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

/// Listens on WebSocket. A packet of topic `bye` ends it with a close text, any other is
/// answered.
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

fn serve(mut socket: WebSocket<TcpStream>) {
    let evil = canaries();
    while let Ok(message) = socket.read() {
        let Message::Binary(packet) = message else {
            continue;
        };
        let topic_len = usize::from(u16::from_le_bytes([packet[2], packet[3]]));
        let topic = String::from_utf8(packet[4..4 + topic_len].to_vec()).unwrap();
        if topic == "bye" {
            let reason = "\x1b[2J\u{202e}\u{200b}".into();
            let goodbye = CloseFrame {
                code: 4504.into(),
                reason,
            };
            socket.close(Some(goodbye)).ok();
            continue;
        }
        let json = serde_json::json!({ "key\u{202e}": "\u{9b}2J\u{200b}".repeat(30) });
        let json = json.to_string();
        let error = serde_json::json!({ "topic": "a/b", "code": 1234, "message": evil });
        let mut binary = evil.clone().into_bytes();
        binary.push(0xff);
        for (topic, body) in [
            // Control characters in topics are refused by the client itself.
            (
                "push/\u{202e}\u{2066}\u{200b}\u{feff}\u{e0041}",
                evil.as_bytes(),
            ),
            ("push/json", json.as_bytes()),
            ("push/binary", &binary),
            ("error", error.to_string().as_bytes()),
            (&topic, evil.as_bytes()),
        ] {
            let packet = frame(topic, body);
            if socket.send(Message::Binary(packet.into())).is_err() {
                return;
            }
        }
    }
}
