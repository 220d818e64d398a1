//! What several threads do to one session at the same time.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use harness::*;
use tidegate::bus::{
    Answer, Bus, Call, Endpoint, Event, InstanceInfo, LocalBus, MethodInfo, MethodKind, Policy,
    Responder,
};
use tidegate::protocol::{InstanceId, Name};
use tidegate::{Guests, Packet, Protocol, RunningGate, Snapshot, Tcp};

/// A service that answers from a thread of its own, once it is told to.
struct Elsewhere(Mutex<mpsc::Sender<(Responder, bytes::Bytes)>>);

impl Endpoint for Elsewhere {
    fn call(&self, call: Call<'_>, responder: Responder) {
        let _ = self.0.lock().unwrap().send((responder, call.body));
    }

    fn event(&self, _: Arc<Snapshot>, _: Event) {}
}

fn elsewhere() -> InstanceInfo {
    InstanceInfo {
        service: Name::new("elsewhere").unwrap(),
        instance: InstanceId::new("one").unwrap(),
        version: String::new(),
        metadata: Default::default(),
        ttl: Duration::from_secs(30),
        methods: vec![MethodInfo {
            name: Name::new("ask").unwrap(),
            kind: MethodKind::Request,
            open_to: Guests,
        }],
        policy: Policy::default(),
        wants_started: false,
        wants_dormancy: false,
        wants_gates: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_from_other_threads_arrive_before_the_close_of_a_stop() {
    const CLIENTS: usize = 8;
    const CALLS: usize = 20;
    for round in 0..20 {
        let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
        let (calls, called) = mpsc::channel();
        let endpoint = Arc::new(Elsewhere(Mutex::new(calls)));
        let registration = bus.register(elsewhere(), endpoint).await.unwrap();
        let gate = builder()
            .bus(bus)
            .shards(2)
            .listen(Tcp::bind("127.0.0.1:0"))
            .on_outbound(|_, packet: Packet| {
                // Long enough for another thread to look.
                std::thread::sleep(Duration::from_micros(50));
                Ok(packet)
            })
            .start()
            .await
            .unwrap();
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = Client::tcp(&gate, 0).await;
            for n in 0..CALLS {
                client
                    .send(&format!("elsewhere/ask/{n}"), n.to_string())
                    .await;
            }
            clients.push(client);
        }
        let handle = gate.gate().clone();
        until("all are under way", || {
            let calls: u32 = handle.sessions().map(|s| s.backlog().calls).sum();
            calls as usize == CLIENTS * CALLS
        })
        .await;
        let stop = tokio::spawn(gate.stop());
        until("it stops", || !handle.is_ready()).await;
        let answering = std::thread::spawn(move || {
            for _ in 0..CLIENTS * CALLS {
                let (responder, body) = called.recv().unwrap();
                responder.answer(Ok(Answer {
                    body,
                    instance: None,
                }));
            }
        });
        for mut client in clients {
            for n in 0..CALLS {
                let answer = client.next().await;
                assert!(answer.is_some(), "answer {n} is missing in round {round}");
            }
            client.closed().await;
        }
        answering.join().unwrap();
        within("the stop", stop).await.unwrap();
        assert_eq!(handle.stats().undelivered, 0);
        drop(registration);
    }
}

/// Sessions that are bound, put into groups and sent to while their clients leave.
async fn change_while_clients_leave(gate: &RunningGate) {
    let mut tasks = Vec::new();
    for n in 0..300 {
        let before: Vec<_> = gate.gate().sessions().map(|s| s.id()).collect();
        let client = Client::tcp(gate, 0).await;
        let mut session = None;
        until("a session begins", || {
            session = gate.gate().sessions().find(|s| !before.contains(&s.id()));
            session.is_some()
        })
        .await;
        let session = session.unwrap();
        let service = as_service(gate, &session);
        tasks.push(tokio::spawn(async move {
            for i in 0..n % 4 {
                let _ = service.set("k", i.to_string()).await;
            }
            // Whether it was in time or not, it must leave nothing behind.
            let _ = service.bind("everyone").await;
            let _ = service.join("all").await;
            let _ = service.send("t", "x").await;
            let _ = service.unbind().await;
            let _ = service.bind("everyone").await;
        }));
        tasks.push(tokio::spawn(async move { drop(client) }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let handle = gate.gate();
    until("all have ended", || handle.session_count() == 0).await;
    until("no user is left", || {
        handle.user_sessions(&user("everyone")).is_empty()
    })
    .await;
    let group = tidegate::GroupName::new("all").unwrap();
    assert!(handle.group_sessions(&group).is_empty());
    until("all is given back", || handle.memory_used() == 0).await;
    let stats = handle.stats();
    assert_eq!((stats.sessions_started, stats.sessions_ended), (300, 300));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_change_while_they_end_leave_nothing_behind() {
    for shards in [0, 2] {
        let gate = builder()
            .shards(shards)
            .listen(Tcp::bind("127.0.0.1:0").protocol(Protocol::V1))
            .start()
            .await
            .unwrap();
        change_while_clients_leave(&gate).await;
        gate.stop().await;
    }
}

/// What a watchdog asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_kept_to_itself_is_seen_from_outside() {
    static RELEASE: Mutex<Option<mpsc::Receiver<()>>> = Mutex::new(None);
    async fn blocks(_: tidegate::Session) {
        let release = RELEASE.lock().unwrap().take().unwrap();
        // What no handler should do.
        let _ = release.recv();
    }
    let (held, release) = mpsc::channel();
    *RELEASE.lock().unwrap() = Some(release);
    let gate = builder()
        .shards(2)
        .listen(Tcp::bind("127.0.0.1:0"))
        .service(
            tidegate::Service::new("block")
                .one_way("now", blocks)
                .open_to(Guests),
        )
        .start()
        .await
        .unwrap();
    let handle = gate.gate().clone();
    let long = Duration::from_millis(500);
    until("all shards turn", || handle.shard_lag() < long).await;
    let mut client = Client::tcp(&gate, 0).await;
    client.send("block/now", "").await;
    until("one does not", || handle.shard_lag() > long).await;
    drop(held);
    until("all turn again", || handle.shard_lag() < long).await;
    gate.stop().await;
}
