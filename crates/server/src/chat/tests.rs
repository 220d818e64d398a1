//! The chat over a gate in this process, with real clients.

mod again;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::{Gate, RunningGate, Tcp, WebSocket};
use tidegate_client::{Client, Protocol, Pushes};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::service;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where clients of the version 1 protocol hear of errors.
const ERRORS: &str = "error";

async fn gate(shards: usize) -> RunningGate {
    Gate::builder()
        .listen(
            Tcp::bind("127.0.0.1:0")
                .v1_error_topic(ERRORS)
                .resume_over_plaintext(true),
        )
        .listen(WebSocket::bind("127.0.0.1:0").v1_error_topic(ERRORS))
        .service(service())
        .shards(shards)
        .start()
        .await
        .unwrap()
}

/// Someone with a client.
struct Person {
    client: Client,
    pushes: Pushes,
}

impl Person {
    async fn guest(gate: &RunningGate) -> Self {
        Self::at(&format!("tcp://{}", gate.address(0).unwrap())).await
    }

    async fn at(url: &str) -> Self {
        Self::speaking(Protocol::V1, url).await
    }

    async fn speaking(protocol: Protocol, url: &str) -> Self {
        let client = Client::builder(url)
            .protocol(protocol)
            .connect()
            .await
            .unwrap();
        Self {
            pushes: client.pushes(),
            client,
        }
    }

    /// Logged in, and whatever that pushed to others not read yet.
    async fn named(gate: &RunningGate, name: &str) -> Self {
        let person = Self::guest(gate).await;
        person.ask("chat/login", name).await;
        person
    }

    async fn ask(&self, method: &str, body: impl Into<String>) -> Value {
        let answer = self.client.request(method, body.into()).await.unwrap();
        match answer.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&answer).unwrap(),
        }
    }

    /// The number of the error that a request ends in.
    async fn error(&mut self, method: &str, body: impl Into<String>) -> u64 {
        let topic = format!("{method}/x");
        self.client.send(&topic, body.into()).await.unwrap();
        let (at, error) = self.push().await;
        assert_eq!(at, ERRORS, "{error}");
        assert_eq!(error["topic"], topic);
        error["code"].as_u64().unwrap()
    }

    /// The next push.
    async fn push(&mut self) -> (String, Value) {
        let packet = timeout(PATIENCE, self.pushes.recv()).await;
        let packet = packet.expect("a push in time").unwrap().unwrap();
        let body = serde_json::from_slice(&packet.body).unwrap();
        (packet.topic.as_str().to_owned(), body)
    }

    /// The next push, which must be this one; without the time it was sent at.
    async fn hears(&mut self, topic: &str, body: Value) {
        let (at, mut pushed) = self.push().await;
        if let Some(at) = pushed.as_object_mut().unwrap().remove("at") {
            assert!(at.as_u64().unwrap() > 1_700_000_000_000);
        }
        assert_eq!((at.as_str(), pushed), (topic, body));
    }

    /// That nothing was pushed: what is asked for comes after it.
    async fn hears_nothing(&mut self) {
        self.ask("chat/rooms", "").await;
        assert!(self.pushes.try_recv().is_none());
    }
}

/// Passes one connection after the other to `gate`; aborted, it cuts them.
fn tunnel(listener: TcpListener, gate: SocketAddr) -> JoinHandle<TcpListener> {
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut gate = TcpStream::connect(gate).await.unwrap();
            copy_bidirectional(&mut client, &mut gate).await.ok();
        }
    })
}

