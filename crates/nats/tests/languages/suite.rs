//! What `hello` does, whatever it is written in: through two gates, over TCP and WebSocket.

use std::time::Duration;

use async_nats::ConnectOptions;
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::Value;
use tidegate::{ErrorCode, Gate, RunningGate, Tcp, WebSocket};
use tidegate_bus_suite::stage::{code, push, until};
use tidegate_client::{Client, Error};
use tidegate_nats::{Nats, NatsOptions};
use tidegate_test_servers::{NatsServer, eventually};

use crate::hello::Hello;

/// The suite on one NATS.
pub(crate) async fn run(net: &impl Net, hello: Hello) {
    let gates = [gate(net, "gate-1").await, gate(net, "gate-2").await];
    let tcp = format!("tcp://{}", gates[0].address(0).unwrap());
    let ws = format!("ws://{}/", gates[1].address(1).unwrap());
    let connect = async |url: &str| Client::builder(url).connect().await.unwrap();
    let (ada, bob) = (connect(&tcp).await, connect(&ws).await);
    eventually("hello answers", async || {
        ada.request("hello/echo", "").await.ok()
    })
    .await;

    for client in [&ada, &bob] {
        bodies_pass_as_they_are(client).await;
        // Guests do not reach what is not for them, nor anybody what is not there.
        assert_eq!(
            code(client.request("hello/note", "x").await),
            ErrorCode::NOT_FOUND
        );
        assert_eq!(
            code(client.request("hello/nope", "x").await),
            ErrorCode::NOT_FOUND
        );
        let error = client.request("hello/login", "").await.unwrap_err();
        let Error::NotServed(error) = error else {
            panic!("{error:?}");
        };
        assert_eq!(
            (error.code, &*error.message),
            (ErrorCode(1001), "bad-request")
        );
    }
    users_and_settings(&gates[0], &ada, "ada").await;
    users_and_settings(&gates[1], &bob, "bob *.> 你好").await;
    for client in [&ada, &bob] {
        bodies_pass_as_they_are(client).await;
        pushes_come_before_the_answer(client).await;
        order_is_kept(client).await;
        many_at_once(client).await;
    }
    to_everybody(&ada, &bob).await;
    seen_by_tools(net, &gates[0]).await;
    the_end(&hello, &ada, &bob).await;
    for gate in &gates {
        assert_eq!(gate.gate().bus_stats().forbidden, 0);
    }
}

/// How to reach a NATS.
pub(crate) trait Net {
    /// As the gate or the service of this name.
    fn options(&self, name: &str) -> NatsOptions;

    /// Of a client that may do all.
    fn admin(&self) -> ConnectOptions;

    fn url(&self) -> String;
}

impl Net for NatsServer {
    fn options(&self, name: &str) -> NatsOptions {
        let mut options = NatsOptions::new([self.url()]);
        options.name = name.to_owned();
        options
    }

    fn admin(&self) -> ConnectOptions {
        ConnectOptions::new()
    }

    fn url(&self) -> String {
        self.url()
    }
}

async fn gate(net: &impl Net, id: &str) -> RunningGate {
    let bus = Nats::connect(net.options(id)).await.unwrap();
    Gate::builder()
        .id(id)
        .shards(1)
        .bus(bus)
        .listen(Tcp::bind("127.0.0.1:0"))
        .listen(WebSocket::bind("127.0.0.1:0"))
        .start()
        .await
        .unwrap()
}

async fn bodies_pass_as_they_are(client: &Client) {
    let all: Vec<u8> = (0..=255).collect();
    for body in [vec![], all, b"\r\n \0".to_vec(), vec![b'x'; 30_000]] {
        let answer = client.request("hello/echo", body.clone()).await.unwrap();
        assert_eq!(answer, body);
    }
}

fn json(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap()
}

