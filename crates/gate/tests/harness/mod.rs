//! What the tests of sessions share: a client that speaks frames, a store that can be
//! told to fail, a log that can be waited for.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tidegate::bus::OpenTo::Guests;
use tidegate::service::{Service, Session};
use tidegate::store::{Store, StoreError};
use tidegate::{
    Gate, GateBuilder, Limits, Listener, LocalSession, Packet, Protocol, RunningGate, Settings,
    Tcp, UserId,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

/// How long anything may take that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(30);

/// A gate on the test's own runtime, with a service `echo`.
pub(crate) fn builder() -> GateBuilder {
    Gate::builder().id("g1").shards(0).service(echo("echo"))
}

/// A service whose method `echo` answers the same body; guests may call it.
pub(crate) fn echo(name: &str) -> Service {
    Service::new(name)
        .request("echo", async |body: Bytes| body)
        .open_to(Guests)
}

/// A client in memory, through a listener without a socket.
pub(crate) fn connect(gate: &RunningGate) -> Client {
    connect_with(gate, Tcp::bind("memory").protocol(Protocol::V1), 64 * 1024)
}

/// The same with limits of its own.
pub(crate) fn connect_limited(gate: &RunningGate, limits: Limits) -> Client {
    let listener = Tcp::bind("memory").limits(limits);
    connect_with(gate, listener.protocol(Protocol::V1), 64 * 1024)
}

/// The same where the gate's side is a pipe of `room` bytes.
pub(crate) fn connect_with(
    gate: &RunningGate,
    listener: impl Into<Listener>,
    room: usize,
) -> Client {
    let (ours, theirs) = duplex(room);
    gate.serve(theirs, listener, peer()).unwrap();
    Client::new(ours)
}

pub(crate) fn peer() -> SocketAddr {
    "192.0.2.7:4711".parse().unwrap()
}

/// A client that has a session, and the session.
pub(crate) async fn join(gate: &RunningGate) -> (Client, LocalSession) {
    let before: Vec<_> = gate.gate().sessions().map(|s| s.id()).collect();
    let client = connect(gate);
    (client, new_session(gate, &before).await)
}

/// The same with a connection made by the caller.
pub(crate) async fn session_of(
    gate: &RunningGate,
    connect: impl FnOnce(&RunningGate) -> Client,
) -> (Client, LocalSession) {
    let before: Vec<_> = gate.gate().sessions().map(|s| s.id()).collect();
    let client = connect(gate);
    (client, new_session(gate, &before).await)
}

async fn new_session(gate: &RunningGate, before: &[tidegate::SessionId]) -> LocalSession {
    let mut found = None;
    until("a session begins", || {
        found = gate.gate().sessions().find(|s| !before.contains(&s.id()));
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// The session as a service of the gate's bus sees it.
pub(crate) fn as_service(gate: &RunningGate, session: &LocalSession) -> Session {
    Session::new(gate.gate().bus(), session.snapshot(), 7)
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    if timeout(DEADLINE, wait).await.is_err() {
        panic!("did not happen: {what}");
    }
}

/// Waits for an event, with a deadline.
pub(crate) async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, event).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen: {what}"),
    }
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn packet(topic: &str, body: impl Into<Bytes>) -> Packet {
    Packet::try_new(topic, body).unwrap()
}

pub(crate) fn settings<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Settings {
    let mut settings = Settings::new();
    settings.merge(pairs).unwrap();
    settings
}

/// A client: version 1 frames over any stream.
pub(crate) struct Client<S = DuplexStream> {
    io: S,
    input: Vec<u8>,
}

impl Client<TcpStream> {
    /// A client of the gate's `i`th listener.
    pub(crate) async fn tcp(gate: &RunningGate, i: usize) -> Self {
        Self::new(TcpStream::connect(gate.address(i).unwrap()).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(io: S) -> Self {
        Self {
            io,
            input: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, topic: &str, body: impl AsRef<[u8]>) {
        let frame = frame(topic, body.as_ref());
        within("the gate reads", self.io.write_all(&frame))
            .await
            .unwrap();
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        within("the gate reads", self.io.write_all(bytes))
            .await
            .unwrap();
    }

    /// The next packet; `None` when the gate has closed.
    pub(crate) async fn next(&mut self) -> Option<(String, Bytes)> {
        within("a packet or the close", self.read()).await
    }

    /// The next packet.
    pub(crate) async fn recv(&mut self) -> (String, Bytes) {
        self.next().await.expect("the gate has closed")
    }

    /// Sends a request; the next packet must be its answer.
    pub(crate) async fn ask(&mut self, topic: &str, body: impl AsRef<[u8]>) -> Bytes {
        self.send(topic, body).await;
        let (answered, body) = self.recv().await;
        assert_eq!(answered, topic);
        body
    }

    /// The gate closes, and sends nothing before.
    pub(crate) async fn closed(&mut self) {
        assert_eq!(self.next().await, None);
    }

    /// Nothing comes for this long. For paused time.
    pub(crate) async fn nothing(&mut self, time: Duration) {
        let got = timeout(time, self.read()).await;
        assert!(got.is_err(), "{got:?}");
    }

    async fn read(&mut self) -> Option<(String, Bytes)> {
        loop {
            if let Some(head) = self.input.first_chunk::<4>() {
                let total = usize::from(u16::from_le_bytes([head[0], head[1]]));
                let topic = usize::from(u16::from_le_bytes([head[2], head[3]]));
                if self.input.len() >= total {
                    let rest = self.input.split_off(total);
                    let frame = std::mem::replace(&mut self.input, rest);
                    let text = String::from_utf8(frame[4..4 + topic].to_vec()).unwrap();
                    return Some((text, frame[4 + topic..].to_vec().into()));
                }
            }
            // A connection that is cut off ends like one that is closed.
            if self.io.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

/// A version 1 frame.
pub(crate) fn frame(topic: &str, body: &[u8]) -> Vec<u8> {
    let total = u16::try_from(4 + topic.len() + body.len()).unwrap();
    let mut frame = total.to_le_bytes().to_vec();
    frame.extend((topic.len() as u16).to_le_bytes());
    frame.extend(topic.as_bytes());
    frame.extend(body);
    frame
}

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Vec<String>>, Notify)>);

impl Log {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.0.lock().unwrap().push(line.into());
        self.0.1.notify_waiters();
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }

    /// Waits for `n` lines, and answers all.
    pub(crate) async fn wait(&self, n: usize) -> Vec<String> {
        let wait = async {
            loop {
                let changed = self.0.1.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.all().len() >= n {
                    return;
                }
                changed.await;
            }
        };
        if timeout(DEADLINE, wait).await.is_err() {
            panic!("{n} lines were expected: {:?}", self.all());
        }
        self.all()
    }

    pub(crate) fn clear(&self) {
        self.0.0.lock().unwrap().clear();
    }
}

/// A gate that tests open: what waits at it goes on, one for each permit.
#[derive(Clone)]
pub(crate) struct Latch(Arc<Semaphore>);

impl Latch {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub(crate) fn open(&self, n: usize) {
        self.0.add_permits(n);
    }

    pub(crate) async fn wait(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

/// What a [`TestStore`] does with the operations on a user.
#[derive(Clone)]
pub(crate) enum Mood {
    Fails,
    Panics,
    /// Waits for the latch first.
    Waits(Latch),
}

/// A store whose operations are seen, and fail on demand.
#[derive(Clone, Default)]
pub(crate) struct TestStore {
    pub(crate) log: Log,
    kept: Arc<Mutex<HashMap<UserId, Settings>>>,
    moods: Arc<Mutex<HashMap<UserId, Mood>>>,
}

impl TestStore {
    pub(crate) fn put(&self, name: &str, settings: Settings) {
        self.kept.lock().unwrap().insert(user(name), settings);
    }

    pub(crate) fn kept(&self, name: &str) -> Option<Settings> {
        self.kept.lock().unwrap().get(&user(name)).cloned()
    }

    pub(crate) fn mood(&self, name: &str, mood: Option<Mood>) {
        let mut moods = self.moods.lock().unwrap();
        moods.remove(&user(name));
        moods.extend(mood.map(|mood| (user(name), mood)));
    }

    async fn enter(&self, what: &str, user: &UserId) -> Result<(), StoreError> {
        self.log.add(format!("{what} {user}"));
        let mood = self.moods.lock().unwrap().get(user).cloned();
        match mood {
            None => Ok(()),
            Some(Mood::Fails) => Err(StoreError::Full),
            Some(Mood::Panics) => panic!("a store that panics"),
            Some(Mood::Waits(latch)) => {
                latch.wait().await;
                Ok(())
            }
        }
    }
}

impl Store for TestStore {
    fn save<'a>(
        &'a self,
        user: &'a UserId,
        settings: &'a Settings,
        _ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            self.enter("save", user).await?;
            let mut kept = self.kept.lock().unwrap();
            kept.insert(user.clone(), settings.clone());
            Ok(())
        }
        .boxed()
    }

    fn delete<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            self.enter("delete", user).await?;
            self.kept.lock().unwrap().remove(user);
            Ok(())
        }
        .boxed()
    }

    fn query<'a>(
        &'a self,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Option<Settings>, StoreError>> {
        async move {
            self.enter("query", user).await?;
            Ok(self.kept.lock().unwrap().get(user).cloned())
        }
        .boxed()
    }

    fn heartbeat<'a>(
        &'a self,
        users: &'a [UserId],
        _ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let mut names: Vec<_> = users.iter().map(|u| u.as_str()).collect();
            names.sort_unstable();
            self.log.add(format!("heartbeat {}", names.join(" ")));
            for user in users {
                let mood = self.moods.lock().unwrap().get(user).cloned();
                match mood {
                    None => {}
                    Some(Mood::Panics) => panic!("a store that panics"),
                    Some(_) => return Err(StoreError::Full),
                }
            }
            Ok(())
        }
        .boxed()
    }
}
