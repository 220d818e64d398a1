//! How often one user may be logged in: who gets in, who goes, who is told what.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::StreamExt;
use futures_util::future::join_all;
use harness::*;
use serde_json::{Value, json};
use tidegate::bus::{Connected, GateError};
use tidegate::{
    CloseReason, Credentials, DeviceId, Gate, Identity, LocalSession, Logins, Protocol,
    RunningGate, Tcp, WebSocket,
};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

fn limit(n: u32) -> Logins {
    Logins::limit(NonZeroU32::new(n).unwrap())
}

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn v1() -> Tcp {
    Tcp::bind("memory").protocol(Protocol::V1)
}

async fn guest(gate: &RunningGate) -> (Client, LocalSession) {
    session_of(gate, |gate| connect_with(gate, v1(), 1024)).await
}

async fn guests(gate: &RunningGate, n: usize) -> (Vec<Client>, Vec<LocalSession>) {
    let before: Vec<_> = gate.gate().sessions().map(|s| s.id()).collect();
    let clients = (0..n).map(|_| connect_with(gate, v1(), 1024)).collect();
    let new = |gate: &Gate| -> Vec<_> {
        let all = gate.sessions();
        all.filter(|s| !before.contains(&s.id())).collect()
    };
    until("all have sessions", || new(gate.gate()).len() == n).await;
    (clients, new(gate.gate()))
}

/// All bind at the same time.
async fn race(sessions: &[LocalSession], name: &str) -> Vec<Result<(), GateError>> {
    let start = Arc::new(Barrier::new(sessions.len()));
    let binds = sessions.iter().map(|session| {
        let (session, start, user) = (session.clone(), start.clone(), user(name));
        tokio::spawn(async move {
            start.wait().await;
            session.bind(user).await.map(drop)
        })
    });
    let bound = join_all(binds).await;
    bound.into_iter().map(Result::unwrap).collect()
}

