//! One request for many sessions.

use serde_json::{Value, json};
use tidegate::{LocalSession, SessionId};

use crate::harness::{Client, join, packet, settings};
use crate::support::{Bench, Plain, bench, headers};

async fn sessions(bench: &Bench, n: usize) -> Vec<(Client, LocalSession)> {
    let mut sessions = Vec::new();
    for _ in 0..n {
        sessions.push(join(&bench.gate).await);
    }
    sessions
}

fn ids(ids: impl IntoIterator<Item = SessionId>) -> String {
    let ids: Vec<_> = ids.into_iter().map(|id| id.to_string()).collect();
    ids.join(",")
}

async fn many(plain: &Plain, op: &str, ids: &str, topic: &str, body: &str) -> Value {
    let fields = [("Tidegate-Sessions", ids), ("Tidegate-Topic", topic)];
    let subject = format!("tidegate.gate.g1.many.{op}");
    plain
        .request(subject, &fields, body.to_owned())
        .await
        .json()
}

#[tokio::test]
async fn each_session_gets_its_operation_and_each_has_a_result() {
    let bench = bench().await;
    let plain = bench.plain().await;
    let mut sessions = sessions(&bench, 3).await;
    let gone = SessionId(7);
    let of = |i: usize| sessions[i].1.id();
    let all = ids([of(0), gone, of(1), of(2), of(0)]);
    let sent = many(&plain, "send", &all, "a", "x").await;
    let error = &sent[1]["error"];
    assert_eq!(error, "session-gone", "{sent}");
    let ok = json!({"ok": true});
    assert_eq!([&sent[0], &sent[2], &sent[3], &sent[4]], [&ok; 4]);
    let set = many(&plain, "set", &all, "-", r#"{"a":"1"}"#).await;
    assert_eq!(set[2]["session"]["settings"], json!({"a": "1"}));
    assert_eq!(set[1]["error"], "session-gone");
    let connected = many(&plain, "connected", &all, "-", "").await;
    assert_eq!(connected[1], json!({"connected": "gone"}));
    assert_eq!(connected[3], json!({"connected": "attached"}));
    // The second close of one session finds it gone, or closing.
    let all_once = ids([of(0), of(1), of(2)]);
    let closed = many(&plain, "close", &all_once, "-", "").await;
    assert_eq!(closed, json!([ok, ok, ok]));
    for (i, (client, _)) in sessions.iter_mut().enumerate() {
        for _ in 0..if i == 0 { 2 } else { 1 } {
            assert_eq!(client.recv().await, ("a".to_owned(), "x".into()));
        }
        client.closed().await;
    }
}

#[tokio::test]
async fn a_long_list_of_results_comes_in_parts() {
    use futures_util::StreamExt as _;
    let bench = bench().await;
    let plain = bench.plain().await;
    let sessions = sessions(&bench, 100).await;
    for (i, (_, session)) in sessions.iter().enumerate() {
        let i = i.to_string();
        let large = settings([("i", i.as_str()), ("large", "x".repeat(16_000).as_str())]);
        session.set(large).await.unwrap();
    }
    let inbox = plain.0.new_inbox();
    let mut replies = plain.0.subscribe(inbox.clone()).await.unwrap();
    let all = ids(sessions.iter().map(|(_, session)| session.id()));
    let asked = plain.0.publish_with_reply_and_headers(
        "tidegate.gate.g1.many.load",
        inbox,
        headers(&[("Tidegate-Sessions", all.as_str())]),
        "".into(),
    );
    asked.await.unwrap();
    let mut results = Vec::new();
    let mut parts = 0;
    loop {
        let part = crate::harness::within("a part", replies.next())
            .await
            .unwrap();
        let more = part.headers.as_ref().and_then(|h| h.get("Tidegate-More"));
        let more = more.is_some_and(|more| more.as_str() == "1");
        let list: Vec<Value> = serde_json::from_slice(&part.payload).unwrap();
        assert!(part.payload.len() <= 600 * 1024);
        results.extend(list);
        parts += 1;
        if !more {
            break;
        }
    }
    assert!(parts > 1);
    assert_eq!(results.len(), sessions.len());
    for (i, result) in results.iter().enumerate() {
        assert_eq!(result["session"]["settings"]["i"], i.to_string());
    }
}

#[tokio::test]
async fn at_most_a_thousand_at_a_time() {
    let bench = bench().await;
    let plain = bench.plain().await;
    let subject = || "tidegate.gate.g1.many.connected".to_owned();
    let ask = async |n: u128| {
        let ids = ids((0..n).map(SessionId));
        plain
            .request(subject(), &[("Tidegate-Sessions", ids.as_str())], "")
            .await
    };
    assert_eq!(ask(1000).await.json().as_array().unwrap().len(), 1000);
    let (error, text) = ask(1001).await.failed();
    assert_eq!(error, "bad-request");
    assert!(text.contains("Tidegate-Sessions"), "{text}");
    let (error, _) = plain.request(subject(), &[], "").await.failed();
    assert_eq!(error, "bad-request");
}

#[tokio::test]
async fn a_change_of_many_waits_for_one_and_delays_nobody() {
    use crate::harness::{Latch, Mood, TestStore, user};
    use crate::support::bench_with;
    let store = TestStore::default();
    let bench = bench_with(|gate| gate.store(store.clone())).await;
    let plain = bench.plain().await;
    let mut sessions = sessions(&bench, 2).await;
    sessions[0].1.bind(user("ada")).await.unwrap();
    let latch = Latch::new();
    store.mood("ada", Some(Mood::Waits(latch.clone())));
    let all = ids(sessions.iter().map(|(_, session)| session.id()));
    let changed = tokio::spawn({
        let plain = bench.plain().await;
        async move { many(&plain, "set", &all, "-", r#"{"a":"1"}"#).await }
    });
    let (client, session) = &mut sessions[1];
    crate::harness::until("the second is changed", || {
        session.snapshot().settings.get("a") == Some("1")
    })
    .await;
    let topic = [("Tidegate-Topic", "beside")];
    plain.ask("send", session.id(), &topic, "").await.is_done();
    assert_eq!(client.recv().await.0, "beside");
    session.send(packet("b", "")).unwrap();
    assert!(!changed.is_finished());
    latch.open(1);
    let changed = changed.await.unwrap();
    assert_eq!(changed[0]["session"]["settings"], json!({"a": "1"}));
}
