//! Stopping and dropping a gate; gates that must not start.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use harness::*;
use tidegate::bus::{Bus, BusError, Connected, Ended, GateError, LocalBus};
use tidegate::service::Service;
use tidegate::{
    CloseReason, Gate, GateBuilder, GateLimits, Guests, Inbound, RunningGate, StartError, Stats,
    Tcp,
};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// A service whose requests wait for the latch, and a log of what it and hooks hear.
fn slow(log: &Log, latch: &Latch) -> GateBuilder {
    let (served, left, ended) = (log.clone(), log.clone(), log.clone());
    let latch = latch.clone();
    builder()
        .service(
            Service::new("slow")
                .request("ask", move |body: String| {
                    let (served, latch) = (served.clone(), latch.clone());
                    async move {
                        latch.wait().await;
                        served.add(format!("served {body}"));
                        body
                    }
                })
                .open_to(Guests)
                .on_disconnect(move |how: Ended| {
                    let left = left.clone();
                    async move {
                        sleep(SECOND).await;
                        left.add(format!("left {}", how.reason.name()));
                    }
                }),
        )
        .on_ended(move |_, how| {
            let ended = ended.clone();
            async move {
                sleep(SECOND * 17 / 10).await;
                ended.add(format!("ended {}", how.reason.name()));
            }
        })
}

