//! Bindings of sessions to instances of a service, and instances that go away.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::*;
use tidegate::bus::{Bus, DeadInstance, GateError, LocalBus};
use tidegate::service::{Previous, RunningService, Service, Session};
use tidegate::{ErrorCode, GateLimits, Guests, Limits, LocalSession, RunningGate, Tcp};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// A bus, a gate on it, and what its services and hooks were told.
struct World {
    bus: Arc<dyn Bus>,
    gate: RunningGate,
    log: Log,
    policy: DeadInstance,
    sticky: bool,
    /// What a new instance waits for when it is told of a session.
    latch: Latch,
}

impl World {
    async fn new(policy: DeadInstance, sticky: bool) -> Self {
        let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
        let log = Log::default();
        let errors = log.clone();
        let mut limits = GateLimits::default();
        limits.max_instance_bindings = 2;
        let gate = builder()
            .bus(bus.clone())
            .gate_limits(limits)
            .on_packet_error(move |_, topic, error| {
                errors.add(format!("{topic}: {}", error.code.name()));
            })
            .start()
            .await
            .unwrap();
        let latch = Latch::new();
        Self {
            bus,
            gate,
            log,
            policy,
            sticky,
            latch,
        }
    }

    /// Starts an instance of the service `room`.
    async fn room(&self, id: &'static str) -> RunningService {
        let [says, tells, left, rebound] = [0; 4].map(|_| self.log.clone());
        let latch = self.latch.clone();
        let service = Service::new("room")
            .instance(id)
            .on_dead_instance(self.policy)
            .request("say", move |body: String| {
                says.add(format!("{id} {body}"));
                async move { id }
            })
            .open_to(Guests)
            .one_way("tell", move |body: String| {
                tells.add(format!("{id} {body}"));
                async {}
            })
            .open_to(Guests)
            .on_disconnect(move |_: Session| {
                left.add(format!("{id} left"));
                async {}
            })
            .on_rebound(move |Previous(from): Previous| {
                let (rebound, latch) = (rebound.clone(), latch.clone());
                async move {
                    latch.wait().await;
                    rebound.add(format!("{id} takes over from {from}"));
                }
            });
        let service = match self.sticky {
            true => service.sticky(),
            false => service,
        };
        service.register(self.bus.clone()).await.unwrap()
    }

    /// A client that is told errors, with its session.
    async fn join(&self) -> (Client, LocalSession) {
        let mut limits = Limits::default();
        limits.call_timeout = 5 * SECOND;
        limits.heartbeat_timeout = 3600 * SECOND;
        let listener = Tcp::bind("x").v1_error_topic("error").limits(limits);
        session_of(&self.gate, |g| connect_with(g, listener, 64 * 1024)).await
    }

    fn bound(&self, session: &LocalSession) -> Option<String> {
        Some(session.bound_instance("room")?.as_str().to_owned())
    }
}

/// The next packet is an error of this code.
async fn expect_error(client: &mut Client, code: ErrorCode) {
    let (topic, body) = client.recv().await;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&*topic, &body["code"]), ("error", &code.0.into()));
}

/// Three packets at once, which are not answered for a while.
async fn say_three(client: &mut Client) {
    for n in ["1", "2", "3"] {
        client.send(&format!("room/say/{n}"), n).await;
    }
}

