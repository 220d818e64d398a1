//! Another frame than version 1: one line of text, `topic body`.
//!
//! Run it and say hello with a line of your own:
//!
//! ```text
//! cargo run -p tidegate --example line_codec
//! printf 'echo/echo/1 hello\n' | nc 127.0.0.1 3653
//! ```

use bytes::Bytes;
use tidegate::protocol::FrameError;
use tidegate::{Codec, Gate, Guests, Packet, Service, Tcp, Topic, WebSocket};

/// Frames are lines: the topic, a space, the body, a line feed. A body's own line feeds
/// become spaces. On WebSocket a message is a line, and may do without its line feed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines;

impl Codec for Lines {
    fn frame_len(&self, buffered: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
        let line = buffered.iter().position(|b| *b == b'\n').map(|at| at + 1);
        // A line that goes on is at least one byte longer than what has come.
        let len = line.unwrap_or(buffered.len() + 1);
        if len > max {
            return Err(FrameError::TooLarge { len, max });
        }
        Ok(line)
    }

    fn decode(&self, frame: &[u8]) -> Result<Packet, FrameError> {
        let line = frame.strip_suffix(b"\n").unwrap_or(frame);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let space = line.iter().position(|b| *b == b' ');
        let (topic, body) = line.split_at(space.unwrap_or(line.len()));
        let body = body.strip_prefix(b" ").unwrap_or(body);
        let topic = Topic::from_bytes(topic)?;
        Ok(Packet::new(topic, Bytes::copy_from_slice(body)))
    }

    fn encoded_len(&self, packet: &Packet) -> usize {
        packet.size() + 2
    }

    fn encode(&self, packet: &Packet, out: &mut Vec<u8>) {
        out.extend_from_slice(packet.topic.as_str().as_bytes());
        out.push(b' ');
        out.extend(packet.body.iter().map(|b| match b {
            b'\n' => b' ',
            other => *other,
        }));
        out.push(b'\n');
    }
}

#[tokio::main]
async fn main() -> Result<(), tidegate::StartError> {
    let echo = Service::new("echo")
        .request("echo", async |body: Bytes| body)
        .open_to(Guests);
    Gate::builder()
        .listen(Tcp::bind("127.0.0.1:3653").codec(Lines))
        .listen(WebSocket::bind("127.0.0.1:3654").codec(Lines))
        .service(echo)
        .run_until(tokio::signal::ctrl_c())
        .await
}
