//! Instances that die while they are called: a process killed with SIGKILL, and one whose
//! connection is gone. What it had received is of unknown outcome, and never a success.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate::bus::{Bus, DeadInstance};
use tidegate::service::{Previous, RunningService, Service};
use tidegate::{ErrorCode, Gate, Guests, Limits, RunningGate, Tcp};
use tidegate_client::{Client, Error};
use tidegate_nats::Nats;
use tidegate_protocol::Name;
use tidegate_test_servers::{NatsServer, Process, Proxy, eventually};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::support::*;

/// How long the gate waits for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
const URL: &str = "TIDEGATE_TEST_CHILD_URL";
const ID: &str = "TIDEGATE_TEST_CHILD_ID";
const POLICY: &str = "TIDEGATE_TEST_CHILD_POLICY";

type Log = Arc<Mutex<Vec<String>>>;

fn policy(name: &str) -> DeadInstance {
    match name {
        "fail" => DeadInstance::Fail,
        "rebind" => DeadInstance::Rebind,
        _ => DeadInstance::Hold(Duration::from_secs(40)),
    }
}

/// `room/say` answers instance and body, `room/hang` notes that it was called and never
/// answers.
fn room(id: &str, policy: DeadInstance, log: &Log) -> Service {
    let (say, rebound) = (id.to_owned(), id.to_owned());
    let (hangs, rebounds) = (log.clone(), log.clone());
    Service::new("room")
        .instance(id)
        .sticky()
        .on_dead_instance(policy)
        .request("say", move |body: String| {
            let answer = format!("{say} {body}");
            async move { answer }
        })
        .open_to(Guests)
        .request("hang", move |body: String| {
            println!("hangs {body}");
            hangs.lock().push(format!("hangs {body}"));
            std::future::pending::<()>()
        })
        .open_to(Guests)
        .concurrent()
        .on_rebound(move |Previous(from): Previous| {
            rebounds
                .lock()
                .push(format!("{rebound} takes over from {from}"));
            async {}
        })
}

/// Not a test: the process that the tests kill, or that ends when it is asked to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by other tests"]
async fn child() {
    let variable = |name| std::env::var(name).unwrap();
    let bus = Nats::connect(options(&variable(URL), "room"))
        .await
        .unwrap();
    let end = Arc::new(Notify::new());
    let bye = end.clone();
    let door = Service::new("door")
        .request("bye", move || {
            bye.notify_one();
            async {
                // Answered when it stops already.
                sleep(Duration::from_millis(300)).await;
                "bye ".repeat(10_000)
            }
        })
        .open_to(Guests)
        .concurrent()
        .request("hi", || async {})
        .open_to(Guests);
    let room = room(&variable(ID), policy(&variable(POLICY)), &Log::default());
    let _room = room.register(bus.clone()).await.unwrap();
    let running = door.register(bus).await.unwrap();
    println!("serving");
    end.notified().await;
    running.stop().await;
    std::process::exit(0);
}

/// The last answers leave the process before it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_has_answered() {
    let server = NatsServer::start().await;
    let gate = gate(&server).await;
    let mut one = process(&server, "one", "fail").await;
    let client = join(&gate).await;
    // The gate knows the service from now on, also when it has left.
    client.request("door/hi", "").await.unwrap();
    let asks = (0..20).map(|_| client.request("door/bye", ""));
    for answer in futures_util::future::join_all(asks).await {
        match answer {
            Ok(answer) => assert_eq!(answer.len(), 40_000),
            // It was on its way to an instance that had left.
            Err(error) => assert_eq!(code(Err(error)), ErrorCode::UNAVAILABLE),
        }
    }
    assert!(one.ended().await.success());
}

/// An instance of `room` in a process of its own.
async fn process(server: &NatsServer, id: &str, policy: &str) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "killed::child", "--ignored", "--nocapture"])
        .env(URL, server.url())
        .env(ID, id)
        .env(POLICY, policy);
    let mut process = Process::start(id, command);
    process.line_with("serving").await;
    process
}

async fn gate(server: &NatsServer) -> RunningGate {
    let mut limits = Limits::default();
    limits.call_timeout = CALL_TIMEOUT;
    let bus: Arc<dyn Bus> = bus(server, "gate-1").await;
    let listener = Tcp::bind("127.0.0.1:0").limits(limits);
    let gate = Gate::builder()
        .id("gate-1")
        .shards(1)
        .bus(bus)
        .listen(listener);
    gate.start().await.unwrap()
}

async fn join(gate: &RunningGate) -> Client {
    let url = format!("tcp://{}", gate.address(0).unwrap());
    Client::builder(&url).connect().await.unwrap()
}

fn code(result: Result<bytes::Bytes, Error>) -> ErrorCode {
    match result {
        Err(Error::NotServed(error)) => error.code,
        other => panic!("{other:?}"),
    }
}

/// What became of calls before, while and after an instance died.
#[derive(Debug, Default)]
struct Outcomes {
    sent: u64,
    by: std::collections::BTreeMap<String, u64>,
}

