//! A client whose connection breaks comes back, and both sides go on.

use std::sync::Arc;

use tidegate::bus::{CallError, Connected, Ended};
use tidegate::protocol::extended::*;
use tidegate::service::{Service, Session};
use tidegate::{CloseReason, Guests, Identity, Inbound, SessionId};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::*;

fn only_session(gate: &RunningGate) -> tidegate::LocalSession {
    gate.gate().sessions().next().unwrap()
}

/// Of the metrics.
fn dormant_sessions(gate: &RunningGate) -> u64 {
    let page = tidegate::metrics::render(gate.gate());
    let mut lines = page.lines();
    let line = lines.find_map(|line| line.strip_prefix("tidegate_dormant_sessions "));
    line.unwrap().parse().unwrap()
}

async fn dormant(gate: &RunningGate) {
    until("the gate sees the break", || {
        only_session(gate).connected() == Connected::Dormant
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_arrives_in_order_and_nothing_twice() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    let session = only_session(&gate);
    let id = session.id();
    session.set(settings([("k", "v")])).await.unwrap();
    session.set_local_data(7u32);
    session
        .join(tidegate::GroupName::new("room").unwrap())
        .unwrap();
    for n in 1..=3 {
        session.send(packet("n/n", n.to_string())).unwrap();
    }
    // One of three is taken; the others are lost with the connection.
    assert_eq!(client.packet().await.1, "1");
    client.send("echo/echo/1", "before").await;
    client.cut();
    dormant(&gate).await;
    assert_eq!(gate.gate().connection_count(), 0);
    assert_eq!(dormant_sessions(&gate), 1);
    for n in 4..=5 {
        session.send(packet("n/n", n.to_string())).unwrap();
    }
    client.come_back(&gate).await;
    assert!(client.welcome.resumed);
    assert_eq!(dormant_sessions(&gate), 0, "nothing is left of the wait");
    assert_eq!(client.welcome.session, id.to_string());
    assert_eq!(client.welcome.received, 1, "the request came through");
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(client.packet().await.1);
    }
    seen.sort();
    assert_eq!(seen, ["2", "3", "4", "5", "before"]);
    client.send("echo/echo/2", "after").await;
    assert_eq!(client.packet().await.1, "after");
    let session = only_session(&gate);
    assert_eq!(
        (session.id(), session.connected()),
        (id, Connected::Attached)
    );
    assert_eq!(session.get("k").as_deref(), Some("v"));
    assert_eq!(session.local_data::<u32>().as_deref(), Some(&7));
    assert_eq!(session.groups().len(), 1);
    let stats = gate.gate().stats();
    assert_eq!((stats.sessions_started, stats.sessions_ended), (1, 0));
    assert_eq!((stats.dormant, stats.resumed), (1, 1));
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn services_see_one_session_throughout() {
    let log = Log::default();
    let note = |what: &'static str| {
        let log = log.clone();
        move |session: Session| {
            let log = log.clone();
            async move {
                log.add(format!(
                    "{what} {}",
                    session.user().map_or("-".to_owned(), |u| u.to_string())
                ))
            }
        }
    };
    let left = {
        let log = log.clone();
        move |_: Session, ended: Ended| {
            let log = log.clone();
            async move { log.add(format!("left {}", ended.reason.code())) }
        }
    };
    let watcher = Service::new("watcher")
        .on_started(note("started"))
        .on_dormant(note("dormant"))
        .on_resumed(note("resumed"))
        .request("use", async || "")
        .open_to(Guests)
        .on_disconnect(left);
    let gate = builder().service(watcher).start().await.unwrap();
    let mut client = Extended::join(&gate).await;
    client.send("watcher/use/1", "").await;
    client.packet().await;
    client.cut();
    dormant(&gate).await;
    client.come_back(&gate).await;
    client.send("watcher/use/2", "").await;
    client.packet().await;
    assert_eq!(log.wait(3).await, ["started -", "dormant -", "resumed -"]);
    client.cut();
    sleep(100 * SECOND).await;
    until("it expires", || gate.gate().session_count() == 0).await;
    let expired = format!("left {}", CloseReason::NotResumed.code());
    assert_eq!(log.wait(5).await[3..], ["dormant -".to_owned(), expired]);
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_are_answered_after_the_break() {
    let go = Arc::new(Semaphore::new(0));
    let slow = {
        let go = go.clone();
        move || {
            let go = go.clone();
            async move {
                go.acquire().await.unwrap().forget();
                "done"
            }
        }
    };
    let service = Service::new("slow").request("work", slow).open_to(Guests);
    let gate = builder().service(service).start().await.unwrap();
    let mut client = Extended::join(&gate).await;
    client.send("slow/work/1", "").await;
    client.send("slow/work/2", "").await;
    until("they are under way", || {
        only_session(&gate).backlog().calls == 2
    })
    .await;
    client.cut();
    dormant(&gate).await;
    go.add_permits(1);
    until("one is answered", || {
        only_session(&gate).backlog().calls == 1
    })
    .await;
    client.come_back(&gate).await;
    assert_eq!(client.packet().await, ("slow/work/1".into(), "done".into()));
    // The other one's time passes while nobody is there.
    client.cut();
    dormant(&gate).await;
    sleep(11 * SECOND).await;
    client.come_back(&gate).await;
    let Taken::Error(error) = client.take().await else {
        panic!("not an error");
    };
    assert_eq!((&*error.topic, error.packet), ("slow/work/2", 2));
    assert_eq!(error.code, tidegate::ErrorCode::OUTCOME_UNKNOWN.0);
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_connection_takes_over_from_a_half_dead_one() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    let session = only_session(&gate);
    // The old connection is kept open, and says nothing more.
    let mut old = std::mem::replace(&mut client.io, Client::new(tokio::io::duplex(1).0));
    session.send(packet("n/n", "1")).unwrap();
    client.come_back(&gate).await;
    assert!(client.welcome.resumed);
    assert_eq!(client.packet().await.1, "1");
    // What the old one still says does not count.
    assert_eq!(old.recv().await.0, "n/n");
    old.closed().await;
    session.send(packet("n/n", "2")).unwrap();
    assert_eq!(client.packet().await.1, "2");
    let stats = gate.gate().stats();
    assert_eq!((stats.dormant, stats.sessions_ended), (0, 0));
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_address_is_that_of_the_connection() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    client.cut();
    dormant(&gate).await;
    let (ours, theirs) = tokio::io::duplex(65_536);
    let peer = "198.51.100.9:1".parse().unwrap();
    gate.serve(theirs, listener(), peer).unwrap();
    let mut io = Client::new(ours);
    let hello = client.state.hello(&hello());
    io.send(HELLO, &hello.body).await;
    assert!(read_welcome(&mut io).await.resumed);
    assert_eq!(only_session(&gate).ip().to_string(), "198.51.100.9");
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn packets_that_a_hook_looks_at_keep_their_order() {
    let go = Arc::new(Semaphore::new(0));
    let seen = Log::default();
    let hook = {
        let (go, seen) = (go.clone(), seen.clone());
        move |_, packet: Packet| {
            let (go, seen) = (go.clone(), seen.clone());
            async move {
                let text = String::from_utf8(packet.body.to_vec()).unwrap();
                if text == "1" {
                    go.acquire().await.unwrap().forget();
                }
                seen.add(text);
                Ok::<_, CallError>(Inbound::Pass(packet))
            }
        }
    };
    let gate = builder().on_receive(hook).start().await.unwrap();
    let mut client = Extended::join(&gate).await;
    client.send("echo/echo/1", "1").await;
    until("it is taken", || {
        only_session(&gate).packets_received() == 1
    })
    .await;
    client.cut();
    dormant(&gate).await;
    client.come_back(&gate).await;
    assert_eq!(client.welcome.received, 1);
    client.send("echo/echo/2", "2").await;
    client.io.nothing(SECOND / 2).await;
    go.add_permits(1);
    assert_eq!(client.packet().await.1, "1");
    assert_eq!(client.packet().await.1, "2");
    assert_eq!(seen.all(), ["1", "2"]);
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_sessions_that_nobody_came_back_for() {
    let gate = start().await;
    for _ in 0..50 {
        let mut client = Extended::join(&gate).await;
        let session = gate.gate().sessions().next().unwrap();
        session.send(packet("n/n", vec![0; 9000])).unwrap();
        client.cut();
    }
    until("they wait", || {
        gate.gate()
            .sessions()
            .all(|s| s.connected() == Connected::Dormant)
    })
    .await;
    assert_eq!(gate.gate().session_count(), 50);
    assert!(
        gate.gate().memory_used() >= 50 * 9000,
        "it is accounted for"
    );
    sleep(121 * SECOND).await;
    until("they are gone", || gate.gate().session_count() == 0).await;
    assert_eq!(gate.gate().memory_used(), 0);
    let stats = gate.gate().stats();
    assert_eq!(stats.undelivered, 50);
    assert_eq!(gate.gate().closed(CloseReason::NotResumed), 50);
    assert!(gate.gate().session(SessionId(0)).is_none());
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_stops_waits_for_nobody() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    client.cut();
    dormant(&gate).await;
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hook_learns_under_which_id_a_client_authenticated_when_it_came_back() {
    let (asked, mut ids) = tokio::sync::mpsc::unbounded_channel();
    let (back, mut resumed) = tokio::sync::mpsc::unbounded_channel();
    let gate = builder()
        .on_authenticate(Duration::from_secs(1), move |credentials| {
            let _ = asked.send(credentials.session);
            async { Ok(Identity::guest()) }
        })
        .on_resumed(move |session, id| _ = back.send((session.id(), id)));
    let gate = gate.start().await.unwrap();
    let mut client = Extended::join(&gate).await;
    client.cut();
    client.come_back(&gate).await;
    let (first, second) = (ids.recv().await.unwrap(), ids.recv().await.unwrap());
    assert_eq!(resumed.recv().await, Some((first, second)));
    gate.stop().await;
}
