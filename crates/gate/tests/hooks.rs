//! Hooks: when they run, what they decide, and that one which fails fails alone.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use harness::*;
use tidegate::bus::{CallError, GateError};
use tidegate::service::{Service, Session};
use tidegate::{
    CloseReason, Credentials, ErrorCode, GateBuilder, Guests, Identity, Inbound, LocalSession,
    Packet, Refused, Tcp, WebSocket,
};
use tokio_tungstenite::tungstenite::Message;

const SECOND: Duration = Duration::from_secs(1);

/// A service that logs what it is told.
fn noted(name: &'static str, log: &Log) -> Service {
    let (packets, left) = (log.clone(), log.clone());
    Service::new(name)
        .request("say", move |body: String| {
            packets.add(format!("{name} {body}"));
            async move { body }
        })
        .open_to(Guests)
        .on_disconnect(move |_: Session| {
            left.add(format!("{name} left"));
            async {}
        })
}

/// A gate with `noted("svc")` that logs errors, and why sessions ended.
fn logging(log: &Log) -> GateBuilder {
    let (errors, ended) = (log.clone(), log.clone());
    builder()
        .service(noted("svc", log))
        .on_packet_error(move |_, topic, error| {
            errors.add(format!("{topic}: {}", error.code.name()));
        })
        .on_ended(move |_, how| {
            ended.add(format!("ended {}", how.reason.name()));
            async {}
        })
}

