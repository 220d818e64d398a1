//! One session's calls, in their order, whichever method they call.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tidegate::bus::{Bus, Ended, Event, EventTarget};
use tidegate::service::{Service, Session};
use tidegate::{Bound, Guests};
use tidegate_protocol::{CloseReason, SessionId};
use tidegate_test_servers::{NatsServer, eventually};

use crate::support::*;

const SESSIONS: u128 = 8;
const CALLS: u64 = 10_000;
/// Calls of a session under way at a time.
const WINDOW: usize = 256;

type Seen = Arc<Mutex<HashMap<SessionId, Vec<u64>>>>;

/// Takes a call's number down, every so often not at once.
async fn take(seen: Seen, session: Session, number: String) {
    let number: u64 = number.parse().unwrap();
    if number.is_multiple_of(7) {
        tokio::task::yield_now().await;
    }
    seen.lock().entry(session.id()).or_default().push(number);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_of_each_session_over_methods_and_login_and_its_end() {
    let server = NatsServer::start().await;
    let (near, far) = (bus(&server, "service").await, bus(&server, "gate-1").await);
    let seen = Seen::default();
    let method = |seen: &Seen| {
        let seen = seen.clone();
        move |session: Session, number: String| take(seen.clone(), session, number)
    };
    let ended = seen.clone();
    let service = Service::new("game")
        .request("look", method(&seen))
        .open_to(Guests)
        .one_way("login", method(&seen))
        .open_to(Guests)
        .request("move", method(&seen))
        .open_to(Bound)
        .one_way("shoot", method(&seen))
        .open_to(Bound)
        .on_disconnect(move |session: Session| {
            ended.lock().entry(session.id()).or_default().push(u64::MAX);
            async {}
        })
        .register(near)
        .await
        .unwrap();
    let began = Instant::now();
    let sessions = (0..SESSIONS).map(|number| {
        let bus = far.clone();
        async move {
            let (guest, bound) = (session(number, false), session(number, true));
            let mut under_way = VecDeque::new();
            for call in 0..CALLS {
                // It logs in halfway; what comes after is of another class.
                let (who, method) = match (call < CALLS / 2, call % 2) {
                    (true, 0) => (&guest, "look"),
                    (true, _) => (&guest, "login"),
                    (false, 0) => (&bound, "move"),
                    (false, _) => (&bound, "shoot"),
                };
                under_way.push_back(ask(&*bus, who, "game", method, None, call.to_string()));
                if under_way.len() >= WINDOW {
                    outcome(under_way.pop_front().unwrap()).await.unwrap();
                }
            }
            // The end is told before the last of them has been answered.
            let ended = Ended {
                reason: CloseReason::ClientLeft,
                undelivered_packets: 0,
                undelivered_bytes: 0,
            };
            let target = EventTarget::Service("game", None);
            bus.event(target, bound, Event::Disconnected(ended));
            for answer in under_way {
                outcome(answer).await.unwrap();
            }
        }
    });
    join_all(sessions).await;
    let all = |seen: &HashMap<_, Vec<u64>>| seen.values().all(|s| s.last() == Some(&u64::MAX));
    eventually("all ends were told", async || {
        all(&seen.lock()).then_some(())
    })
    .await;
    let expected: Vec<u64> = (0..CALLS).chain([u64::MAX]).collect();
    let seen = seen.lock();
    assert_eq!(seen.len(), SESSIONS as usize);
    for (session, seen) in &*seen {
        let wrong = seen.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!((wrong, seen.len()), (None, expected.len()), "{session}");
    }
    println!(
        "{SESSIONS} sessions x {CALLS} calls over 4 methods, a login and an end, all in order: {:?}",
        began.elapsed()
    );
    drop(service);
}
