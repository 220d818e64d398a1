//! What services hear of sessions.

use std::time::Duration;

use tidegate::Guests;
use tidegate::bus::{Connected, Ended};
use tidegate::service::{Service, Session};

use crate::World;
use crate::stage::*;

fn noting(
    log: &Log,
    what: &'static str,
) -> impl Fn(Session) -> std::future::Ready<()> + Send + Sync + use<> {
    let log = log.clone();
    move |session: Session| {
        log.add(format!("{what} {}", session.id()));
        std::future::ready(())
    }
}

pub async fn started_and_left(world: &impl World) {
    let gate = gate(world, "a").await;
    let log = Log::default();
    let left = log.clone();
    let _watcher = Service::new("watcher")
        .on_started(noting(&log, "started"))
        .request("hello", || async {})
        .open_to(Guests)
        .on_disconnect(move |session: Session, ended: Ended| {
            left.add(format!("{} {}", ended.reason.name(), session.id()));
            std::future::ready(())
        })
        .register(world.bus().await)
        .await
        .unwrap();
    let client = join(&gate).await;
    let started = log.wait_for(1).await;
    let id = gate.gate().sessions().next().unwrap().id();
    assert_eq!(started, [format!("started {id}")]);
    client.request("watcher/hello", "").await.unwrap();
    client.close().await;
    assert_eq!(log.wait_for(1).await, [format!("ClientLeft {id}")]);
    // Of a session that it never served it hears the start alone.
    let client = join(&gate).await;
    log.wait_for(1).await;
    client.close().await;
    until("it has ended", || gate.gate().session_count() == 0).await;
    let client = join(&gate).await;
    let next = log.wait_for(1).await;
    assert!(next[0].starts_with("started"), "{next:?}");
    client.close().await;
}

pub async fn dormant_and_resumed(world: &impl World) {
    let gate = gate(world, "a").await;
    let log = Log::default();
    let _watcher = Service::new("watcher")
        .on_dormant(noting(&log, "dormant"))
        .on_resumed(noting(&log, "resumed"))
        .register(world.bus().await)
        .await
        .unwrap();
    let (desk, _running) = desk(world).await;
    let (client, session) = meet(&gate, &desk).await;
    let mut pushes = client.pushes();
    for round in 0..3 {
        client.cut();
        let seen = log.wait_for(2).await;
        let id = session.id();
        assert_eq!(seen, [format!("dormant {id}"), format!("resumed {id}")]);
        session
            .send_wait("n", round.to_string(), Duration::from_secs(10))
            .await
            .unwrap();
        assert_eq!(push(&mut pushes).await.1, round.to_string());
    }
    assert_eq!(session.connected().await, Ok(Connected::Attached));
}
