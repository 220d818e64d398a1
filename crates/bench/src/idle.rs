//! Memory of idle connections.
//!
//! The process is looked at before, after connecting, and after every client has had
//! one answer and gone idle again: what a connection keeps once its buffers are not
//! needed any more is what counts.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use tidegate_protocol::extended::{ClientControl, GateControl, Hello};
use tidegate_protocol::{Codec, Packet, V1};

use crate::server::Server;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Connections of each kind.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Rounds, each with a server of its own.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Connections that come before the measured ones, so that what the process allocates
/// once is there.
const WARM_UP: usize = 200;
/// Long enough for the gate to have gone quiet.
const QUIET: Duration = Duration::from_millis(1500);

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    raise_descriptor_limit(args.connections as u64 + 1_000)?;
    println!(
        "{} connections of each kind, heap and stacks only",
        args.connections
    );
    println!(
        "{:>5}  {:>9}  {:>14}  {:>17}  {:>14}",
        "round", "kind", "connected", "after one answer", "dormant"
    );
    for round in 1..=args.rounds {
        for kind in [Kind::Tcp, Kind::WebSocket, Kind::Resumable] {
            let Measured {
                connected,
                spoken,
                dormant,
            } = measure(kind, args.connections)?;
            let dormant = dormant.map_or_else(|| "-".to_owned(), |n| format!("{n} bytes"));
            println!(
                "{round:>5}  {:>9}  {connected:>8} bytes  {spoken:>11} bytes  {dormant:>14}",
                kind.name()
            );
        }
    }
    println!("bytes for each connection, sessions and limits included; resumable: over TCP");
    Ok(())
}

/// Bytes for each.
struct Measured {
    connected: i64,
    spoken: i64,
    /// Once the connections are gone and the sessions wait.
    dormant: Option<i64>,
}

fn measure(kind: Kind, connections: usize) -> Result<Measured, Box<dyn Error>> {
    let server = Server::start()?;
    let mut clients = Vec::new();
    for i in 0..WARM_UP {
        clients.push(kind.connect(&server, i)?);
    }
    for client in &mut clients {
        kind.echo(client)?;
    }
    std::thread::sleep(QUIET);
    let each = |now: u64, before: u64| (now as i64 - before as i64) / connections as i64;
    let before = server.memory()?.anonymous;
    let mut measured = Vec::with_capacity(connections);
    for i in 0..connections {
        measured.push(kind.connect(&server, i)?);
    }
    std::thread::sleep(QUIET);
    let connected = each(server.memory()?.anonymous, before);
    for client in &mut measured {
        kind.echo(client)?;
    }
    std::thread::sleep(QUIET);
    let spoken = each(server.memory()?.anonymous, before);
    let dormant = match kind {
        Kind::Resumable => {
            drop(measured);
            std::thread::sleep(QUIET);
            Some(each(server.memory()?.anonymous, before))
        }
        Kind::Tcp | Kind::WebSocket => None,
    };
    Ok(Measured {
        connected,
        spoken,
        dormant,
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Tcp,
    WebSocket,
    /// The extended protocol over TCP, with resume.
    Resumable,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::WebSocket => "WebSocket",
            Self::Resumable => "resumable",
        }
    }

    fn connect(self, server: &Server, i: usize) -> Result<TcpStream, Box<dyn Error>> {
        let address = match self {
            Self::Tcp | Self::Resumable => &server.tcp,
            Self::WebSocket => &server.ws,
        };
        let mut socket = connect_from(i, address.parse()?)?;
        if let Self::WebSocket = self {
            let request = format!(
                "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            );
            socket.write_all(request.as_bytes())?;
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                socket.read_exact(&mut byte)?;
                head.push(byte[0]);
            }
            if !head.starts_with(b"HTTP/1.1 101 ") {
                return Err("the upgrade was refused".into());
            }
        }
        if let Self::Resumable = self {
            let hello = Hello::read(br#"{"versions":[1],"capabilities":["resume"]}"#)?;
            send(&mut socket, &ClientControl::Hello(Box::new(hello)).packet())?;
            match GateControl::read(&receive(&mut socket)?)? {
                GateControl::Welcome(welcome) if welcome.resume.is_some() => {}
                other => return Err(format!("not welcomed: {other:?}").into()),
            }
            send(&mut socket, &ClientControl::Ack(0).packet())?;
        }
        Ok(socket)
    }

    /// Sends a request and checks every byte of the answer.
    fn echo(self, socket: &mut TcpStream) -> Result<(), Box<dyn Error>> {
        let packet = Packet::try_new("echo/echo/1", vec![b'x'; 64])?;
        if let Self::Resumable = self {
            send(socket, &packet)?;
            // The gate acknowledges too, by and by.
            while receive(socket)? != packet {}
            return send(socket, &ClientControl::Ack(1).packet());
        }
        let mut frame = Vec::new();
        V1.encode(&packet, &mut frame);
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        if let Self::WebSocket = self {
            // A zero mask leaves the bytes as they are.
            out.extend([0x82, 0x80 | frame.len() as u8, 0, 0, 0, 0]);
            expected.extend([0x82, frame.len() as u8]);
        }
        out.extend(&frame);
        expected.extend(&frame);
        socket.write_all(&out)?;
        let mut answer = vec![0; expected.len()];
        socket.read_exact(&mut answer)?;
        match answer == expected {
            true => Ok(()),
            false => Err("a wrong answer".into()),
        }
    }
}

fn send(socket: &mut TcpStream, packet: &Packet) -> Result<(), Box<dyn Error>> {
    let mut frame = Vec::new();
    V1.encode(packet, &mut frame);
    Ok(socket.write_all(&frame)?)
}

fn receive(socket: &mut TcpStream) -> Result<Packet, Box<dyn Error>> {
    let mut frame = vec![0; 4];
    socket.read_exact(&mut frame)?;
    let len = V1.frame_len(&frame, V1::MAX_FRAME)?.ok_or("no length")?;
    frame.resize(len, 0);
    socket.read_exact(&mut frame[4..])?;
    Ok(V1.decode(&frame)?)
}

/// Connects from one of many loopback addresses, so that ports do not run out.
fn connect_from(i: usize, to: SocketAddr) -> Result<TcpStream, Box<dyn Error>> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    let from = Ipv4Addr::new(127, 1 + (i % 250) as u8, std::process::id() as u8, 1);
    bind(&socket, &SocketAddr::from((from, 0)))?;
    connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

fn raise_descriptor_limit(wanted: u64) -> Result<(), Box<dyn Error>> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    match limit.maximum {
        Some(most) if most < wanted => Err(format!("only {most} descriptors are allowed").into()),
        _ => Ok(()),
    }
}