fn assert_nothing_left(gate: &Gate) {
    assert!(!gate.is_ready());
    assert_eq!((gate.session_count(), gate.connection_count()), (0, 0));
    assert_eq!((gate.sessions().count(), gate.memory_used()), (0, 0));
    let Stats {
        sessions_started,
        sessions_ended,
        ..
    } = gate.stats();
    assert_eq!(sessions_started, sessions_ended);
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_are_answered_and_all_hear_of_the_end_before_stop_returns() {
    let (log, latch) = (Log::default(), Latch::new());
    let gate = slow(&log, &latch).start().await.unwrap();
    let handle = gate.gate().clone();
    let (mut client, session) = join(&gate).await;
    client.send("slow/ask/1", "one").await;
    client.send("slow/ask/2", "two").await;
    let (mut idle, _) = join(&gate).await;
    until("it is under way", || session.backlog().calls == 2).await;
    session
        .join(tidegate::GroupName::new("g").unwrap())
        .unwrap();
    let user = user("u");
    session.bind(user.clone()).await.unwrap();
    let stop = tokio::spawn(gate.stop());
    until("it stops", || !handle.is_ready()).await;
    // One that has nothing under way is not kept.
    idle.closed().await;
    drop(idle);
    // What is sent from now on is not read.
    client.send("slow/ask/3", "three").await;
    client.nothing(2 * SECOND).await;
    assert_eq!(session.connected(), Connected::Gone);
    assert_eq!(session.send(packet("t", "")), Err(GateError::SessionGone));
    latch.open(3);
    assert_eq!(client.recv().await, ("slow/ask/1".into(), "one".into()));
    assert_eq!(client.recv().await, ("slow/ask/2".into(), "two".into()));
    client.closed().await;
    drop(client);
    within("the stop", stop).await.unwrap();
    assert_eq!(
        log.all(),
        [
            "ended Shutdown",
            "served one",
            "served two",
            "left Shutdown",
            "ended Shutdown"
        ]
    );
    assert_nothing_left(&handle);
    assert!(handle.user_sessions(&user).is_empty());
    assert_eq!(handle.closed(CloseReason::Shutdown), 2);
    assert!(handle.bus().gates().await.unwrap().is_empty());
    assert!(handle.bus().instances("slow").await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_packet_that_a_hook_has_at_hand_is_served_before_the_stop() {
    let (log, latch, hook) = (Log::default(), Latch::new(), Latch::new());
    let hold = hook.clone();
    let gate = slow(&log, &latch)
        .on_receive(move |_, packet| {
            let hold = hold.clone();
            async move {
                hold.wait().await;
                Ok(Inbound::Pass(packet))
            }
        })
        .start()
        .await
        .unwrap();
    let handle = gate.gate().clone();
    let (mut client, session) = join(&gate).await;
    client.send("slow/ask/1", "one").await;
    until("it has been read", || session.packets_received() == 1).await;
    let stop = tokio::spawn(gate.stop());
    until("it stops", || !handle.is_ready()).await;
    client.nothing(SECOND).await;
    hook.open(1);
    latch.open(1);
    assert_eq!(client.recv().await, ("slow/ask/1".into(), "one".into()));
    client.closed().await;
    drop(client);
    within("the stop", stop).await.unwrap();
    assert_eq!(log.all()[0], "served one");
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_end_waits_for_the_store_is_told_before_services_stop() {
    let (log, latch, slow_store) = (Log::default(), Latch::new(), Latch::new());
    let store = TestStore::default();
    store.mood("u1", Some(Mood::Waits(slow_store.clone())));
    let gate = slow(&log, &latch)
        .store(store.clone())
        .start()
        .await
        .unwrap();
    let (mut client, session) = join(&gate).await;
    latch.open(1);
    client.ask("slow/ask/1", "one").await;
    let bind = tokio::spawn({
        let session = as_service(&gate, &session);
        async move { session.bind("u1").await }
    });
    store.log.wait(1).await;
    let stop = tokio::spawn(gate.stop());
    client.closed().await;
    drop(client);
    sleep(SECOND).await;
    slow_store.open(2);
    within("the stop", stop).await.unwrap();
    assert_eq!(bind.await.unwrap(), Err(GateError::SessionGone));
    assert_eq!(log.all(), ["served one", "left Shutdown", "ended Shutdown"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_stretches_a_stop() {
    let (log, latch) = (Log::default(), Latch::new());
    let store = TestStore::default();
    store.mood("u1", Some(Mood::Waits(Latch::new())));
    let mut limits = GateLimits::default();
    limits.shutdown_timeout = 10 * SECOND;
    limits.store_timeout = 3600 * SECOND;
    let gate = slow(&log, &latch)
        .gate_limits(limits)
        .store(store.clone())
        .start()
        .await
        .unwrap();
    let handle = gate.gate().clone();
    // A call that never ends, a client that reads nothing, a bind that never ends, and
    // a client that never finishes its set-up.
    let (mut client, _) = join(&gate).await;
    client.send("slow/ask/1", "one").await;
    let (_deaf, deaf) = session_of(&gate, |g| connect_with(g, Tcp::bind("x"), 16)).await;
    deaf.send(packet("t", vec![0; 1000])).unwrap();
    let (_binding, binding) = join(&gate).await;
    let bind = tokio::spawn({
        let session = as_service(&gate, &binding);
        async move { session.bind("u1").await }
    });
    store.log.wait(1).await;
    let _mute = connect_with(&gate, tidegate::WebSocket::bind("x"), 1024);
    let began = Instant::now();
    gate.stop().await;
    assert!(began.elapsed() <= 11 * SECOND, "{:?}", began.elapsed());
    bind.abort();
    sleep(SECOND).await;
    assert_nothing_left(&handle);
}

#[tokio::test(start_paused = true)]
async fn clients_that_are_being_set_up_do_not_delay_a_stop() {
    let gate = builder().start().await.unwrap();
    let handle = gate.gate().clone();
    let mut mute = connect_with(&gate, tidegate::WebSocket::bind("x"), 1024);
    until("it is there", || handle.connection_count() == 1).await;
    let began = Instant::now();
    gate.stop().await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    mute.closed().await;
    assert_nothing_left(&handle);
}

#[tokio::test]
async fn dropping_a_gate_ends_it_at_once_and_leaves_nothing() {
    for shards in [0, 2] {
        let (log, latch) = (Log::default(), Latch::new());
        let hooks = Arc::new(());
        let held = hooks.clone();
        let gate = slow(&log, &latch)
            .shards(shards)
            .listen(Tcp::bind("127.0.0.1:0"))
            .on_packet_error(move |_, _, _| {
                let _ = &held;
            })
            .start()
            .await
            .unwrap();
        let address = gate.address(0).unwrap();
        let mut client = Client::tcp(&gate, 0).await;
        client.send("slow/ask/1", "one").await;
        until("it is under way", || {
            gate.gate().sessions().any(|s| s.backlog().calls == 1)
        })
        .await;
        let _half = Client::tcp(&gate, 0).await;
        let session = gate
            .gate()
            .sessions()
            .find(|s| s.backlog().calls == 1)
            .unwrap();
        session
            .join(tidegate::GroupName::new("g").unwrap())
            .unwrap();
        session.bind(user("u")).await.unwrap();
        let handle = gate.gate().clone();
        drop(gate);
        client.closed().await;
        assert_eq!(session.connected(), Connected::Gone);
        assert_eq!(session.send(packet("t", "")), Err(GateError::SessionGone));
        until("the places are given back", || {
            handle.connection_count() == 0
        })
        .await;
        assert_nothing_left(&handle);
        assert!(handle.user_sessions(&user("u")).is_empty());
        assert!(handle.bus().gates().await.unwrap().is_empty());
        TcpListener::bind(address).unwrap();
        drop((session, handle));
        until("the gate's memory is given back", || {
            Arc::strong_count(&hooks) == 1
        })
        .await;
        assert!(log.all().is_empty(), "{:?}", log.all());
    }
}

#[tokio::test]
async fn one_id_is_one_gate() {
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
    let on_bus = |id: &str| Gate::builder().id(id).bus(bus.clone()).shards(0);
    let first = on_bus("g").start().await.unwrap();
    let second = on_bus("g").start().await.err();
    assert!(matches!(second, Some(StartError::Bus(BusError::Taken(_)))));
    let other = on_bus("h").start().await.unwrap();
    let mut ids: Vec<_> = bus
        .gates()
        .await
        .unwrap()
        .into_iter()
        .map(|g| g.id)
        .collect();
    ids.sort();
    assert_eq!(
        ids.iter().map(|g| g.as_str()).collect::<Vec<_>>(),
        ["g", "h"]
    );
    first.stop().await;
    on_bus("g").start().await.unwrap().stop().await;
    other.stop().await;
    let bad = Gate::builder().id("a.b").start().await.err();
    assert!(matches!(bad, Some(StartError::Id(_))));
}

#[tokio::test]
async fn a_second_gate_on_a_port_does_not_start() {
    for shards in [0, 2] {
        let on = |address: String| builder().shards(shards).listen(Tcp::bind(address)).start();
        let first = on("127.0.0.1:0".into()).await.unwrap();
        let address = first.address(0).unwrap();
        let second = on(address.to_string()).await.err();
        assert!(matches!(second, Some(StartError::Listen(_))), "{second:?}");
        // The first one still serves everyone.
        for _ in 0..4 {
            let mut client = Client::tcp(&first, 0).await;
            assert_eq!(client.ask("echo/echo/1", "x").await, "x");
        }
        first.stop().await;
        on(address.to_string()).await.unwrap().stop().await;
    }
}

async fn serves(gate: RunningGate) {
    let clients = (0..8).map(async |n: usize| {
        let mut client = Client::tcp(&gate, 0).await;
        for i in 0..50 {
            let body = format!("{n} {i}");
            assert_eq!(client.ask(&format!("echo/echo/{i}"), &body).await, body);
        }
        client
    });
    let mut clients = futures_util::future::join_all(clients).await;
    let sent = gate.gate().broadcast(packet("all", "x")).await.unwrap();
    assert_eq!(sent.taken(), 8);
    for client in &mut clients {
        assert_eq!(client.recv().await.0, "all");
    }
    let handle = gate.gate().clone();
    gate.stop().await;
    for client in &mut clients {
        client.closed().await;
    }
    assert_nothing_left(&handle);
}

async fn on_callers_runtime() -> RunningGate {
    let gate = builder().listen(Tcp::bind("127.0.0.1:0"));
    gate.start().await.unwrap()
}

#[tokio::test]
async fn runs_on_a_current_thread_runtime() {
    serves(on_callers_runtime().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn runs_on_a_multi_thread_runtime() {
    serves(on_callers_runtime().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_on_shards_of_its_own() {
    let gate = builder().shards(3).listen(Tcp::bind("127.0.0.1:0"));
    serves(gate.start().await.unwrap()).await;
}
