#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::atomic::Ordering::Relaxed;

use tidegate_test_servers::{NatsServer, Proxy, eventually};

use async_nats::Message;
use futures_util::Stream;

use super::*;

async fn link(options: &NatsOptions) -> (Link, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let link = Link::connect(options, counters.clone()).await.unwrap();
    (link, counters)
}

fn subject(text: &str) -> Subject {
    Subject::from(text)
}

fn body(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Bodies that arrive, until `last`.
async fn until(subscriber: &mut (impl Stream<Item = Message> + Unpin), last: &str) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let message = time::timeout(Duration::from_secs(30), subscriber.next())
            .await
            .expect("a message in time")
            .unwrap();
        all.push(String::from_utf8(message.payload.to_vec()).unwrap());
        if all.last().unwrap() == last {
            return all;
        }
    }
}

#[tokio::test]
async fn nothing_is_kept_for_later() {
    let mut server = NatsServer::start().await;
    let (link, counters) = link(&NatsOptions::new([server.url()])).await;
    let mut changes = link.changes();
    assert!(link.is_up());
    server.stop().await;
    changes.wait_for(|state| !state.up).await.unwrap();

    let sent = link.publish(subject("t"), None, None, body("stale"));
    assert_eq!(sent, Err(NotSent::Down));
    let waited = link.publish_wait(subject("t"), None, None, body("stale"));
    assert_eq!(waited.await, Err(NotSent::Down));
    // What the client itself does, and why it is not asked: it says that it was sent.
    let client = link.client();
    let kept = client.publish("t", body("kept by the client"));
    kept.now_or_never().unwrap().unwrap();

    server.restart().await;
    let listener = async_nats::connect(server.url()).await.unwrap();
    let mut arrives = listener.subscribe("t").await.unwrap();
    listener.flush().await.unwrap();
    changes.wait_for(|state| state.up).await.unwrap();
    assert_eq!(link.epoch(), 2);
    assert!(link.is_back_lately());
    link.publish(subject("t"), None, None, body("fresh"))
        .unwrap();
    let arrived = until(&mut arrives, "fresh").await;
    assert!(!arrived.contains(&"stale".to_owned()), "{arrived:?}");
    assert_eq!(counters.disconnects.load(Relaxed), 1);
}

