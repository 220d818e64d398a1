//! How often a user may be logged in, over all gates.

use std::num::NonZeroU32;

use futures_util::future::join_all;
use tidegate::bus::GateError;
use tidegate::service::{Clients, Session};
use tidegate::{CloseReason, Logins, RunningGate, UserId};

use crate::World;
use crate::stage::*;

fn one() -> Logins {
    Logins::limit(NonZeroU32::MIN)
}

async fn gates(world: &impl World, logins: Logins) -> [RunningGate; 3] {
    let mut gates = Vec::new();
    for id in ["a", "b", "c"] {
        let gate = builder(world.bus().await, id).logins(logins);
        gates.push(gate.start().await.unwrap());
    }
    gates.try_into().ok().unwrap()
}

pub async fn replaced_across_gates(world: &impl World) {
    let gates = gates(world, one()).await;
    let (desk, _running) = desk(world).await;
    let mut before: Option<tidegate_client::Client> = None;
    let all = Clients::new(world.bus().await);
    for round in 0..6 {
        let (client, session) = meet(&gates[round % 3], &desk).await;
        session.bind("ada").await.unwrap();
        if let Some(before) = before.replace(client) {
            assert_eq!(
                before.closed().await.code,
                Some(CloseReason::Replaced.code())
            );
        }
        let there = all.presence(&[UserId::new("ada").unwrap()]).await.unwrap();
        assert_eq!(there, [[session.id()]]);
    }
}

pub async fn refused_across_gates(world: &impl World) {
    let gates = gates(world, one().refuse()).await;
    let (desk, _running) = desk(world).await;
    let (first, session) = meet(&gates[0], &desk).await;
    session.bind("ada").await.unwrap();
    let mut others = Vec::new();
    for gate in &gates {
        let (client, session) = meet(gate, &desk).await;
        assert_eq!(session.bind("ada").await, Err(GateError::TooManyLogins));
        assert!(session.is_guest());
        // Who is refused stays, and may be somebody else.
        session
            .bind("bob")
            .await
            .unwrap_or_else(|e| assert_eq!(e, GateError::TooManyLogins));
        others.push((client, session));
    }
    first.close().await;
    let (_client, again) = meet(&gates[2], &desk).await;
    becomes("the place is free", Ok(()), || again.bind("ada")).await;
}

pub async fn devices_across_gates(world: &impl World) {
    let gates = gates(world, one().per_device()).await;
    let (desk, _running) = desk(world).await;
    let (phone, session) = meet(&gates[0], &desk).await;
    session.bind_device("ada", "phone").await.unwrap();
    let (_laptop, session) = meet(&gates[1], &desk).await;
    session.bind_device("ada", "laptop").await.unwrap();
    let (_other, session) = meet(&gates[2], &desk).await;
    session.bind_device("ada", "phone").await.unwrap();
    assert_eq!(
        phone.closed().await.code,
        Some(CloseReason::Replaced.code())
    );
    let all = Clients::new(world.bus().await);
    let ada = [UserId::new("ada").unwrap()];
    let two = || async { all.presence(&ada).await.unwrap()[0].len() };
    becomes("two devices", 2, two).await;
}

/// Three gates, a session on each, all bind the same user at once: one has it then.
pub async fn races_have_one_winner(world: &impl World) {
    for logins in [one(), one().refuse()] {
        let gates = gates(world, logins).await;
        let (desk, _running) = desk(world).await;
        for round in 0..30_u64 {
            let user = UserId::from(round);
            let met = join_all(gates.iter().map(join)).await;
            let mut sessions: Vec<Session> = Vec::new();
            for client in &met {
                let id = hello(client).await;
                let all = desk.sessions.lock();
                sessions.push(all.iter().rfind(|s| s.id() == id).cloned().unwrap());
            }
            let bound = join_all(sessions.iter().map(|s| s.bind(user.clone()))).await;
            let won = bound.iter().filter(|b| b.is_ok()).count();
            let fine = bound.iter().all(|b| {
                matches!(
                    b,
                    Ok(()) | Err(GateError::TooManyLogins | GateError::SessionGone)
                )
            });
            assert!(fine && won >= 1, "{bound:?}");
            let all = Clients::new(world.bus().await);
            let one =
                || async { all.presence(std::slice::from_ref(&user)).await.unwrap()[0].len() };
            becomes("exactly one", 1, one).await;
            let attached = || {
                let sessions = gates.iter().map(|g| g.gate().user_sessions(&user).len());
                sessions.sum::<usize>()
            };
            until("one on all gates", || attached() == 1).await;
        }
        for gate in gates {
            gate.stop().await;
        }
    }
}
