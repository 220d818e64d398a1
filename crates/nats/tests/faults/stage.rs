//! What the tests share.

use std::time::Duration;

use tidegate_client::{Client, Pushes};
use tidegate_test_servers::{Process, eventually};

pub(crate) async fn connect(url: &str) -> Client {
    let client = Client::builder(url).push_buffer(100_000);
    let client = client.request_timeout(Duration::from_secs(10));
    client.connect().await.unwrap()
}

pub(crate) async fn connect_all(url: &str, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(connect(url).await);
    }
    clients
}

/// Waits until a request is answered.
pub(crate) async fn answers(client: &Client, method: &str) {
    let what = format!("{method} is answered");
    eventually(&what, async || client.request(method, "0").await.ok()).await;
}

/// Waits for a packet of this topic and body; others before it are passed over.
pub(crate) async fn gets(pushes: &mut Pushes, body: &str) {
    let get = async {
        loop {
            let packet = pushes.recv().await.expect("the client is over");
            if packet.expect("none is missed").body == body {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), get).await;
    assert!(in_time.is_ok(), "no push {body:?} came");
}

/// Waits until a process has printed this.
pub(crate) async fn prints(process: &mut Process, text: &str) {
    process.line_with(text).await;
}

/// Every way between clients, gates and services: a call, a push to the caller, to everybody,
/// a login.
pub(crate) async fn all_is_well(client: &Client, user: &'static str) {
    answers(client, "work/do").await;
    let mut told = client.subscribe("told");
    client.request("work/tell", "7").await.unwrap();
    gets(&mut told, "7").await;
    let mut shouted = client.subscribe("shouted");
    let body = format!("by {user}");
    let what = format!("{user} shouts to all, and nobody is missing");
    eventually(&what, async || {
        let sent = client.request("work/shout", body.clone()).await.ok()?;
        let sent = String::from_utf8(sent.to_vec()).unwrap();
        sent.contains("unknown: 0").then_some(())
    })
    .await;
    gets(&mut shouted, &body).await;
    let what = format!("{user} logs in");
    eventually(&what, async || {
        client.request("work/login", user).await.ok()
    })
    .await;
}
