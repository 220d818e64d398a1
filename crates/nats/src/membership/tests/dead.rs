//! Gates that die, are cut off, or want another's id.

use super::*;

impl Joined {
    /// The gate is no more, and nobody is told. Its clients' sessions here live on, as those of
    /// a process do that nobody hears of.
    async fn kill(&self, id: &str) {
        let id = GateId::new(id).unwrap();
        let member = self.members.lock().remove(&id).unwrap();
        for task in &member.tasks {
            task.abort();
        }
    }
}

#[tokio::test]
async fn a_dead_gate_is_told_of_once_and_its_logins_count_no_longer_than_its_lease() {
    let site = Site::start(3).await;
    let here = site.bus().await;
    let there = site.bus().await;
    let two = gates(&here, one().refuse(), &["a", "b"]).await;
    let other = gates(&there, one().refuse(), &["c"]).await;
    let (_c1, ann) = guest(&other[0]).await;
    ann.bind(user_id("ann")).await.unwrap();
    let (_c2, again) = guest(&two[0]).await;
    let refused = again.bind(user_id("ann")).await;
    assert_eq!(refused.unwrap_err(), GateError::TooManyLogins);
    there.kill("c").await;
    let died = Instant::now();
    let took = eventually("the dead gate's login is none any more", async || {
        let bound = again.bind(user_id("ann")).await;
        bound.ok().map(|_| died.elapsed())
    })
    .await;
    println!(
        "a dead gate's login counted for {took:?}; lease {:?}",
        site.lease
    );
    until("it is told", || !here.gone.lock().is_empty()).await;
    eventually("its records are cleaned", async || {
        let logins = here.record("ann").await.logins;
        (logins.len() == 1 && logins[0].session == again.id()).then_some(())
    })
    .await;
    let found = here.member("a").gates_of(&[user_id("ann")]).await.unwrap();
    assert_eq!(found.keys().map(|g| &**g).collect::<Vec<_>>(), ["a"]);
    // Both that live had the time to tell.
    tokio::time::sleep(site.lease).await;
    let gone = here.gone.lock().clone();
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert_eq!(&*gone[0].gate, "c");
    join_all(two.into_iter().map(RunningGate::stop)).await;
    drop(other);
}

#[tokio::test]
async fn a_second_gate_with_a_live_ones_id_does_not_start() {
    let site = Site::start(10).await;
    let here = site.bus().await;
    let there = site.bus().await;
    let first = gates(&here, one(), &["a"]).await;
    let second = builder(&there, "a").start().await;
    let error = second.err().unwrap().to_string();
    assert_eq!(error, "gate a is registered already");
    let (_c, ann) = guest(&first[0]).await;
    ann.bind(user_id("ann")).await.unwrap();
    join_all(first.into_iter().map(RunningGate::stop)).await;
    // Once it has stopped, the id is free.
    let second = builder(&there, "a").start().await.unwrap();
    second.stop().await;
}

#[tokio::test]
async fn of_many_that_want_one_id_at_the_same_time_one_has_it() {
    let site = Site::start(10).await;
    for round in 0..20 {
        let buses = join_all((0..3).map(|_| site.bus())).await;
        let id = format!("gate-{round}");
        let starts = buses.iter().map(|bus| builder(bus, &id).start());
        let started: Vec<_> = join_all(starts).await;
        let started: Vec<_> = started.into_iter().filter_map(Result::ok).collect();
        assert!(started.len() <= 1, "{} in round {round}", started.len());
        let held = buses.iter().flat_map(|bus| {
            let members = bus.members.lock();
            members
                .values()
                .map(|m| m.lease.is_held())
                .collect::<Vec<_>>()
        });
        assert_eq!(held.filter(|held| *held).count(), started.len());
        join_all(started.into_iter().map(RunningGate::stop)).await;
    }
}