#[tokio::test]
async fn a_full_channel_is_told_at_once() {
    let server = NatsServer::start().await;
    let mut options = NatsOptions::new([server.url()]);
    options.outbound = 1_000;
    let (link, _) = link(&options).await;
    // All in one turn of this task, which the connection's shares its thread with.
    let sent: Vec<_> = (0..1_100)
        .map(|_| link.publish(subject("t"), None, None, body("x")))
        .collect();
    let taken = sent.iter().filter(|sent| sent.is_ok()).count();
    // The link's own subscription may still be in there.
    assert!(taken == 999 || taken == 1_000, "{taken} of 1000");
    assert!(sent[taken..].iter().all(|s| *s == Err(NotSent::Full)));
    // With patience there is room.
    link.publish_wait(subject("t"), None, None, body("x"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_too_large_or_no_subject_is_refused() {
    let server = NatsServer::options().config("max_payload: 1000").start();
    let (link, _) = link(&NatsOptions::new([server.await.url()])).await;
    let large = link.publish(subject("t"), None, None, body(&"x".repeat(1001)));
    assert_eq!(large, Err(NotSent::TooLarge));
    for bad in ["", "a b", "a\r\nPUB b 0\r\n"] {
        let sent = link.publish(subject(bad), None, None, Bytes::new());
        assert_eq!(sent, Err(NotSent::Subject), "{bad:?}");
    }
}

#[tokio::test]
async fn a_fence_comes_back_after_what_was_before_it() {
    let mut server = NatsServer::start().await;
    let proxy = Proxy::start(server.address());
    let (link, _) = link(&NatsOptions::new([proxy.address().to_string()])).await;
    let mut mine = link.subscribe(subject("t"), None).await.unwrap();
    link.fence().await.unwrap();
    let other = async_nats::connect(server.url()).await.unwrap();
    other.publish("t", "now".into()).await.unwrap();
    assert_eq!(until(&mut mine, "now").await, ["now"]);

    // A connection that is lost while the echo is on its way.
    proxy.hold();
    let fence = link.fence();
    tokio::pin!(fence);
    assert!((&mut fence).now_or_never().is_none());
    proxy.cut();
    proxy.release();
    fence.await.unwrap();

    // And no NATS at all.
    let mut options = NatsOptions::new([server.url()]);
    options.ask_timeout = Duration::from_millis(200);
    let (link, _) = self::link(&options).await;
    server.stop().await;
    assert!(matches!(link.fence().await, Err(BusError::Unavailable(_))));
}

#[tokio::test]
async fn a_server_that_stands_still_is_noticed() {
    let server = NatsServer::start().await;
    let (link, _) = link(&NatsOptions::new([server.url()])).await;
    let mut changes = link.changes();
    server.pause();
    // Some are taken until it is noticed; then none.
    changes.wait_for(|state| !state.up).await.unwrap();
    let sent = link.publish(subject("t"), None, None, Bytes::new());
    assert_eq!(sent, Err(NotSent::Down));
    server.resume();
    changes.wait_for(|state| state.up).await.unwrap();
    link.fence().await.unwrap();
}

#[tokio::test]
async fn what_is_forbidden_and_what_overflows_is_counted() {
    let users = r#"authorization { users: [
        { user: "a", password: "a", permissions: { publish: ["tidegate.>", "t"], subscribe: ["tidegate.>", "t"] } }
    ] }"#;
    let server = NatsServer::options().config(users).start().await;
    let mut options = NatsOptions::new([server.url()]);
    options.auth = crate::Auth::UserPassword {
        user: "a".into(),
        password: crate::Secret::text("a"),
    };
    options.inbound = 4;
    let (link, counters) = link(&options).await;
    link.publish(subject("elsewhere"), None, None, Bytes::new())
        .unwrap();
    eventually("a violation is counted", async || {
        (counters.forbidden.load(Relaxed) == 1).then_some(())
    })
    .await;

    let _unread = link.subscribe(subject("t"), None).await.unwrap();
    for _ in 0..20 {
        link.publish(subject("t"), None, None, Bytes::new())
            .unwrap();
    }
    eventually("dropped messages are counted", async || {
        (counters.overflowed.load(Relaxed) == 16).then_some(())
    })
    .await;
}

/// Says this to the server as no library would.
async fn raw(server: &NatsServer, subject: &str, headers: &str) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap();
    let len = headers.len();
    let text = format!(
        "CONNECT {{\"headers\":true,\"verbose\":false}}\r\nHPUB {subject} {len} {len}\r\n{headers}\r\nPING\r\n"
    );
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"PONG\r\n") {
        assert_ne!(socket.read_buf(&mut said).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_message_that_the_client_dies_of_is_survived() {
    let server = NatsServer::start().await;
    let (link, counters) = link(&NatsOptions::new([server.url()])).await;
    let mut mine = link.subscribe(subject("t"), None).await.unwrap();
    let mut ended = link.subscribe(subject("t"), None).await.unwrap();
    link.fence().await.unwrap();
    link.publish(subject("t"), None, None, body("before"))
        .unwrap();
    let mut changes = link.changes();
    for death in 1..=3 {
        raw(&server, "t", "NATS/1.0\r\nX: a\rb\r\n\r\n").await;
        let back = changes.wait_for(|state| state.up && state.epoch == death + 1);
        time::timeout(Duration::from_secs(60), back)
            .await
            .unwrap()
            .unwrap();
        assert!(link.is_up());
        link.publish(subject("t"), None, None, body("after"))
            .unwrap();
        assert_eq!(until(&mut mine, "after").await.last().unwrap(), "after");
        assert_eq!(until(&mut ended, "after").await.last().unwrap(), "after");
        eventually("the loss is counted", async || {
            (counters.disconnects.load(Relaxed) == death).then_some(())
        })
        .await;
    }
    let arrived = link.arrived().messages;
    link.publish(subject("t"), None, None, body("more"))
        .unwrap();
    until(&mut mine, "more").await;
    until(&mut ended, "more").await;
    assert_eq!(link.arrived().messages, arrived + 2, "it goes on counting");
    // What has ended stays so.
    ended.unsubscribe_after(u64::MAX).await.unwrap();
    link.fence().await.unwrap();
    raw(&server, "t", "NATS/1.0\r\nX: a\rb\r\n\r\n").await;
    time::timeout(Duration::from_secs(60), async {
        while ended.next().await.is_some() {}
    })
    .await
    .unwrap();
    changes.wait_for(|state| state.epoch == 5).await.unwrap();
    link.publish(subject("t"), None, None, body("last"))
        .unwrap();
    until(&mut mine, "last").await;
    assert!(ended.next().await.is_none());
}