fn names(answer: &Value) -> Vec<&str> {
    let people = answer["people"].as_array().unwrap();
    people.iter().map(|p| p["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn two_people_talk() {
    let gate = gate(1).await;
    let mut ada = Person::guest(&gate).await;
    let welcome = ada.ask("chat/login", r#"{"name": "ada"}"#).await;
    assert_eq!(
        welcome,
        json!({"name": "ada", "room": "lobby", "online": ["ada"], "count": 1})
    );
    let mut bob = Person::at(&format!("ws://{}/", gate.address(1).unwrap())).await;
    let welcome = bob.ask("chat/login", "bob").await;
    assert_eq!(welcome["online"], json!(["ada", "bob"]));
    ada.hears("chat/joined", json!({"room": "lobby", "name": "bob"}))
        .await;

    // As a request, one-way, as JSON and as text; to both of them, in order.
    ada.ask("chat/say", "hello").await;
    ada.client
        .send("chat/say", r#"{"text": "again"}"#)
        .await
        .unwrap();
    for text in ["hello", "again"] {
        let said = json!({"room": "lobby", "from": "ada", "text": text});
        ada.hears("chat/said", said.clone()).await;
        bob.hears("chat/said", said).await;
    }
    // Text that looks like JSON and is no object is text.
    bob.ask("chat/say", "[1] {").await;
    let said = json!({"room": "lobby", "from": "bob", "text": "[1] {"});
    ada.hears("chat/said", said).await;

    bob.ask("chat/tell", "ADA  only  you").await;
    ada.hears("chat/told", json!({"from": "bob", "text": "only  you"}))
        .await;
    ada.ask("chat/tell", r#"{"to": "bob", "text": "yes?"}"#)
        .await;
    bob.push().await;
    bob.hears("chat/told", json!({"from": "ada", "text": "yes?"}))
        .await;

    let session = gate
        .gate()
        .sessions()
        .find(|s| s.get("name").as_deref() == Some("ada"));
    let session = session.unwrap();
    assert_eq!(session.user().unwrap().as_str(), "ada");
    assert_eq!(session.get("room").as_deref(), Some("lobby"));
    gate.stop().await;
}

#[tokio::test]
async fn rooms_keep_to_themselves() {
    let gate = gate(1).await;
    let mut ada = Person::named(&gate, "ada").await;
    let mut bob = Person::named(&gate, "bob").await;
    let mut eve = Person::named(&gate, "eve").await;
    ada.push().await;
    ada.push().await;
    bob.push().await;

    let joined = ada.ask("chat/join", "Tea").await;
    assert_eq!(
        joined,
        json!({"room": "Tea", "people": ["ada"], "count": 1})
    );
    ada.hears("chat/left", json!({"room": "lobby", "name": "ada"}))
        .await;
    bob.hears("chat/left", json!({"room": "lobby", "name": "ada"}))
        .await;
    eve.hears("chat/left", json!({"room": "lobby", "name": "ada"}))
        .await;

    let joined = bob.ask("chat/join", r#"{"room": "tea"}"#).await;
    assert_eq!(joined["room"], "Tea", "as it was opened");
    ada.hears("chat/joined", json!({"room": "Tea", "name": "bob"}))
        .await;
    bob.push().await;
    eve.push().await;

    ada.ask("chat/say", "milk?").await;
    bob.hears(
        "chat/said",
        json!({"room": "Tea", "from": "ada", "text": "milk?"}),
    )
    .await;
    ada.push().await;
    eve.hears_nothing().await;
    eve.ask("chat/say", "where are you?").await;
    eve.push().await;
    ada.hears_nothing().await;

    let rooms = eve.ask("chat/rooms", "").await;
    assert_eq!(
        rooms,
        json!({"count": 2, "rooms": [
            {"room": "lobby", "people": 1, "owner": null},
            {"room": "Tea", "people": 2, "owner": "ada"},
        ]})
    );
    assert_eq!(names(&eve.ask("chat/who", "").await), ["ada", "bob", "eve"]);
    assert_eq!(names(&eve.ask("chat/who", "tea").await), ["ada", "bob"]);
    assert_eq!(eve.error("chat/who", "nowhere").await, 1004);

    // Coming again changes nothing.
    bob.ask("chat/join", "TEA").await;
    bob.hears_nothing().await;
    let left = bob.ask("chat/leave", "").await;
    assert_eq!(left["room"], "lobby");
    ada.hears("chat/left", json!({"room": "Tea", "name": "bob"}))
        .await;
    ada.ask("chat/leave", "").await;
    assert_eq!(
        ada.ask("chat/rooms", "").await["count"],
        1,
        "the empty room is gone"
    );
    gate.stop().await;
}

#[tokio::test]
async fn who_opened_a_room_may_kick() {
    let gate = gate(1).await;
    let mut ada = Person::named(&gate, "ada").await;
    let mut bob = Person::named(&gate, "bob").await;
    let _eve = Person::named(&gate, "eve").await;
    ada.ask("chat/join", "tea").await;
    bob.ask("chat/join", "tea").await;
    // Read up to the last thing said.
    ada.ask("chat/say", "begin").await;
    while ada.push().await.0 != "chat/said" {}
    while bob.push().await.0 != "chat/said" {}

    assert_eq!(bob.error("chat/kick", "ada").await, 1005);
    assert_eq!(ada.error("chat/kick", "nobody").await, 1002);
    assert_eq!(ada.error("chat/kick", "eve").await, 1002, "in another room");
    ada.ask("chat/kick", "bob").await;
    bob.hears("chat/kicked", json!({"room": "tea", "by": "ada"}))
        .await;
    bob.hears("chat/left", json!({"room": "tea", "name": "bob"}))
        .await;
    ada.hears("chat/left", json!({"room": "tea", "name": "bob"}))
        .await;
    bob.ask("chat/say", "out").await;
    let out = json!({"room": "lobby", "from": "bob", "text": "out"});
    bob.hears("chat/said", out).await;
    ada.hears_nothing().await;

    // The lobby is nobody's.
    assert_eq!(bob.error("chat/kick", "eve").await, 1005);
    gate.stop().await;
}

#[tokio::test]
async fn a_room_passes_to_who_has_been_there_for_longest() {
    let gate = gate(1).await;
    let mut ada = Person::named(&gate, "ada").await;
    let mut eve = Person::named(&gate, "eve").await;
    let mut bob = Person::named(&gate, "bob").await;
    for person in [&ada, &eve, &bob] {
        person.ask("chat/join", "tea").await;
    }
    // By the order of coming, not by name; who goes and comes again is last.
    ada.ask("chat/say", "begin").await;
    for person in [&mut ada, &mut eve, &mut bob] {
        while person.push().await.0 != "chat/said" {}
    }
    ada.ask("chat/leave", "").await;
    for person in [&mut eve, &mut bob] {
        let left = json!({"room": "tea", "name": "ada"});
        person.hears("chat/left", left).await;
        let owner = json!({"room": "tea", "name": "eve"});
        person.hears("chat/owner", owner).await;
    }
    ada.ask("chat/join", "tea").await;
    bob.push().await;
    eve.client.close().await;
    bob.hears("chat/left", json!({"room": "tea", "name": "eve"}))
        .await;
    bob.hears("chat/owner", json!({"room": "tea", "name": "bob"}))
        .await;
    while ada.push().await.1 != json!({"room": "tea", "name": "bob"}) {}
    assert_eq!(ada.error("chat/kick", "bob").await, 1005);
    bob.ask("chat/kick", "ada").await;
    let rooms = bob.ask("chat/rooms", "").await;
    assert_eq!(
        rooms["rooms"][1],
        json!({"room": "tea", "people": 1, "owner": "bob"})
    );
    gate.stop().await;
}

#[tokio::test]
async fn a_room_remembers_what_was_said_last() {
    let gate = gate(1).await;
    let ada = Person::named(&gate, "ada").await;
    let none = ada.ask("chat/history", "").await;
    assert_eq!(none, json!({"room": "lobby", "said": []}));
    for i in 0..60 {
        ada.ask("chat/say", i.to_string()).await;
    }
    ada.ask("chat/tell", "ada not this").await;
    let bob = Person::named(&gate, "bob").await;
    let history = bob.ask("chat/history", "").await;
    let said = history["said"].as_array().unwrap();
    let texts: Vec<_> = said.iter().map(|s| s["text"].as_str().unwrap()).collect();
    let last: Vec<_> = (10..60).map(|i| i.to_string()).collect();
    assert_eq!(texts, last);
    assert_eq!(
        (&said[0]["from"], &said[0]["room"]),
        (&json!("ada"), &json!("lobby"))
    );
    let times: Vec<_> = said.iter().map(|s| s["at"].as_u64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    // The longest texts, of what takes the most room as JSON: it still fits a frame.
    for _ in 0..20 {
        ada.ask("chat/say", "\u{1}".repeat(2000)).await;
    }
    let history = bob.ask("chat/history", "").await;
    assert!(history["said"].as_array().unwrap().len() >= 3);
    bob.ask("chat/join", "tea").await;
    let none = bob.ask("chat/history", "").await;
    assert_eq!(none, json!({"room": "tea", "said": []}));
    assert_eq!(
        bob.ask("chat/me", "").await,
        json!({"name": "bob", "room": "tea"})
    );
    gate.stop().await;
}

#[tokio::test]
async fn names_are_taken_once_and_given_back() {
    let gate = gate(1).await;
    let mut ada = Person::named(&gate, "ada").await;
    let mut other = Person::guest(&gate).await;
    for taken in ["ada", "ADA", r#"{"name": " Ada "}"#] {
        assert_eq!(other.error("chat/login", taken).await, 1001);
    }
    for wrong in [
        "",
        "a b",
        "a\u{202e}b",
        r#"{"name": "a\u0000"}"#,
        &"x".repeat(33),
    ] {
        assert_eq!(other.error("chat/login", wrong).await, 1003, "{wrong:?}");
    }
    assert_eq!(other.error("chat/login", "{\"nam\": 1}").await, 10);
    other.ask("chat/login", "bob").await;
    ada.push().await;
    assert_eq!(other.error("chat/login", "bob2").await, 1008);
    assert_eq!(other.error("chat/rename", "Ada").await, 1001);
    assert_eq!(
        other.ask("chat/rename", "Bob").await,
        json!({"name": "Bob"})
    );
    let renamed = json!({"room": "lobby", "name": "Bob", "was": "bob"});
    ada.hears("chat/renamed", renamed.clone()).await;
    other.hears("chat/renamed", renamed).await;
    other.ask("chat/rename", "carl").await;
    other.push().await;
    other.ask("chat/say", "me").await;
    let said = json!({"room": "lobby", "from": "carl", "text": "me"});
    other.hears("chat/said", said).await;
    ada.push().await;
    ada.push().await;
    assert_eq!(ada.error("chat/tell", "bob hello").await, 1002);
    // The name they came with stays theirs while they are there, for nobody to be taken for
    // them; so does the user, and with it the session's right to be resumed.
    let mut third = Person::guest(&gate).await;
    assert_eq!(third.error("chat/login", "BOB").await, 1001);
    assert_eq!(ada.error("chat/rename", "bob").await, 1001);
    let session = gate.gate().user_sessions(&"bob".try_into().unwrap());
    assert_eq!(session[0].get("name").as_deref(), Some("carl"));
    other.ask("chat/rename", "bob").await;
    assert_eq!(other.ask("chat/me", "").await["name"], "bob");
    other.ask("chat/rename", "carl").await;
    other.client.close().await;
    ada.push().await;
    ada.push().await;
    ada.hears("chat/left", json!({"room": "lobby", "name": "carl"}))
        .await;
    for name in ["carl", "bob"] {
        Person::named(&gate, name).await;
    }
    gate.stop().await;
}

#[tokio::test]
async fn guests_only_log_in_and_texts_are_bounded() {
    let gate = gate(1).await;
    let mut ada = Person::guest(&gate).await;
    for method in [
        "say", "tell", "who", "rooms", "join", "leave", "rename", "kick", "me", "history",
    ] {
        assert_eq!(
            ada.error(&format!("chat/{method}"), "x y").await,
            3,
            "{method}"
        );
    }
    ada.ask("chat/login", "ada").await;
    assert_eq!(ada.error("chat/say", "").await, 1007);
    assert_eq!(ada.error("chat/say", "x".repeat(2001)).await, 1007);
    assert_eq!(ada.error("chat/tell", "ada").await, 1007, "no text");
    assert_eq!(ada.error("chat/tell", "nobody hello").await, 1002);
    let longest = "😀".repeat(2000);
    ada.ask("chat/say", longest.as_str()).await;
    assert_eq!(ada.push().await.1["text"], longest);
    gate.stop().await;
}

#[tokio::test]
async fn who_disconnects_has_left() {
    let gate = gate(1).await;
    let mut ada = Person::named(&gate, "ada").await;
    let bob = Person::named(&gate, "bob").await;
    ada.push().await;
    bob.client.close().await;
    ada.hears("chat/left", json!({"room": "lobby", "name": "bob"}))
        .await;
    assert_eq!(ada.error("chat/tell", "bob hello").await, 1002);
    Person::named(&gate, "bob").await;
    gate.stop().await;
}

/// Who has lost their connection is shown away, stays in the room, and misses nothing.
#[tokio::test]
async fn who_is_cut_off_is_away_until_they_are_back() {
    let gate = gate(1).await;
    let mut ada = Person::named(&gate, "ada").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let passing = tunnel(listener, gate.address(0).unwrap());
    let mut bob = Person::speaking(Protocol::Extended, &format!("tcp://{address}")).await;
    bob.ask("chat/login", "bob").await;
    bob.ask("chat/rename", "robert").await;
    ada.push().await;
    ada.push().await;
    bob.push().await;

    passing.abort();
    assert!(passing.await.is_err());
    let away = |away| json!({"room": "lobby", "name": "robert", "away": away});
    ada.hears("chat/away", away(true)).await;
    let who = ada.ask("chat/who", "").await;
    assert_eq!(
        who["people"][1],
        json!({"name": "robert", "room": "lobby", "away": true})
    );
    ada.ask("chat/tell", "robert come back").await;
    for text in ["one", "two"] {
        ada.ask("chat/say", text).await;
        ada.push().await;
    }

    let listener = TcpListener::bind(address).await.unwrap();
    let passing = tunnel(listener, gate.address(0).unwrap());
    let told = json!({"from": "ada", "text": "come back"});
    bob.hears("chat/told", told).await;
    for text in ["one", "two"] {
        let said = json!({"room": "lobby", "from": "ada", "text": text});
        bob.hears("chat/said", said).await;
    }
    ada.hears("chat/away", away(false)).await;
    let who = bob.ask("chat/who", "").await;
    assert_eq!(who["people"][1]["away"], false);
    passing.abort();
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_want_a_name_one_gets_it() {
    let gate = gate(2).await;
    let address: SocketAddr = gate.address(0).unwrap();
    for round in 0..20 {
        let name = format!("n{round}");
        let mut racing = Vec::new();
        for _ in 0..8 {
            let (url, name) = (format!("tcp://{address}"), name.clone());
            racing.push(tokio::spawn(async move {
                let mut person = Person::at(&url).await;
                person.client.send("chat/login/1", name).await.unwrap();
                // An answer that nobody waits for is a push too; or someone else's joining.
                loop {
                    let (topic, body) = person.push().await;
                    match topic.as_str() {
                        ERRORS => break (body["code"] == 1001, person),
                        "chat/login/1" => break (false, person),
                        _ => {}
                    }
                }
            }));
        }
        let mut refused = 0;
        let mut people = Vec::new();
        for race in racing {
            let (was_refused, person) = race.await.unwrap();
            refused += u32::from(was_refused);
            people.push(person);
        }
        assert_eq!(refused, 7);
    }
    gate.stop().await;
}

/// Whoever moves a session at the same time, it ends in the group of the room that its
/// person is in, and in no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kick_during_a_move_leaves_nobody_in_two_rooms() {
    let gate = gate(2).await;
    let ada = Person::named(&gate, "ada").await;
    let bob = Person::named(&gate, "bob").await;
    ada.ask("chat/join", "tea").await;
    for _ in 0..200 {
        let kick = async {
            // Often too late or too early: that is an error, or nothing.
            ada.client.send("chat/kick", "bob").await.unwrap();
            ada.ask("chat/rooms", "").await
        };
        tokio::join!(
            bob.ask("chat/join", "tea"),
            kick,
            bob.ask("chat/join", "cake")
        );
    }
    let in_room = bob.ask("chat/leave", "").await;
    assert_eq!(in_room["room"], "lobby");
    let session = gate
        .gate()
        .user_sessions(&"bob".try_into().unwrap())
        .remove(0);
    let groups: Vec<_> = session
        .groups()
        .iter()
        .map(|g| g.as_str().to_owned())
        .collect();
    assert_eq!(groups, ["chat.lobby"]);
    assert_eq!(session.get("room").as_deref(), Some("lobby"));
    gate.stop().await;
}
