//! How handlers run: order, panics, and the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate::bus::OpenTo::Guests;
use tidegate::bus::*;
use tidegate::service::*;
use tidegate_protocol::{ErrorCode, SessionId};

use crate::support::*;

#[tokio::test]
async fn one_at_a_time_per_session_and_side_by_side_across() {
    let steps = Steps::new();
    let (bus, _running) = run(stepped(&steps)).await;
    let first = packet(&bus, 1, "step", "wait a");
    let second = packet(&bus, 1, "step", "b");
    let third = packet(&bus, 1, "step", "wait c");
    bus.event(EventTarget::Service("s", None), session(1), ENDED);
    let free = packet(&bus, 1, "free", "d");
    assert_eq!(
        at_once(free),
        Some(Ok("d".into())),
        "a concurrent method overtakes"
    );
    assert_eq!(at_once(packet(&bus, 2, "step", "e")), Some(Ok("e".into())));
    assert_eq!(steps.take(), ["1 d", "2 e"]);
    steps.permits.add_permits(1);
    assert_eq!(answer(first).await, Ok("wait a".into()));
    assert_eq!(answer(second).await, Ok("b".into()));
    assert_eq!(steps.take(), ["1 wait a", "1 b"]);
    steps.permits.add_permits(1);
    assert_eq!(answer(third).await, Ok("wait c".into()));
    // The lane is driven to its end: the disconnect comes after the packets.
    assert_eq!(answer(packet(&bus, 1, "step", "f")).await, Ok("f".into()));
    assert_eq!(steps.take(), ["1 wait c", "1 left 1000", "1 f"]);
}

#[tokio::test]
async fn a_panic_ends_its_call_only() {
    let steps = Steps::new();
    let (bus, running) = run(stepped(&steps)).await;
    let internal = Some(Err(ErrorCode::INTERNAL));
    assert_eq!(at_once(packet(&bus, 1, "step", "panic")), internal);
    let later = packet(&bus, 1, "step", "wait panic");
    let in_lane = packet(&bus, 1, "step", "panic");
    let after = packet(&bus, 1, "step", "after");
    steps.permits.add_permits(1);
    assert_eq!(Some(answer(later).await), internal);
    assert_eq!(Some(answer(in_lane).await), internal);
    assert_eq!(answer(after).await, Ok("after".into()));
    assert_eq!(steps.take(), ["1 after"]);
    assert_eq!(running.stop().await, 0);
}

/// Otherwise the gate would take a call that was served for one that was not delivered,
/// and serve it again elsewhere.
#[tokio::test]
async fn a_handler_cannot_say_that_its_call_was_not_delivered() {
    async fn fail(text: String) -> Result<(), CallError> {
        let code = text.parse().unwrap();
        Err(CallError::new(ErrorCode(code), "from elsewhere"))
    }
    let service = Service::new("s").request("fail", fail).open_to(Guests);
    let (bus, _running) = run(service).await;
    for code in ErrorCode::ALL.iter().copied().chain([ErrorCode(1001)]) {
        let seen = match code {
            ErrorCode::NOT_FOUND
            | ErrorCode::ID_REQUIRED
            | ErrorCode::UNAVAILABLE
            | ErrorCode::INSTANCE_GONE
            | ErrorCode::OVERLOADED => ErrorCode::INTERNAL,
            other => other,
        };
        let got = at_once(packet(&bus, 1, "fail", code.0.to_string()));
        assert_eq!(got, Some(Err(seen)));
    }
}

/// Keeps events as text, for the whole process: tracing's cache of who is interested
/// does not go well with subscribers of single threads.
struct Log;

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("tidegate")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(
            &mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                line.push_str(&format!("{field}={value:?};"));
            },
        );
        LOG.lock().push(line);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

fn logged(part: &str) -> Option<String> {
    LOG.lock().iter().find(|line| line.contains(part)).cloned()
}

