//! The way in: what is routed where, in which order, and what cannot be reached.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::time::Duration;

use bytes::Bytes;
use harness::*;
use tidegate::service::{Service, Session};
use tidegate::{Bound, ErrorCode, GateBuilder, Guests, Internal, Limits, RunningGate, Tcp};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// A service that logs what it serves; a body that begins with `wait` waits for the latch.
fn noted(name: &'static str, log: &Log, latch: &Latch) -> Service {
    let handler = |method: &'static str| {
        let (log, latch) = (log.clone(), latch.clone());
        move |body: String| {
            let (log, latch) = (log.clone(), latch.clone());
            async move {
                if body.starts_with("wait") {
                    latch.wait().await;
                }
                log.add(format!("{name}/{method} {body}"));
                body
            }
        }
    };
    let left = log.clone();
    Service::new(name)
        .request("ask", handler("ask"))
        .open_to(Guests)
        .one_way("tell", handler("tell"))
        .open_to(Guests)
        .request("bound", handler("bound"))
        .open_to(Bound)
        .request("internal", handler("internal"))
        .open_to(Internal)
        .on_disconnect(move |_: Session| {
            left.add(format!("{name} left"));
            async {}
        })
}

async fn start(log: &Log, latch: &Latch) -> RunningGate {
    build(log, latch).start().await.unwrap()
}

fn build(log: &Log, latch: &Latch) -> GateBuilder {
    let errors = log.clone();
    builder()
        .service(noted("one", log, latch))
        .service(noted("two", log, latch))
        .on_packet_error(move |_, topic, error| {
            errors.add(format!("{topic}: {}", error.code.name()));
        })
}

/// A client that is told errors.
fn told(gate: &RunningGate) -> Client {
    connect_with(gate, Tcp::bind("x").v1_error_topic("error"), 256 * 1024)
}

/// The next packet is the error packet for `topic`.
async fn expect_error(client: &mut Client, topic: &str, code: ErrorCode) {
    let (under, body) = client.recv().await;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&*under, &body["topic"], &body["code"]),
        ("error", &topic.into(), &code.0.into())
    );
    assert!(body["message"].is_string());
}

