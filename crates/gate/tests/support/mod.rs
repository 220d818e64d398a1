//! What the tests of the gate share: a gate with an echo service, version 1 frames, and
//! clients that write and read raw bytes.

#![allow(dead_code, unreachable_pub, reason = "no test file uses all of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tidegate::bus::Ended;
use tidegate::{
    CloseReason, ErrorCode, Gate, GateBuilder, Guests, Limits, LocalSession, Packet, Protocol,
    RunningGate, Service, Tcp, WebSocket,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

pub mod files;
pub mod log;
pub mod ws;

pub use ws::WsClient;

/// What nothing may need: a wait that is this long has failed.
pub const LONG: Duration = Duration::from_secs(300);

/// Bytes that a pipe of [`Rig::tcp`] and [`Rig::ws`] holds each way.
pub const PIPE: usize = 4096;

pub const PEER: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    40_000,
);

/// A gate that runs, and what its hooks saw. Its services, open to guests: `echo` with
/// `echo` (answers the body), `hang` (never answers), and one-way `take`.
pub struct Rig {
    pub running: RunningGate,
    pub started: UnboundedReceiver<LocalSession>,
    pub ended: UnboundedReceiver<Ended>,
    pub errors: UnboundedReceiver<(String, ErrorCode)>,
}

impl Rig {
    /// A gate on the test's own runtime.
    pub async fn new() -> Self {
        Self::with(|gate| gate).await
    }

    pub async fn with(build: impl FnOnce(GateBuilder) -> GateBuilder) -> Self {
        let (starts, started) = unbounded_channel();
        let (ends, ended) = unbounded_channel();
        let (fails, errors) = unbounded_channel();
        let gate = Gate::builder()
            .shards(0)
            .service(echo())
            .on_started(move |session| {
                let sent = starts.send(session);
                async move { sent.map_err(|_| tidegate::Refused::new("the test is over")) }
            })
            .on_ended(move |_, ended| {
                // A test that is over does not listen.
                let _ = ends.send(ended);
                async {}
            })
            .on_packet_error(move |_, topic, error| {
                let _ = fails.send((topic.to_string(), error.code));
            });
        Self {
            running: build(gate).start().await.unwrap(),
            started,
            ended,
            errors,
        }
    }

    pub fn gate(&self) -> &Gate {
        self.running.gate()
    }

    pub fn address(&self, i: usize) -> SocketAddr {
        self.running.address(i).unwrap()
    }

    /// A client of a TCP listener with these limits, through a pipe.
    pub fn tcp(&self, limits: Limits) -> DuplexStream {
        self.tcp_on(Tcp::bind("pipe").limits(limits))
    }

    pub fn tcp_on(&self, listener: Tcp) -> DuplexStream {
        let (client, server) = tokio::io::duplex(PIPE);
        let listener = listener.protocol(Protocol::V1);
        self.running.serve(server, listener, PEER).unwrap();
        client
    }

    /// A client of a WebSocket listener with these limits, through a pipe; upgraded.
    pub async fn ws(&self, limits: Limits) -> WsClient<DuplexStream> {
        self.ws_on(WebSocket::bind("pipe").limits(limits)).await
    }

    pub async fn ws_on(&self, listener: WebSocket) -> WsClient<DuplexStream> {
        let (client, server) = tokio::io::duplex(PIPE);
        let listener = listener.protocol(Protocol::V1);
        self.running.serve(server, listener, PEER).unwrap();
        WsClient::upgrade(client, "/").await
    }

    /// The session that began next.
    pub async fn session(&mut self) -> LocalSession {
        let next = timeout(LONG, self.started.recv()).await;
        next.expect("no session began").unwrap()
    }

    /// How the next session ended.
    pub async fn end(&mut self) -> Ended {
        let next = timeout(LONG, self.ended.recv()).await;
        next.expect("no session ended").unwrap()
    }

    pub async fn reason(&mut self) -> CloseReason {
        self.end().await.reason
    }

    pub async fn error(&mut self) -> (String, ErrorCode) {
        let next = timeout(LONG, self.errors.recv()).await;
        next.expect("no packet failed").unwrap()
    }

