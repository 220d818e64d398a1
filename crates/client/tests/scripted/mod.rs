//! A gate of the extended protocol that does what a test tells it, over in-memory streams.

#![allow(dead_code, unreachable_pub, reason = "no test file uses all of it")]
#![allow(clippy::unwrap_used, reason = "in a test's helpers too")]

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tidegate_client::{Backoff, Builder, Client, Error, Packet, State, States};
use tidegate_protocol::extended::{
    ClientControl, ErrorPacket, GateControl, Heartbeat, Hello, Refused, ResumeRefusal, Resumption,
    Welcome,
};
use tidegate_protocol::{Codec, V1};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

pub const BASE: Duration = Duration::from_millis(100);
pub const BACKOFF: Backoff = Backoff {
    base: BASE,
    cap: Duration::from_secs(2),
};

/// The gate that a client connects to.
pub struct Gate {
    streams: UnboundedReceiver<DuplexStream>,
    /// Whether nobody listens.
    pub down: Arc<AtomicBool>,
}

/// One connection, from the gate's side.
pub struct Conn(pub DuplexStream);

/// A client that connects.
pub type Connecting = JoinHandle<Result<Client, Error>>;

/// Begins to connect to a gate.
pub fn connect(options: impl FnOnce(Builder) -> Builder) -> (Connecting, Gate) {
    let (streams, gate) = unbounded_channel();
    let down = Arc::new(AtomicBool::new(false));
    let is_down = down.clone();
    let open = move || {
        let (ours, theirs) = duplex(256 * 1024);
        ready(match is_down.load(Relaxed) {
            true => Err(io::ErrorKind::ConnectionRefused.into()),
            false => streams
                .send(theirs)
                .map(|()| ours)
                .map_err(io::Error::other),
        })
    };
    let builder = options(Client::builder("tcp://gate:1").backoff(BACKOFF));
    let gate = Gate {
        streams: gate,
        down,
    };
    (tokio::spawn(builder.connect_with(open)), gate)
}

/// A client, its gate, and its first connection; the session has token `t1`.
pub async fn open(options: impl FnOnce(Builder) -> Builder) -> (Client, Gate, Conn) {
    let (connecting, mut gate) = connect(options);
    let mut conn = gate.accept().await;
    conn.hello().await;
    conn.welcome(fresh("t1")).await;
    conn.expect_ack(0).await;
    (connecting.await.unwrap().unwrap(), gate, conn)
}

impl Gate {
    pub async fn accept(&mut self) -> Conn {
        Conn(self.streams.recv().await.unwrap())
    }

    /// Accepts a client that comes back with a token and a count, and resumes its session.
    pub async fn resume(&mut self, token: &str, count: u64, received: u64, next: &str) -> Conn {
        let mut conn = self.accept().await;
        conn.expect_resume(token, count).await;
        conn.welcome(resumed(next, received)).await;
        conn.expect_ack(count).await;
        conn
    }

    pub fn set_down(&self, down: bool) {
        self.down.store(down, Relaxed);
    }

    pub fn nobody_came(&mut self) -> bool {
        self.streams.try_recv().is_err()
    }
}

impl Conn {
    /// The next packet; none when the client has closed.
    pub async fn read(&mut self) -> Option<Packet> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).await.ok()?;
        let mut frame = vec![0; usize::from(u16::from_le_bytes(head))];
        frame[..2].copy_from_slice(&head);
        self.0.read_exact(&mut frame[2..]).await.ok()?;
        Some(V1.decode(&frame).unwrap())
    }

    pub async fn write(&mut self, packet: Packet) {
        let mut frame = Vec::new();
        V1.encode(&packet, &mut frame);
        self.0.write_all(&frame).await.unwrap();
    }

    pub async fn push(&mut self, topic: &str, body: &str) {
        let packet = Packet::try_new(topic, body.to_owned()).unwrap();
        self.write(packet).await;
    }

    pub async fn say(&mut self, control: GateControl) {
        self.write(control.packet()).await;
    }

    pub async fn error(&mut self, topic: &str, packet: u64, code: u16) {
        let error = ErrorPacket {
            topic: topic.into(),
            packet,
            code,
            message: "no".into(),
        };
        self.say(GateControl::Error(error)).await;
    }

    pub async fn hello(&mut self) -> Hello {
        match ClientControl::read(&self.read().await.unwrap()).unwrap() {
            ClientControl::Hello(hello) => *hello,
            other => panic!("{other:?}"),
        }
    }

    pub async fn welcome(&mut self, welcome: Welcome) {
        self.say(GateControl::Welcome(Box::new(welcome))).await;
    }

    pub async fn expect_resume(&mut self, token: &str, count: u64) {
        let resume = self.hello().await.resume.unwrap();
        assert_eq!((resume.token.as_str(), resume.received), (token, count));
    }

    pub async fn expect_ack(&mut self, count: u64) {
        match ClientControl::read(&self.read().await.unwrap()) {
            Ok(ClientControl::Ack(n)) => assert_eq!(n, count),
            other => panic!("{other:?}"),
        }
    }

    /// The next packets, as topics and bodies.
    pub async fn expect(&mut self, expected: &[&str]) {
        for expected in expected {
            let packet = self.read().await.unwrap();
            let body = String::from_utf8(packet.body.to_vec()).unwrap();
            assert_eq!(format!("{} {body}", packet.topic).trim_end(), *expected);
        }
    }
}

pub fn fresh(token: &str) -> Welcome {
    Welcome {
        version: 1,
        gate: "gate".into(),
        session: format!("session of {token}"),
        user: Some("anna".into()),
        capabilities: vec!["resume".into()],
        heartbeat: Heartbeat {
            client_ms: 25_000,
            gate_ms: 25_000,
        },
        max_packet: 65_535,
        resume: Some(Resumption {
            token: token.into(),
            window_ms: 120_000,
        }),
        resumed: false,
        refused: None,
        received: 0,
    }
}

pub fn resumed(token: &str, received: u64) -> Welcome {
    Welcome {
        resumed: true,
        received,
        ..fresh(token)
    }
}

pub fn refused(token: &str, why: ResumeRefusal) -> Welcome {
    Welcome {
        refused: Some(Refused::from(why)),
        ..fresh(token)
    }
}

/// A welcome to a session that ends with its connection.
pub fn plain() -> Welcome {
    Welcome {
        resume: None,
        capabilities: Vec::new(),
        ..fresh("none")
    }
}

/// The next state that is not of an attempt.
pub async fn next_waiting(states: &mut States) -> (Duration, String) {
    loop {
        match states.recv().await.unwrap() {
            State::Waiting { delay, why } => return (delay, why.to_string()),
            State::Closed(closed) => panic!("{closed}"),
            _ => {}
        }
    }
}
