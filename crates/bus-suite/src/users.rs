//! Users, wherever their sessions are.

use futures_util::future::join_all;
use tidegate::bus::BusError;
use tidegate::service::Clients;
use tidegate::{CloseReason, StartError, UserId};

use crate::World;
use crate::stage::*;

pub async fn sent_to_wherever_they_are(world: &impl World) {
    let gates = [gate(world, "a").await, gate(world, "b").await];
    let (desk, _running) = desk(world).await;
    let mut ada = Vec::new();
    for gate in &gates {
        let (client, session) = meet(gate, &desk).await;
        session.bind("ada").await.unwrap();
        ada.push((client.pushes(), client, session));
    }
    let (bob, session) = meet(&gates[0], &desk).await;
    session.bind("bob").await.unwrap();
    // By a service, and by a gate.
    for clients in [Clients::new(world.bus().await), gates[1].gate().clients()] {
        let sent = clients.to_user("ada").send("n", "1").await.unwrap();
        assert_eq!((sent.taken(), sent.unknown), (2, 0));
        for (pushes, ..) in &mut ada {
            assert_eq!(push(pushes).await, ("n".into(), "1".into()));
        }
        let nobody = clients.to_user("nobody").send("n", "2").await.unwrap();
        assert_eq!(nobody, Default::default());
    }
    ada[0].2.unbind().await.unwrap();
    let clients = Clients::new(world.bus().await);
    let one = || async { clients.to_user("ada").send("n", "3").await.unwrap().taken() };
    becomes("one is left", 1, one).await;
    ada[1].1.close().await;
    let none = || async { clients.to_user("ada").send("n", "4").await.unwrap().taken() };
    becomes("none is left", 0, none).await;
    let sent = clients.to_user("bob").send("n", "for bob").await.unwrap();
    assert_eq!(sent.taken(), 1);
    assert_eq!(push(&mut bob.pushes()).await.1, "for bob");
}

pub async fn closed_wherever_they_are(world: &impl World) {
    let gates = [gate(world, "a").await, gate(world, "b").await];
    let (desk, _running) = desk(world).await;
    let mut ada = Vec::new();
    for gate in &gates {
        let (client, session) = meet(gate, &desk).await;
        session.bind("ada").await.unwrap();
        ada.push(client);
    }
    let clients = Clients::new(world.bus().await);
    assert_eq!(clients.to_user("ada").close().await, Ok(2));
    for client in ada {
        assert_eq!(client.closed().await.code, Some(CloseReason::Kicked.code()));
    }
    let left = || async { clients.to_user("ada").close().await };
    becomes("they are gone", Ok(0), left).await;
}

pub async fn presence_of_many(world: &impl World) {
    let gates = [gate(world, "a").await, gate(world, "b").await];
    let (desk, _running) = desk(world).await;
    let users: Vec<_> = (0..300).map(UserId::from).collect();
    let mut expected = vec![Vec::new(); users.len()];
    let mut keep = Vec::new();
    for i in 0..20 {
        let (client, session) = meet(&gates[i % 2], &desk).await;
        session.bind(users[i * 10].clone()).await.unwrap();
        expected[i * 10].push(session.id());
        keep.push(client);
    }
    for clients in [Clients::new(world.bus().await), gates[0].gate().clients()] {
        let present = || async { clients.presence(&users).await.unwrap() };
        becomes("those are there", expected.clone(), present).await;
        assert_eq!(clients.presence(&[]).await, Ok(Vec::new()));
    }
    join_all(keep.iter().map(|client| client.close())).await;
    let clients = Clients::new(world.bus().await);
    let present = || async { clients.presence(&users).await.unwrap() };
    becomes("nobody is there", vec![Vec::new(); users.len()], present).await;
}

pub async fn gates_are_unique_and_listed(world: &impl World) {
    let a = gate(world, "a").await;
    let again = builder(world.bus().await, "a").start().await;
    let taken = matches!(&again, Err(StartError::Bus(BusError::Taken(_))));
    assert!(taken, "{:?}", again.map(drop));
    let b = gate(world, "b").await;
    let bus = world.bus().await;
    let listed = || async {
        let mut ids: Vec<_> = bus
            .gates()
            .await
            .unwrap()
            .into_iter()
            .map(|g| g.id.to_string())
            .collect();
        ids.sort();
        ids
    };
    becomes("both", vec!["a".to_owned(), "b".to_owned()], listed).await;
    let clients = Clients::new(world.bus().await);
    let _one = join(&a).await;
    let _two = join(&b).await;
    becomes("two sessions", Ok((2, 2)), || clients.count()).await;
    a.stop().await;
    becomes("one gate", vec!["b".to_owned()], listed).await;
    becomes("one session", Ok((1, 1)), || clients.count()).await;
    gate(world, "a").await.stop().await;
}