#[tokio::test]
async fn a_panic_and_a_long_poll_are_logged_with_their_names() {
    async fn hog() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    tracing::subscriber::set_global_default(Log).unwrap();
    let service = stepped(&Steps::new()).request("hog", hog).open_to(Guests);
    let (bus, _running) = run(service).await;
    drop(packet(&bus, 4242, "step", "panic"));
    let line = logged(&SessionId(4242).to_string()).expect("the panic is in the log");
    for part in ["service=\"s\";", "method=\"step\";", "told to \\u{1b}[31m"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!line.contains('\u{1b}'));
    // One line a second is let through, and a panic's backtrace takes long too.
    let line = loop {
        drop(packet(&bus, 1, "hog", ""));
        if let Some(line) = logged("what=\"hog\"") {
            break line;
        }
    };
    assert!(line.contains("owner=\"s\""), "{line}");
}

#[tokio::test(start_paused = true)]
async fn stop_waits_and_then_cuts_off() {
    let steps = Steps::new();
    let (bus, running) = run(stepped(&steps)).await;
    let waiting = packet(&bus, 1, "step", "wait a");
    let behind = packet(&bus, 1, "step", "b");
    let stopping = tokio::spawn(running.stop());
    tokio::task::yield_now().await;
    assert_eq!(
        at_once(packet(&bus, 2, "step", "c")),
        Some(Err(ErrorCode::UNAVAILABLE))
    );
    steps.permits.add_permits(1);
    assert_eq!(answer(waiting).await, Ok("wait a".into()));
    assert_eq!(answer(behind).await, Ok("b".into()));
    assert_eq!(stopping.await.unwrap(), 0);

    let running = stepped(&steps).register(bus.clone()).await.unwrap();
    let waiting = packet(&bus, 1, "step", "wait a");
    let behind = packet(&bus, 1, "step", "b");
    assert_eq!(running.under_way(), 2);
    assert_eq!(running.stop_within(Duration::from_secs(3)).await, 2);
    assert_eq!(at_once(waiting), Some(Err(ErrorCode::OUTCOME_UNKNOWN)));
    assert_eq!(at_once(behind), Some(Err(ErrorCode::OUTCOME_UNKNOWN)));

    let running = stepped(&steps).register(bus.clone()).await.unwrap();
    let waiting = packet(&bus, 1, "step", "wait a");
    drop(running);
    assert_eq!(answer(waiting).await, Err(ErrorCode::OUTCOME_UNKNOWN));

    let running = stepped(&steps).register(bus.clone()).await.unwrap();
    let waiting = packet(&bus, 1, "step", "wait a");
    let given_up = tokio::time::timeout(Duration::from_secs(1), running.stop());
    assert!(given_up.await.is_err());
    assert_eq!(answer(waiting).await, Err(ErrorCode::OUTCOME_UNKNOWN));
}

#[test]
fn a_runtime_that_goes_takes_its_calls_and_no_lane_with_it() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    let (steps, one, two) = (Steps::new(), runtime(), runtime());
    let (bus, running) = one.block_on(run(stepped(&steps)));
    let (waiting, behind) = two.block_on(async {
        (
            packet(&bus, 1, "step", "wait a"),
            packet(&bus, 1, "step", "b"),
        )
    });
    drop(two);
    assert_eq!(at_once(waiting), Some(Err(ErrorCode::OUTCOME_UNKNOWN)));
    assert_eq!(at_once(behind), Some(Err(ErrorCode::OUTCOME_UNKNOWN)));
    assert_eq!(at_once(packet(&bus, 1, "step", "c")), Some(Ok("c".into())));
    // From outside of any runtime a handler goes on where its service was registered.
    let waiting = packet(&bus, 1, "step", "wait d");
    steps.permits.add_permits(1);
    assert_eq!(one.block_on(answer(waiting)), Ok("wait d".into()));
    assert_eq!(one.block_on(running.stop()), 0);
}

#[tokio::test]
async fn a_service_that_calls_itself_for_the_session_does_not_wait_for_itself() {
    async fn outer(session: Session, services: Services) -> Result<Bytes, CallError> {
        tokio::task::yield_now().await;
        services
            .with_session(&session)
            .request("s", "inner", "x")
            .await
    }
    async fn inner(session: Session, body: String) -> String {
        tokio::task::yield_now().await;
        format!("{body} {}", session.id().0)
    }
    let service = Service::new("s")
        .request("outer", outer)
        .open_to(Guests)
        .request("inner", inner);
    let (bus, _running) = run(service).await;
    assert_eq!(answer(packet(&bus, 5, "outer", "")).await, Ok("x 5".into()));
    let services = Services::new(bus);
    let missing = services.send("s", "a/b", "").await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::NOT_FOUND);
}

