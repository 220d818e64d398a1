//! A client of the extended protocol across its connections, with a scripted gate and
//! under paused time.

#![expect(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod scripted;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use scripted::*;
use tidegate_client::{
    Backoff, Cause, Client, CloseReason, Error, ErrorKind, Event, ResumeRefusal, State, Value,
};
use tidegate_protocol::extended::{Close, Drain, GateControl, TokenUpdate, Welcome};
use tokio::time::{Instant, sleep};

fn asks(client: &Client, body: &'static str) -> tokio::task::JoinHandle<Result<String, Error>> {
    let client = client.clone();
    tokio::spawn(async move {
        let answer = client.request("svc/ask", body).await?;
        Ok(String::from_utf8(answer.to_vec()).unwrap())
    })
}

/// Lets everything that can happen now happen.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_hello_says_who_comes_each_time() {
    let asked = Arc::new(AtomicU32::new(0));
    let (connecting, mut gate) = connect(|b| {
        b.agent("test/1")
            .device("phone")
            .heartbeat(Duration::from_secs(7))
            .auth_with(move || {
                let n = asked.fetch_add(1, Relaxed);
                async move { Ok(Value::from(n)) }
            })
    });
    let mut conn = gate.accept().await;
    let hello = conn.hello().await;
    assert_eq!(
        (hello.agent.as_str(), hello.device.as_str()),
        ("test/1", "phone")
    );
    assert_eq!(hello.versions, [1]);
    assert_eq!(hello.capabilities, ["resume"]);
    assert_eq!(hello.heartbeat.unwrap().gate_ms, 7_000);
    assert_eq!(hello.auth.unwrap().get(), "0");
    assert!(hello.resume.is_none());
    conn.welcome(fresh("t1")).await;
    conn.expect_ack(0).await;
    let client = connecting.await.unwrap().unwrap();
    match client.state() {
        State::Open(open) => {
            assert_eq!(
                (open.gate.as_str(), open.user.as_deref()),
                ("gate", Some("anna"))
            );
            assert_eq!(open.resumable, Some(Duration::from_secs(120)));
            assert!(!open.resumed && open.refused.is_none());
        }
        other => panic!("{other:?}"),
    }
    drop(conn);
    let hello = gate.accept().await.hello().await;
    assert_eq!(hello.auth.unwrap().get(), "1");
    assert_eq!(hello.resume.unwrap().token, "t1");
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_resumed_and_nothing_is_lost_or_repeated() {
    let (client, mut gate, mut conn) = open(|b| b).await;
    let mut pushes = client.pushes();
    let mut states = client.states();
    let asking = asks(&client, "1");
    settle().await;
    for n in ["2", "3", "4"] {
        client.send("svc/tell", n).await.unwrap();
    }
    conn.expect(&["svc/ask/1 1", "svc/tell 2", "svc/tell 3", "svc/tell 4"])
        .await;
    conn.say(GateControl::Ack(2)).await;
    conn.push("news", "a").await;
    conn.push("news", "b").await;
    sleep(BASE).await;
    drop(conn);

    // The gate has taken one more than it acknowledged.
    let mut conn = gate.resume("t1", 2, 3, "t2").await;
    client.send("svc/tell", "5").await.unwrap();
    conn.expect(&["svc/tell 4", "svc/tell 5"]).await;
    conn.push("news", "c").await;
    conn.push("svc/ask/1", "answer").await;
    assert_eq!(asking.await.unwrap().unwrap(), "answer");
    for body in ["a", "b", "c"] {
        assert_eq!(pushes.recv().await.unwrap().unwrap().body, body);
    }
    drop(conn);
    let conn = gate.resume("t2", 4, 5, "t3").await;

    let mut seen = Vec::new();
    while seen.len() < 7 {
        seen.push(match states.recv().await.unwrap() {
            State::Open(open) => format!("open {}", open.resumed),
            State::Connecting { attempt } => format!("connecting {attempt}"),
            State::Waiting { delay, why } => {
                assert!(delay <= BASE && why.cause == Cause::Lost, "{delay:?} {why}");
                "waiting".into()
            }
            other => panic!("{other:?}"),
        });
    }
    let again = ["waiting", "connecting 1", "open true"];
    assert_eq!(seen[0], "open false");
    assert_eq!(seen[1..4], again);
    // The second was lost as soon as it was there: not a new beginning.
    assert_eq!(seen[4..7], ["waiting", "connecting 2", "open true"]);
    drop(conn);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_cut_changes_nothing() {
    let (client, mut gate, mut conn) = open(|b| b).await;
    client.send("svc/tell", "1").await.unwrap();
    conn.expect(&["svc/tell 1"]).await;
    drop(conn);
    // Before the hello was read, before the welcome, and in the middle of it.
    drop(gate.accept().await);
    gate.accept().await.expect_resume("t1", 0).await;
    let mut conn = gate.accept().await;
    conn.expect_resume("t1", 0).await;
    tokio::io::AsyncWriteExt::write_all(&mut conn.0, &[200, 0, 8, 0, b'$'])
        .await
        .unwrap();
    drop(conn);
    // Behind the welcome: the new token has arrived.
    let mut conn = gate.accept().await;
    conn.expect_resume("t1", 0).await;
    conn.welcome(resumed("t2", 0)).await;
    settle().await;
    drop(conn);
    let mut conn = gate.resume("t2", 0, 0, "t3").await;
    conn.expect(&["svc/tell 1"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_written_in_a_session_that_is_gone_is_unknown() {
    for &why in ResumeRefusal::ALL {
        let (client, mut gate, mut conn) = open(|b| b).await;
        let mut events = client.events();
        let (first, second) = (asks(&client, "1"), asks(&client, "2"));
        settle().await;
        for n in ["3", "4"] {
            client.send("svc/tell", n).await.unwrap();
        }
        conn.expect(&["svc/ask/1 1", "svc/ask/2 2", "svc/tell 3", "svc/tell 4"])
            .await;
        // Taken, but not answered: unknown all the same.
        conn.say(GateControl::Ack(3)).await;
        settle().await;
        gate.set_down(true);
        drop(conn);
        settle().await;
        let third = asks(&client, "5");
        settle().await;
        client.send("svc/tell", "6").await.unwrap();
        gate.set_down(false);

        let mut conn = gate.accept().await;
        conn.expect_resume("t1", 0).await;
        conn.welcome(refused("n1", why)).await;
        conn.expect_ack(0).await;
        conn.expect(&["svc/ask/3 5", "svc/tell 6"]).await;
        conn.push("svc/ask/3", "yes").await;
        assert_eq!(third.await.unwrap().unwrap(), "yes");
        for asked in [first, second] {
            let error = asked.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
        }
        match events.recv().await.unwrap().unwrap() {
            Event::OutcomeUnknown(packet) => assert_eq!(packet.body, "4"),
            other => panic!("{other:?}"),
        }
        match client.state() {
            State::Open(open) => assert_eq!(open.refused.unwrap().refusal(), Some(why)),
            other => panic!("{other:?}"),
        }
        drop(conn);
        // Counts began again.
        gate.resume("n1", 1, 2, "n2").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_without_resume_is_lost_with_its_connection() {
    let (connecting, mut gate) = connect(|b| b.resume(false));
    let mut conn = gate.accept().await;
    assert!(conn.hello().await.capabilities.is_empty());
    conn.welcome(plain()).await;
    conn.expect_ack(0).await;
    let client = connecting.await.unwrap().unwrap();
    let asking = asks(&client, "1");
    settle().await;
    gate.set_down(true);
    drop(conn);
    // At once, not when there is another.
    let error = asking.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(gate.nobody_came());
    gate.set_down(false);
    assert!(gate.accept().await.hello().await.resume.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_replaced_or_taken_away() {
    let (client, mut gate, mut conn) = open(|b| b).await;
    let mut events = client.events();
    let token = |token: Option<&str>| {
        GateControl::Token(TokenUpdate {
            token: token.map(str::to_owned),
            refused: token.is_none().then_some(ResumeRefusal::Overflowed.into()),
        })
    };
    conn.say(token(Some("t7"))).await;
    settle().await;
    drop(conn);
    let mut conn = gate.resume("t7", 0, 0, "t8").await;
    conn.say(token(None)).await;
    match events.recv().await.unwrap().unwrap() {
        Event::NotResumable(Some(why)) => {
            assert_eq!(why.refusal(), Some(ResumeRefusal::Overflowed));
        }
        other => panic!("{other:?}"),
    }
    drop(conn);
    assert!(gate.accept().await.hello().await.resume.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_miscounts_gets_a_new_session() {
    let wrong: [fn() -> GateControl; 3] = [
        || GateControl::Ack(1),
        || GateControl::Welcome(Box::new(fresh("t9"))),
        || GateControl::Ack(u64::MAX),
    ];
    for wrong in wrong {
        let (client, mut gate, mut conn) = open(|b| b).await;
        let mut states = client.states();
        conn.say(wrong()).await;
        let (_, why) = next_waiting(&mut states).await;
        assert!(why.starts_with("the gate broke the protocol"), "{why}");
        assert!(gate.accept().await.hello().await.resume.is_none());
    }
    // In the welcome.
    let (_client, mut gate, conn) = open(|b| b).await;
    drop(conn);
    let mut conn = gate.accept().await;
    conn.expect_resume("t1", 0).await;
    conn.welcome(resumed("t2", 1)).await;
    assert!(gate.accept().await.hello().await.resume.is_none());
}

fn close(code: u16, reconnect: bool, retry_after_ms: Option<u64>) -> GateControl {
    GateControl::Close(Close {
        code,
        text: "because".into(),
        reconnect,
        retry_after_ms,
    })
}

#[tokio::test(start_paused = true)]
async fn a_close_says_when_to_come_back() {
    let (client, mut gate, mut conn) = open(|b| b).await;
    let mut states = client.states();
    conn.say(close(4000, true, Some(5_000))).await;
    drop(conn);
    let (delay, why) = next_waiting(&mut states).await;
    assert_eq!(why, "closed by the gate: because (4000)");
    let asked = Duration::from_secs(5);
    assert!((asked..=asked + BASE).contains(&delay), "{delay:?}");
    let since = Instant::now();
    // At an attempt too.
    let mut conn = gate.accept().await;
    assert!(since.elapsed() >= asked);
    conn.hello().await;
    conn.say(close(4005, true, Some(9_000))).await;
    let (delay, _) = next_waiting(&mut states).await;
    assert!(delay >= Duration::from_secs(9), "{delay:?}");
}

#[tokio::test(start_paused = true)]
async fn a_close_says_not_to_come_back() {
    let (client, mut gate, mut conn) = open(|b| b).await;
    let mut pushes = client.pushes();
    let mut states = client.states();
    let asking = asks(&client, "1");
    conn.push("last", "words").await;
    conn.say(close(4504, false, None)).await;
    drop(conn);
    let closed = client.closed().await;
    assert_eq!(closed.reason(), Some(CloseReason::Kicked));
    assert_eq!(closed.cause, Cause::Gate);
    assert_eq!(asking.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(
        client.send("a/b", "").await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(pushes.recv().await.unwrap().unwrap().body, "words");
    assert!(pushes.recv().await.is_none());
    assert!(matches!(states.recv().await, Some(State::Open(_))));
    assert_eq!(states.recv().await, Some(State::Closed(closed.clone())));
    assert_eq!(states.recv().await, None);
    assert_eq!(client.states().recv().await, Some(State::Closed(closed)));
    assert!(gate.nobody_came());
}

#[tokio::test(start_paused = true)]
async fn a_draining_gate_is_left_when_nothing_is_under_way() {
    for answered in [true, false] {
        let (client, mut gate, mut conn) = open(|b| b).await;
        let mut events = client.events();
        let asking = asks(&client, "1");
        conn.expect(&["svc/ask/1 1"]).await;
        conn.say(GateControl::Ack(1)).await;
        let since = Instant::now();
        let drain = Drain {
            deadline_ms: 8_000,
            retry_after_ms: 2_000,
        };
        conn.say(GateControl::Drain(drain)).await;
        assert_eq!(events.recv().await.unwrap(), Ok(Event::Draining(drain)));
        if answered {
            conn.push("svc/ask/1", "yes").await;
            assert_eq!(asking.await.unwrap().unwrap(), "yes");
            conn.expect_ack(1).await;
        }
        // No goodbye: the session goes on.
        assert_eq!(conn.read().await, None);
        let waited = since.elapsed().as_millis();
        match answered {
            true => assert!((2_000..=5_001).contains(&waited), "{waited}"),
            false => assert!((8_000..=8_001).contains(&waited), "{waited}"),
        }
        drop(conn);
        gate.resume("t1", u64::from(answered), 1, "t2").await;
        assert!((waited..waited + 5).contains(&since.elapsed().as_millis()));
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_are_spread_ever_wider() {
    let (client, gate, conn) = open(|b| b).await;
    let mut states = client.states();
    sleep(Duration::from_secs(1)).await;
    gate.set_down(true);
    drop(conn);
    for ceiling in [100, 100, 200, 400, 800, 1600, 2000, 2000] {
        let (delay, _) = next_waiting(&mut states).await;
        assert!(delay <= Duration::from_millis(ceiling), "{delay:?}");
    }
    // Closed meanwhile.
    let closed = client.close().await;
    assert_eq!(closed.cause, Cause::Client);
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_lets_in_and_closes_is_not_asked_ever_faster() {
    let backoff = Backoff {
        base: Duration::from_secs(1),
        cap: Duration::from_secs(60),
    };
    let (_client, mut gate, conn) = open(|b| b.backoff(backoff)).await;
    drop(conn);
    let since = Instant::now();
    for n in 2..30 {
        let mut conn = gate.accept().await;
        conn.hello().await;
        conn.welcome(resumed(&format!("t{n}"), 0)).await;
        settle().await;
    }
    // Some 29 attempts of which most may wait for up to a minute: 12 s on average would be
    // very lucky, and those without back-off take half a second each.
    assert!(
        since.elapsed() > Duration::from_secs(120),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_gate_of_the_extended_protocol() {
    // It says nothing.
    let (connecting, mut gate) = connect(|b| b.connect_timeout(Duration::from_secs(3)));
    let mut conn = gate.accept().await;
    conn.hello().await;
    let error = connecting.await.unwrap().unwrap_err();
    assert!(
        matches!(error, Error::NoWelcome(t) if t.as_secs() == 3),
        "{error}"
    );
    // It says something else.
    let (connecting, mut gate) = connect(|b| b);
    let mut conn = gate.accept().await;
    conn.push("error", "{}").await;
    let error = connecting.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::NotExtended), "{error}");
    // It closes, with and without a word.
    let (connecting, mut gate) = connect(|b| b);
    let mut conn = gate.accept().await;
    conn.say(close(4503, false, None)).await;
    match connecting.await.unwrap().unwrap_err() {
        Error::Closed(closed) => assert_eq!(closed.code, Some(4503)),
        other => panic!("{other}"),
    }
    let (connecting, mut gate) = connect(|b| b);
    drop(gate.accept().await);
    assert_eq!(
        connecting.await.unwrap().unwrap_err().kind(),
        ErrorKind::Closed
    );
    // There is nothing to show.
    let (connecting, mut gate) = connect(|b| b.auth_with(|| async { Err("no network".into()) }));
    assert_eq!(
        connecting.await.unwrap().unwrap_err().kind(),
        ErrorKind::Auth
    );
    assert!(gate.nobody_came());
    let (connecting, _gate) = connect(|b| b.device(&"x".repeat(129)));
    assert_eq!(
        connecting.await.unwrap().unwrap_err().kind(),
        ErrorKind::InvalidOption
    );
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_the_new_gate_does_not_take() {
    let (client, mut gate, conn) = open(|b| b).await;
    let mut events = client.events();
    gate.set_down(true);
    drop(conn);
    settle().await;
    let large = client.send("svc/tell", vec![b'x'; 2000]);
    large.await.unwrap();
    client.send("svc/tell", "small").await.unwrap();
    gate.set_down(false);
    let mut conn = gate.accept().await;
    conn.hello().await;
    conn.welcome(Welcome {
        max_packet: 1000,
        ..resumed("t2", 0)
    })
    .await;
    conn.expect_ack(0).await;
    conn.expect(&["svc/tell small"]).await;
    match events.recv().await.unwrap().unwrap() {
        Event::TooLarge(packet, why) => assert_eq!((packet.body.len(), why.max), (2000, 1000)),
        other => panic!("{other:?}"),
    }
    let error = client.send("svc/tell", vec![0; 1000]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_cut_on_purpose_is_resumed() {
    let (client, mut gate, mut conn) = open(|b| b).await;
    client.send("svc/tell", "1").await.unwrap();
    conn.expect(&["svc/tell 1"]).await;
    settle().await;
    assert_eq!(
        (client.stats().unacknowledged, client.stats().waiting),
        (1, 0)
    );
    let mut states = client.states();
    client.cut();
    assert!(matches!(states.recv().await, Some(State::Open(_))));
    let Some(State::Waiting { why, .. }) = states.recv().await else {
        panic!("not lost");
    };
    assert_eq!(why.cause, Cause::Lost);
    // There is nothing to cut: the next connection is not.
    client.cut();
    client.send("svc/tell", "2").await.unwrap();
    assert_eq!(client.stats().waiting, 1);
    let mut conn = gate.resume("t1", 0, 0, "t2").await;
    conn.expect(&["svc/tell 1", "svc/tell 2"]).await;
    let State::Open(opened) = client.state() else {
        panic!("not open");
    };
    assert!(opened.resumed);
    assert_eq!((opened.version, opened.written_again), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_single_stream_is_all_there_is() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let connecting = tokio::spawn(Client::builder("tcp://gate:1").connect_over(ours));
    let mut conn = Conn(theirs);
    conn.hello().await;
    conn.welcome(fresh("t1")).await;
    let client = connecting.await.unwrap().unwrap();
    client.send("svc/tell", "").await.unwrap();
    conn.expect_ack(0).await;
    conn.expect(&["svc/tell"]).await;
    drop(conn);
    let closed = client.closed().await;
    assert_eq!((closed.cause, closed.unsent), (Cause::Lost, 1));
}
