//! Users' logins on several gates.

use super::*;

const RACES: usize = 1_000;

type Raced = (LocalSession, DuplexStream, Result<(), GateError>);

/// Some bind one user at the same time, each on another gate. Answers what came of it.
async fn race(gates: &[RunningGate], name: &str) -> Vec<Raced> {
    let clients = join_all(gates.iter().map(guest)).await;
    let start = Arc::new(Barrier::new(gates.len()));
    let binds = clients.into_iter().map(|(client, session)| {
        let (start, user) = (start.clone(), user_id(name));
        tokio::spawn(async move {
            start.wait().await;
            let bound = session.bind(user).await.map(drop);
            (session, client, bound)
        })
    });
    let bound = join_all(binds).await;
    bound.into_iter().map(Result::unwrap).collect()
}

fn sessions_of(gates: &[RunningGate], name: &str) -> Vec<LocalSession> {
    let of = |gate: &RunningGate| gate.gate().user_sessions(&user_id(name));
    gates.iter().flat_map(of).collect()
}

/// Each user has two races: in the second the winner of the first is there too.
async fn races(logins: Logins) {
    let site = Site::start(10).await;
    let bus = site.bus().await;
    let gates = gates(&bus, logins, &["a", "b", "c"]).await;
    let (mut bound, mut refused, mut replaced, mut other) = (0, 0, 0, 0);
    for number in 0..RACES {
        let name = format!("user-{}", number / 2);
        let n = 2 + number / 2 % 2;
        let first = number % (gates.len() - n + 1);
        let raced = race(&gates[first..first + n], &name).await;
        for (.., result) in &raced {
            match result {
                Ok(()) => bound += 1,
                Err(GateError::TooManyLogins) => refused += 1,
                Err(GateError::SessionGone) => replaced += 1,
                Err(_) => other += 1,
            }
        }
        let live: Vec<_> = {
            let all = sessions_of(&gates, &name).into_iter();
            all.filter(|s| s.connected() == Connected::Attached)
                .collect()
        };
        assert_eq!(live.len(), 1, "race {number}: {raced:?}");
        let record = bus.record(&name).await;
        let kept: Vec<_> = record.logins.iter().filter(|e| !e.replaced).collect();
        assert_eq!(kept.len(), 1, "race {number}: {record:?}");
        assert_eq!(kept[0].session, live[0].id(), "race {number}: {record:?}");
        if number % 2 == 1 {
            live[0].close(CloseReason::Kicked);
        }
    }
    println!(
        "{RACES} races, {logins:?}: one live login after each; {bound} bound, {refused} refused, \
         {replaced} replaced before they were done, {other} failed otherwise"
    );
    assert_eq!(other, 0);
    join_all(gates.into_iter().map(RunningGate::stop)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_races_each_leaves_one_login_where_others_are_replaced() {
    races(one()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_races_each_leaves_one_login_where_others_are_refused() {
    races(one().refuse()).await;
}

#[tokio::test]
async fn a_user_is_found_on_all_gates_and_gone_when_the_sessions_are() {
    let site = Site::start(10).await;
    let bus = site.bus().await;
    let gates = gates(&bus, Logins::unlimited(), &["a", "b"]).await;
    let (_c1, ann_a) = guest(&gates[0]).await;
    let (_c2, ann_b) = guest(&gates[1]).await;
    let (_c3, bob_b) = guest(&gates[1]).await;
    ann_a.bind(user_id("ann")).await.unwrap();
    ann_b.bind(user_id("ann")).await.unwrap();
    bob_b.bind(user_id("bob")).await.unwrap();
    let member = bus.member("a");
    // Many at once, with one that nobody knows, over more than one round of reads.
    let mut users: Vec<_> = (0..600).map(|i| user_id(&format!("nobody-{i}"))).collect();
    users[3] = user_id("ann");
    users[599] = user_id("bob");
    let found = member.gates_of(&users).await.unwrap();
    let on = |gate: &str| found.get(&GateId::new(gate).unwrap()).cloned();
    assert_eq!(on("a"), Some(vec![3]));
    assert_eq!(on("b"), Some(vec![3, 599]));
    // One unbinds, one closes.
    ann_a.unbind().await.unwrap();
    bob_b.close(CloseReason::Kicked);
    eventually("they are out of the records", async || {
        let found = member.gates_of(&users).await.unwrap();
        (found.into_iter().collect::<Vec<_>>() == [(GateId::new("b").unwrap(), vec![3])])
            .then_some(())
    })
    .await;
    join_all(gates.into_iter().map(RunningGate::stop)).await;
}

#[tokio::test]
async fn a_gate_that_stops_leaves_no_login_behind() {
    let site = Site::start(10).await;
    let bus = site.bus().await;
    let mut gates = gates(&bus, one().refuse(), &["a", "b"]).await;
    let (_c1, ann) = guest(&gates[0]).await;
    ann.bind(user_id("ann")).await.unwrap();
    assert_eq!(bus.record("ann").await.logins.len(), 1);
    gates.remove(0).stop().await;
    assert_eq!(bus.record("ann").await.logins, []);
    let (_c2, ann) = guest(&gates[0]).await;
    ann.bind(user_id("ann")).await.unwrap();
    assert!(bus.gone.lock().is_empty(), "it did not die");
    gates.remove(0).stop().await;
}

#[tokio::test]
async fn logins_count_for_each_device_and_a_session_that_unbound_is_none() {
    let site = Site::start(10).await;
    let bus = site.bus().await;
    let gates = gates(&bus, one().per_device().refuse(), &["a", "b"]).await;
    let device = |name: &str| DeviceId::new(name).unwrap();
    let (_c1, phone) = guest(&gates[0]).await;
    let (_c2, tablet) = guest(&gates[1]).await;
    let (_c3, other) = guest(&gates[1]).await;
    let ann = || user_id("ann");
    phone.bind_device(ann(), device("phone")).await.unwrap();
    tablet.bind_device(ann(), device("tablet")).await.unwrap();
    let refused = other.bind_device(ann(), device("phone")).await;
    assert_eq!(refused.unwrap_err(), GateError::TooManyLogins);
    assert!(other.is_guest());
    // Asked at once, before its gate has written it: the gate itself says so.
    phone.unbind().await.unwrap();
    other.bind_device(ann(), device("phone")).await.unwrap();
    assert_eq!(phone.connected(), Connected::Attached);
    join_all(gates.into_iter().map(RunningGate::stop)).await;
}

#[tokio::test]
async fn a_bind_that_is_given_up_leaves_nothing() {
    let site = Site::start(10).await;
    let bus = site.bus().await;
    let gates = gates(&bus, one().refuse(), &["a", "b"]).await;
    let (_c1, ann) = guest(&gates[0]).await;
    for round in 0..50 {
        // Dropped at another point each time.
        let bind = ann.bind(user_id("ann"));
        let _ = timeout(Duration::from_micros(round * 40), bind).await;
        if !ann.is_guest() {
            ann.unbind().await.unwrap();
        }
    }
    let (_c2, other) = guest(&gates[1]).await;
    eventually("nothing is left", async || {
        bus.record("ann").await.logins.is_empty().then_some(())
    })
    .await;
    other.bind(user_id("ann")).await.unwrap();
    join_all(gates.into_iter().map(RunningGate::stop)).await;
}

#[tokio::test]
async fn while_the_records_cannot_be_reached_binds_fail_in_time_and_clients_stay() {
    let mut site = Site::start(2).await;
    let bus = site.bus().await;
    let gates = gates(&bus, one(), &["a", "b"]).await;
    let (_c1, ann) = guest(&gates[0]).await;
    let (_c2, bob) = guest(&gates[0]).await;
    ann.bind(user_id("ann")).await.unwrap();
    site.server.kill();
    let began = Instant::now();
    let failed = bob.bind(user_id("bob")).await;
    assert_eq!(failed.unwrap_err(), GateError::Unavailable);
    assert!(bob.is_guest());
    println!("a bind without NATS failed after {:?}", began.elapsed());
    // The lease is over: it is known at once.
    let member = bus.member("a");
    until("the gate counts itself as cut off", || {
        !member.lease.is_held()
    })
    .await;
    let failed = bob.bind(user_id("bob")).await;
    assert_eq!(failed.unwrap_err(), GateError::Unavailable);
    // One ends meanwhile; it is taken out later.
    let (_c3, eve) = guest(&gates[1]).await;
    ann.unbind().await.unwrap();
    site.server.restart().await;
    eventually("binds work again", async || {
        eve.bind(user_id("ann")).await.ok()
    })
    .await;
    bob.bind(user_id("bob")).await.unwrap();
    assert_eq!(ann.connected(), Connected::Attached);
    eventually("what ended meanwhile is out", async || {
        (bus.record("ann").await.logins.len() == 1).then_some(())
    })
    .await;
    join_all(gates.into_iter().map(RunningGate::stop)).await;
}