/// Calls until `done` holds of what it has seen; each success is checked.
async fn pump(client: Client, done: impl Fn(&Outcomes) -> bool) -> Outcomes {
    let mut outcomes = Outcomes::default();
    while !done(&outcomes) {
        let asks = (0..10).map(|n| {
            let body = format!("{}", outcomes.sent + n);
            let client = client.clone();
            async move { (client.request("room/say", body.clone()).await, body) }
        });
        for (result, body) in futures_util::future::join_all(asks).await {
            outcomes.sent += 1;
            let what = match result {
                Ok(answer) => {
                    let answer = String::from_utf8(answer.to_vec()).unwrap();
                    let (instance, echoed) = answer.split_once(' ').unwrap();
                    assert_eq!(echoed, body);
                    instance.to_owned()
                }
                Err(Error::NotServed(error)) => error.code.name().to_owned(),
                Err(other) => panic!("{other:?}"),
            };
            *outcomes.by.entry(what).or_default() += 1;
        }
    }
    assert_eq!(outcomes.sent, outcomes.by.values().sum::<u64>());
    outcomes
}

/// A client of a gate, sticky to an instance in a process of its own, with calls going on.
struct Scene {
    server: NatsServer,
    _gate: RunningGate,
    client: Client,
    one: Process,
    two: RunningService,
    log: Log,
}

impl Scene {
    async fn new(policy_name: &str) -> Self {
        let server = NatsServer::start().await;
        let gate = gate(&server).await;
        let one = process(&server, "one", policy_name).await;
        let client = join(&gate).await;
        assert_eq!(client.request("room/say", "x").await.unwrap(), "one x");
        let log = Log::default();
        let two = room("two", policy(policy_name), &log);
        let two = two.register(bus(&server, "two").await).await.unwrap();
        Self {
            server,
            _gate: gate,
            client,
            one,
            two,
            log,
        }
    }

    /// A call that the instance has received when this returns.
    async fn hang(&mut self) -> tokio::task::JoinHandle<ErrorCode> {
        let client = self.client.clone();
        self.hang_of(client, "7").await
    }

    async fn hang_of(
        &mut self,
        client: Client,
        body: &'static str,
    ) -> tokio::task::JoinHandle<ErrorCode> {
        let hang = tokio::spawn(async move { code(client.request("room/hang", body).await) });
        self.one.line_with(&format!("hangs {body}")).await;
        hang
    }

    /// A client that is bound to the instance by hand, as a service would.
    async fn bound(&self) -> Client {
        let before: Vec<_> = self._gate.gate().sessions().map(|s| s.id()).collect();
        let client = join(&self._gate).await;
        let mut sessions = self._gate.gate().sessions();
        let session = sessions.find(|s| !before.contains(&s.id())).unwrap();
        let room = Name::new("room").unwrap();
        session.bind_instance(room, instance("one")).unwrap();
        client
    }
}

