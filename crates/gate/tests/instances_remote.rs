//! Bound instances behind a bus that takes its time: that one is gone is heard after
//! several packets are on their way to it, and not in their order.
#![allow(clippy::unwrap_used, reason = "tests")]

#[macro_use]
#[path = "support/forward.rs"]
mod forward;
mod harness;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::*;
use tidegate::bus::*;
use tidegate::protocol::{InstanceId, Name};
use tidegate::service::{Previous, RunningService, Service};
use tidegate::{ErrorCode, Guests, RunningGate};

/// The local bus, but for calls to instances that are gone: those stay on their way.
#[derive(Default)]
struct Slow {
    bus: LocalBus,
    on_their_way: Mutex<Vec<Responder>>,
}

impl Slow {
    /// The `i`th of those on their way comes back.
    fn gone(&self, i: usize) {
        let responder = self.on_their_way.lock().unwrap().remove(i);
        responder.answer(Err(ErrorCode::INSTANCE_GONE.into()));
    }

    fn count(&self) -> usize {
        self.on_their_way.lock().unwrap().len()
    }
}

impl Bus for Slow {
    fn call(&self, call: Call<'_>, responder: Responder) {
        let live = self.bus.instances(call.service);
        let live = futures_util::FutureExt::now_or_never(live)
            .unwrap()
            .unwrap();
        match call.instance {
            Some(id) if !live.iter().any(|i| i.instance == *id) => {
                self.on_their_way.lock().unwrap().push(responder);
            }
            _ => self.bus.call(call, responder),
        }
    }
    as_in_bus! { register others }
}

async fn room(bus: Arc<Slow>, id: &'static str, policy: DeadInstance, log: &Log) -> RunningService {
    let (said, told) = (log.clone(), log.clone());
    Service::new("room")
        .instance(id)
        .on_dead_instance(policy)
        .one_way("say", move |body: String| {
            said.add(format!("{id} {body}"));
            async {}
        })
        .open_to(Guests)
        .on_rebound(move |Previous(from): Previous| {
            told.add(format!("{id} takes over from {from}"));
            async {}
        })
        .register(bus)
        .await
        .unwrap()
}

/// A gate, and a client bound to instance `a`, which is gone, with packets 1, 2 and 3 on
/// their way to it.
async fn three_on_their_way(
    policy: DeadInstance,
    log: &Log,
) -> (Arc<Slow>, RunningGate, Client, RunningService) {
    let bus = Arc::new(Slow::default());
    let gate = builder().bus(bus.clone()).start().await.unwrap();
    let other = room(bus.clone(), "b", policy, log).await;
    let (mut client, session) = join(&gate).await;
    let a = InstanceId::new("a").unwrap();
    session
        .bind_instance(Name::new("room").unwrap(), a)
        .unwrap();
    for n in 1..=3 {
        client.send("room/say", n.to_string()).await;
    }
    until("they are on their way", || bus.count() == 3).await;
    (bus, gate, client, other)
}

#[tokio::test(start_paused = true)]
async fn packets_that_wait_are_in_order_however_they_came_back() {
    let log = Log::default();
    let policy = DeadInstance::Hold(Duration::from_secs(60));
    let (bus, _gate, mut client, _b) = three_on_their_way(policy, &log).await;
    bus.gone(2);
    client.send("room/say", "4").await;
    client.nothing(Duration::from_secs(1)).await;
    bus.gone(0);
    bus.gone(0);
    client.nothing(Duration::from_secs(1)).await;
    assert!(log.all().is_empty());
    let _a = room(bus, "a", policy, &log).await;
    assert_eq!(log.wait(4).await, ["a 1", "a 2", "a 3", "a 4"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_back_after_the_rebind_follows_the_others() {
    let log = Log::default();
    let (bus, gate, _client, _b) = three_on_their_way(DeadInstance::Rebind, &log).await;
    bus.gone(0);
    assert_eq!(log.wait(2).await, ["b takes over from a", "b 1"]);
    // Others that the session could be bound to now.
    let mut others = Vec::new();
    for id in ["c", "d", "e", "f"] {
        others.push(room(bus.clone(), id, DeadInstance::Rebind, &log).await);
    }
    bus.gone(0);
    bus.gone(0);
    assert_eq!(log.wait(4).await[2..], ["b 2", "b 3"]);
    let session = gate.gate().sessions().next().unwrap();
    assert_eq!(session.bound_instance("room").unwrap().as_str(), "b");
}
