//! Sessions: users, settings, the store, and what remains of them when they end.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::time::Duration;

use futures_util::FutureExt;
use harness::*;
use tidegate::bus::{Connected, GateError, SessionOp};
use tidegate::{Gate, GateLimits, Network, RunningGate};
use tokio::sync::Semaphore;
use tokio::time::{advance, sleep};

async fn start(store: &TestStore) -> RunningGate {
    builder().store(store.clone()).start().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn bind_takes_stored_settings_in_and_own_keys_win() {
    let store = TestStore::default();
    store.put("u1", settings([("name", "stored"), ("level", "7")]));
    let gate = start(&store).await;
    let (_client, local) = join(&gate).await;
    let session = as_service(&gate, &local);
    session.set("name", "own").await.unwrap();
    assert!(store.log.all().is_empty(), "a guest is not stored");
    assert!(session.is_guest());
    session.bind("u1").await.unwrap();
    let all = settings([("name", "own"), ("level", "7")]);
    assert_eq!(session.settings(), all);
    assert_eq!(local.settings(), all);
    assert_eq!(local.user(), Some(user("u1")));
    assert_eq!(store.kept("u1"), Some(all));
    assert_eq!(store.log.all(), ["query u1", "save u1"]);
    // Bound to the same user already: no error, and nothing to do.
    session.bind("u1").await.unwrap();
    assert_eq!(store.log.all().len(), 2);
    assert_eq!(
        gate.gate()
            .clients()
            .presence(&[user("u1"), user("u2")])
            .await
            .unwrap(),
        [vec![local.id()], vec![]]
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_of_another_user_is_refused_until_unbound() {
    let store = TestStore::default();
    let gate = start(&store).await;
    let (_client, local) = join(&gate).await;
    let session = as_service(&gate, &local);
    session.bind("u1").await.unwrap();
    session.set("k", "v").await.unwrap();
    store.log.clear();
    assert_eq!(session.bind("u2").await, Err(GateError::BoundToAnother));
    assert_eq!(local.user(), Some(user("u1")));
    assert!(store.log.all().is_empty());
    session.unbind().await.unwrap();
    assert!(session.is_guest() && local.is_guest());
    assert_eq!(local.get("k").as_deref(), Some("v"), "settings stay");
    assert!(store.kept("u1").is_some(), "the store keeps the user's");
    assert!(gate.gate().user_sessions(&user("u1")).is_empty());
    session.set("k", "w").await.unwrap();
    assert!(store.log.all().is_empty(), "unbound: not stored");
    session.bind("u2").await.unwrap();
    assert_eq!(gate.gate().user_sessions(&user("u2")).len(), 1);
    assert_eq!(store.kept("u1"), Some(settings([("k", "v")])));
    assert_eq!(store.kept("u2"), Some(settings([("k", "w")])));
}

#[tokio::test(start_paused = true)]
async fn each_change_of_a_bound_session_is_saved() {
    let store = TestStore::default();
    let gate = start(&store).await;
    let (_client, local) = join(&gate).await;
    let session = as_service(&gate, &local);
    session.bind("u1").await.unwrap();
    session.set("a", "1").await.unwrap();
    assert_eq!(store.kept("u1"), Some(settings([("a", "1")])));
    session.set_batch([("b", "2"), ("c", "3")]).await.unwrap();
    assert_eq!(store.kept("u1").unwrap().len(), 3);
    session.del("b").await.unwrap();
    session.del("absent").await.unwrap();
    let left = settings([("a", "1"), ("c", "3")]);
    assert_eq!(store.kept("u1"), Some(left.clone()));
    // Local changes travel with `push` only, which leaves other keys alone.
    let other = as_service(&gate, &local);
    other.set("d", "4").await.unwrap();
    session.set_local("a", "9").unwrap();
    assert_eq!(session.get("a").as_deref(), Some("9"));
    assert_eq!(store.kept("u1").unwrap().get("a"), Some("1"));
    assert_eq!(
        session.get("d"),
        None,
        "a snapshot is not updated by itself"
    );
    session.push().await.unwrap();
    let all = settings([("a", "9"), ("c", "3"), ("d", "4")]);
    assert_eq!(store.kept("u1"), Some(all.clone()));
    assert_eq!(session.settings(), all);
    session.replace(settings([("z", "0")])).await.unwrap();
    assert_eq!(store.kept("u1"), Some(settings([("z", "0")])));
    other.update().await.unwrap();
    assert_eq!(other.settings(), settings([("z", "0")]));
    // What is imported does not win over what is there.
    let more = settings([("z", "1"), ("y", "2")]);
    other.import_local(&more).unwrap();
    assert_eq!(other.settings(), settings([("z", "0"), ("y", "2")]));
    assert!(other.remove_local("y") && !other.remove_local("y"));
    other.replace_local(left.clone());
    other.set_user_local(Some(user("17")));
    assert_eq!(other.user_u64(), Some(17));
    let copy = other.clone();
    copy.set_user_local(None);
    assert!(
        copy.is_guest() && !other.is_guest(),
        "a clone is of its own"
    );
    assert_eq!(local.user(), Some(user("u1")));
    assert_eq!(store.log.all().len(), 2 + 7);
}

#[tokio::test(start_paused = true)]
async fn bounds_are_kept_and_after_an_error_nothing_has_changed() {
    let store = TestStore::default();
    let gate = start(&store).await;
    let (_client, local) = join(&gate).await;
    let session = as_service(&gate, &local);
    let (half, most) = ("x".repeat(8 * 1024), "x".repeat(16 * 1024 - 1));
    session.set("a", most.clone()).await.unwrap();
    let more = session.set("b", "").await;
    assert!(matches!(more, Err(GateError::Settings(_))), "{more:?}");
    assert_eq!(local.settings().len(), 1);
    session.replace(settings([("h", &*half)])).await.unwrap();
    // Both together exceed the bound: not bound, and the store keeps what it had.
    store.put("u1", settings([("i", &*half)]));
    let bound = session.bind("u1").await;
    assert!(matches!(bound, Err(GateError::Settings(_))), "{bound:?}");
    assert!(local.is_guest() && local.settings().get("i").is_none());
    assert_eq!(store.kept("u1"), Some(settings([("i", &*half)])));
    for bad in ["", "a\nb", &"u".repeat(257)] {
        let bound = session.bind(bad).await;
        assert!(matches!(bound, Err(GateError::Name(_))), "{bound:?}");
    }
    session.bind("u".repeat(256)).await.unwrap();
    session.unbind().await.unwrap();
    session.bind(42).await.unwrap();
    assert_eq!(
        (session.user_u64(), local.user()),
        (Some(42), Some(user("42")))
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_an_error_and_changes_nothing() {
    let store = TestStore::default();
    let gate = start(&store).await;
    let (_client, local) = join(&gate).await;
    let session = as_service(&gate, &local);
    for mood in [Mood::Fails, Mood::Panics, Mood::Waits(Latch::new())] {
        store.mood("u1", Some(mood));
        let bound = session.bind("u1").await;
        assert!(matches!(bound, Err(GateError::Store(_))), "{bound:?}");
        assert!(local.is_guest());
        assert!(gate.gate().user_sessions(&user("u1")).is_empty());
    }
    store.mood("u1", None);
    session.bind("u1").await.unwrap();
    store.mood("u1", Some(Mood::Fails));
    let set = session.set("a", "1").await;
    assert!(matches!(set, Err(GateError::Store(_))), "{set:?}");
    assert_eq!(local.get("a"), None);
    assert_eq!(gate.gate().stats().store_errors, 4);
    // The gate can still be left.
    session.unbind().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_delays_its_own_session_only() {
    let store = TestStore::default();
    let gate = start(&store).await;
    let (_slow, slow) = join(&gate).await;
    let (mut client, quick) = join(&gate).await;
    let latch = Latch::new();
    store.mood("slow", Some(Mood::Waits(latch.clone())));
    let binding = tokio::spawn({
        let slow = as_service(&gate, &slow);
        async move { slow.bind("slow").await }
    });
    store.log.wait(1).await;
    as_service(&gate, &quick).bind("quick").await.unwrap();
    assert_eq!(client.ask("echo/echo/1", "x").await, "x");
    assert!(slow.is_guest());
    latch.open(2);
    within("the bind", binding).await.unwrap().unwrap();
    assert_eq!(slow.user(), Some(user("slow")));
}

#[tokio::test(start_paused = true)]
async fn changes_take_effect_in_the_order_they_were_handed_in() {
    let store = TestStore::default();
    let gate = start(&store).await;
    let (_client, local) = join(&gate).await;
    let latch = Latch::new();
    store.mood("u1", Some(Mood::Waits(latch.clone())));
    let op = |op| gate.gate().apply(local.id(), op);
    let bind = op(SessionOp::Bind(user("u1"), None));
    let one = op(SessionOp::Set(settings([("k", "1")])));
    let two = op(SessionOp::Set(settings([("k", "2")])));
    latch.open(4);
    // Asked for the other way round.
    let (two, one, bind) = tokio::join!(two, one, bind);
    for done in [bind, one, two] {
        done.unwrap();
    }
    assert_eq!(local.get("k").as_deref(), Some("2"));
    assert_eq!(store.kept("u1"), Some(settings([("k", "2")])));
}

#[tokio::test(start_paused = true)]
async fn two_sessions_of_one_user() {
    let gate = builder().start().await.unwrap();
    let (mut a, one) = join(&gate).await;
    let (mut b, two) = join(&gate).await;
    let (mut c, _) = join(&gate).await;
    for session in [&one, &two] {
        as_service(&gate, session).bind("u1").await.unwrap();
    }
    let clients = gate.gate().clients();
    let sent = clients.to_user("u1").send("note", "hi").await.unwrap();
    assert_eq!((sent.taken(), sent.attached), (2, 2));
    for client in [&mut a, &mut b] {
        assert_eq!(client.recv().await, ("note".into(), "hi".into()));
    }
    drop(a);
    until("one is left", || {
        gate.gate().user_sessions(&user("u1")).len() == 1
    })
    .await;
    let sent = gate
        .gate()
        .send_to_user(user("u1"), packet("note", "2"))
        .await
        .unwrap();
    assert_eq!(sent.taken(), 1);
    assert_eq!(b.recv().await.1, "2");
    assert_eq!(clients.to_user("u1").close().await, Ok(1));
    b.closed().await;
    assert_eq!(clients.to_user("u1").close().await, Ok(0));
    let sent = clients.to_user("u1").send("note", "3").await.unwrap();
    assert_eq!(sent.taken(), 0);
    drop(b);
    until("none is left", || {
        gate.gate().user_sessions(&user("u1")).is_empty()
    })
    .await;
    assert_eq!(c.ask("echo/echo/1", "x").await, "x");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_while_it_is_being_bound_leaves_nothing_behind() {
    let store = TestStore::default();
    let log = Log::default();
    let ended = log.clone();
    let gate = builder()
        .store(store.clone())
        .on_ended(move |session, _| {
            let ended = ended.clone();
            async move { ended.add(format!("ended, user {:?}", session.user())) }
        })
        .start()
        .await
        .unwrap();
    // While the query waits, and while the save waits.
    for permits in [0, 1] {
        log.clear();
        store.log.clear();
        let (client, local) = join(&gate).await;
        let latch = Latch::new();
        store.mood("u1", Some(Mood::Waits(latch.clone())));
        latch.open(permits);
        let binding = tokio::spawn({
            let session = as_service(&gate, &local);
            async move { session.bind("u1").await }
        });
        store.log.wait(1 + permits).await;
        drop(client);
        until("it is gone", || gate.gate().session_count() == 0).await;
        assert_eq!(local.connected(), Connected::Gone);
        latch.open(2);
        let bound = within("the bind", binding).await.unwrap();
        assert_eq!(bound, Err(GateError::SessionGone));
        assert_eq!(log.wait(1).await, ["ended, user None"]);
        assert!(gate.gate().user_sessions(&user("u1")).is_empty());
        assert_eq!(Gate::memory_used(gate.gate()), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_gone_answers_so_to_everything() {
    let store = TestStore::default();
    let gate = start(&store).await;
    let (client, local) = join(&gate).await;
    let session = as_service(&gate, &local);
    assert_eq!(session.connected().await, Ok(Connected::Attached));
    drop(client);
    until("it is gone", || gate.gate().session_count() == 0).await;
    let gone = Err(GateError::SessionGone);
    assert_eq!(session.connected().await, Ok(Connected::Gone));
    assert_eq!(session.update().await, gone);
    assert_eq!(session.bind("u1").await, gone);
    assert_eq!(session.unbind().await, gone);
    assert_eq!(session.set("a", "b").await, gone);
    assert_eq!(session.del("a").await, gone);
    assert_eq!(session.push().await, gone);
    assert_eq!(session.replace(settings([])).await, gone);
    assert_eq!(session.send("t", "b").await, gone);
    let second = Duration::from_secs(1);
    assert_eq!(session.send_wait("t", "b", second).await, gone);
    assert_eq!(session.close().await, gone);
    assert_eq!(session.join("g").await, gone);
    assert_eq!(session.leave("g").await, gone);
    assert_eq!(session.bind_instance("s", "i").await, gone);
    assert_eq!(session.unbind_instance("s").await, gone);
    // What the gate's own code holds of it says the same.
    assert_eq!(local.send(packet("t", "b")), gone);
    assert_eq!(local.bind(user("u1")).await.err(), gone.clone().err());
    assert!(!local.close(tidegate::CloseReason::Kicked));
    assert!(gate.gate().session(local.id()).is_none());
    assert!(store.log.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_session_tells_of_itself() {
    struct Kept(u32);
    let gate = builder()
        .on_started(async |session: tidegate::LocalSession| {
            session.set_local_data(Kept(5));
            Ok(())
        })
        .gate_limits(GateLimits::default())
        .start()
        .await
        .unwrap();
    let (mut client, local) = join(&gate).await;
    assert_eq!(client.ask("echo/echo/1", "x").await, "x");
    let session = as_service(&gate, &local);
    assert_eq!(session.id(), local.id());
    assert_eq!(
        (session.gate(), local.gate_id().as_str()),
        (local.gate_id().clone(), "g1")
    );
    assert_eq!((session.ip(), local.ip()), (peer().ip(), peer().ip()));
    assert_eq!(
        (session.network(), local.network()),
        (Network::Tcp, Network::Tcp)
    );
    assert_eq!(
        (session.trace_id(), session.span_id()),
        (local.trace_id(), 7)
    );
    assert_ne!(local.trace_id(), 0);
    assert_eq!(local.local_data::<Kept>().unwrap().0, 5);
    assert!(local.local_data::<u32>().is_none());
    assert!(!local.snapshot().encode().windows(4).any(|w| w == b"Kept"));
    assert_eq!((local.packets_received(), local.packets_sent()), (1, 1));
    assert_eq!(&*local.listener(), "memory");
    assert_eq!(local.last_error(), None);
    let (began, age) = (local.opened_at(), local.age());
    advance(Duration::from_secs(2)).await;
    sleep(Duration::from_millis(100)).await;
    assert!(local.age() >= age + Duration::from_secs(2));
    assert!(local.opened_at() <= began);
    assert_eq!(
        (gate.gate().session_count(), gate.gate().connection_count()),
        (1, 1)
    );
    assert_eq!(gate.gate().clients().count().await, Ok((1, 1)));
}

/// A runtime tells a task that has done much in its turn to wait, even for what is free: an
/// operation must have its place in line all the same.
#[tokio::test]
async fn operations_keep_their_order_however_much_the_caller_has_done_before() {
    let gate = builder().start().await.unwrap();
    let (_client, session) = join(&gate).await;
    let (bus, id) = (gate.gate().bus(), session.id());
    let set = |value| {
        let pairs = settings([("a", value)]);
        bus.session(gate.gate().id(), id, SessionOp::Set(pairs))
    };
    let free = Semaphore::new(1);
    let mut ready = 0;
    while free.acquire().now_or_never().is_some() {
        ready += 1;
        assert!(ready < 100_000, "this runtime never tells a task to wait");
    }
    let (first, second) = (set("1"), set("2"));
    let second = tokio::spawn(second);
    let first = tokio::spawn(first);
    assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
    assert_eq!(session.snapshot().settings.get("a"), Some("2"));
}
