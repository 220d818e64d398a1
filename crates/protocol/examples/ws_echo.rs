//! A WebSocket echo server on blocking sockets, one thread per connection: the codec with the
//! least around it. The conformance suite (`scripts/autobahn`) runs against it.
//!
//! `ws_echo [port]`: binds to the loopback address (port 0, the default, lets the system
//! choose) and prints where.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_protocol::ws::policy::{Origins, Policy};
use tidegate_protocol::ws::upgrade::{self, UpgradeLimits};
use tidegate_protocol::ws::{
    Decoder, Event, Limits, Opcode, TextMessages, encode_close, encode_header, encode_pong,
};

/// What the suite needs: its largest message, and one of as many fragments.
const LIMITS: Limits = Limits {
    max_message: 16 << 20,
    max_fragments: 70_000,
    text: TextMessages::Utf8,
};
const READ_BUFFER: usize = 64 * 1024;
/// So long a closed connection waits for its client to close, too.
const LINGER: Duration = Duration::from_secs(1);

fn main() -> io::Result<()> {
    let port = match std::env::args().nth(1).map(|arg| arg.parse()) {
        None => 0,
        Some(Ok(port)) => port,
        Some(Err(error)) => return Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) = serve(stream) {
                eprintln!("connection: {error}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; READ_BUFFER];
    let mut len = 0;
    let policy = Policy {
        origins: Origins::Any,
        ..Policy::default()
    };
    let answer = loop {
        let read = stream.read(&mut buffer[len..])?;
        if read == 0 {
            return Ok(());
        }
        len += read;
        match upgrade::parse(&buffer[..len], &UpgradeLimits::default()) {
            Ok(None) => {}
            Ok(Some((request, used))) => {
                buffer.copy_within(used..len, 0);
                len -= used;
                break policy.check(&request);
            }
            Err(error) => break Err(error),
        }
    };
    match answer {
        Ok(accept) => stream.write_all(&accept.response())?,
        Err(error) => {
            stream.write_all(&error.response())?;
            return linger(stream, &mut buffer);
        }
    }

    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    loop {
        let going_on = echo(&mut decoder, &mut buffer[..len], &mut out);
        stream.write_all(&out)?;
        out.clear();
        if !going_on {
            return linger(stream, &mut buffer);
        }
        len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
    }
}

/// Answers what is in `input`; `false` once a close frame has been answered or sent.
fn echo(decoder: &mut Decoder, mut input: &mut [u8], out: &mut Vec<u8>) -> bool {
    while !input.is_empty() {
        let (used, event) = match decoder.decode(input, &LIMITS) {
            Ok(decoded) => decoded,
            Err(error) => {
                encode_close(out, error.close_code(), &error.to_string());
                return false;
            }
        };
        match event {
            None | Some(Event::Pong(_)) => {}
            Some(Event::Ping(payload)) => encode_pong(out, &payload),
            Some(Event::Message { text, payload }) => {
                let opcode = if text { Opcode::Text } else { Opcode::Binary };
                encode_header(out, opcode, payload.len());
                out.extend_from_slice(&payload);
            }
            Some(Event::Close(close)) => {
                // 1005 stands for a close frame without a code, and is answered by one.
                encode_close(out, close.map_or(1005, |close| close.code), "");
                return false;
            }
        }
        input = &mut input[used..];
    }
    true
}

/// Closes so that the client gets what was written last: a socket closed with unread bytes
/// sends a reset, which makes the client's kernel throw away what it has not handed over.
fn linger(mut stream: TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + LINGER;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The time is up, or the client is gone.
            Err(_) => return Ok(()),
        }
    }
}
