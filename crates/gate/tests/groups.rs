//! Groups: joining, leaving, limits, sends, and what remains when sessions end.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::*;
use tidegate::bus::GateError;
use tidegate::{GateLimits, GroupName, LocalSession, RunningGate};

fn group(name: &str) -> GroupName {
    GroupName::new(name).unwrap()
}

fn members(gate: &RunningGate, name: &str) -> usize {
    gate.gate().group_sessions(&group(name)).len()
}

#[tokio::test(start_paused = true)]
async fn a_send_to_a_group_reaches_its_members_only() {
    let gate = builder().start().await.unwrap();
    let (mut a, one) = join(&gate).await;
    let (mut b, two) = join(&gate).await;
    let (mut c, _) = join(&gate).await;
    for session in [&one, &two] {
        as_service(&gate, session).join("room").await.unwrap();
    }
    // Being in it already is no error, and does not make it two.
    as_service(&gate, &one).join("room").await.unwrap();
    let clients = gate.gate().clients();
    assert_eq!(clients.to_group("room").count().await, Ok(2));
    let mut ids: Vec<_> = clients.to_group("room").members().await.unwrap();
    ids.sort_by_key(|s| s.id);
    let mut expected = [one.id(), two.id()];
    expected.sort();
    assert_eq!(ids.iter().map(|s| s.id).collect::<Vec<_>>(), expected);
    let sent = clients.to_group("room").send("say", "hi").await.unwrap();
    assert_eq!(sent.taken(), 2);
    for client in [&mut a, &mut b] {
        assert_eq!(client.recv().await, ("say".into(), "hi".into()));
    }
    as_service(&gate, &two).leave("room").await.unwrap();
    as_service(&gate, &two).leave("room").await.unwrap();
    let sent = gate
        .gate()
        .send_to_group(group("room"), packet("say", "2"))
        .await;
    assert_eq!(sent.unwrap().taken(), 1);
    assert_eq!(a.recv().await.1, "2");
    let sent = clients.to_group("nobody").send("say", "3").await.unwrap();
    assert_eq!(sent.taken(), 0);
    // The next that the others get is their own answer.
    for client in [&mut b, &mut c] {
        assert_eq!(client.ask("echo/echo/1", "x").await, "x");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_in_so_many_groups_and_no_more() {
    let mut limits = GateLimits::default();
    limits.max_groups_per_session = 2;
    let gate = builder().gate_limits(limits).start().await.unwrap();
    let (_client, local) = join(&gate).await;
    let session = as_service(&gate, &local);
    session.join("a").await.unwrap();
    session.join("b").await.unwrap();
    assert_eq!(session.join("c").await, Err(GateError::TooMany("groups")));
    session.join("a").await.unwrap();
    assert_eq!(members(&gate, "c"), 0);
    session.leave("a").await.unwrap();
    session.join("c").await.unwrap();
    let mut groups: Vec<_> = local.groups().iter().map(|g| g.to_string()).collect();
    groups.sort();
    assert_eq!(groups, ["b", "c"]);
    for bad in ["", "a\rb", &"g".repeat(129)] {
        assert!(matches!(session.join(bad).await, Err(GateError::Name(_))));
    }
    session.leave("b").await.unwrap();
    session.join("g".repeat(128)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_is_in_no_group() {
    let gate = builder().start().await.unwrap();
    let (a, one) = join(&gate).await;
    let (_b, two) = join(&gate).await;
    let enter = |session: &LocalSession, names: &[&str]| {
        for name in names {
            session.join(group(name)).unwrap();
        }
    };
    enter(&one, &["x", "y"]);
    enter(&two, &["y"]);
    drop(a);
    until("it has ended", || gate.gate().session_count() == 1).await;
    until("it is out", || members(&gate, "x") == 0).await;
    until("it is out", || members(&gate, "y") == 1).await;
    assert_eq!(one.join(group("z")), Err(GateError::SessionGone));
    assert_eq!(members(&gate, "z"), 0);
    // One that is being closed takes no group either.
    assert!(two.close(tidegate::CloseReason::Kicked));
    assert_eq!(two.join(group("z")), Err(GateError::SessionGone));
    gate.stop().await;
}