/// It was received, and nobody knows what came of it.
async fn expect_unknown(hang: tokio::task::JoinHandle<ErrorCode>) {
    let code = timeout(LONG, hang).await.unwrap().unwrap();
    assert_eq!(code, ErrorCode::OUTCOME_UNKNOWN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fail() {
    let mut scene = Scene::new("fail").await;
    let hang = scene.hang().await;
    let explicit = scene.bound().await;
    let hang_explicit = scene.hang_of(explicit, "8").await;
    let calls = tokio::spawn(pump(scene.client.clone(), |seen| {
        seen.by.get("INSTANCE_GONE").is_some_and(|n| *n >= 100)
    }));
    tokio::time::sleep(Duration::from_millis(200)).await;
    scene.one.kill();
    let outcomes = timeout(LONG, calls).await.unwrap().unwrap();
    expect_unknown(hang).await;
    expect_unknown(hang_explicit).await;
    println!("killed, fail: {outcomes:?}");
    assert!(outcomes.by["one"] > 0);
    let known = ["one", "INSTANCE_GONE", "OUTCOME_UNKNOWN"];
    assert!(
        outcomes.by.keys().all(|k| known.contains(&&**k)),
        "{outcomes:?}"
    );
    // Others are served, and so is this one when it is bound anew.
    let other = join(&scene._gate).await;
    assert_eq!(other.request("room/say", "y").await.unwrap(), "two y");
    let bound = scene._gate.gate().sessions().find(|s| {
        s.bound_instance("room")
            .is_some_and(|i| i.as_str() == "one")
    });
    let room = Name::new("room").unwrap();
    bound.unwrap().bind_instance(room, instance("two")).unwrap();
    assert_eq!(
        scene.client.request("room/say", "z").await.unwrap(),
        "two z"
    );
    scene.two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebind_and_tell() {
    let mut scene = Scene::new("rebind").await;
    let hang = scene.hang().await;
    let calls = tokio::spawn(pump(scene.client.clone(), |seen| {
        seen.by.get("two").is_some_and(|n| *n >= 100)
    }));
    tokio::time::sleep(Duration::from_millis(200)).await;
    scene.one.kill();
    let outcomes = timeout(LONG, calls).await.unwrap().unwrap();
    expect_unknown(hang).await;
    println!("killed, rebind: {outcomes:?}");
    assert!(outcomes.by["one"] > 0);
    let known = ["one", "two", "OUTCOME_UNKNOWN"];
    assert!(
        outcomes.by.keys().all(|k| known.contains(&&**k)),
        "{outcomes:?}"
    );
    assert_eq!(*scene.log.lock(), ["two takes over from one"]);
    scene.two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold() {
    let mut scene = Scene::new("hold").await;
    let hang = scene.hang().await;
    scene.one.kill();
    // Received by nobody: they wait for the instance, not for the call's timeout.
    let calls = tokio::spawn(pump(scene.client.clone(), |seen| {
        seen.by.get("one").is_some_and(|n| *n >= 20)
    }));
    let began = Instant::now();
    expect_unknown(hang).await;
    assert!(began.elapsed() < LONG / 2);
    assert!(!calls.is_finished());
    let _again = process(&scene.server, "one", "hold").await;
    let outcomes = timeout(LONG, calls).await.unwrap().unwrap();
    println!("killed, hold: {outcomes:?}");
    // Those sent before the server had seen the connection go are of unknown outcome.
    let known = ["one", "OUTCOME_UNKNOWN"];
    assert!(
        outcomes.by.keys().all(|k| known.contains(&&**k)),
        "{outcomes:?}"
    );
    assert!(scene.log.lock().is_empty());
    scene.two.stop().await;
}

/// Nobody is there to take over, and the next one that comes is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebind_without_another() {
    let mut scene = Scene::new("rebind").await;
    scene.two.stop().await;
    scene.one.kill();
    let unavailable = async || {
        let code = code(scene.client.request("room/say", "x").await);
        // Until the server has seen the connection go.
        (code != ErrorCode::OUTCOME_UNKNOWN).then_some(code)
    };
    let code = eventually("it is known to be gone", unavailable).await;
    assert_eq!(code, ErrorCode::UNAVAILABLE);
    let three = room("three", DeadInstance::Rebind, &scene.log);
    let _three = three.register(bus(&scene.server, "three").await).await;
    assert_eq!(
        scene.client.request("room/say", "y").await.unwrap(),
        "three y"
    );
    assert_eq!(*scene.log.lock(), ["three takes over from one"]);
}

/// Calls that wait for an instance which does not come back in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_ends_after_its_time() {
    let server = NatsServer::start().await;
    let gate = gate(&server).await;
    let log = Log::default();
    let short = DeadInstance::Hold(Duration::from_millis(700));
    let start = async |id, name| {
        let service = room(id, short, &log);
        service.register(bus(&server, name).await).await.unwrap()
    };
    let one = start("one", "one").await;
    let client = join(&gate).await;
    assert_eq!(client.request("room/say", "x").await.unwrap(), "one x");
    let _two = start("two", "two").await;
    one.stop().await;
    let began = Instant::now();
    let gone = code(client.request("room/say", "y").await);
    assert_eq!(gone, ErrorCode::INSTANCE_GONE);
    assert!(began.elapsed() >= Duration::from_millis(700));
    // It can come back later, too.
    let _one = start("one", "one").await;
    assert_eq!(client.request("room/say", "z").await.unwrap(), "one z");
}

/// The process lives and its connection does not: bound by hand, as a service would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut() {
    let server = NatsServer::start().await;
    let proxy = Proxy::start(server.address());
    let log = Log::default();
    let url = format!("nats://{}", proxy.address());
    let behind = Nats::connect(options(&url, "one")).await.unwrap();
    let _one = room("one", DeadInstance::Fail, &log)
        .register(behind)
        .await
        .unwrap();
    let _two = room("two", DeadInstance::Fail, &log);
    let gate = gate(&server).await;
    let client = join(&gate).await;
    let session = gate.gate().sessions().next().unwrap();
    session
        .bind_instance(Name::new("room").unwrap(), instance("one"))
        .unwrap();
    assert_eq!(client.request("room/say", "x").await.unwrap(), "one x");
    let asks = client.clone();
    let hang = tokio::spawn(async move { code(asks.request("room/hang", "7").await) });
    eventually("it was received", async || {
        (!log.lock().is_empty()).then_some(())
    })
    .await;
    // What is sent now arrives nowhere; then there is no connection for it.
    proxy.hold();
    let asks = client.clone();
    let held = tokio::spawn(async move { code(asks.request("room/say", "y").await) });
    expect_unknown(held).await;
    proxy.refuse(true);
    let gone = async || match client.request("room/say", "z").await {
        Err(Error::NotServed(error)) if error.code == ErrorCode::OUTCOME_UNKNOWN => None,
        other => Some(code(other)),
    };
    assert_eq!(
        eventually("it is gone", gone).await,
        ErrorCode::INSTANCE_GONE
    );
    expect_unknown(hang).await;
    // It reconnects by itself, and is there again.
    proxy.refuse(false);
    proxy.release();
    let back = async || client.request("room/say", "w").await.ok();
    assert_eq!(eventually("it is back", back).await, "one w");
}
