//! Each operation, from a plain NATS client and from the kit.

use serde_json::{Value, json};
use tidegate::bus::Connected;
use tidegate::{GroupName, Snapshot};

use crate::harness::{echo, join, settings, user};
use crate::support::bench_with;

const TOPIC: &str = "Tidegate-Topic";

#[tokio::test]
async fn plain_nats_clients_do_all_there_is_to_sessions() {
    let bench = bench_with(|gate| gate.service(echo("chat"))).await;
    let (mut client, session) = join(&bench.gate).await;
    let plain = bench.plain().await;
    let id = session.id();
    let ask = async |op: &str, body: Value| {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        plain.ask(op, id, &[], body).await
    };
    let loaded = ask("load", Value::Null).await;
    assert_eq!(Snapshot::decode(&loaded.body).unwrap(), *session.snapshot());

    let bound = ask("bind", json!({"user": "ada", "device": "phone"}))
        .await
        .json();
    assert_eq!(
        (&bound["user"], &bound["device"]),
        (&json!("ada"), &json!("phone"))
    );
    assert_eq!(session.user(), Some(user("ada")));
    let set = ask("set", json!({"a": "1", "b": "2"})).await.json();
    assert_eq!(set["settings"], json!({"a": "1", "b": "2"}));
    let deleted = ask("del", json!({"key": "a"})).await.json();
    assert_eq!(deleted["settings"], json!({"b": "2"}));
    let replaced = ask("replace", json!({"c": "\u{e9}\u{1f30a}"})).await;
    assert_eq!(replaced.json()["settings"], json!({"c": "\u{e9}\u{1f30a}"}));
    assert_eq!(
        session.snapshot().settings,
        settings([("c", "\u{e9}\u{1f30a}")])
    );
    let unbound = ask("unbind", Value::Null).await.json();
    assert_eq!(unbound.get("user"), None);
    assert!(session.user().is_none());

    ask("join", json!({"group": "room 7"})).await.is_done();
    let group = GroupName::new("room 7").unwrap();
    let members = || bench.gate.gate().group_sessions(&group).len();
    assert_eq!(members(), 1);
    ask("leave", json!({"group": "room 7"})).await.is_done();
    assert_eq!(members(), 0);
    let to = json!({"service": "chat", "instance": "chat-1"});
    ask("bind-instance", to).await.is_done();
    ask("unbind-instance", json!({"service": "chat"}))
        .await
        .is_done();

    let sent = plain.ask("send", id, &[(TOPIC, "chat/%C3%A9")], &b"\xff\0 raw"[..]);
    sent.await.is_done();
    let fields = [(TOPIC, "b"), ("Tidegate-Deadline-Ms", "1000")];
    plain.ask("send-wait", id, &fields, "waits").await.is_done();
    assert_eq!(
        client.recv().await,
        ("chat/\u{e9}".to_owned(), b"\xff\0 raw"[..].into())
    );
    assert_eq!(client.recv().await, ("b".to_owned(), "waits".into()));
    let connected = ask("connected", Value::Null).await.json();
    assert_eq!(connected, json!({"connected": "attached"}));
    ask("close", Value::Null).await.is_done();
    client.closed().await;
    let connected = ask("connected", Value::Null).await.json();
    assert_eq!(connected, json!({"connected": "gone"}));
}

#[tokio::test]
async fn the_kit_does_all_there_is_to_sessions_of_other_processes() {
    let bench = bench_with(|gate| gate.service(echo("chat"))).await;
    let (mut client, session) = join(&bench.gate).await;
    let there = bench.kit(&session).await;
    there.update().await.unwrap();
    assert_eq!(there.snapshot(), session.snapshot());
    there.bind_device("ada", "phone").await.unwrap();
    there.set_batch([("a", "1"), ("b", "2")]).await.unwrap();
    there.del("a").await.unwrap();
    assert_eq!(session.snapshot().settings, settings([("b", "2")]));
    there.replace(settings([("c", "3")])).await.unwrap();
    assert_eq!(there.snapshot(), session.snapshot());
    assert_eq!(there.get("c").as_deref(), Some("3"));
    there.unbind().await.unwrap();
    assert!(session.user().is_none());
    let handle = there.handle();
    handle.join("room").await.unwrap();
    handle.leave("room").await.unwrap();
    handle.send("a", "1").await.unwrap();
    handle
        .send_wait("b", "2", std::time::Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(client.recv().await.0, "a");
    assert_eq!(client.recv().await.0, "b");
    assert_eq!(handle.connected().await.unwrap(), Connected::Attached);
    handle.close().await.unwrap();
    client.closed().await;
    assert_eq!(handle.connected().await.unwrap(), Connected::Gone);
}

#[tokio::test]
async fn a_gate_tells_who_it_is() {
    let bench = bench_with(|gate| gate).await;
    let plain = bench.plain().await;
    for subject in ["tidegate.gate.g1.node.ping", "tidegate.gates.ping"] {
        let gate = plain.request(subject.to_owned(), &[], "").await.json();
        assert_eq!(gate["gate"], "g1", "{subject}");
    }
    let fence = plain
        .request("tidegate.gates.fence".to_owned(), &[], "")
        .await;
    fence.is_done();
    let (_client, _session) = join(&bench.gate).await;
    let count = "tidegate.gate.g1.node.count".to_owned();
    let count = plain.request(count, &[], "").await.json();
    assert_eq!(count, json!({"sessions": 1, "connections": 1}));
}