#[tokio::test]
async fn a_claim_that_another_overtook_is_not_confirmed() {
    let site = Site::start(10).await;
    let bus = site.bus().await;
    let gate = GateInfo {
        id: GateId::new("a").unwrap(),
        version: String::new(),
        metadata: Default::default(),
    };
    let reach = Arc::new(TestReach(bus.clone()));
    let client = current(&bus.client);
    let first = Membership::begin(client, &bus.options, gate, reach).await;
    let first = first.unwrap();
    // It does not answer yet: another finds nobody.
    let second = claim_over(&bus, "a").await;
    let error = first.confirm().await.unwrap_err();
    assert_eq!(error, BusError::Taken("gate a".into()));
    second.confirm().await.unwrap();
}

#[tokio::test]
async fn a_gate_that_was_killed_starts_again_at_once_with_its_id() {
    let site = Site::start(10).await;
    let here = site.bus().await;
    let there = site.bus().await;
    let again = site.bus().await;
    let observer = gates(&here, one().refuse(), &["a"]).await;
    let first = gates(&there, one().refuse(), &["b"]).await;
    let (_c1, ann) = guest(&first[0]).await;
    ann.bind(user_id("ann")).await.unwrap();
    there.kill("b").await;
    // Its process is gone, and its connection.
    there.client.drain().await.unwrap();
    let began = Instant::now();
    let second = gates(&again, one().refuse(), &["b"]).await;
    println!(
        "a killed gate was back after {:?}; lease {:?}",
        began.elapsed(),
        site.lease
    );
    // What it had is over: nobody waits for a lease.
    let (_c2, ann) = guest(&second[0]).await;
    ann.bind(user_id("ann")).await.unwrap();
    until("it is told", || {
        here.gone.lock().len() + again.gone.lock().len() > 0
    })
    .await;
    join_all(second.into_iter().map(RunningGate::stop)).await;
    let told = here.gone.lock().len() + again.gone.lock().len();
    assert_eq!(told, 1);
    join_all(observer.into_iter().map(RunningGate::stop)).await;
    drop(first);
}

#[tokio::test]
async fn a_gate_whose_id_another_has_taken_serves_nobody() {
    let site = Site::start(2).await;
    let here = site.bus().await;
    let there = site.bus().await;
    let first = gates(&here, one(), &["a"]).await;
    let (_c1, ann) = guest(&first[0]).await;
    ann.bind(user_id("ann")).await.unwrap();
    assert!(first[0].gate().is_ready());
    // It cannot answer the other, as one that is cut off or stands still.
    let member = here.member("a");
    let standing = member.lease.standing();
    let claimed = claim_over(&there, "a").await;
    until("it finds its id taken", || standing.borrow().superseded).await;
    until("its clients are told to go", || {
        ann.connected() == Connected::Gone && !first[0].gate().is_ready()
    })
    .await;
    let (_c2, late) = (duplex(64), ann);
    assert_eq!(
        late.bind(user_id("bob")).await.unwrap_err(),
        GateError::SessionGone
    );
    assert!(!member.lease.is_held());
    assert!(claimed.is_held());
    join_all(first.into_iter().map(RunningGate::stop)).await;
    // The one that lost it has not given it up for the other.
    claimed.confirm().await.unwrap();
}

/// A gate takes the id though another has it.
async fn claim_over(bus: &Arc<Joined>, id: &str) -> Arc<Lease> {
    let options = BucketOptions {
        prefix: &bus.options.prefix,
        name: "gates",
        about: "",
        max_age: Some(bus.options.lease),
        max_value: MAX_LEASE,
        replicas: 1,
    };
    let bucket = Bucket::open(current(&bus.client), options).await.unwrap();
    let gate = GateInfo {
        id: GateId::new(id).unwrap(),
        version: String::new(),
        metadata: Default::default(),
    };
    let nobody = std::future::ready(false);
    let (lease, before) = Lease::claim(bucket, gate, bus.options.lease, nobody)
        .await
        .unwrap();
    assert!(before.is_some());
    lease
}

