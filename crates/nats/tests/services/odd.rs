//! Messages that are not what they should be, and too many of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tidegate::Guests;
use tidegate::bus::{Bus, GateGone};
use tidegate::service::{Service, Session};
use tidegate_protocol::ErrorCode;
use tidegate_test_servers::{NatsServer, eventually};
use tokio::time::timeout;

use crate::support::*;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, *value);
    }
    map
}

fn error(message: &Message) -> (String, String) {
    let headers = message.headers.as_ref().expect("an error");
    let value = |name| headers.get(name).map_or("", |v| v.as_str()).to_owned();
    (value("Nats-Service-Error-Code"), value("Tidegate-Error"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_messages_are_answered_and_counted() {
    let server = NatsServer::start().await;
    let home = bus(&server, "echo").await;
    let served = Arc::new(AtomicU64::new(0));
    let (count, ends) = (served.clone(), served.clone());
    let _echo = Service::new("echo")
        .instance("e-1")
        .request("echo", move |session: Option<Session>, body: String| {
            count.fetch_add(1, Ordering::Relaxed);
            async move { format!("{} {body}", session.is_some()) }
        })
        .open_to(Guests)
        .on_disconnect(move || {
            ends.fetch_add(1, Ordering::Relaxed);
            async {}
        })
        .register(home.clone())
        .await
        .unwrap();
    let nats = plain(&server).await;
    let send = async |subject: &str, map: HeaderMap, body: &str| {
        let answer = nats.request_with_headers(subject.to_owned(), map, body.to_owned().into());
        timeout(LONG, answer).await.unwrap().unwrap()
    };
    let snapshot = session(1, false).encode_ascii();
    let good = headers(&[("Tidegate-Session", &snapshot)]);
    let answer = send("tidegate.g.echo.echo", good.clone(), "x").await;
    assert_eq!((answer.headers, &*answer.payload), (None, &b"true x"[..]));
    // A service calls without a session.
    let answer = send("tidegate.s.echo.echo", HeaderMap::new(), "x").await;
    assert_eq!(&*answer.payload, b"false x");
    assert_eq!(served.swap(0, Ordering::Relaxed), 2);
    let long = "x".repeat(200_000);
    let twice = headers(&[
        ("Tidegate-Session", &snapshot),
        ("Tidegate-Session", &snapshot),
    ]);
    let event = r#"{"reason":1,"undelivered_packets":0,"undelivered_bytes":0}"#;
    let cases = [
        ("tidegate.g.echo.echo", HeaderMap::new(), ""),
        (
            "tidegate.g.echo.echo",
            headers(&[("Tidegate-Session", "{}")]),
            "",
        ),
        (
            "tidegate.g.echo.echo",
            headers(&[("Tidegate-Session", &long)]),
            "",
        ),
        ("tidegate.c.echo.echo", twice, ""),
        (
            "tidegate.i.echo.e-1.c.echo",
            headers(&[("Tidegate-Session", &snapshot), ("Tidegate-Answer", "2")]),
            "",
        ),
        ("tidegate.x.echo.echo", good.clone(), ""),
        ("tidegate.any.echo.echo", good.clone(), ""),
        ("tidegate.e.echo.nonsense", good.clone(), event),
        ("tidegate.e.echo.disconnected", good.clone(), "{"),
        ("tidegate.e.echo.disconnected", HeaderMap::new(), event),
    ];
    let before = home.stats().malformed;
    for (n, (subject, map, body)) in cases.into_iter().enumerate() {
        let answer = send(subject, map, body).await;
        let (code, _) = error(&answer);
        assert_eq!(code, ErrorCode::BAD_BODY.0.to_string(), "{subject}");
        assert_eq!(home.stats().malformed, before + n as u64 + 1, "{subject}");
    }
    // A reply that the asker might not publish itself: nothing is done for it.
    let before = home.stats().malformed;
    for to in ["tidegate.c.echo.echo", "$KV.tidegate-users.u.x"] {
        let (to, call) = (to.to_owned(), "tidegate.c.echo.echo".to_owned());
        let sent = nats.publish_with_reply_and_headers(call, to, good.clone(), "".into());
        sent.await.unwrap();
    }
    // It is answered after those.
    send("tidegate.c.echo.none", good.clone(), "").await;
    assert_eq!(home.stats().malformed, before + 2);
    let unknown = send("tidegate.g.echo.none", good.clone(), "").await;
    assert_eq!(error(&unknown), ("3".to_owned(), "not-found".to_owned()));
    assert_eq!(
        served.load(Ordering::Relaxed),
        0,
        "none of them reached the service"
    );
    // Taken, and told so.
    let told = send("tidegate.e.echo.disconnected", good, event).await;
    assert_eq!((told.headers, told.payload.len()), (None, 0));
    assert_eq!(served.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_is_told_that_a_gate_died() {
    let server = NatsServer::start().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut running = Vec::new();
    for name in ["watch", "watch", "guard"] {
        let seen = seen.clone();
        let service = Service::new(name).on_gate_gone(move |gone: GateGone| {
            seen.lock()
                .push((name, gone.gate.to_string(), gone.incarnation));
            async {}
        });
        running.push(service.register(bus(&server, name).await).await.unwrap());
    }
    let nats = plain(&server).await;
    for gate in ["a", "b"] {
        let body = format!(r#"{{"gate":"{gate}","incarnation":"00000000000000ff"}}"#);
        nats.publish("tidegate.all.gate-gone", body.into())
            .await
            .unwrap();
    }
    eventually("both services were told of both", async || {
        (seen.lock().len() >= 4).then_some(())
    })
    .await;
    for running in running {
        running.stop().await;
    }
    let mut seen = seen.lock().clone();
    seen.sort();
    let told = |service, gate: &str| (service, gate.to_owned(), 255);
    assert_eq!(
        seen,
        [
            told("guard", "a"),
            told("guard", "b"),
            told("watch", "a"),
            told("watch", "b")
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backlog_is_refused_and_not_lost() {
    const CALLS: usize = 60_000;
    let server = NatsServer::start().await;
    let home = bus(&server, "slow").await;
    let served = Arc::new(AtomicU64::new(0));
    let count = served.clone();
    let _slow = Service::new("slow")
        .request("work", move || {
            // The first keeps the thread, as no handler should.
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                std::thread::sleep(Duration::from_secs(2));
            }
            async {}
        })
        .open_to(Guests)
        .register(home.clone())
        .await
        .unwrap();
    let nats = plain(&server).await;
    let inbox = nats.new_inbox();
    let mut answers = nats.subscribe(inbox.clone()).await.unwrap();
    for _ in 0..CALLS {
        let subject = "tidegate.s.slow.work";
        nats.publish_with_reply(subject, inbox.clone(), "".into())
            .await
            .unwrap();
    }
    let (mut ok, mut refused) = (0, 0);
    for _ in 0..CALLS {
        let answer = timeout(LONG, answers.next())
            .await
            .expect("an answer to each");
        match answer.unwrap().headers {
            None => ok += 1,
            Some(headers) => {
                assert_eq!(
                    headers.get("Tidegate-Error").unwrap().as_str(),
                    "overloaded"
                );
                refused += 1;
            }
        }
    }
    let stats = home.stats();
    println!("{CALLS} calls while the service is busy: {ok} served, {refused} refused, none lost");
    assert_eq!(ok, served.load(Ordering::Relaxed));
    assert!(refused > 0, "the bound of the backlog was reached");
    assert_eq!((stats.overloaded, stats.overflowed), (refused, 0));
}