#[tokio::test(start_paused = true)]
async fn started_is_awaited_before_the_first_packet_and_ended_comes_once() {
    let (log, latch) = (Log::default(), Latch::new());
    let (started, hold) = (log.clone(), latch.clone());
    let gate = logging(&log)
        .on_started(move |_| {
            let (started, hold) = (started.clone(), hold.clone());
            async move {
                hold.wait().await;
                started.add("started");
                Ok(())
            }
        })
        .start()
        .await
        .unwrap();
    let mut client = connect(&gate);
    client.send("svc/say/1", "hello").await;
    client.nothing(SECOND).await;
    assert!(log.all().is_empty());
    latch.open(1);
    assert_eq!(client.recv().await.1, "hello");
    drop(client);
    let all = log.wait(4).await;
    assert_eq!(
        all,
        ["started", "svc hello", "svc left", "ended ClientLeft"]
    );
    assert_eq!(gate.gate().closed(CloseReason::ClientLeft), 1);
    gate.stop().await;
    assert_eq!(log.all().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_started_hook_that_refuses_or_panics_ends_the_session() {
    let log = Log::default();
    let gate = logging(&log)
        .on_started(async |session: LocalSession| match &*session.listener() {
            "bad" => Err(Refused::new("no")),
            "worse" => panic!("a hook that panics"),
            _ => Ok(()),
        })
        .start()
        .await
        .unwrap();
    for (name, ended) in [
        ("bad", "ended AuthenticationRefused"),
        ("worse", "ended Internal"),
    ] {
        log.clear();
        let mut client = connect_with(&gate, Tcp::bind("x").name(name), 1024);
        client.send("svc/say/1", "hello").await;
        client.closed().await;
        drop(client);
        assert_eq!(log.wait(1).await, [ended]);
    }
    assert_eq!(gate.gate().stats().hook_panics, 1);
    assert_eq!(connect(&gate).ask("svc/say/1", "x").await, "x");
}

#[tokio::test(start_paused = true)]
async fn authenticate_decides_who_a_client_is() {
    let log = Log::default();
    let store = TestStore::default();
    store.put("u1", settings([("a", "stored"), ("b", "stored")]));
    store.mood("u2", Some(Mood::Fails));
    let gate = logging(&log)
        .store(store.clone())
        .on_authenticate(5 * SECOND, async |who: Credentials| {
            assert_eq!(who.peer, peer());
            let path = who.upgrade.as_ref().map_or("", |r| r.path());
            match &*who.listener {
                "guest" => Ok(Identity::guest()),
                "user" => Ok(Identity {
                    user: Some(user("u1")),
                    device: None,
                    settings: settings([("a", "own"), ("path", path)]),
                }),
                "store" => Ok(Identity::user(user("u2"))),
                "no" => Err(Refused::new("bad token")),
                "never" => std::future::pending().await,
                _ => panic!("a hook that panics"),
            }
        })
        .start()
        .await
        .unwrap();
    let listener = |name: &str| Tcp::bind("x").name(name);
    let (_guest, session) = session_of(&gate, |g| connect_with(g, listener("guest"), 1024)).await;
    assert!(session.is_guest());
    let (_user, session) = session_of(&gate, |g| connect_with(g, listener("user"), 1024)).await;
    until("it is bound", || !session.is_guest()).await;
    assert_eq!(session.user(), Some(user("u1")));
    let all = settings([("a", "own"), ("b", "stored"), ("path", "")]);
    assert_eq!(session.settings(), all);
    let unavailable = CloseReason::AuthenticationUnavailable;
    for (name, reason) in [
        ("no", CloseReason::AuthenticationRefused),
        ("never", unavailable),
        ("panic", unavailable),
        ("store", unavailable),
    ] {
        let before = gate.gate().closed(reason);
        let mut client = connect_with(&gate, listener(name), 1024);
        client.closed().await;
        // A WebSocket client is told why.
        let (ours, theirs) = tokio::io::duplex(4096);
        gate.serve(theirs, WebSocket::bind("x").name(name), peer())
            .unwrap();
        let (mut ws, _) = tokio_tungstenite::client_async("ws://host/", ours)
            .await
            .unwrap();
        let Some(Ok(Message::Close(Some(frame)))) = ws.next().await else {
            panic!("{name}: no close frame");
        };
        assert_eq!(u16::from(frame.code), reason.code(), "{name}");
        drop((client, ws));
        until("both are counted", || {
            gate.gate().closed(reason) == before + 2
        })
        .await;
    }
    until("two are left", || gate.gate().session_count() == 2).await;
    assert!(log.all().is_empty(), "none of them began: {:?}", log.all());
    assert_eq!(gate.gate().stats().hook_panics, 2);
}

/// What a receive or route hook of these tests does, by the body.
async fn decide(_: LocalSession, packet: Packet) -> Result<Inbound, CallError> {
    match &*packet.body {
        b"rewrite" => Ok(Inbound::Pass(Packet::new(packet.topic, "rewritten"))),
        b"reroute" => Ok(Inbound::Pass(
            Packet::try_new("svc/say/other", "x").unwrap(),
        )),
        b"answer" => Ok(Inbound::Answer(Packet::new(packet.topic, "from the hook"))),
        b"reserved" => Ok(Inbound::Answer(Packet::try_new("$x", "").unwrap())),
        b"handled" => Ok(Inbound::Handled),
        b"fail" => Err(Refused::new("not now").into()),
        b"own" => Err(CallError::service(1234, "mine")),
        b"panic" => panic!("a hook that panics"),
        _ => Ok(Inbound::Pass(packet)),
    }
}

#[tokio::test(start_paused = true)]
async fn receive_and_route_hooks_pass_rewrite_answer_handle_fail_and_panic() {
    for route in [false, true] {
        let log = Log::default();
        let gate = match route {
            false => logging(&log).on_receive(decide),
            true => logging(&log).on_route(decide),
        };
        let gate = gate.start().await.unwrap();
        let listener = Tcp::bind("x").v1_error_topic("error");
        let mut client = connect_with(&gate, listener, 4096);
        assert_eq!(client.ask("svc/say/1", "pass").await, "pass");
        assert_eq!(client.ask("svc/say/1", "rewrite").await, "rewritten");
        client.send("svc/say/1", "reroute").await;
        assert_eq!(client.recv().await, ("svc/say/other".into(), "x".into()));
        assert_eq!(client.ask("svc/say/1", "answer").await, "from the hook");
        client.send("svc/say/1", "handled").await;
        log.clear();
        for (body, code) in [
            ("fail", ErrorCode::REFUSED),
            ("own", ErrorCode(1234)),
            ("panic", ErrorCode::INTERNAL),
            ("reserved", ErrorCode::REFUSED),
        ] {
            client.send("svc/say/1", body).await;
            let (topic, error) = client.recv().await;
            let error: serde_json::Value = serde_json::from_slice(&error).unwrap();
            assert_eq!((&*topic, &error["code"]), ("error", &code.0.into()));
        }
        assert_eq!(gate.gate().stats().hook_panics, 1);
        assert_eq!(gate.gate().packet_errors(ErrorCode::INTERNAL), 1);
        // The connection lives, and nothing of that reached the service.
        assert_eq!(client.ask("svc/say/1", "pass").await, "pass");
        assert_eq!(log.all().last().unwrap(), "svc pass");
        assert_eq!(log.all().len(), 5);
        // The route hook sees topics of the router's grammar only.
        client.send("a/b/c/d", "answer").await;
        let (topic, _) = client.recv().await;
        assert_eq!(topic, if route { "error" } else { "a/b/c/d" });
    }
}

#[tokio::test(start_paused = true)]
async fn a_pending_hook_keeps_the_order_and_its_packet_is_served_after_the_client_left() {
    let (log, latch) = (Log::default(), Latch::new());
    let (seen, hold) = (log.clone(), latch.clone());
    let gate = logging(&log)
        .service(noted("other", &log))
        .on_receive(move |_, packet: Packet| {
            let (seen, hold) = (seen.clone(), hold.clone());
            async move {
                seen.add(format!("hook {:?}", packet.body));
                if packet.body.starts_with(b"wait") {
                    hold.wait().await;
                }
                Ok(Inbound::Pass(packet))
            }
        })
        .start()
        .await
        .unwrap();
    let (mut client, session) = join(&gate).await;
    client.send("svc/say/1", "wait").await;
    client.send("other/say/2", "second").await;
    client.nothing(SECOND).await;
    assert_eq!(log.all(), [r#"hook b"wait""#]);
    latch.open(1);
    let answers = [client.recv().await.1, client.recv().await.1];
    assert_eq!(answers, ["wait", "second"]);
    assert_eq!(
        log.all()[1..],
        ["svc wait", r#"hook b"second""#, "other second"]
    );
    log.clear();
    client.send("svc/say/3", "wait and leave").await;
    log.wait(1).await;
    // As the gate's own code ends it: a pipe in memory cannot be looked at.
    session.close(CloseReason::Kicked);
    drop(client);
    tokio::time::sleep(SECOND).await;
    assert_eq!(log.all().len(), 1);
    latch.open(1);
    let mut all = log.wait(5).await;
    assert_eq!(
        all[..2],
        [r#"hook b"wait and leave""#, "svc wait and leave"]
    );
    all[2..4].sort();
    assert_eq!(all[2..], ["other left", "svc left", "ended Kicked"]);
}

#[tokio::test(start_paused = true)]
async fn the_outbound_hook_rewrites_and_refuses_answers_too() {
    let log = Log::default();
    let gate = logging(&log)
        .on_outbound(|_, packet: Packet| match &*packet.body {
            b"no" => Err(Refused::new("no")),
            b"panic" => panic!("a hook that panics"),
            b"reserved" => Ok(Packet::try_new("$x", "").unwrap()),
            b"large" => Ok(Packet::new(packet.topic, vec![0; 65_535])),
            b"change" => Ok(Packet::new(packet.topic, "changed")),
            _ => Ok(packet),
        })
        .start()
        .await
        .unwrap();
    let listener = Tcp::bind("x").v1_error_topic("error");
    let (mut client, session) = session_of(&gate, |g| connect_with(g, listener, 65_536)).await;
    assert_eq!(client.ask("svc/say/1", "change").await, "changed");
    for (body, code) in [
        ("no", ErrorCode::REFUSED),
        ("panic", ErrorCode::REFUSED),
        ("reserved", ErrorCode::REFUSED),
        ("large", ErrorCode::ANSWER_TOO_LARGE),
    ] {
        client.send("svc/say/1", body).await;
        let (topic, error) = client.recv().await;
        let error: serde_json::Value = serde_json::from_slice(&error).unwrap();
        assert_eq!((&*topic, &error["code"]), ("error", &code.0.into()));
        let sent = session.send(packet("t", body));
        match code {
            ErrorCode::REFUSED => assert_eq!(sent, Err(GateError::Refused)),
            _ => assert!(matches!(sent, Err(GateError::TooLarge(_)))),
        }
    }
    session.send(packet("t", "change")).unwrap();
    assert_eq!(client.recv().await, ("t".into(), "changed".into()));
    let stats = gate.gate().stats();
    assert_eq!((stats.refused_hook, stats.hook_panics), (6, 2));
}

#[tokio::test(start_paused = true)]
async fn hooks_that_tell_may_panic_too() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = ended.clone();
    let gate = builder()
        .on_packet_error(|_, _, _| panic!("a hook that panics"))
        .on_ended(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            async { panic!("a hook that panics") }
        })
        .start()
        .await
        .unwrap();
    let mut client = connect(&gate);
    client.send("nobody/there", "").await;
    let echoed: Bytes = client.ask("echo/echo/1", "x").await;
    assert_eq!(echoed, "x");
    drop(client);
    until("it is counted", || gate.gate().stats().hook_panics == 2).await;
    assert_eq!(gate.gate().session_count(), 0);
    gate.stop().await;
    assert_eq!(ended.load(Ordering::Relaxed), 1);
}