    /// Waits until nothing is left of any client.
    pub async fn settled(&self) {
        let gate = self.gate();
        until("all sessions, connections and bytes are gone", || {
            gate.session_count() == 0 && gate.connection_count() == 0 && gate.memory_used() == 0
        })
        .await;
    }
}

/// Waits for what another task or thread brings about.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let done = timeout(LONG, wait).await;
    assert!(done.is_ok(), "it never came that {what}");
}

/// Lets every other task run until it waits for time or for a socket. Paused time only.
pub async fn quiet() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub fn echo() -> Service {
    Service::new("echo")
        .request("echo", async |body: Bytes| body)
        .open_to(Guests)
        .request("hang", async |_: Bytes| {
            std::future::pending::<()>().await;
        })
        .open_to(Guests)
        .concurrent()
        .one_way("take", async |_: Bytes| {})
        .open_to(Guests)
}

// --- version 1 frames

/// A version 1 frame.
pub fn v1(topic: &str, body: &[u8]) -> Vec<u8> {
    raw_v1(topic.as_bytes(), body)
}

/// A version 1 frame whose topic need not be one.
pub fn raw_v1(topic: &[u8], body: &[u8]) -> Vec<u8> {
    let total = u16::try_from(4 + topic.len() + body.len()).unwrap();
    let mut frame = total.to_le_bytes().to_vec();
    frame.extend_from_slice(&(topic.len() as u16).to_le_bytes());
    frame.extend_from_slice(topic);
    frame.extend_from_slice(body);
    frame
}

/// Takes a version 1 frame apart.
pub fn parse_v1(frame: &[u8]) -> (String, Vec<u8>) {
    let number = |at: usize| usize::from(u16::from_le_bytes([frame[at], frame[at + 1]]));
    assert_eq!(number(0), frame.len());
    let topic = String::from_utf8(frame[4..4 + number(2)].to_vec()).unwrap();
    (topic, frame[4 + number(2)..].to_vec())
}

/// The next frame of a stream; `None` once the gate has closed, in a frame or between.
pub async fn read_v1(io: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let read = async {
        let mut head = [0; 2];
        io.read_exact(&mut head).await.ok()?;
        let mut frame = head.to_vec();
        frame.resize(usize::from(u16::from_le_bytes(head)), 0);
        io.read_exact(&mut frame[2..]).await.ok()?;
        Some(parse_v1(&frame))
    };
    timeout(LONG, read).await.expect("no frame came")
}

/// Everything up to the gate's close.
pub async fn read_all(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    let read = async {
        let mut part = [0; 4096];
        while let Ok(n @ 1..) = io.read(&mut part).await {
            all.extend_from_slice(&part[..n]);
        }
    };
    timeout(LONG, read).await.expect("the gate did not close");
    all
}

/// The whole frames in `bytes`.
pub fn frames_in(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some(head) = bytes.first_chunk::<2>() {
        let Some((frame, rest)) = bytes.split_at_checked(u16::from_le_bytes(*head).into()) else {
            break;
        };
        frames.push(parse_v1(frame));
        bytes = rest;
    }
    frames
}

/// One request and its answer: the connection works.
pub async fn assert_echo(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    io.write_all(&v1("echo/echo/7", b"ping")).await.unwrap();
    let answer = read_v1(io).await.expect("an answer, not a close");
    assert_eq!(answer, ("echo/echo/7".to_owned(), b"ping".to_vec()));
}

/// A packet of `n` bytes of body under `topic`.
pub fn packet(topic: &str, n: usize) -> Packet {
    Packet::try_new(topic, vec![b'x'; n]).unwrap()
}

// --- sockets

/// Connects with a receive buffer of about this size, from this address.
pub async fn connect_small(to: SocketAddr, receive_buffer: u32) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(receive_buffer).unwrap();
    socket.connect(to).await.unwrap()
}

/// Connects from one of the loopback's addresses.
pub async fn connect_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    socket.connect(to).await.unwrap()
}