async fn three_answers(client: &mut Client, from: &str) {
    for n in ["1", "2", "3"] {
        let (topic, body) = client.recv().await;
        assert_eq!((topic, &*body), (format!("room/say/{n}"), from.as_bytes()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_of_a_sticky_service_binds() {
    let world = World::new(DeadInstance::Fail, true).await;
    let (_a, _b) = (world.room("a").await, world.room("b").await);
    let (mut client, session) = world.join().await;
    let (mut other, _) = world.join().await;
    assert_eq!(world.bound(&session), None);
    let first = client.ask("room/say/1", "x").await;
    assert_eq!(world.bound(&session).unwrap().as_bytes(), first);
    let second = other.ask("room/say/1", "x").await;
    assert_ne!(first, second, "instances take turns");
    for _ in 0..5 {
        assert_eq!(client.ask("room/say/2", "x").await, first);
        assert_eq!(other.ask("room/say/2", "x").await, second);
    }
    // The namespace is its own: settings do not show it.
    assert!(session.settings().is_empty());
    world.log.clear();
    drop(client);
    let first = String::from_utf8(first.to_vec()).unwrap();
    assert_eq!(world.log.wait(1).await, [format!("{first} left")]);
}

#[tokio::test(start_paused = true)]
async fn without_stickiness_a_service_binds_and_unbinds() {
    let world = World::new(DeadInstance::Fail, false).await;
    let (_a, _b) = (world.room("a").await, world.room("b").await);
    let (mut client, session) = world.join().await;
    let both = |answers: [bytes::Bytes; 2]| answers[0] != answers[1];
    assert!(both([
        client.ask("room/say/1", "").await,
        client.ask("room/say/2", "").await
    ]));
    let service = as_service(&world.gate, &session);
    service.bind_instance("room", "b").await.unwrap();
    for _ in 0..3 {
        assert_eq!(client.ask("room/say/1", "").await, "b");
    }
    service.bind_instance("room", "a").await.unwrap();
    assert_eq!(client.ask("room/say/1", "").await, "a");
    assert_eq!(session.instance_bindings().len(), 1);
    service.bind_instance("other", "x").await.unwrap();
    let third = service.bind_instance("third", "x").await;
    assert_eq!(third, Err(GateError::TooMany("instance bindings")));
    assert!(service.bind_instance("ro.om", "a").await.is_err());
    assert!(service.bind_instance("room", "a>").await.is_err());
    service.unbind_instance("room").await.unwrap();
    service.unbind_instance("room").await.unwrap();
    assert_eq!(world.bound(&session), None);
    assert!(both([
        client.ask("room/say/1", "").await,
        client.ask("room/say/2", "").await
    ]));
    // Bound to what is not there: the other service has no instance at all.
    client.send("other/say/1", "").await;
    expect_error(&mut client, ErrorCode::NOT_FOUND).await;
}

#[tokio::test(start_paused = true)]
async fn fail_is_an_error_until_a_service_binds_anew() {
    let world = World::new(DeadInstance::Fail, true).await;
    let a = world.room("a").await;
    let (mut client, session) = world.join().await;
    assert_eq!(client.ask("room/say/1", "").await, "a");
    let _b = world.room("b").await;
    a.stop().await;
    for _ in 0..3 {
        client.send("room/say/1", "").await;
        expect_error(&mut client, ErrorCode::INSTANCE_GONE).await;
    }
    assert_eq!(client.ask("echo/echo/1", "x").await, "x");
    as_service(&world.gate, &session)
        .bind_instance("room", "b")
        .await
        .unwrap();
    assert_eq!(client.ask("room/say/1", "").await, "b");
    // A service without any instance is unavailable, not unknown.
    let (mut guest, _) = world.join().await;
    drop(_b);
    guest.send("room/say/1", "").await;
    expect_error(&mut guest, ErrorCode::UNAVAILABLE).await;
}

#[tokio::test(start_paused = true)]
async fn rebind_tells_the_new_instance_before_the_packets_that_waited() {
    let world = World::new(DeadInstance::Rebind, true).await;
    let a = world.room("a").await;
    let (mut client, session) = world.join().await;
    assert_eq!(client.ask("room/say/0", "").await, "a");
    let _b = world.room("b").await;
    a.stop().await;
    world.log.clear();
    say_three(&mut client).await;
    client.nothing(SECOND).await;
    assert!(world.log.all().is_empty(), "not before it has been told");
    world.latch.open(1);
    three_answers(&mut client, "b").await;
    let all = world.log.all();
    assert_eq!(all, ["b takes over from a", "b 1", "b 2", "b 3"]);
    assert_eq!(world.bound(&session).as_deref(), Some("b"));
    // A packet that wants no answer takes the same way.
    let _c = world.room("c").await;
    drop(_b);
    world.latch.open(1);
    client.send("room/tell", "4").await;
    assert_eq!(world.log.wait(6).await[4..], ["c takes over from b", "c 4"]);
}

#[tokio::test(start_paused = true)]
async fn rebind_without_another_instance_is_an_error_and_the_next_one_is_told() {
    let world = World::new(DeadInstance::Rebind, true).await;
    let a = world.room("a").await;
    let (mut client, session) = world.join().await;
    assert_eq!(client.ask("room/say/0", "").await, "a");
    a.stop().await;
    say_three(&mut client).await;
    for _ in 0..3 {
        expect_error(&mut client, ErrorCode::UNAVAILABLE).await;
    }
    let _b = world.room("b").await;
    world.log.clear();
    world.latch.open(1);
    assert_eq!(client.ask("room/say/1", "x").await, "b");
    assert_eq!(world.log.all(), ["b takes over from a", "b x"]);
    assert_eq!(world.bound(&session).as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn hold_waits_in_order_until_the_instance_is_back() {
    let world = World::new(DeadInstance::Hold(60 * SECOND), true).await;
    let a = world.room("a").await;
    let (mut client, session) = world.join().await;
    assert_eq!(client.ask("room/say/0", "").await, "a");
    let _b = world.room("b").await;
    a.stop().await;
    world.log.clear();
    say_three(&mut client).await;
    // Longer than a call may take: these have not been made.
    client.nothing(50 * SECOND).await;
    // Other services, other sessions: not held up.
    assert_eq!(client.ask("echo/echo/1", "x").await, "x");
    assert_eq!(world.join().await.0.ask("room/say/1", "y").await, "b");
    let _a = world.room("a").await;
    three_answers(&mut client, "a").await;
    assert_eq!(world.bound(&session).as_deref(), Some("a"));
    let all: Vec<_> = world.log.all();
    let at_a: Vec<_> = all.iter().filter(|l| l.starts_with("a ")).collect();
    assert_eq!(at_a, ["a 1", "a 2", "a 3"]);
    assert_eq!(client.ask("room/say/4", "").await, "a");
}

#[tokio::test(start_paused = true)]
async fn hold_ends_after_its_time() {
    let world = World::new(DeadInstance::Hold(20 * SECOND), true).await;
    let a = world.room("a").await;
    let (mut client, _session) = world.join().await;
    assert_eq!(client.ask("room/say/0", "").await, "a");
    a.stop().await;
    for _ in 0..2 {
        say_three(&mut client).await;
        client.nothing(19 * SECOND).await;
        for _ in 0..3 {
            expect_error(&mut client, ErrorCode::INSTANCE_GONE).await;
        }
    }
    // It can come back later, too.
    let _a = world.room("a").await;
    assert_eq!(client.ask("room/say/1", "").await, "a");
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_where_a_service_binds_to_and_is_an_error_when_it_unbinds() {
    let world = World::new(DeadInstance::Hold(60 * SECOND), true).await;
    let a = world.room("a").await;
    let (mut client, session) = world.join().await;
    assert_eq!(client.ask("room/say/0", "").await, "a");
    let b = world.room("b").await;
    a.stop().await;
    say_three(&mut client).await;
    client.nothing(SECOND).await;
    let service = as_service(&world.gate, &session);
    service.bind_instance("room", "b").await.unwrap();
    three_answers(&mut client, "b").await;
    assert_eq!(world.bound(&session).as_deref(), Some("b"));
    assert_eq!(client.ask("room/say/4", "").await, "b");
    b.stop().await;
    let _c = world.room("c").await;
    say_three(&mut client).await;
    client.nothing(SECOND).await;
    service.unbind_instance("room").await.unwrap();
    for _ in 0..3 {
        expect_error(&mut client, ErrorCode::INSTANCE_GONE).await;
    }
    assert_eq!(client.ask("room/say/5", "").await, "c");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_its_packets_wait() {
    let world = World::new(DeadInstance::Hold(60 * SECOND), true).await;
    let a = world.room("a").await;
    let (mut client, session) = world.join().await;
    assert_eq!(client.ask("room/say/0", "").await, "a");
    // One that never used the service, but is bound to its instance.
    let (mut idle, other) = world.join().await;
    let a_id = session.bound_instance("room").unwrap();
    other
        .bind_instance(tidegate::protocol::Name::new("room").unwrap(), a_id)
        .unwrap();
    let _b = world.room("b").await;
    a.stop().await;
    world.log.clear();
    say_three(&mut client).await;
    idle.send("room/say/1", "").await;
    client.nothing(SECOND).await;
    drop(idle);
    assert_eq!(world.log.wait(1).await, ["room/say/1: INSTANCE_GONE"]);
    drop(client);
    let all = world.log.wait(5).await;
    assert_eq!(
        all[1..4],
        ["1", "2", "3"].map(|n| format!("room/say/{n}: INSTANCE_GONE"))
    );
    // The bound instance is gone: another of the service hears of the end.
    assert_eq!(all[4], "b left");
    // Nothing of it comes back with the instance.
    let _a = world.room("a").await;
    sleep(100 * SECOND).await;
    assert_eq!(world.log.all().len(), 5);
    assert_eq!(world.gate.gate().session_count(), 0);
}
