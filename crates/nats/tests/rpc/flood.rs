//! A flood of sends: each is answered truly, nothing accepted is lost or reordered, and
//! nothing is dropped in silence.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use tidegate::bus::{Bus, GateError, SessionOp, SessionReply};
use tidegate::{Delivery, Gate, Limits, LocalSession, Protocol, RunningGate, SessionId, Tcp};
use tidegate_nats::{Nats, NatsOptions};
use tidegate_protocol::GateId;
use tidegate_test_servers::NatsServer;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::harness::{Client, packet, until};
use crate::support::{Plain, bus, headers};

/// Packets in a row to each of two clients.
const FLOOD: usize = 100_000;
/// One in so many goes to a session beside them as well.
const BESIDE: usize = 100;
/// A flood takes as long as it takes; this only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whom the packets of a flood are for.
const TO: [&str; 3] = ["who reads", "who does not", "beside"];

/// What became of the packets to one session.
#[derive(Default)]
struct Account {
    sent: usize,
    /// What was answered, and how often.
    answers: BTreeMap<String, usize>,
    /// Numbers of the packets that were accepted, in order.
    accepted: Vec<usize>,
    unanswered: usize,
    /// Numbers of the packets that the client got, in order.
    received: Vec<usize>,
}

impl Account {
    fn answer(&mut self, number: usize, answer: Option<String>) {
        match answer {
            Some(error) => *self.answers.entry(error).or_default() += 1,
            None => self.accepted.push(number),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (accepted, received) = (self.accepted.len(), self.received.len());
        write!(
            f,
            "{} sent: {accepted} accepted, {received} received",
            self.sent
        )?;
        for (error, times) in &self.answers {
            write!(f, ", {times} {error}")?;
        }
        write!(f, ", {} unanswered", self.unanswered)
    }
}

/// The sessions that a flood is for, and their clients.
struct Flooded {
    sessions: [LocalSession; 3],
    reading: [JoinHandle<Vec<usize>>; 2],
    not_reading: Client<TcpStream>,
}

impl Flooded {
    async fn new(gate: &RunningGate) -> Self {
        let connect = async || {
            let known: Vec<_> = gate.gate().sessions().map(|s| s.id()).collect();
            let client = Client::tcp(gate, 0).await;
            let mut new = None;
            until("a session begins", || {
                new = gate.gate().sessions().find(|s| !known.contains(&s.id()));
                new.is_some()
            })
            .await;
            (client, new.unwrap())
        };
        let (reads, first) = connect().await;
        let (not_reading, second) = connect().await;
        let (beside, third) = connect().await;
        Self {
            sessions: [first, second, third],
            reading: [reads, beside].map(|client| tokio::spawn(read(client))),
            not_reading,
        }
    }

    fn ids(&self) -> [SessionId; 3] {
        self.sessions.each_ref().map(LocalSession::id)
    }

