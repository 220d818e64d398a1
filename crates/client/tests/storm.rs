//! Five thousand clients lose their connections at once: they come back spread, at the pace
//! of the gate's acceptor, each to its session, and the gate is what it was before. In a
//! process of its own, whose descriptors are counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic anywhere"
)]

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::net::{Shutdown, shutdown};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate::bus::Connected;
use tidegate::{
    Gate, GateLimits, Guests, Limits, Packet, Protocol, Rate, RunningGate, Service,
    State as Shared, Tcp,
};
use tidegate_client::{Client, Opened, State};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const CLIENTS: usize = 5000;
/// What nothing may need.
const LONG: Duration = Duration::from_secs(300);
/// Bytes of what each client is sent while it is away.
const MISSED: usize = 8 * 1024;
const RATE: Rate = Rate {
    per_second: 1500,
    burst: 250,
};

/// Each client has two descriptors, with its gate in the same process.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).unwrap();
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needed = 2 * CLIENTS as u64 + 500;
    assert!(
        descriptors >= needed,
        "the hard limit on descriptors is {descriptors}; {needed} are needed (ulimit -Hn)"
    );
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Of the whole process, clients included, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            // It looks at all of them.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let held = timeout(LONG, wait).await;
    assert!(held.is_ok(), "waited in vain until {what}");
}

/// The connections that there are, to be cut.
#[derive(Clone, Default)]
struct Network(Arc<Mutex<HashMap<usize, Arc<TcpStream>>>>);

impl Network {
    /// Addresses differ: only so many clients of one are let in.
    async fn connect(self, n: usize, gate: SocketAddr) -> io::Result<Wire> {
        let socket = TcpSocket::new_v4()?;
        let host = u8::try_from(n % 250).unwrap_or_default();
        socket.bind((Ipv4Addr::new(127, 5, 0, host), 0).into())?;
        let stream = Arc::new(socket.connect(gate).await?);
        self.0.lock().insert(n, stream.clone());
        Ok(Wire(stream))
    }

    fn cut_all(&self) {
        for stream in std::mem::take(&mut *self.0.lock()).into_values() {
            // The gate may have closed it.
            let _ = shutdown(&stream, Shutdown::Both);
        }
    }
}

struct Wire(Arc<TcpStream>);

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(&self.0, Shutdown::Write)?))
    }
}

/// Answers when the storm is over.
async fn wait(Shared(over): Shared<watch::Sender<usize>>, body: Bytes) -> Bytes {
    let round: usize = std::str::from_utf8(&body).unwrap().parse().unwrap();
    let _ = over.subscribe().wait_for(|over| *over >= round).await;
    body
}

async fn start(over: &watch::Sender<usize>) -> RunningGate {
    let mut limits = GateLimits::default();
    limits.accept_rate = Some(RATE);
    let mut patient = Limits::default();
    patient.call_timeout = LONG;
    let service = Service::new("storm")
        .state(over.clone())
        .request("wait", wait)
        .open_to(Guests);
    // Five thousand clients in one process may have no turn for a second, and would be taken
    // for clients of version 1 that say nothing.
    let listener = Tcp::bind("127.0.0.1:0").protocol(Protocol::Extended);
    Gate::builder()
        .listen(listener.resume_over_plaintext(true))
        .gate_limits(limits)
        .limits(patient)
        .service(service)
        .shards(2)
        .start()
        .await
        .unwrap()
}

