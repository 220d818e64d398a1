//! Several instances of a service: who gets what, and what becomes of it when one goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tidegate::bus::{Bus, BusError, DeadInstance};
use tidegate::service::{Previous, RegisterError, RunningService, Service, Session};
use tidegate::{Bound, ErrorCode, Guests};

use crate::World;
use crate::stage::*;

/// `room/say` answers the instance.
fn room(id: &'static str, log: &Log) -> Service {
    let (told, left) = (log.clone(), log.clone());
    Service::new("room")
        .instance(id)
        .metadata("colour", "red")
        .version("2.0.1")
        .request("say", move |_body: String| async move { id })
        .open_to(Guests)
        .on_rebound(move |Previous(from): Previous| {
            told.add(format!("{id} takes over from {from}"));
            async {}
        })
        .on_disconnect(move |_: Session| {
            left.add(format!("{id} left"));
            async {}
        })
}

async fn start(service: Service, world: &impl World) -> RunningService {
    service.register(world.bus().await).await.unwrap()
}

pub async fn ids_are_unique(world: &impl World) {
    let log = Log::default();
    let one = start(room("one", &log), world).await;
    let again = room("one", &log).register(world.bus().await).await;
    let taken = matches!(&again, Err(RegisterError::Bus(BusError::Taken(_))));
    assert!(taken, "{again:?}");
    one.stop().await;
    start(room("one", &log), world).await.stop().await;
}

pub async fn declarations_agree(world: &impl World) {
    let log = Log::default();
    let _one = start(room("one", &log), world).await;
    for other in [
        room("two", &log).sticky(),
        room("two", &log).on_dead_instance(DeadInstance::Rebind),
        room("two", &log).request("more", || async {}),
        room("two", &log).on_started(|| async {}),
        Service::new("room")
            .request("say", |_body: String| async { "" })
            .open_to(Bound)
            .on_disconnect(|| async {}),
    ] {
        let refused = other.register(world.bus().await).await;
        let disagrees = matches!(
            &refused,
            Err(RegisterError::Bus(BusError::Disagrees { service, .. })) if service.as_str() == "room"
        );
        assert!(disagrees, "{refused:?}");
    }
    let two = start(room("two", &log), world).await;
    let bus = world.bus().await;
    let listed = || async {
        let instances = bus.instances("room").await.unwrap();
        let mut ids: Vec<_> = instances.iter().map(|i| i.instance.to_string()).collect();
        ids.sort();
        ids
    };
    becomes(
        "both are listed",
        vec!["one".to_owned(), "two".to_owned()],
        listed,
    )
    .await;
    let instances = bus.instances("room").await.unwrap();
    assert!(
        instances
            .iter()
            .all(|i| i.version == "2.0.1" && i.metadata["colour"] == "red")
    );
    two.stop().await;
    becomes("one is listed", vec!["one".to_owned()], listed).await;
}

pub async fn load_is_shared(world: &impl World) {
    let gate = gate(world, "a").await;
    let log = Log::default();
    let _one = start(room("one", &log), world).await;
    let _two = start(room("two", &log), world).await;
    let client = join(&gate).await;
    let asks = (0..400).map(|_| async { client.request("room/say", "").await.unwrap() });
    let mut by = BTreeMap::new();
    for answer in join_all(asks).await {
        *by.entry(text(&answer).to_owned()).or_insert(0) += 1;
    }
    assert_eq!(by.values().sum::<i32>(), 400);
    assert!(by.len() == 2 && by.values().all(|n| *n > 40), "{by:?}");
}

pub async fn sticky_sessions(world: &impl World) {
    let gate = gate(world, "a").await;
    let log = Log::default();
    let _one = start(room("one", &log).sticky(), world).await;
    let _two = start(room("two", &log).sticky(), world).await;
    let clients = join_all((0..16).map(|_| join(&gate))).await;
    let mut firsts = Vec::new();
    for client in &clients {
        let first = client.request("room/say", "").await.unwrap();
        for _ in 0..10 {
            assert_eq!(client.request("room/say", "").await.unwrap(), first);
        }
        firsts.push(text(&first).to_owned());
    }
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts, ["one", "two"]);
}

/// Two instances, and a client whose session is bound to `one` by a service.
async fn bound(world: &impl World, policy: DeadInstance) -> Bound1 {
    let gate = gate(world, "a").await;
    let log = Log::default();
    let one = start(room("one", &log).on_dead_instance(policy), world).await;
    let two = start(room("two", &log).on_dead_instance(policy), world).await;
    let (desk, running) = desk(world).await;
    let (client, session) = meet(&gate, &desk).await;
    session.bind_instance("room", "one").await.unwrap();
    for _ in 0..10 {
        assert_eq!(client.request("room/say", "").await.unwrap(), "one");
    }
    log.take();
    Bound1 {
        _keep: (Box::new(gate), running),
        log,
        one,
        two,
        client,
        session,
    }
}

struct Bound1 {
    _keep: (Box<tidegate::RunningGate>, RunningService),
    log: Log,
    one: RunningService,
    two: RunningService,
    client: tidegate_client::Client,
    session: Session,
}

pub async fn bound_by_a_service(world: &impl World) {
    let it = bound(world, DeadInstance::Fail).await;
    it.session.bind_instance("room", "two").await.unwrap();
    for _ in 0..10 {
        assert_eq!(it.client.request("room/say", "").await.unwrap(), "two");
    }
    it.session.unbind_instance("room").await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..40 {
        seen.push(text(&it.client.request("room/say", "").await.unwrap()).to_owned());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["one", "two"]);
}

pub async fn dead_fail(world: &impl World) {
    let it = bound(world, DeadInstance::Fail).await;
    it.one.stop().await;
    for _ in 0..3 {
        let error = code(it.client.request("room/say", "").await);
        assert_eq!(error, ErrorCode::INSTANCE_GONE);
    }
    it.session.bind_instance("room", "two").await.unwrap();
    assert_eq!(it.client.request("room/say", "").await.unwrap(), "two");
    it.two.stop().await;
}

pub async fn dead_rebind(world: &impl World) {
    let it = bound(world, DeadInstance::Rebind).await;
    it.one.stop().await;
    for _ in 0..3 {
        assert_eq!(it.client.request("room/say", "").await.unwrap(), "two");
    }
    assert_eq!(it.log.wait_for(1).await, ["two takes over from one"]);
    it.client.close().await;
    assert_eq!(it.log.wait_for(1).await, ["two left"]);
}

pub async fn dead_hold(world: &impl World) {
    let it = bound(world, DeadInstance::Hold(Duration::from_secs(20))).await;
    it.one.stop().await;
    let asks: Vec<_> = (0..5)
        .map(|_| {
            let client = it.client.clone();
            tokio::spawn(async move { client.request("room/say", "").await })
        })
        .collect();
    let bus: Arc<dyn Bus> = world.bus().await;
    let gone = || async { bus.instances("room").await.unwrap().len() };
    becomes("one is gone", 1, gone).await;
    assert!(asks.iter().all(|ask| !ask.is_finished()));
    let policy = DeadInstance::Hold(Duration::from_secs(20));
    let _again = start(room("one", &it.log).on_dead_instance(policy), world).await;
    for ask in asks {
        assert_eq!(ask.await.unwrap().unwrap(), "one");
    }
}