    /// Lets the clients read all that there is for them.
    async fn drain(self) -> [Vec<usize>; 3] {
        let stuck = tokio::spawn(read(self.not_reading));
        for session in &self.sessions {
            let end = session.send_wait(packet("end", ""), PATIENCE);
            end.await.unwrap();
        }
        let [reads, beside] = self.reading;
        [
            reads.await.unwrap(),
            stuck.await.unwrap(),
            beside.await.unwrap(),
        ]
    }
}

/// The numbers of the packets that a client gets, up to the last.
async fn read(mut client: Client<TcpStream>) -> Vec<usize> {
    let mut numbers = Vec::new();
    loop {
        let (topic, body) = timeout(PATIENCE, client.next()).await.unwrap().unwrap();
        match &*topic {
            "flood" => numbers.push(std::str::from_utf8(&body).unwrap().parse().unwrap()),
            _ => return numbers,
        }
    }
}

/// For whom packet `i` of a flood is: in turn for both; now and then for who is beside too.
fn turns() -> impl Iterator<Item = (usize, usize)> {
    (0..FLOOD).flat_map(|i| {
        let beside = i.is_multiple_of(BESIDE).then_some((2, i));
        [(0, i), (1, i)].into_iter().chain(beside)
    })
}

async fn gate(bus: Arc<Nats>) -> RunningGate {
    let mut limits = Limits::default();
    // The one that does not read stays: it reads in the end.
    limits.write_timeout = PATIENCE;
    limits.heartbeat_timeout = PATIENCE;
    let listener = Tcp::bind("127.0.0.1:0")
        .protocol(Protocol::V1)
        .limits(limits);
    let gate = Gate::builder().id("g1").shards(2).bus(bus).listen(listener);
    gate.start().await.unwrap()
}

/// All packets of a flood, in a row, with nothing awaited but room in the socket.
async fn from_plain(plain: &Plain, ids: [SessionId; 3]) -> [Account; 3] {
    let inbox = plain.0.new_inbox();
    let mut replies = plain.0.subscribe(format!("{inbox}.*.*")).await.unwrap();
    plain.0.flush().await.unwrap();
    let headers = headers(&[("Tidegate-Topic", "flood")]);
    let subjects = ids.map(|id| format!("tidegate.gate.g1.send.{id}"));
    let mut accounts: [Account; 3] = Default::default();
    for (to, number) in turns() {
        let published = plain.0.publish_with_reply_and_headers(
            subjects[to].clone(),
            format!("{inbox}.{to}.{number}"),
            headers.clone(),
            number.to_string().into(),
        );
        published.await.unwrap();
        accounts[to].sent += 1;
    }
    // Answered after all that was asked before it.
    let fence = plain.0.publish_with_reply(
        "tidegate.gates.fence",
        format!("{inbox}.fence.0"),
        Bytes::new(),
    );
    fence.await.unwrap();
    loop {
        let reply = timeout(PATIENCE, replies.next()).await.unwrap().unwrap();
        let mut tokens = reply.subject.rsplit('.');
        let number: usize = tokens.next().unwrap().parse().unwrap();
        match tokens.next().unwrap() {
            "fence" => break,
            to => accounts[to.parse::<usize>().unwrap()].answer(number, error(&reply)),
        }
    }
    for account in &mut accounts {
        let answered = account.accepted.len() + account.answers.values().sum::<usize>();
        account.unanswered = account.sent - answered;
    }
    accounts
}

fn error(reply: &Message) -> Option<String> {
    let get = |headers: &HeaderMap| headers.get("Tidegate-Error").map(|e| e.as_str().to_owned());
    reply.headers.as_ref().and_then(get)
}

/// The same by the kit: each send is made before any is awaited.
async fn from_kit(bus: &Arc<Nats>, ids: [SessionId; 3]) -> [Account; 3] {
    let gate = GateId::new("g1").unwrap();
    let mut accounts: [Account; 3] = Default::default();
    let sends: Vec<_> = turns()
        .map(|(to, number)| {
            accounts[to].sent += 1;
            let body = Bytes::from(number.to_string());
            let op = SessionOp::Send(packet("flood", body), Delivery::Critical);
            let sent = bus.session(&gate, ids[to], op);
            async move { (to, number, sent.await) }
        })
        .collect();
    for (to, number, sent) in timeout(PATIENCE, join_all(sends)).await.unwrap() {
        match sent {
            Ok(reply) => {
                assert_eq!(reply, SessionReply::Done);
                accounts[to].answer(number, None);
            }
            Err(GateError::OutcomeUnknown) => accounts[to].unanswered += 1,
            Err(error) => accounts[to].answer(number, Some(error.to_string())),
        }
    }
    accounts
}

/// Prints the account, and checks it.
fn settle(from: &str, mut accounts: [Account; 3], received: [Vec<usize>; 3], overflowed: u64) {
    let mut unanswered = 0;
    for ((account, received), to) in accounts.iter_mut().zip(received).zip(TO) {
        account.received = received;
        println!("{from}, to {to:>12}: {account}");
        unanswered += account.unanswered as u64;
    }
    println!("{from}: {overflowed} dropped by the gate's subscription, and counted");
    for (account, to) in accounts.iter().zip(TO) {
        assert!(
            account.accepted == account.received,
            "{from}, to {to}: what was accepted is not what was received, in order"
        );
        let answered: usize = account.answers.values().sum();
        assert_eq!(
            account.sent,
            account.accepted.len() + answered + account.unanswered
        );
    }
    assert_eq!(unanswered, overflowed, "whoever is not answered is counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_a_plain_client_is_answered_truly() {
    let server = NatsServer::start().await;
    let own = bus(&server, "g1").await;
    let gate = gate(own.clone()).await;
    let flooded = Flooded::new(&gate).await;
    let plain = Plain::connect(&server).await;
    let accounts = from_plain(&plain, flooded.ids()).await;
    let received = flooded.drain().await;
    let overflowed = own.stats().overflowed;
    assert_eq!(overflowed, 0);
    settle("from plain NATS", accounts, received, overflowed);
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_the_kit_is_answered_truly_and_waits_its_turn() {
    let server = NatsServer::start().await;
    let own = bus(&server, "g1").await;
    let gate = gate(own.clone()).await;
    let flooded = Flooded::new(&gate).await;
    let service = bus(&server, "service").await;
    let (most, over) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let watch = tokio::spawn({
        let (service, most, over) = (service.clone(), most.clone(), over.clone());
        async move {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(service.stats().calls_in_flight, Ordering::Relaxed);
                sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let accounts = from_kit(&service, flooded.ids()).await;
    over.store(true, Ordering::Relaxed);
    watch.await.unwrap();
    let most = most.load(Ordering::Relaxed);
    println!("from the kit: at most {most} on their way at a time");
    assert!((1..=1024).contains(&most), "{most}");
    let received = flooded.drain().await;
    let overflowed = own.stats().overflowed;
    assert_eq!(overflowed, 0);
    settle("from the kit", accounts, received, overflowed);
    gate.stop().await;
}

/// With room for a few messages where there is room for many: what is dropped for want of it
/// is counted, each one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_overflows_is_counted() {
    // A server that cut the gate off for being slow would lose what nobody can count.
    let server = NatsServer::options().config("write_deadline: \"60s\"");
    let server = server.start().await;
    let mut options = NatsOptions::new([server.url()]);
    options.name = "g1".to_owned();
    options.inbound = 64;
    let own = Nats::connect(options).await.unwrap();
    let gate = gate(own.clone()).await;
    let flooded = Flooded::new(&gate).await;
    let plain = Plain::connect(&server).await;
    let accounts = from_plain(&plain, flooded.ids()).await;
    let received = flooded.drain().await;
    let unanswered: usize = accounts.iter().map(|account| account.unanswered).sum();
    until("all that was dropped is counted", || {
        own.stats().overflowed >= unanswered as u64
    })
    .await;
    let stats = own.stats();
    println!("with little room: {} refused as too many", stats.overloaded);
    let refused = accounts.iter().filter_map(|a| a.answers.get("overloaded"));
    assert_eq!(refused.sum::<usize>() as u64, stats.overloaded);
    assert!(stats.overloaded > 0);
    assert!(
        stats.overflowed > 0,
        "there was room for all: the test shows nothing"
    );
    settle("with little room", accounts, received, stats.overflowed);
    gate.stop().await;
}