#[tokio::test(start_paused = true)]
async fn what_a_client_cannot_reach() {
    let (log, latch) = (Log::default(), Latch::new());
    let gate = start(&log, &latch).await;
    let mut client = told(&gate);
    let long = "a".repeat(65);
    let huge = "a".repeat(60_000);
    let bad = [
        "one",
        "/",
        "//",
        "one/",
        "/ask",
        "one/ask/",
        "one/ask/1/2",
        "one//1",
        "one.ask/1",
        "one.two/ask",
        "one/ask.1",
        "*/ask",
        "one/*",
        ">/ask",
        "one/>",
        "one /ask",
        "one/ask ",
        " one/ask",
        "ön/ask",
        "one/äsk",
        "喵/喵/1",
        &format!("{long}/ask"),
        &format!("one/{long}"),
        &format!("one/ask/{long}"),
        &huge,
        &format!("one/{huge}"),
        &format!("{huge}/ask/1"),
        "g.one.ask/x",
        "$SRV.PING/x",
        "_INBOX.x/y",
    ];
    for topic in bad.iter().filter(|t| !t.starts_with('$')) {
        client.send(topic, "").await;
        expect_error(&mut client, topic, ErrorCode::BAD_TOPIC).await;
    }
    for topic in ["$hello", "$", "$SRV.PING/x", "$one/ask/1"] {
        client.send(topic, "").await;
        expect_error(&mut client, topic, ErrorCode::RESERVED_TOPIC).await;
    }
    let instance = gate.gate().bus().instances("one").await.unwrap();
    let instance = instance[0].instance.as_str().to_owned();
    let session = gate.gate().sessions().next().unwrap().id().to_string();
    let not_found = [
        "nobody/ask/1".to_owned(),
        "one/nothing/1".into(),
        "One/ask/1".into(),
        // A guest does not reach what is for bound sessions, and nobody what is internal.
        "one/bound/1".into(),
        "one/internal/1".into(),
        "one/on_disconnect".into(),
        // Instances, gates and sessions are no services.
        format!("{instance}/ask/1"),
        "g1/ask/1".into(),
        "g1/close".into(),
        format!("{session}/close"),
        format!("one/{instance}/1"),
        "_INBOX/x".into(),
    ];
    for topic in &not_found {
        client.send(topic, "").await;
        expect_error(&mut client, topic, ErrorCode::NOT_FOUND).await;
    }
    // Longest names, and any request id, are none of that.
    assert_eq!(
        client.ask(&format!("one/ask/{}", &long[1..]), "x").await,
        "x"
    );
    assert_eq!(client.ask("one/ask/. * > $ ö", "y").await, "y");
    let session = gate.gate().sessions().next().unwrap();
    session.bind(user("u1")).await.unwrap();
    assert_eq!(client.ask("one/bound/1", "z").await, "z");
    client.send("one/internal/1", "").await;
    expect_error(&mut client, "one/internal/1", ErrorCode::NOT_FOUND).await;
    session.unbind().await.unwrap();
    client.send("one/bound/1", "").await;
    expect_error(&mut client, "one/bound/1", ErrorCode::NOT_FOUND).await;
    let served = log
        .all()
        .into_iter()
        .filter(|l| l.starts_with("one/") && !l.contains(": "));
    assert_eq!(served.count(), 3);
    assert_eq!(gate.gate().packet_errors(ErrorCode::NOT_FOUND), 14);
    // Control characters are not even a topic.
    for bad in ["one/ask\r\n", "one\0/ask"] {
        let mut client = told(&gate);
        client.send(bad, "").await;
        client.closed().await;
    }
    until("both are counted", || {
        gate.gate().closed(tidegate::CloseReason::BadTopic) == 2
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn requests_need_an_id_and_one_way_packets_need_none() {
    let (log, latch) = (Log::default(), Latch::new());
    let gate = start(&log, &latch).await;
    let mut client = told(&gate);
    client.send("one/ask", "x").await;
    expect_error(&mut client, "one/ask", ErrorCode::ID_REQUIRED).await;
    assert_eq!(client.ask("one/tell/1", "with id").await, "");
    client.send("one/tell", "without").await;
    assert_eq!(client.ask("one/ask/2", "x").await, "x");
    assert_eq!(
        log.all()[1..],
        ["one/tell with id", "one/tell without", "one/ask x"]
    );
    client.send("one/ask/3", b"\xff").await;
    expect_error(&mut client, "one/ask/3", ErrorCode::BAD_BODY).await;
}

#[tokio::test(start_paused = true)]
async fn packets_of_a_session_keep_their_order_and_services_run_side_by_side() {
    let (log, latch) = (Log::default(), Latch::new());
    let gate = start(&log, &latch).await;
    let mut client = told(&gate);
    client.send("one/ask/1", "wait").await;
    client.send("one/tell", "2").await;
    // Two under one id are both served.
    client.send("one/ask/1", "3").await;
    assert_eq!(client.ask("two/ask/1", "beside").await, "beside");
    // Other clients are not held up.
    let mut other = told(&gate);
    assert_eq!(other.ask("one/ask/1", "another").await, "another");
    assert_eq!(log.all(), ["two/ask beside", "one/ask another"]);
    let backlog = gate.gate().sessions().map(|s| s.backlog().calls).max();
    assert_eq!(backlog, Some(3));
    latch.open(1);
    assert_eq!(client.recv().await, ("one/ask/1".into(), "wait".into()));
    assert_eq!(client.recv().await, ("one/ask/1".into(), "3".into()));
    assert_eq!(log.all()[2..], ["one/ask wait", "one/tell 2", "one/ask 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_in_time_is_unknown_and_its_answer_is_discarded() {
    let (log, latch) = (Log::default(), Latch::new());
    let gate = start(&log, &latch).await;
    let mut limits = Limits::default();
    limits.call_timeout = 3 * SECOND;
    let listener = Tcp::bind("x").v1_error_topic("error").limits(limits);
    let mut client = connect_with(&gate, listener, 4096);
    client.send("one/ask/1", "wait").await;
    client.nothing(SECOND * 29 / 10).await;
    expect_error(&mut client, "one/ask/1", ErrorCode::OUTCOME_UNKNOWN).await;
    assert_eq!(gate.gate().stats().late_answers, 0);
    latch.open(1);
    log.wait(2).await;
    client.nothing(SECOND).await;
    assert_eq!(gate.gate().stats().late_answers, 1);
    assert_eq!(client.ask("one/ask/1", "x").await, "x");
    // A service whose only call was never answered in time hears of the end too.
    client.send("two/ask/1", "wait").await;
    expect_error(&mut client, "two/ask/1", ErrorCode::OUTCOME_UNKNOWN).await;
    log.clear();
    drop(client);
    latch.open(1);
    let mut all = log.wait(3).await;
    let two_left = all.iter().position(|l| l == "two left");
    assert!(
        all.iter().position(|l| l == "two/ask wait") < two_left,
        "{all:?}"
    );
    all.sort();
    assert_eq!(all, ["one left", "two left", "two/ask wait"]);
}

#[tokio::test(start_paused = true)]
async fn services_that_were_used_hear_once_that_a_client_left_after_its_packets() {
    let (log, latch) = (Log::default(), Latch::new());
    let gate = start(&log, &latch).await;
    let (mut client, _) = join(&gate).await;
    // Used by a request, by a one-way packet, and by errors that never reached it.
    client.ask("one/ask/1", "a").await;
    client.ask("one/ask/2", "b").await;
    client.send("two/ask", "an id is missing").await;
    client.send("two/nothing", "").await;
    client.send("one/tell", "wait").await;
    client.send("one/tell", "last").await;
    log.wait(4).await;
    log.clear();
    drop(client);
    until("it has ended", || gate.gate().session_count() == 0).await;
    sleep(SECOND).await;
    assert!(log.all().is_empty(), "a disconnect cancels nothing");
    latch.open(1);
    assert_eq!(
        log.wait(3).await,
        ["one/tell wait", "one/tell last", "one left"]
    );
    let (mut client, _) = join(&gate).await;
    client.ask("echo/echo/1", "").await;
    drop(client);
    until("it has ended", || gate.gate().session_count() == 0).await;
    gate.stop().await;
    assert_eq!(log.all().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_or_answers_too_much_fails_its_call_only() {
    let gate = builder()
        .service(
            Service::new("bad")
                .request("panic", async || -> Bytes {
                    panic!("a handler that panics")
                })
                .open_to(Guests)
                .request("large", async || vec![0u8; 65_530])
                .open_to(Guests)
                .request("fail", async || -> Result<(), _> {
                    Err(tidegate::bus::CallError::service(1007, "mine"))
                })
                .open_to(Guests),
        )
        .start()
        .await
        .unwrap();
    let mut client = told(&gate);
    for (topic, code) in [
        ("bad/panic/1", ErrorCode::INTERNAL),
        ("bad/large/1", ErrorCode::ANSWER_TOO_LARGE),
        ("bad/fail/1", ErrorCode(1007)),
    ] {
        client.send(topic, "").await;
        expect_error(&mut client, topic, code).await;
    }
    assert_eq!(client.ask("echo/echo/1", "x").await, "x");
    // A client that is not told learns nothing, and the errors are counted all the same.
    let mut plain = connect(&gate);
    plain.send("bad/panic/1", "").await;
    assert_eq!(plain.ask("echo/echo/1", "x").await, "x");
    assert_eq!(gate.gate().packet_errors(ErrorCode::INTERNAL), 2);
    assert_eq!(gate.gate().packet_errors(ErrorCode(1007)), 1);
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_request_has_its_place_in_a_full_queue() {
    let gate = builder().start().await.unwrap();
    let mut limits = Limits::default();
    limits.send_queue_packets = 1;
    let listener = Tcp::bind("x").v1_error_topic("error").limits(limits);
    let (mut client, session) = session_of(&gate, |g| connect_with(g, listener, 32)).await;
    session.send(packet("first", vec![0; 100])).unwrap();
    until("it is being written", || session.backlog().bytes == 0).await;
    session.send(packet("second", "")).unwrap();
    client.send("nobody/there/1", "").await;
    until("it is refused", || {
        gate.gate().packet_errors(ErrorCode::NOT_FOUND) == 1
    })
    .await;
    assert_eq!(client.recv().await.0, "first");
    assert_eq!(client.recv().await.0, "second");
    expect_error(&mut client, "nobody/there/1", ErrorCode::NOT_FOUND).await;
}