fn opened(client: &Client) -> Option<Opened> {
    match client.state() {
        State::Open(opened) => Some(opened),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_lose_their_connections_and_find_their_sessions_again() {
    raise_limit();
    let over = watch::Sender::new(0);
    let running = start(&over).await;
    let gate = running.gate().clone();
    let address = running.address(0).unwrap();
    let network = Network::default();
    let before = (descriptors(), resident());

    let room = Arc::new(Semaphore::new(250));
    let joining: JoinSet<Client> = (0..CLIENTS)
        .map(|n| {
            let (room, network) = (room.clone(), network.clone());
            async move {
                let _permit = room.acquire().await.unwrap();
                let open = move || network.clone().connect(n, address);
                let builder = Client::builder("tcp://storm:1").connect_timeout(LONG);
                builder
                    .request_timeout(LONG)
                    .push_buffer(4)
                    .connect_with(open)
                    .await
                    .unwrap()
            }
        })
        .collect();
    let clients = timeout(LONG, joining.join_all()).await.unwrap();
    let sessions = |clients: &[Client]| -> Vec<String> {
        let opened = clients.iter().map(|client| opened(client).unwrap());
        opened.map(|opened| opened.session).collect()
    };
    let first = sessions(&clients);
    let counts = || {
        let dormant = gate.sessions();
        let dormant = dormant
            .filter(|s| s.connected() == Connected::Dormant)
            .count();
        (
            gate.session_count(),
            gate.connection_count(),
            dormant,
            gate.memory_used(),
        )
    };
    let baseline = (CLIENTS, CLIENTS, 0, 0);
    until("all are there", || counts() == baseline).await;
    println!(
        "resident: {} KiB without clients, {} KiB with {CLIENTS}, they included",
        before.1,
        resident()
    );

    for round in 1..=2 {
        let mut back: JoinSet<()> = JoinSet::new();
        let (asked, pushed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for client in &clients {
            let (client, asked, pushed) = (client.clone(), asked.clone(), pushed.clone());
            back.spawn(async move {
                let mut pushes = client.subscribe("storm/missed");
                asked.fetch_add(1, Relaxed);
                // In flight when the connection is lost.
                let answer = client.request("storm/wait", round.to_string()).await;
                assert_eq!(answer.unwrap(), round.to_string());
                let push = pushes.recv().await.unwrap().unwrap();
                assert_eq!(push.body.len(), MISSED);
                pushed.fetch_add(1, Relaxed);
                assert!(pushes.try_recv().is_none(), "once");
            });
        }
        let taken = CLIENTS as u64 * round as u64;
        until("all have asked", || {
            asked.load(Relaxed) == CLIENTS
                && gate
                    .sessions()
                    .all(|s| s.packets_received() == round as u64)
        })
        .await;

        let began = Instant::now();
        network.cut_all();
        let missed = Packet::try_new("storm/missed", vec![b'm'; MISSED]).unwrap();
        for session in gate.sessions() {
            session.send(missed.clone()).unwrap();
        }
        let (mut away, mut held) = (0, 0);
        until("all are back", || {
            let (_, _, dormant, used) = counts();
            (away, held) = (away.max(dormant), held.max(used));
            gate.stats().resumed >= taken
                && gate.connection_count() == CLIENTS
                && clients
                    .iter()
                    .all(|client| opened(client).is_some_and(|o| o.resumed))
        })
        .await;
        let took = began.elapsed();
        // No sooner than the acceptor lets them in.
        let least = (CLIENTS as f64 - f64::from(RATE.burst)) / f64::from(RATE.per_second);
        assert!(took.as_secs_f64() >= least, "{took:?}, {least} s at least");
        over.send_replace(round);
        let all = timeout(LONG, back.join_all()).await;
        assert!(all.is_ok(), "{} of {CLIENTS} got all", pushed.load(Relaxed));

        // Acknowledged, nothing is kept.
        until("the gate is what it was", || counts() == baseline).await;
        let stats = gate.stats();
        let told = (stats.not_resumed, stats.dropped, stats.turned_away);
        assert_eq!(told, (0, 0, 0));
        let ended = (stats.sessions_started, stats.sessions_ended);
        assert_eq!(ended, (CLIENTS as u64, 0));
        assert_eq!(sessions(&clients), first, "each has its own again");
        println!(
            "round {round}: all back after {took:?}; dormant at a time {away}, \
             held for them {} KiB; resident {} KiB",
            held / 1024,
            resident()
        );
    }

    let closing: JoinSet<_> = clients
        .into_iter()
        .map(|client| async move { client.close().await })
        .collect();
    timeout(LONG, closing.join_all()).await.unwrap();
    network.cut_all();
    until("nothing is left", || {
        counts() == (0, 0, 0, 0) && descriptors() <= before.0
    })
    .await;
    println!("resident: {} KiB without clients again", resident());
    let stats = gate.stats();
    assert_eq!(stats.sessions_ended, CLIENTS as u64);
    running.stop().await;
}
