#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::atomic::Ordering::Relaxed;

use async_nats::{Client, Subscriber};
use tidegate_test_servers::{NatsServer, eventually};

use super::*;

const LONG: Duration = Duration::from_secs(60);

async fn lane(server: &NatsServer, change: impl FnOnce(&mut NatsOptions)) -> Arc<Lane> {
    let mut options = NatsOptions::new([server.url()]);
    change(&mut options);
    let counters = Arc::new(Counters::default());
    let link = Link::connect(&options, counters.clone()).await.unwrap();
    Lane::new(link, &options, counters).await.unwrap()
}

/// Somebody on `t`, and what arrives there.
async fn somebody(server: &NatsServer) -> (Client, Subscriber) {
    let client = async_nats::connect(server.url()).await.unwrap();
    let subscriber = client.subscribe("t").await.unwrap();
    // Comes back once the server knows of it.
    let mut echo = client.subscribe("echo").await.unwrap();
    client.publish("echo", Bytes::new()).await.unwrap();
    echo.next().await.unwrap();
    (client, subscriber)
}

async fn arrives(subscriber: &mut Subscriber) -> Message {
    time::timeout(Duration::from_secs(30), subscriber.next())
        .await
        .expect("a message in time")
        .unwrap()
}

async fn answer(client: &Client, to: &Message, text: &'static str) {
    let reply = to.reply.clone().unwrap();
    client.publish(reply, text.into()).await.unwrap();
}

fn ask(lane: &Lane, text: &'static str) -> impl Future<Output = Result<Message, AskError>> + use<> {
    lane.ask(Subject::from_static("t"), None, text.into(), LONG)
}

fn text(reply: Result<Message, AskError>) -> Result<String, AskError> {
    reply.map(|message| String::from_utf8(message.payload.to_vec()).unwrap())
}

#[test]
fn tokens_are_read_as_they_are_written() {
    let mux = Mux::new("p.", 1, Arc::default());
    for (place, generation) in [(0, 0), (1, 0), (0, 1), (MAX_IN_FLIGHT as u32 - 1, u32::MAX)] {
        let token = Token { place, generation };
        let subject = mux.subject(token);
        let text = subject.strip_prefix("p.").unwrap();
        assert_eq!(Token::parse(text), Some(token), "{text}");
    }
    for bad in [
        "",
        "-",
        "A",
        "+1",
        "a.b",
        "zzzzzzzzzzzz",
        "zzzzzzzzzzzzz",
        "é",
    ] {
        assert_eq!(Token::parse(bad), None, "{bad}");
    }
}

#[tokio::test]
async fn questions_leave_when_asked_and_answers_find_them() {
    let server = NatsServer::start().await;
    let lane = lane(&server, |_| {}).await;
    let (client, mut questions) = somebody(&server).await;
    // The second one's future is never looked at before its question is there.
    let (first, second) = (ask(&lane, "1"), ask(&lane, "2"));
    let (one, two) = (arrives(&mut questions).await, arrives(&mut questions).await);
    assert_eq!((&one.payload[..], &two.payload[..]), (&b"1"[..], &b"2"[..]));
    assert_eq!(lane.waiting(), 2);
    answer(&client, &two, "to 2").await;
    answer(&client, &one, "to 1").await;
    assert_eq!(text(first.await), Ok("to 1".to_owned()));
    assert_eq!(text(second.await), Ok("to 2".to_owned()));
    assert_eq!(lane.waiting(), 0);
}

#[tokio::test]
async fn nobody_is_told_at_once() {
    let server = NatsServer::start().await;
    let lane = lane(&server, |_| {}).await;
    let nobody = lane.ask(Subject::from_static("nobody"), None, Bytes::new(), LONG);
    assert_eq!(text(nobody.await), Err(AskError::NoResponders));
}

#[tokio::test]
async fn late_and_double_answers_reach_nobody_else() {
    let server = NatsServer::start().await;
    let lane = lane(&server, |_| {}).await;
    let (client, mut questions) = somebody(&server).await;
    let soon = lane.ask(
        Subject::from_static("t"),
        None,
        Bytes::new(),
        Duration::from_millis(50),
    );
    let late = arrives(&mut questions).await;
    assert_eq!(text(soon.await), Err(AskError::OutcomeUnknown));

    // The next question has the same place.
    let next = ask(&lane, "next");
    let question = arrives(&mut questions).await;
    answer(&client, &late, "late").await;
    answer(&client, &question, "right").await;
    answer(&client, &question, "double").await;
    assert_eq!(text(next.await), Ok("right".to_owned()));
    let third = ask(&lane, "third");
    let question = arrives(&mut questions).await;
    // Foreign answers, to places and in words that do not exist.
    for token in ["zzzz", "A!", "~", "0"] {
        let subject = format!("{}.{token}", lane.link.inbox());
        client.publish(subject, "foreign".into()).await.unwrap();
    }
    answer(&client, &question, "third").await;
    assert_eq!(text(third.await), Ok("third".to_owned()));
    assert_eq!(lane.counters.late_answers.load(Relaxed), 4);
    assert_eq!(lane.counters.malformed.load(Relaxed), 2);
    assert_eq!(lane.waiting(), 0);
}

