//! Gates, clients, services and what they note.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate::bus::{Bus, Ended};
use tidegate::service::{RunningService, Service, Session};
use tidegate::{Bound, ErrorCode, Gate, GateBuilder, Guests, Limits, RunningGate, SessionId, Tcp};
use tidegate_client::{Client, Error, Pushes};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::World;

/// A wait that is this long has failed.
pub const LONG: Duration = Duration::from_secs(120);

/// What was seen, in order.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn add(&self, line: impl Display) {
        self.0.lock().push(line.to_string());
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until there are so many lines, and takes them.
    pub async fn wait_for(&self, lines: usize) -> Vec<String> {
        until("enough lines", || self.len() >= lines).await;
        self.take()
    }
}

/// Waits for what others bring about.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(LONG, wait).await.is_ok(), "not so: {what}");
}

/// Asks until the answer is this one: what goes by way of a cache needs its moment.
pub async fn becomes<T, F>(what: &str, expected: T, mut ask: impl FnMut() -> F)
where
    T: PartialEq + std::fmt::Debug,
    F: Future<Output = T>,
{
    let last = Mutex::new(None);
    let wait = async {
        loop {
            let now = ask().await;
            if now == expected {
                return;
            }
            *last.lock() = Some(now);
            sleep(Duration::from_millis(20)).await;
        }
    };
    let done = timeout(LONG, wait).await.is_ok();
    assert!(done, "{what}: {:?} and not {expected:?}", last.lock());
}

/// A gate to be, with a listener for TCP on a free port.
pub fn builder(bus: Arc<dyn Bus>, id: &str) -> GateBuilder {
    let mut limits = Limits::default();
    limits.call_timeout = Duration::from_secs(30);
    limits.resume_window = Some(Duration::from_secs(60));
    let listener = Tcp::bind("127.0.0.1:0")
        .limits(limits)
        .resume_over_plaintext(true);
    Gate::builder().id(id).shards(1).bus(bus).listen(listener)
}

pub async fn gate(world: &impl World, id: &str) -> RunningGate {
    builder(world.bus().await, id).start().await.unwrap()
}

pub fn url(gate: &RunningGate) -> String {
    format!("tcp://{}", gate.address(0).unwrap())
}

pub async fn join(gate: &RunningGate) -> Client {
    let client = Client::builder(&url(gate)).push_buffer(10_000);
    client.connect().await.unwrap()
}

/// The code of what was not served.
pub fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorCode {
    match result {
        Err(Error::NotServed(error)) => error.code,
        other => panic!("{other:?}"),
    }
}

/// The topic and body of the next push.
pub async fn push(pushes: &mut Pushes) -> (String, String) {
    let next = timeout(LONG, pushes.recv()).await.expect("no push came");
    let packet = next.expect("the client is over").expect("none missed");
    let body = String::from_utf8_lossy(&packet.body).into_owned();
    (packet.topic.to_string(), body)
}

/// What `desk` and its clients share.
#[derive(Clone, Default)]
pub struct Desk {
    pub log: Log,
    pub sessions: Arc<Mutex<Vec<Session>>>,
}

impl Desk {
    /// The session that asked `desk/hello` last.
    pub fn last(&self) -> Session {
        self.sessions.lock().last().unwrap().clone()
    }
}

/// A service that lets a test act on the sessions of those who say hello: as a service
/// would, over its own bus. `hello` answers the session's id; `login` binds to the user in
/// the body; `who` answers the user.
pub async fn desk(world: &impl World) -> (Desk, RunningService) {
    let desk = Desk::default();
    let (met, log) = (desk.sessions.clone(), desk.log.clone());
    let service = Service::new("desk")
        .version("1.2.3")
        .request("hello", move |session: Session| {
            let id = session.id().to_string();
            met.lock().push(session);
            async move { id }
        })
        .open_to(Guests)
        .request("login", |session: Session, user: String| async move {
            session.bind(&*user).await.map(drop)
        })
        .open_to(Guests)
        .request("who", |session: Session| async move {
            session
                .user()
                .map(|user| user.to_string())
                .unwrap_or_default()
        })
        .open_to(Bound)
        .on_disconnect(move |session: Session, ended: Ended| {
            log.add(format!("{} left: {}", session.id(), ended.reason.name()));
            async {}
        })
        .register(world.bus().await)
        .await
        .unwrap();
    (desk, service)
}

/// A client that has said hello, and its session as `desk` has it.
pub async fn meet(gate: &RunningGate, desk: &Desk) -> (Client, Session) {
    let client = join(gate).await;
    let id = hello(&client).await;
    let met = desk.sessions.lock().iter().rfind(|s| s.id() == id).cloned();
    (client, met.unwrap())
}

pub async fn hello(client: &Client) -> SessionId {
    let id = client.request("desk/hello", "").await.unwrap();
    text(&id).parse().unwrap()
}

pub fn text(body: &Bytes) -> &str {
    std::str::from_utf8(body).unwrap()
}

/// Lets a handler go on for each permit.
#[derive(Clone)]
pub struct Latch(Arc<Semaphore>);

impl Default for Latch {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Latch {
    pub fn open(&self, times: usize) {
        self.0.add_permits(times);
    }

    pub async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}
