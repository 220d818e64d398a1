//! Groups and broadcast, over all gates.

use futures_util::future::join_all;
use tidegate::service::Clients;

use crate::World;
use crate::stage::*;

pub async fn members_on_all_gates(world: &impl World) {
    let gates = [
        gate(world, "a").await,
        gate(world, "b").await,
        gate(world, "c").await,
    ];
    let (desk, _running) = desk(world).await;
    let mut members = Vec::new();
    for i in 0..9 {
        let (client, session) = meet(&gates[i % 3], &desk).await;
        members.push((client.pushes(), client, session));
    }
    // The first six, all of two gates.
    for (_, _, session) in members.iter().filter(|(_, _, s)| s.gate().as_str() != "c") {
        session.join("room 7 *.> é").await.unwrap();
    }
    let mut expected: Vec<_> = members
        .iter()
        .filter(|m| m.2.gate().as_str() != "c")
        .map(|m| m.2.id())
        .collect();
    expected.sort();
    for clients in [Clients::new(world.bus().await), gates[2].gate().clients()] {
        let group = || clients.to_group("room 7 *.> é");
        assert_eq!(group().count().await, Ok(6));
        let mut ids: Vec<_> = group()
            .members()
            .await
            .unwrap()
            .iter()
            .map(|s| s.id)
            .collect();
        ids.sort();
        assert_eq!(ids, expected);
        let sent = group().send("n", "hi").await.unwrap();
        assert_eq!((sent.taken(), sent.unknown), (6, 0));
        for (pushes, _, session) in &mut members {
            if session.gate().as_str() != "c" {
                assert_eq!(push(pushes).await, ("n".into(), "hi".into()));
            }
        }
        let empty = clients.to_group("empty");
        assert_eq!(empty.send("n", "x").await.unwrap(), Default::default());
    }
    for (pushes, _, session) in &mut members {
        if session.gate().as_str() == "c" {
            session.send("n", "yours").await.unwrap();
            assert_eq!(push(pushes).await.1, "yours", "nothing else came");
        }
    }
}

pub async fn left_when_sessions_end(world: &impl World) {
    let gates = [gate(world, "a").await, gate(world, "b").await];
    let (desk, _running) = desk(world).await;
    let mut clients = Vec::new();
    for i in 0..4 {
        let (client, session) = meet(&gates[i % 2], &desk).await;
        session.join("room").await.unwrap();
        clients.push((client, session));
    }
    let all = Clients::new(world.bus().await);
    assert_eq!(all.to_group("room").count().await, Ok(4));
    clients[0].1.leave("room").await.unwrap();
    assert_eq!(all.to_group("room").count().await, Ok(3));
    clients[1].0.close().await;
    becomes("one left", Ok(2), || all.to_group("room").count()).await;
    let [_a, b] = gates;
    b.stop().await;
    becomes("a gate left", Ok(1), || all.to_group("room").count()).await;
}

pub async fn broadcast_to_all(world: &impl World) {
    let gates = [
        gate(world, "a").await,
        gate(world, "b").await,
        gate(world, "c").await,
    ];
    let clients = join_all((0..30).map(|i| join(&gates[i % 3]))).await;
    let mut pushes: Vec<_> = clients.iter().map(|c| c.pushes()).collect();
    let all = Clients::new(world.bus().await);
    for round in 0..20 {
        let sent = all.broadcast("n", round.to_string()).await.unwrap();
        assert_eq!((sent.taken(), sent.unknown), (30, 0));
    }
    for pushes in &mut pushes {
        for round in 0..20 {
            assert_eq!(push(pushes).await.1, round.to_string());
        }
    }
    // Of its own sessions a gate speaks by itself.
    let packet = tidegate::Packet::try_new("n", "own").unwrap();
    assert_eq!(gates[0].gate().broadcast(packet).await.unwrap().taken(), 10);
}