/// Looks all the time how many sessions the user has.
struct Watch {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn over(gate: &Gate, name: &str) -> Self {
        let (stop, most) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (gate, user) = (gate.clone(), user(name));
        let (stopped, seen) = (stop.clone(), most.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                seen.fetch_max(gate.user_sessions(&user).len(), Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        Self { stop, most, thread }
    }

    fn most(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.most.load(Ordering::Relaxed)
    }
}

const RACES: u64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_thousand_races_each_has_one_winner_where_others_are_refused() {
    let gate = builder().shards(2).logins(limit(1).refuse());
    let gate = gate.start().await.unwrap();
    let (_clients, sessions) = guests(&gate, 8).await;
    let watch = Watch::over(gate.gate(), "u1");
    for _ in 0..RACES {
        let bound = race(&sessions, "u1").await;
        let mut winners = (0..sessions.len()).filter(|i| bound[*i].is_ok());
        let winner = winners.next().unwrap();
        assert_eq!(winners.next(), None);
        let others = bound.into_iter().filter_map(Result::err);
        assert!(others.into_iter().all(|e| e == GateError::TooManyLogins));
        let has = gate.gate().user_sessions(&user("u1"));
        assert_eq!(has.len(), 1);
        assert_eq!(has[0].id(), sessions[winner].id());
        sessions[winner].unbind().await.unwrap();
    }
    assert_eq!(watch.most(), 1);
    // Who was refused is a guest as before.
    assert!(
        sessions
            .iter()
            .all(|s| s.connected() == Connected::Attached)
    );
    assert!(sessions.iter().all(LocalSession::is_guest));
    assert_eq!(gate.gate().stats().logins_refused, 7 * RACES);
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_thousand_races_one_is_left_where_others_are_replaced() {
    let gate = builder().shards(2).logins(limit(1));
    let gate = gate.start().await.unwrap();
    let watch = Watch::over(gate.gate(), "u1");
    let (client, mut had) = guest(&gate).await;
    let mut clients = vec![client];
    had.bind(user("u1")).await.unwrap();
    for race_no in 1..=RACES {
        let (new, sessions) = guests(&gate, 4).await;
        let bound = race(&sessions, "u1").await;
        assert!(bound.iter().all(Result::is_ok), "{bound:?}");
        let has = gate.gate().user_sessions(&user("u1"));
        assert_eq!(has.len(), 1, "race {race_no}");
        assert_ne!(has[0].id(), had.id());
        assert_eq!(has[0].connected(), Connected::Attached);
        let lost = sessions.iter().filter(|s| s.id() != has[0].id());
        let lost = lost.chain([&had]).map(LocalSession::connected);
        assert_eq!(lost.collect::<Vec<_>>(), [Connected::Gone; 4]);
        had = has[0].clone();
        // They need not wait for their clients to close. Of these here one goes on.
        drop(std::mem::replace(&mut clients, new));
    }
    assert_eq!(watch.most(), 1, "never two at a time");
    assert_eq!(gate.gate().stats().logins_replaced, 4 * RACES);
    drop(clients);
    until("all have ended", || gate.gate().session_count() == 0).await;
    let closed = gate.gate().closed(CloseReason::Replaced);
    // A client may have gone before its session was done closing.
    assert!(closed > 0 && closed <= 4 * RACES);
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_a_limit_of_three_three_are_left() {
    for logins in [limit(3), limit(3).refuse()] {
        let gate = builder().shards(2).logins(logins);
        let gate = gate.start().await.unwrap();
        let watch = Watch::over(gate.gate(), "u1");
        for _ in 0..100 {
            let (clients, sessions) = guests(&gate, 8).await;
            let bound = race(&sessions, "u1").await;
            let refused = bound.iter().filter(|b| b.is_err()).count();
            let has = gate.gate().user_sessions(&user("u1"));
            assert_eq!(has.len(), 3);
            let live = has.iter().filter(|s| s.connected() == Connected::Attached);
            assert_eq!(live.count(), 3);
            let expected = if logins == limit(3) { 0 } else { 5 };
            assert_eq!(refused, expected);
            drop(clients);
            until("they leave", || gate.gate().session_count() == 0).await;
        }
        assert_eq!(watch.most(), 3);
        gate.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_goes_first_and_places_are_given_back() {
    let gate = builder().logins(limit(2)).start().await.unwrap();
    let (_clients, s) = guests(&gate, 6).await;
    for session in &s[..3] {
        session.bind(user("u1")).await.unwrap();
    }
    let bound = |s: &LocalSession| !s.is_guest() && s.connected() == Connected::Attached;
    until("the first is closed", || gate.gate().session_count() == 5).await;
    assert_eq!(s.iter().map(bound).filter(|b| *b).count(), 2);
    assert_eq!(gate.gate().closed(CloseReason::Replaced), 1);
    assert_eq!(s[0].connected(), Connected::Gone);
    // Binding again is no other login.
    s[1].bind(user("u1")).await.unwrap();
    // Nor is one as another user.
    s[3].bind(user("u2")).await.unwrap();
    // An unbound one has no place, nor one that is closed.
    s[1].unbind().await.unwrap();
    s[4].bind(user("u1")).await.unwrap();
    s[2].close(CloseReason::Kicked);
    s[5].bind(user("u1")).await.unwrap();
    assert_eq!(gate.gate().closed(CloseReason::Replaced), 1);
    // From one user to the other.
    s[1].bind(user("u2")).await.unwrap();
    assert_eq!(gate.gate().user_sessions(&user("u1")).len(), 2);
    assert_eq!(gate.gate().user_sessions(&user("u2")).len(), 2);
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn devices_are_counted_apart_and_those_without_as_one() {
    let logins = limit(1).per_device().refuse();
    let gate = builder().logins(logins).start().await.unwrap();
    let (_clients, s) = guests(&gate, 5).await;
    let (phone, desk) = (device("phone"), device("desk"));
    let service = as_service(&gate, &s[0]);
    service.bind_device("u1", "phone").await.unwrap();
    assert_eq!(service.device(), Some(phone.clone()), "services see it");
    assert_eq!(s[0].device(), Some(phone.clone()));
    s[1].bind_device(user("u1"), desk.clone()).await.unwrap();
    s[2].bind(user("u1")).await.unwrap();
    let too_many = Err(GateError::TooManyLogins);
    let bind = async |s: &LocalSession, d: &DeviceId| {
        let bound = s.bind_device(user("u1"), d.clone()).await;
        bound.map(drop)
    };
    assert_eq!(bind(&s[3], &phone).await, too_many);
    assert_eq!(s[3].device(), None, "as it was");
    assert_eq!(s[3].bind(user("u1")).await.map(drop), too_many);
    bind(&s[3], &device("watch")).await.unwrap();
    assert_eq!(bind(&s[4], &device("watch")).await, too_many);
    // A session keeps its device, and its place on it.
    bind(&s[0], &desk).await.unwrap();
    assert_eq!(s[0].device(), Some(phone.clone()));
    s[0].unbind().await.unwrap();
    bind(&s[4], &phone).await.unwrap();
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bind_that_fails_keeps_no_place_and_closes_nobody() {
    for logins in [limit(1), limit(1).refuse()] {
        let store = TestStore::default();
        let builder = builder().logins(logins).store(store.clone());
        let gate = builder.start().await.unwrap();
        let (_clients, s) = guests(&gate, 3).await;
        if logins == limit(1) {
            s[0].bind(user("u1")).await.unwrap();
        }
        store.mood("u1", Some(Mood::Fails));
        let failed = s[1].bind(user("u1")).await;
        assert!(matches!(failed, Err(GateError::Store(_))), "{failed:?}");
        assert_eq!(s[0].connected(), Connected::Attached);
        // Nor does one that is given up.
        store.log.clear();
        let latch = Latch::new();
        store.mood("u1", Some(Mood::Waits(latch)));
        let slow = s[1].clone();
        let slow = tokio::spawn(async move { slow.bind(user("u1")).await.map(drop) });
        store.log.wait(1).await;
        if logins == limit(1).refuse() {
            let other = s[2].bind(user("u1")).await.map(drop);
            assert_eq!(other, Err(GateError::TooManyLogins), "being bound counts");
        }
        slow.abort();
        assert!(slow.await.is_err());
        store.mood("u1", None);
        assert_eq!(s[0].connected(), Connected::Attached);
        s[2].bind(user("u1")).await.unwrap();
        assert_eq!(gate.gate().user_sessions(&user("u1")).len(), 1);
        gate.stop().await;
    }
}

/// Who is refused leaves nothing in the store.
#[tokio::test(start_paused = true)]
async fn a_refused_login_does_not_change_the_users_settings() {
    let store = TestStore::default();
    let builder = builder().logins(limit(1).refuse()).store(store.clone());
    let gate = builder.start().await.unwrap();
    let (_clients, s) = guests(&gate, 2).await;
    s[0].bind(user("u1")).await.unwrap();
    s[1].set(settings([("k", "mine")])).await.unwrap();
    store.log.clear();
    assert!(s[1].bind(user("u1")).await.is_err());
    assert!(store.log.all().is_empty());
    assert_eq!(s[1].get("k").as_deref(), Some("mine"));
    gate.stop().await;
}

/// A gate on sockets whose clients say who they are: by the path, or in their `$hello`.
async fn on_sockets(logins: Logins) -> RunningGate {
    let tcp = Tcp::bind("127.0.0.1:0").resume_over_plaintext(true);
    builder()
        .shards(2)
        .logins(logins)
        .listen(tcp.protocol(Protocol::Extended))
        .listen(WebSocket::bind("127.0.0.1:0").path("/u1"))
        .on_authenticate(5 * SECOND, async |who: Credentials| {
            let said = who
                .hello
                .map(|auth| serde_json::from_slice::<String>(&auth));
            let name = match said {
                Some(name) => name.unwrap(),
                None => "u1".to_owned(),
            };
            Ok(Identity::user(user(&name)))
        })
        .start()
        .await
        .unwrap()
}

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// Opens with a `$hello`; answers the first packet.
async fn open(gate: &RunningGate, device: &str, token: Option<&str>) -> (Client<TcpStream>, Value) {
    let mut client = Client::tcp(gate, 0).await;
    let mut hello = json!({
        "versions": [1], "capabilities": ["resume"], "device": device, "auth": "u1",
    });
    if let Some(token) = token {
        hello["resume"] = json!({ "token": token, "received": 0 });
    }
    client.send("$hello", hello.to_string()).await;
    let (topic, body) = client.recv().await;
    let mut said: Value = serde_json::from_slice(&body).unwrap();
    said["topic"] = topic.into();
    client.send("$ack", 0u64.to_le_bytes()).await;
    (client, said)
}

async fn close_code(client: &mut Client<TcpStream>) -> u64 {
    loop {
        let (topic, body) = client.recv().await;
        if topic == "$close" {
            let said: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(said["reconnect"], false);
            client.closed().await;
            return said["code"].as_u64().unwrap();
        }
    }
}

async fn ws_close_code(gate: &RunningGate) -> u16 {
    let url = format!("ws://{}/u1", gate.address(1).unwrap());
    let (mut ws, _) = connect_async(url).await.unwrap();
    within("it is closed", ws_closed(&mut ws)).await
}

async fn ws_closed<S>(ws: &mut S) -> u16
where
    S: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    while let Some(message) = ws.next().await {
        if let Message::Close(Some(close)) = message.unwrap() {
            return close.code.into();
        }
    }
    panic!("no close frame");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_both_protocols_are_told_that_they_are_replaced() {
    let gate = on_sockets(limit(1)).await;
    let (mut first, welcome) = open(&gate, "phone", None).await;
    assert_eq!(welcome["topic"], "$welcome");
    let token = welcome["resume"]["token"].as_str().unwrap().to_owned();
    let url = format!("ws://{}/u1", gate.address(1).unwrap());
    let (mut ws, _) = connect_async(url).await.unwrap();
    assert_eq!(close_code(&mut first).await, 4510);
    // It had a token. That of a replaced session neither resumes nor replaces.
    let (mut again, said) = open(&gate, "phone", Some(&token)).await;
    assert_eq!(
        (&said["topic"], &said["code"]),
        (&"$close".into(), &4510.into())
    );
    assert_eq!(said["reconnect"], false);
    again.closed().await;
    let (_second, welcome) = open(&gate, "phone", None).await;
    assert_eq!(welcome["topic"], "$welcome");
    assert_eq!(within("its close", ws_closed(&mut ws)).await, 4510);
    until("one is left", || gate.gate().session_count() == 1).await;
    assert_eq!(gate.gate().stats().logins_replaced, 2);
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_both_protocols_are_told_that_they_are_refused() {
    let gate = on_sockets(limit(1).refuse()).await;
    let (mut first, _) = open(&gate, "phone", None).await;
    let (mut other, said) = open(&gate, "phone", None).await;
    assert_eq!(
        (&said["topic"], &said["code"]),
        (&"$close".into(), &4511.into())
    );
    other.closed().await;
    assert_eq!(ws_close_code(&gate).await, 4511);
    assert_eq!(first.ask("echo/echo/1", "still here").await, "still here");
    assert_eq!(gate.gate().stats().logins_refused, 2);
    assert_eq!(gate.gate().closed(CloseReason::TooManyLogins), 2);
    drop(first);
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dormant_session_counts_and_gives_way_to_its_own_device() {
    for logins in [limit(1), limit(1).refuse()] {
        let gate = on_sockets(logins).await;
        let (phone, welcome) = open(&gate, "phone", None).await;
        let token = welcome["resume"]["token"].as_str().unwrap().to_owned();
        let dormant = |gate: &RunningGate| {
            let mut sessions = gate.gate().sessions();
            sessions.any(|s| s.connected() == Connected::Dormant)
        };
        drop(phone);
        until("it waits", || dormant(&gate)).await;
        if logins == limit(1).refuse() {
            // It may come back any moment.
            let (_, said) = open(&gate, "desk", None).await;
            assert_eq!(said["code"], 4511);
            let (phone, said) = open(&gate, "phone", Some(&token)).await;
            assert_eq!(said["resumed"], true);
            drop(phone);
            until("it waits again", || dormant(&gate)).await;
        }
        // The client has lost its token, and is not locked out.
        let (mut phone, said) = open(&gate, "phone", None).await;
        assert_eq!(
            (&said["topic"], &said["resumed"]),
            (&"$welcome".into(), &false.into())
        );
        assert_eq!(phone.ask("echo/echo/1", "hi").await, "hi");
        until("the other is gone", || gate.gate().session_count() == 1).await;
        assert_eq!(gate.gate().closed(CloseReason::Replaced), 1);
        drop(phone);
        gate.stop().await;
    }
}