async fn users_and_settings(gate: &RunningGate, client: &Client, user: &'static str) {
    let bound = json(&client.request("hello/login", user).await.unwrap());
    assert_eq!(bound["user"], user);
    assert_eq!(bound["gate"], gate.gate().id().as_str());
    let sessions = gate.gate().user_sessions(&user.try_into().unwrap());
    assert_eq!(sessions.len(), 1);
    assert_eq!(bound["id"], *sessions[0].id().to_string());
    for note in [
        "",
        "kase",
        "k\u{e4}se \"1\"\n\\ \u{1F980}",
        &"n".repeat(10_000),
    ] {
        let body = note.to_owned();
        let set = json(&client.request("hello/note", body).await.unwrap());
        assert_eq!(set["settings"]["note"], note);
        assert_eq!(sessions[0].snapshot().settings.get("note"), Some(note));
    }
    let too_much = client.request("hello/note", "n".repeat(17_000)).await;
    assert_eq!(code(too_much), ErrorCode(1001));
}

async fn pushes_come_before_the_answer(client: &Client) {
    let mut told = client.subscribe("hello.told");
    client.request("hello/tell", "one").await.unwrap();
    let packet = told.try_recv().expect("it came first").unwrap();
    assert_eq!(packet.body, "one");
}

/// One-way packets, more of them than may be under way at once: each is served, in order.
async fn order_is_kept(client: &Client) {
    let mut told = client.subscribe("hello.told");
    for number in 0..60 {
        client.send("hello/tell", number.to_string()).await.unwrap();
    }
    for number in 0..60 {
        assert_eq!(push(&mut told).await.1, number.to_string());
    }
}

async fn many_at_once(client: &Client) {
    let ask = async |number: usize| {
        let body = number.to_string();
        assert_eq!(
            client.request("hello/echo", body.clone()).await.unwrap(),
            body
        );
    };
    join_all((0..200).map(ask)).await;
}

async fn to_everybody(ada: &Client, bob: &Client) {
    let mut heard = [ada, bob].map(|client| client.subscribe("hello.shouted"));
    let sent = json(&ada.request("hello/shout", "all").await.unwrap());
    assert_eq!(
        (&sent["attached"], &sent["unknown"]),
        (&2.into(), &0.into())
    );
    for pushes in &mut heard {
        assert_eq!(push(pushes).await.1, "all");
    }
}

/// By the services protocol of NATS, which `nats micro` uses, too.
async fn seen_by_tools(net: &impl Net, gate: &RunningGate) {
    let tool = net.admin().connect(net.url()).await.unwrap();
    let ask = async |verb: &str| {
        let reply = tool.request(format!("$SRV.{verb}.hello"), "".into()).await;
        json(&reply.unwrap().payload)
    };
    let ping = ask("PING").await;
    assert_eq!(ping["type"], "io.nats.micro.v1.ping_response");
    assert_eq!(
        (&ping["name"], &ping["version"]),
        (&"hello".into(), &"1.0.0".into())
    );
    let info = ask("INFO").await;
    assert_eq!(info["type"], "io.nats.micro.v1.info_response");
    assert_eq!(info["id"], ping["id"]);
    let endpoints = info["endpoints"].as_array().unwrap();
    for method in ["echo", "login", "note", "tell", "shout", "bye"] {
        let end = format!(".hello.{method}");
        let found = |e: &Value| e["subject"].as_str().unwrap().ends_with(&end);
        let endpoint = endpoints.iter().find(|e| found(e));
        assert_eq!(endpoint.unwrap()["queue_group"], "q", "{method}");
    }
    let stats = ask("STATS").await;
    assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
    let endpoints = stats["endpoints"].as_array().unwrap();
    let requests = endpoints
        .iter()
        .map(|e| e["num_requests"].as_u64().unwrap());
    assert!(requests.sum::<u64>() > 500, "{stats}");
    // And the gate sees it.
    let instances = gate.gate().bus().instances("hello").await.unwrap();
    let ids: Vec<_> = instances.iter().map(|i| i.instance.as_str()).collect();
    assert_eq!(ids, [ping["id"].as_str().unwrap()]);
}

async fn the_end(hello: &Hello, ada: &Client, bob: &Client) {
    let bye = ada.request_within("hello/bye", "", Duration::from_secs(30));
    let (_, closed) = tokio::join!(bye, ada.closed());
    let reason = closed.reason().unwrap();
    assert_eq!(reason.code(), 4504);
    let disconnected = || {
        let output = hello.output();
        let lines = output.lines().filter(|line| line.contains("disconnected"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    until("the service hears of it", || disconnected().len() == 1).await;
    assert!(disconnected()[0].contains("4504"));
    bob.close().await;
    until("of the other, too", || disconnected().len() == 2).await;
}