#[tokio::test]
async fn when_nats_is_down_for_all_nobody_dies_and_all_goes_on_after() {
    let mut site = Site::start(2).await;
    let here = site.bus().await;
    let there = site.bus().await;
    let mut all = gates(&here, one().refuse(), &["a", "b"]).await;
    all.extend(gates(&there, one().refuse(), &["c"]).await);
    let mut sessions = Vec::new();
    let mut clients = Vec::new();
    for (i, gate) in all.iter().enumerate() {
        for k in 0..10 {
            let (client, session) = guest(gate).await;
            session
                .bind(user_id(&format!("user-{i}-{k}")))
                .await
                .unwrap();
            sessions.push(session);
            clients.push(client);
        }
    }
    site.server.kill();
    // Longer than the lease: all of them lapse.
    tokio::time::sleep(site.lease * 3).await;
    assert_eq!(live(&sessions), sessions.len());
    site.server.restart().await;
    let members = [here.member("a"), here.member("b"), there.member("c")];
    until("all have their leases again", || {
        members.iter().all(|m| m.lease.is_held())
    })
    .await;
    // Whoever were to be judged dead would be by then.
    tokio::time::sleep(site.lease * 2).await;
    assert_eq!(live(&sessions), sessions.len());
    assert!(here.gone.lock().is_empty() && there.gone.lock().is_empty());
    for (i, member) in members.iter().enumerate() {
        assert_eq!(member.live_gates().len(), 3);
        let users: Vec<_> = (0..10).map(|k| user_id(&format!("user-{i}-{k}"))).collect();
        let found = members[(i + 1) % 3].gates_of(&users).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found.values().next().unwrap().len(), 10, "{found:?}");
    }
    // The old logins stand in the way of new ones as before.
    let (_c, late) = guest(&all[2]).await;
    let refused = late.bind(user_id("user-0-0")).await;
    assert_eq!(refused.unwrap_err(), GateError::TooManyLogins);
    join_all(all.into_iter().map(RunningGate::stop)).await;
}

#[tokio::test]
async fn when_the_records_are_lost_the_gates_write_them_again() {
    let site = Site::start(2).await;
    let bus = site.bus().await;
    let all = gates(&bus, one().refuse(), &["a", "b"]).await;
    let (_c, ann) = guest(&all[0]).await;
    ann.bind(user_id("ann")).await.unwrap();
    let jetstream = async_nats::jetstream::new(site.client().await);
    // The lease is over for the servers, though the gate lives.
    jetstream.delete_stream("KV_tidegate-gates").await.unwrap();
    let member = bus.member("a");
    eventually("there are leases again", async || {
        member.confirm().await.ok()
    })
    .await;
    assert_eq!(ann.connected(), Connected::Attached);
    join_all(all.into_iter().map(RunningGate::stop)).await;
}

/// Cut off for longer than the lease, a gate keeps its clients; who logged in elsewhere
/// meanwhile has the place.
#[tokio::test]
async fn a_gate_that_was_cut_off_enters_its_logins_again_and_takes_no_place_back() {
    for logins in [one(), one().refuse()] {
        let site = Site::start(2).await;
        let proxy = tidegate_test_servers::Proxy::start(site.server.address());
        let here = site.bus().await;
        let cut = site.bus_at(&format!("nats://{}", proxy.address())).await;
        let near = gates(&here, logins, &["a"]).await;
        let far = gates(&cut, logins, &["b"]).await;
        let (_c1, ann) = guest(&far[0]).await;
        let (_c2, bob) = guest(&far[0]).await;
        ann.bind(user_id("ann")).await.unwrap();
        bob.bind(user_id("bob")).await.unwrap();
        proxy.hold();
        let (_c3, ann_again) = guest(&near[0]).await;
        until("the gate that is cut off is dead for the other", || {
            !here.gone.lock().is_empty()
        })
        .await;
        ann_again.bind(user_id("ann")).await.unwrap();
        assert_eq!(live(&[ann.clone(), bob.clone()]), 2, "clients stay");
        proxy.release();
        until("the one that was replaced is closed", || {
            ann.connected() == Connected::Gone
        })
        .await;
        let b = GateId::new("b").unwrap();
        eventually("the other is in the records again", async || {
            let found = here.member("a").gates_of(&[user_id("bob")]).await.ok()?;
            found.contains_key(&b).then_some(())
        })
        .await;
        assert_eq!(live(&[ann_again, bob]), 2);
        join_all(near.into_iter().chain(far).map(RunningGate::stop)).await;
    }
}