#[tokio::test]
async fn calls_within_calls_do_not_use_up_the_stack() {
    async fn down(services: Services, n: String) -> Result<String, CallError> {
        match n.parse::<u32>().unwrap() {
            0 => Ok("bottom".into()),
            n => {
                let body = services.request("s", "down", (n - 1).to_string()).await?;
                Ok(String::from_utf8(body.to_vec()).unwrap())
            }
        }
    }
    let (bus, _running) = run(Service::new("s").request("down", down)).await;
    let bottom = Services::new(bus).request("s", "down", "20000").await;
    assert_eq!(bottom.unwrap(), "bottom");
}

#[tokio::test(start_paused = true)]
async fn too_many_waiting_and_callers_that_left() {
    let steps = Steps::new();
    let (bus, running) = run(stepped(&steps)).await;
    let mut waiting = vec![packet(&bus, 1, "step", "wait")];
    waiting.extend((0..MAX_WAITING).map(|_| packet(&bus, 1, "step", "next")));
    assert_eq!(
        at_once(packet(&bus, 1, "step", "x")),
        Some(Err(ErrorCode::OVERLOADED))
    );
    bus.event(EventTarget::Service("s", None), session(1), ENDED);
    // Nobody waits any more: everything is served all the same, the answers discarded.
    drop(waiting);
    let services = Services::new(bus.clone()).deadline(Duration::from_secs(1));
    let late = services.with_session(&Session::new(bus.clone(), session(2), 0));
    let late = late.request("s", "step", "wait too").await.unwrap_err();
    assert_eq!(late.code, ErrorCode::OUTCOME_UNKNOWN);
    steps.permits.add_permits(2);
    assert_eq!(running.stop().await, 0);
    let served = steps.take();
    assert_eq!(served.len(), MAX_WAITING + 3);
    assert!(served.contains(&"2 wait too".to_owned()));
    assert!(served.contains(&"1 left 1000".to_owned()));
}

/// Sessions' packets from several threads to handlers that wait at random: each is
/// served once, in its session's order, one at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn order_and_no_loss_under_stress() {
    const SESSIONS: usize = 32;
    const PACKETS: usize = 2_000;
    type Seen = Arc<Vec<Mutex<(bool, Vec<usize>)>>>;
    async fn note(session: Session, body: String, State(seen): State<Seen>) {
        let (mine, number) = (&seen[session.id().0 as usize], body.parse().unwrap());
        let before = std::mem::replace(&mut mine.lock().0, true);
        assert!(!before, "two at a time");
        for _ in 0..[0, 0, 0, 1, 3][rand::random_range(0..5)] {
            tokio::task::yield_now().await;
        }
        let mut mine = mine.lock();
        mine.1.push(number);
        mine.0 = false;
    }
    let seen: Seen = Arc::new((0..SESSIONS).map(|_| Mutex::default()).collect());
    async fn left(session: Session, State(seen): State<Seen>) {
        let mut mine = seen[session.id().0 as usize].lock();
        assert!(!mine.0, "two at a time");
        mine.1.push(PACKETS);
    }
    let service = Service::new("s").one_way("note", note).open_to(Guests);
    let (bus, running) = run(service.on_disconnect(left).state(seen.clone())).await;
    let clients = (0..SESSIONS).map(|id| {
        let bus = bus.clone();
        tokio::spawn(async move {
            // As a gate: many in flight, handed in one after the other.
            let mut flying = std::collections::VecDeque::new();
            for number in 0..PACKETS {
                flying.push_back(packet(&bus, id as u128, "note", number.to_string()));
                if flying.len() > rand::random_range(0..20) {
                    answer(flying.pop_front().unwrap()).await.unwrap();
                }
                if rand::random_range(0..50) == 0 {
                    tokio::task::yield_now().await;
                }
            }
            bus.event(EventTarget::Service("s", None), session(id as u128), ENDED);
            for last in flying {
                answer(last).await.unwrap();
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    assert_eq!(running.stop().await, 0);
    for mine in &*seen {
        assert!(mine.lock().1.iter().copied().eq(0..=PACKETS));
    }
}