#[tokio::test]
async fn a_lost_connection_ends_all_waiting() {
    let mut server = NatsServer::start().await;
    let lane = lane(&server, |_| {}).await;
    let (_client, mut questions) = somebody(&server).await;
    let asked: Vec<_> = (0..10).map(|_| ask(&lane, "x")).collect();
    let mut gather = lane.gather(Subject::from_static("t"), None, Bytes::new(), LONG);
    for _ in 0..11 {
        arrives(&mut questions).await;
    }
    server.kill();
    for asked in asked {
        assert_eq!(text(asked.await), Err(AskError::OutcomeUnknown));
    }
    assert_eq!(
        text(gather.next().await.unwrap()),
        Err(AskError::OutcomeUnknown)
    );
    assert!(gather.next().await.is_none());
    assert_eq!(text(ask(&lane, "x").await), Err(AskError::Unavailable));
    assert_eq!(lane.waiting(), 0);

    server.restart().await;
    let mut changes = lane.link.changes();
    changes.wait_for(|state| state.up).await.unwrap();
    let (client, mut questions) = somebody(&server).await;
    let again = ask(&lane, "again");
    answer(&client, &arrives(&mut questions).await, "yes").await;
    assert_eq!(text(again.await), Ok("yes".to_owned()));
}

#[tokio::test]
async fn a_server_that_stands_still_ends_all_waiting_soon() {
    let server = NatsServer::start().await;
    let lane = lane(&server, |_| {}).await;
    let (_client, mut questions) = somebody(&server).await;
    let asked = ask(&lane, "x");
    arrives(&mut questions).await;
    server.pause();
    let waited = time::timeout(Duration::from_secs(20), asked).await;
    assert_eq!(
        text(waited.expect("long before the deadline")),
        Err(AskError::OutcomeUnknown)
    );
    server.resume();
}

#[tokio::test]
async fn slots_are_bounded_and_used_again() {
    let server = NatsServer::start().await;
    let lane = lane(&server, |options| options.in_flight = 2).await;
    let (client, mut questions) = somebody(&server).await;
    let (one, two) = (ask(&lane, "1"), ask(&lane, "2"));
    assert_eq!(text(ask(&lane, "3").await), Err(AskError::Overloaded));
    assert_eq!(lane.counters.overloaded.load(Relaxed), 1);
    for _ in 0..2 {
        let question = arrives(&mut questions).await;
        answer(&client, &question, "ok").await;
    }
    assert!(one.await.is_ok() && two.await.is_ok());
    for _ in 0..10 {
        let asked = ask(&lane, "x");
        answer(&client, &arrives(&mut questions).await, "ok").await;
        assert!(asked.await.is_ok());
    }
}

#[tokio::test]
async fn gathering_takes_many_answers() {
    let server = NatsServer::start().await;
    let lane = lane(&server, |_| {}).await;
    let (client, mut questions) = somebody(&server).await;
    let mut gather = lane.gather(Subject::from_static("t"), None, Bytes::new(), LONG);
    let question = arrives(&mut questions).await;
    for text in ["a", "b", "c"] {
        answer(&client, &question, text).await;
    }
    for expected in ["a", "b", "c"] {
        assert_eq!(text(gather.next().await.unwrap()), Ok(expected.to_owned()));
    }
    drop(gather);
    assert_eq!(lane.waiting(), 0);
    answer(&client, &question, "late").await;
    eventually("a late answer is counted", async || {
        (lane.counters.late_answers.load(Relaxed) == 1).then_some(())
    })
    .await;

    let mut nobody = lane.gather(Subject::from_static("nobody"), None, Bytes::new(), LONG);
    assert_eq!(
        text(nobody.next().await.unwrap()),
        Err(AskError::NoResponders)
    );
    assert!(nobody.next().await.is_none());

    // More than may wait to be read: it ends, so that nobody takes it for complete.
    let mut unread = lane.gather(Subject::from_static("t"), None, Bytes::new(), LONG);
    let question = arrives(&mut questions).await;
    for _ in 0..=GATHERED {
        answer(&client, &question, "x").await;
    }
    eventually("an answer overflows", async || {
        (lane.counters.overflowed.load(Relaxed) == 1).then_some(())
    })
    .await;
    let mut count = 0;
    while unread.next().await.is_some() {
        count += 1;
    }
    assert_eq!(count, GATHERED);
}
