//! What clients may call at all: `GateBuilder::expose`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::*;
use tidegate::service::{Service, Services};
use tidegate::{Bound, ErrorCode, Exposure, GateBuilder, Guests, Internal, RunningGate, Tcp};

/// A service whose methods are noted: for guests, for bound sessions, for nobody outside.
fn noted(name: &'static str, log: &Log) -> Service {
    let handler = |method: &'static str| {
        let log = log.clone();
        move |body: String| {
            log.add(format!("{name}/{method} {body}"));
            async move { body }
        }
    };
    let (left, relay) = (log.clone(), log.clone());
    Service::new(name)
        .request("ask", handler("ask"))
        .open_to(Guests)
        .one_way("tell", handler("tell"))
        .open_to(Guests)
        .request("bound", handler("bound"))
        .open_to(Bound)
        .request("internal", handler("internal"))
        .open_to(Internal)
        // Calls the other service, as services do.
        .request("relay", move |services: Services, body: String| {
            let log = relay.clone();
            async move {
                let answer = services.request("hidden", "ask", body).await;
                log.add(format!("relayed {}", answer.is_ok()));
                answer
            }
        })
        .open_to(Guests)
        .on_disconnect(move |_: tidegate::Session| {
            left.add(format!("{name} left"));
            async {}
        })
}

fn build(log: &Log, exposure: Option<Exposure>) -> GateBuilder {
    let gate = builder()
        .service(noted("shown", log))
        .service(noted("hidden", log));
    match exposure {
        None => gate,
        Some(exposure) => gate.expose(exposure),
    }
}

fn told(gate: &RunningGate) -> Client {
    connect_with(gate, Tcp::bind("x").v1_error_topic("error"), 256 * 1024)
}

/// What comes back for a packet, the topic left out: answers of different topics compare.
async fn answer(client: &mut Client, topic: &str) -> (String, serde_json::Value) {
    client.send(topic, "x").await;
    let (under, body) = client.recv().await;
    let mut body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["topic"], topic);
    body.as_object_mut().unwrap().remove("topic");
    (under, body)
}

#[tokio::test(start_paused = true)]
async fn what_is_not_exposed_is_as_if_it_did_not_exist() {
    let log = Log::default();
    let only = Exposure::only(["shown/ask", "shown/tell", "shown/relay", "shown/internal"]);
    let gate = build(&log, Some(only.unwrap())).start().await.unwrap();
    let mut client = told(&gate);
    let session = gate.gate().sessions().next();
    assert!(session.is_none(), "it has not begun");
    let missing = answer(&mut client, "nobody/there/1").await;
    assert_eq!(missing.1["code"], ErrorCode::NOT_FOUND.0);
    let session = gate.gate().sessions().next().unwrap();
    let not_exposed = [
        // Requests and one-way packets, with and without a request id.
        "hidden/ask/1",
        "hidden/ask",
        "hidden/tell/1",
        "hidden/tell",
        "hidden/bound/1",
        "hidden/internal/1",
        "hidden/nothing/1",
        "shown/bound/1",
        "shown/nothing/1",
        "echo/echo/1",
        // Exposed, but open to no client.
        "shown/internal/1",
    ];
    for user_name in [None, Some("u1")] {
        if let Some(name) = user_name {
            session.bind(user(name)).await.unwrap();
        }
        for topic in not_exposed {
            assert_eq!(
                answer(&mut client, topic).await,
                missing,
                "{topic} {user_name:?}"
            );
        }
    }
    // Being bound to an instance is no way around it.
    let instance = gate.gate().bus().instances("hidden").await.unwrap();
    let instance = instance[0].instance.clone();
    let service = tidegate::protocol::Name::new("hidden").unwrap();
    session.bind_instance(service, instance).unwrap();
    assert_eq!(answer(&mut client, "hidden/ask/1").await, missing);
    assert!(log.all().is_empty(), "{:?}", log.all());

    assert_eq!(client.ask("shown/ask/1", "a").await, "a");
    client.send("shown/tell", "b").await;
    // Services reach each other, and the gate's own code reaches them.
    assert_eq!(client.ask("shown/relay/1", "c").await, "c");
    assert_eq!(
        log.all(),
        [
            "shown/ask a",
            "shown/tell b",
            "hidden/ask c",
            "relayed true"
        ]
    );
    log.clear();
    drop(client);
    // A service that took no packet of the session hears nothing of it.
    assert_eq!(log.wait(1).await, ["shown left"]);
    gate.stop().await;
    assert_eq!(log.all(), ["shown left"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_is_exposed_with_all_that_it_opens() {
    let log = Log::default();
    let only = Exposure::only(["shown"]).unwrap();
    let gate = build(&log, Some(only)).start().await.unwrap();
    let mut client = told(&gate);
    assert_eq!(client.ask("shown/ask/1", "a").await, "a");
    let missing = answer(&mut client, "hidden/ask/1").await;
    assert_eq!(answer(&mut client, "shown/bound/1").await, missing);
    let session = gate.gate().sessions().next().unwrap();
    session.bind(user("u1")).await.unwrap();
    assert_eq!(client.ask("shown/bound/1", "b").await, "b");
    assert_eq!(answer(&mut client, "shown/internal/1").await, missing);
}

#[tokio::test(start_paused = true)]
async fn nothing_may_be_exposed_and_by_default_everything_is() {
    let log = Log::default();
    let none = Exposure::only::<&str>([]).unwrap();
    let gate = build(&log, Some(none)).start().await.unwrap();
    let mut client = told(&gate);
    let missing = answer(&mut client, "nobody/there/1").await;
    assert_eq!(answer(&mut client, "shown/ask/1").await, missing);
    for exposure in [None, Some(Exposure::all())] {
        let gate = build(&log, exposure).start().await.unwrap();
        let mut client = told(&gate);
        assert_eq!(client.ask("hidden/ask/1", "a").await, "a");
    }
}
