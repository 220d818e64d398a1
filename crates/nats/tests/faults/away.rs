//! NATS is away for half a minute: frozen, or killed. Clients stay, callers are told at once,
//! and all is well again by itself (threat 26).

use std::time::{Duration, Instant};

use tidegate_test_servers::{NatsServer, eventually};

use crate::account::{Load, Outcome, numbers};
use crate::roles::{self, Role};
use crate::stage::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Frozen,
    Killed,
}

/// Both at the same time: it is the waiting that is long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_is_away_for_half_a_minute() {
    let time = Duration::from_secs(30);
    tokio::join!(away(How::Frozen, time), away(How::Killed, time));
}

async fn away(how: How, time: Duration) {
    let mut nats = NatsServer::start().await;
    let servers = [nats.url()];
    let mut work = Role::new_service("w1", &servers).service().await;
    let gate = roles::gate(&servers, "g1", [127, 0, 0, 1].into()).await;
    let url = format!("tcp://{}", gate.address(0).unwrap());
    let clients = connect_all(&url, 5).await;
    let (leaver, clients) = clients.split_first().unwrap();
    for client in [leaver, &clients[0]] {
        answers(client, "work/do").await;
    }
    let leaver_session = session_of(&gate, leaver).await;
    let sessions = || {
        let mut ids: Vec<_> = gate.gate().sessions().map(|s| s.id()).collect();
        ids.retain(|id| *id != leaver_session);
        ids.sort();
        ids
    };
    let before = sessions();
    println!("{how:?}: the session that ends meanwhile is {leaver_session}");

    let pause = Duration::from_millis(5);
    let far = Load::start(clients, "work/do", pause);
    let near = Load::start(&clients[..1], "near-g1/echo", pause);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let down = Instant::now();
    match how {
        How::Frozen => nats.pause(),
        How::Killed => nats.kill(),
    }
    tokio::time::sleep(time / 2).await;
    // What happens meanwhile is told afterwards.
    leaver.close().await;
    tokio::time::sleep(time / 2).await;
    let up = Instant::now();
    match how {
        How::Frozen => nats.resume(),
        How::Killed => nats.restart().await,
    }
    answers(&clients[0], "work/do").await;
    let well = Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (far, near) = (far.stop().await, near.stop().await);

    let output = work.output();
    let done = numbers([&*output], "did");
    let first_told = far.0.iter().filter(|e| e.outcome == Outcome::NotServed);
    let noticed = first_told.map(|e| e.asked + e.took).min().unwrap();
    println!("NATS {how:?} for {time:?}");
    println!(
        "  noticed after {:?}, well again after {:?}",
        noticed - down,
        well - up
    );
    far.between(down - Duration::from_secs(9), down)
        .print("  before", &done);
    far.between(down, noticed)
        .print("  until it is noticed", &done);
    let while_down = far.between(noticed, up);
    while_down.print("  while it is away", &done);
    far.between(up, well).print("  until it is well", &done);
    far.between(well, Instant::now())
        .print("  afterwards", &done);
    near.print("  served by the gate itself", &done);
    println!("  {:?}", gate.gate().bus_stats());

    far.check(&done);
    assert_eq!(near.count(Outcome::Answered), near.0.len());
    assert_eq!(while_down.count(Outcome::NotServed), while_down.0.len());
    assert!(while_down.longest(Outcome::NotServed) < Duration::from_secs(1));
    assert_eq!(sessions(), before, "clients stay");
    prints(&mut work, &format!("left {leaver_session}")).await;
    all_is_well(&clients[0], "ada").await;
    eventually("the gate says so", async || {
        gate.gate().is_ready().then_some(())
    })
    .await;
    // The new connections have all the subscriptions of the old ones.
    clients[0].close().await;
    let left = eventually("its session ends", async || {
        let now = sessions();
        before.iter().find(|id| !now.contains(id)).copied()
    });
    let left = left.await;
    prints(&mut work, &format!("left {left}")).await;
}

async fn session_of(
    gate: &tidegate::RunningGate,
    client: &tidegate_client::Client,
) -> tidegate::SessionId {
    client.request("work/login", "leaver").await.unwrap();
    let user = "leaver".try_into().unwrap();
    gate.gate().user_sessions(&user)[0].id()
}
