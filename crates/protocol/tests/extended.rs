//! The extended protocol without sockets: two sides, and a wire that is cut anywhere.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;
use tidegate_protocol::extended::*;
use tidegate_protocol::{Codec, Packet, V1};

/// A gate's side, as simple as it can be: one session, tokens that are numbers.
#[derive(Default)]
struct GateSide {
    sent: Retained<Packet>,
    received: Received,
    tokens: Option<Tokens>,
    last_token: u8,
    unconfirmed: bool,
    delivered: Vec<u64>,
    next: u64,
    thefts: usize,
}

fn hash(token: &str) -> TokenHash {
    TokenHash([token.parse().unwrap(); 32])
}

impl GateSide {
    /// Answers a `$hello`: the `$welcome`, and what is written again behind it.
    fn hello(&mut self, hello: &Hello) -> Vec<Packet> {
        let mut again = Vec::new();
        let resumed = match (&hello.resume, &mut self.tokens) {
            (Some(request), Some(tokens)) => match tokens.present(&hash(&request.token)) {
                Presented::Good => {
                    again = self.sent.rewind(request.received).unwrap().collect();
                    true
                }
                Presented::Spent => {
                    self.thefts += 1;
                    false
                }
                Presented::Unknown => panic!("a token that never was: {request:?}"),
            },
            (Some(_), None) => panic!("nothing to resume yet"),
            // The first welcome never arrived: the client begins again.
            (None, _) => {
                *self = Self {
                    last_token: self.last_token,
                    ..Self::default()
                };
                false
            }
        };
        self.last_token += 1;
        let token = self.last_token.to_string();
        match &mut self.tokens {
            Some(tokens) => tokens.offer(hash(&token)),
            None => self.tokens = Some(Tokens::new(hash(&token))),
        }
        self.unconfirmed = true;
        let welcome = Welcome {
            version: VERSION,
            gate: "g".into(),
            session: "s".into(),
            user: None,
            capabilities: vec![RESUME.into()],
            heartbeat: Heartbeat {
                client_ms: 30_000,
                gate_ms: 30_000,
            },
            max_packet: 65_535,
            resume: Some(Resumption {
                token,
                window_ms: 60_000,
            }),
            resumed,
            refused: None,
            received: self.received.told(),
        };
        let mut out = vec![GateControl::Welcome(Box::new(welcome)).packet()];
        for packet in again {
            self.note(&packet);
            out.push(packet);
        }
        out
    }

    fn note(&mut self, packet: &Packet) {
        let count = match GateControl::read(packet) {
            Ok(GateControl::Gap(gap)) => gap.count,
            _ => 1,
        };
        self.sent.write(packet.clone(), count, packet.size() as u32);
    }

    fn push(&mut self) -> Packet {
        self.next += 1;
        let n = self.next;
        let packet = match n % 10 {
            // One in ten is an error, one a gap of three.
            0 => GateControl::Error(ErrorPacket {
                topic: "a/b/1".into(),
                packet: n,
                code: 3,
                message: n.to_string(),
            })
            .packet(),
            5 => GateControl::Gap(Gap {
                count: 3,
                reason: GapReason::Dropped,
            })
            .packet(),
            _ => numbered(n),
        };
        self.note(&packet);
        packet
    }

    fn take(&mut self, packet: &Packet) -> Option<Vec<Packet>> {
        match ClientControl::read(packet) {
            Ok(ClientControl::Hello(hello)) => return Some(self.hello(&hello)),
            Ok(ClientControl::Ack(count)) => self.sent.acknowledge(count).unwrap(),
            Ok(_) => {}
            Err(_) => {
                self.received.take(1);
                self.delivered.push(number(packet));
            }
        }
        if std::mem::take(&mut self.unconfirmed) {
            self.tokens.as_mut().unwrap().confirm();
        }
        None
    }
}

fn numbered(n: u64) -> Packet {
    Packet::try_new("n/n", n.to_string()).unwrap()
}

