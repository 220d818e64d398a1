//! The extended protocol and resume, over memory and paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../support/log.rs"]
#[allow(dead_code, unreachable_pub, reason = "other tests use it too")]
mod log;

mod come_back;
mod cut;
mod delivery;
mod refused;
mod reserved;
mod speak;
mod tokens;

use std::time::Duration;

use harness::*;
use tidegate::protocol::extended::*;
use tidegate::{Limits, Listener, Packet, RunningGate, Tcp};

/// A listener that resumes over memory.
fn listener() -> Tcp {
    Tcp::bind("memory").resume_over_plaintext(true)
}

fn hello() -> Hello {
    Hello::read(br#"{"versions":[1],"capabilities":["resume"]}"#).unwrap()
}

/// A client of the extended protocol, across its connections.
struct Extended {
    state: ClientSession,
    io: Client,
    welcome: Welcome,
    /// Written again at the last welcome, not written yet.
    again: Vec<Packet>,
}

impl Extended {
    async fn join(gate: &RunningGate) -> Self {
        Self::join_on(gate, listener(), &hello()).await
    }

    async fn join_on(gate: &RunningGate, listener: impl Into<Listener>, hello: &Hello) -> Self {
        let mut state = ClientSession::default();
        let (io, welcome, again) = open(&mut state, gate, listener, hello).await;
        let mut client = Self {
            state,
            io,
            welcome,
            again,
        };
        client.confirm().await;
        client
    }

    /// A new connection; the old one is gone.
    async fn come_back(&mut self, gate: &RunningGate) {
        self.come_back_on(gate, listener(), &hello()).await;
    }

    async fn come_back_on(
        &mut self,
        gate: &RunningGate,
        listener: impl Into<Listener>,
        hello: &Hello,
    ) {
        let (io, welcome, again) = open(&mut self.state, gate, listener, hello).await;
        (self.io, self.welcome, self.again) = (io, welcome, again);
        self.confirm().await;
    }

    async fn confirm(&mut self) {
        let packet = self.state.confirm();
        self.write(&packet).await;
        for packet in std::mem::take(&mut self.again) {
            self.send_packet(packet).await;
        }
    }

    /// The connection breaks.
    fn cut(&mut self) {
        self.io = Client::new(tokio::io::duplex(1).0);
    }

    async fn send(&mut self, topic: &str, body: &str) {
        self.send_packet(packet(topic, body.to_owned())).await;
    }

    async fn send_packet(&mut self, packet: Packet) {
        self.state.write(&packet);
        self.write(&packet).await;
    }

    async fn write(&mut self, packet: &Packet) {
        self.io.send(packet.topic.as_str(), &packet.body).await;
    }

    async fn control(&mut self, control: ClientControl) {
        self.write(&control.packet()).await;
    }

    /// The next thing that means something; acknowledges as a client does.
    async fn take(&mut self) -> Taken {
        loop {
            let (topic, body) = self.io.recv().await;
            match self.state.take(packet(&topic, body)).unwrap() {
                Taken::Nothing => {}
                Taken::Reply(reply) => self.write(&reply).await,
                taken => {
                    if self.state.is_ack_due() {
                        self.ack().await;
                    }
                    return taken;
                }
            }
        }
    }

    async fn ack(&mut self) {
        if let Some(ack) = self.state.ack() {
            self.write(&ack).await;
        }
    }

    /// The next packet of a service, as text.
    async fn packet(&mut self) -> (String, String) {
        match self.take().await {
            Taken::Packet(packet) => (
                packet.topic.to_string(),
                String::from_utf8(packet.body.to_vec()).unwrap(),
            ),
            other => panic!("not a packet: {other:?}"),
        }
    }

    async fn closed_with(&mut self) -> Close {
        match self.take().await {
            Taken::Close(close) => {
                self.io.closed().await;
                close
            }
            other => panic!("not a close: {other:?}"),
        }
    }
}

async fn open(
    state: &mut ClientSession,
    gate: &RunningGate,
    listener: impl Into<Listener>,
    hello: &Hello,
) -> (Client, Welcome, Vec<Packet>) {
    let mut io = connect_with(gate, listener, 64 * 1024);
    let packet = state.hello(hello);
    io.send(packet.topic.as_str(), &packet.body).await;
    let welcome = read_welcome(&mut io).await;
    let again = match state.welcome(&welcome).unwrap() {
        Welcomed::Resumed { again } => again,
        Welcomed::Fresh { .. } => Vec::new(),
    };
    (io, welcome, again)
}

async fn read_welcome(io: &mut Client) -> Welcome {
    let (topic, body) = io.recv().await;
    match GateControl::read(&packet(&topic, body)) {
        Ok(GateControl::Welcome(welcome)) => *welcome,
        other => panic!("not a welcome: {other:?}"),
    }
}

async fn start() -> RunningGate {
    builder().start().await.unwrap()
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

const SECOND: Duration = Duration::from_secs(1);
