//! Memory of idle connections.
//!
//! The process is looked at before, and after every client has had one answer and gone idle
//! again: what a connection keeps once its buffers are not needed any more is what counts.

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
        "{} connections of each kind, heap and stacks only; each has had one answer",
        args.connections
    );
    println!("{:>5}  {:>9}  {:>16}", "round", "kind", "for each");
    for round in 1..=args.rounds {
        let mut plain = 0;
        for kind in [Kind::Tcp, Kind::WebSocket, Kind::Resumable] {
            let server = Server::start()?;
            let before = warm(&server, kind)?;
            let (clients, idle) = measure(&server, kind, args.connections, before)?;
            println!("{round:>5}  {:>9}  {idle:>10} bytes", kind.name());
            match kind {
                Kind::Tcp => plain = idle,
                Kind::WebSocket => {}
                Kind::Resumable => {
                    drop(clients);
                    std::thread::sleep(QUIET);
                    // What the connections held is kept by the allocator. Others take it.
                    let (_clients, both) = measure(&server, Kind::Tcp, args.connections, before)?;
                    println!("{round:>5}  {:>9}  {:>10} bytes", "dormant", both - plain);
                }
            }
        }
    }
    println!("sessions and limits included; resumable: over TCP; dormant: its session alone");
    Ok(())
}

/// Has the process allocate what it allocates once. Answers its memory.
fn warm(server: &Server, kind: Kind) -> Result<u64, Box<dyn Error>> {
    // They stay until the process ends.
    for i in 0..WARM_UP {
        std::mem::forget(kind.join(server, i)?);
    }
    std::thread::sleep(QUIET);
    Ok(server.memory()?.anonymous)
}

/// Bytes that each of so many more takes, and their sockets.
fn measure(
    server: &Server,
    kind: Kind,
    connections: usize,
    before: u64,
) -> Result<(Vec<TcpStream>, i64), Box<dyn Error>> {
    let clients: Result<Vec<_>, _> = (0..connections).map(|i| kind.join(server, i)).collect();
    std::thread::sleep(QUIET);
    let now = server.memory()?.anonymous;
    Ok((clients?, (now as i64 - before as i64) / connections as i64))
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

    /// Connects, asks once, and goes idle.
    fn join(self, server: &Server, i: usize) -> Result<TcpStream, Box<dyn Error>> {
        let mut socket = self.connect(server, i)?;
        self.echo(&mut socket)?;
        Ok(socket)
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
    stream.set_nodelay(true)?;
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