fn number(packet: &Packet) -> u64 {
    std::str::from_utf8(&packet.body).unwrap().parse().unwrap()
}

/// A stream of bytes that is read in pieces.
#[derive(Default)]
struct Wire(VecDeque<u8>);

impl Wire {
    fn write(&mut self, packet: &Packet) {
        let mut frame = Vec::new();
        V1.encode(packet, &mut frame);
        self.0.extend(frame);
    }

    /// The next packet among the first `bytes` bytes.
    fn read(&mut self, bytes: &mut usize) -> Option<Packet> {
        let buffered = self.0.make_contiguous();
        let buffered = &buffered[..(*bytes).min(buffered.len())];
        let len = V1.frame_len(buffered, V1::MAX_FRAME).unwrap()?;
        let packet = V1.decode(buffered.get(..len)?).unwrap();
        self.0.drain(..len);
        *bytes -= len;
        Some(packet)
    }
}

/// One connection: what is done on it before it is cut, and where.
#[derive(Debug, Clone)]
struct Connection {
    steps: Vec<Step>,
    /// Bytes of each direction that still arrive after the last step.
    up: usize,
    down: usize,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    ClientSends,
    GateSends,
    ClientAcks,
    GateAcks,
    /// So many bytes arrive.
    Up(usize),
    Down(usize),
}

fn connection() -> impl Strategy<Value = Connection> {
    let step = prop_oneof![
        3 => Just(Step::ClientSends),
        3 => Just(Step::GateSends),
        1 => Just(Step::ClientAcks),
        1 => Just(Step::GateAcks),
        3 => (0..400usize).prop_map(Step::Up),
        3 => (0..800usize).prop_map(Step::Down),
    ];
    let steps = proptest::collection::vec(step, 0..60);
    (steps, 0..600usize, 0..600usize).prop_map(|(steps, up, down)| Connection { steps, up, down })
}

/// The client, and what it has seen.
#[derive(Default)]
struct ClientSide {
    session: ClientSession,
    next: u64,
    /// What its user handed over while there was no connection.
    waiting: Vec<Packet>,
    welcomed: bool,
    /// Numbers of the gate's packets as they came; gaps as zeros.
    seen: Vec<u64>,
    fresh: usize,
}

impl ClientSide {
    fn send(&mut self, up: &mut Wire) {
        self.next += 1;
        let packet = numbered(self.next);
        if self.welcomed {
            self.session.write(&packet);
            up.write(&packet);
        } else {
            self.waiting.push(packet);
        }
    }

    fn take(&mut self, packet: Packet, up: &mut Wire) {
        if !self.welcomed {
            let GateControl::Welcome(welcome) = GateControl::read(&packet).unwrap() else {
                panic!("not a welcome: {packet:?}");
            };
            let mut write = match self.session.welcome(&welcome).unwrap() {
                Welcomed::Resumed { again } => again,
                Welcomed::Fresh { unknown, refused } => {
                    assert!(unknown.is_empty() && refused.is_none());
                    self.fresh += 1;
                    Vec::new()
                }
            };
            self.welcomed = true;
            up.write(&self.session.confirm());
            write.append(&mut self.waiting);
            for packet in write {
                self.session.write(&packet);
                up.write(&packet);
            }
            return;
        }
        match self.session.take(packet).unwrap() {
            Taken::Packet(packet) => self.seen.push(number(&packet)),
            Taken::Error(error) => self.seen.push(error.message.parse().unwrap()),
            Taken::Gap(gap) => self.seen.extend((0..gap.count).map(|_| 0)),
            Taken::Nothing => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
}

fn hello() -> Hello {
    Hello::read(br#"{"versions":[1],"capabilities":["resume"]}"#).unwrap()
}

fn run(connections: &[Connection]) -> (ClientSide, GateSide) {
    let mut client = ClientSide::default();
    let mut gate = GateSide::default();
    // The last connection holds until everything has arrived.
    let settle = Connection {
        steps: vec![
            Step::Up(usize::MAX),
            Step::Down(usize::MAX),
            Step::Up(usize::MAX),
        ],
        up: usize::MAX,
        down: usize::MAX,
    };
    for connection in connections.iter().chain([&settle]) {
        let (mut up, mut down) = (Wire::default(), Wire::default());
        client.welcomed = false;
        up.write(&client.session.hello(&hello()));
        let mut greeted = false;
        let mut steps = connection.steps.clone();
        steps.extend([Step::Up(connection.up), Step::Down(connection.down)]);
        for step in steps {
            match step {
                Step::ClientSends => client.send(&mut up),
                Step::GateSends if greeted => down.write(&gate.push()),
                Step::ClientAcks if client.welcomed => {
                    if let Some(ack) = client.session.ack() {
                        up.write(&ack);
                    }
                }
                Step::GateAcks if greeted => {
                    if let Some(count) = gate.received.acknowledge() {
                        down.write(&GateControl::Ack(count).packet());
                    }
                }
                Step::GateSends | Step::ClientAcks | Step::GateAcks => {}
                Step::Up(mut bytes) => {
                    while let Some(packet) = up.read(&mut bytes) {
                        if let Some(answer) = gate.take(&packet) {
                            greeted = true;
                            answer.iter().for_each(|packet| down.write(packet));
                        }
                    }
                }
                Step::Down(mut bytes) => {
                    while let Some(packet) = down.read(&mut bytes) {
                        client.take(packet, &mut up);
                    }
                }
            }
        }
    }
    (client, gate)
}

/// A session that cannot be resumed is acknowledged like others, and what was not
/// acknowledged when it ends is known.
#[test]
fn acknowledgements_without_resume() {
    let mut client = ClientSession::default();
    let counts: Vec<_> = (1..=5).map(|n| client.write(&numbered(n))).collect();
    assert_eq!(counts, (1..=5).map(Some).collect::<Vec<_>>());
    assert_eq!(client.write(&GateControl::Ping(1).packet()), None);
    let ack = |n| GateControl::Ack(n).packet();
    client.take(ack(2)).unwrap();
    assert_eq!(client.unacknowledged().0, 3);
    assert!(client.take(ack(6)).is_err() && client.take(ack(1)).is_err());
    let unknown = client.give_up();
    assert_eq!(
        unknown,
        [(3, numbered(3)), (4, numbered(4)), (5, numbered(5))]
    );
    assert_eq!(client.unacknowledged(), (0, 0));
    assert_eq!(client.write(&numbered(6)), Some(1), "counts begin again");
}

/// What the gate sent, as the client should see it.
fn expected(sent: u64) -> Vec<u64> {
    let one = |n: u64| match n % 10 {
        5 => vec![0; 3],
        _ => vec![n],
    };
    (1..=sent).flat_map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Connections are cut at any byte; nothing is lost, repeated or reordered, and no
    /// honest client is taken for a thief.
    #[test]
    fn every_packet_arrives_once_and_in_order(
        connections in proptest::collection::vec(connection(), 0..12)
    ) {
        let (client, gate) = run(&connections);
        prop_assert_eq!(gate.thefts, 0);
        // A session whose first welcome never arrived begins again, and may have taken
        // nothing: nothing was written before a welcome.
        prop_assert!(client.fresh == 1);
        prop_assert_eq!(&gate.delivered, &(1..=client.next).collect::<Vec<_>>());
        prop_assert_eq!(&client.seen, &expected(gate.next));
    }

    #[test]
    fn no_body_makes_a_reader_panic(topic in "\\$[a-z]{3,7}", body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let packet = Packet::try_new(&topic, Bytes::from(body)).unwrap();
        let _ = ClientControl::read(&packet);
        let _ = GateControl::read(&packet);
    }
}
