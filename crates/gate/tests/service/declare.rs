//! How services are declared, and what their handlers take and give.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tidegate::bus::OpenTo::{Bound, Guests, Internal};
use tidegate::bus::local::LocalBus;
use tidegate::bus::*;
use tidegate::service::*;
use tidegate_protocol::{ErrorCode, GateId, InstanceId, UserId};
use tokio::sync::mpsc;

use crate::support::*;

#[tokio::test]
async fn a_service_in_ten_lines() -> Result<(), Box<dyn std::error::Error>> {
    async fn greet(session: Session, name: String) -> String {
        format!("hello {name} on {}", session.network())
    }
    async fn wave(Json((x, y)): Json<(i32, i32)>) -> Result<(), CallError> {
        if x == y {
            Err(CallError::service(1000, "no direction"))
        } else {
            Ok(())
        }
    }
    let service = Service::new("s")
        .request("greet", greet)
        .open_to(Guests)
        .one_way("wave", wave);
    let bus = Arc::new(LocalBus::new());
    let running = service.register(bus.clone()).await?;

    // Ready in place: answered before the call returns.
    assert_eq!(
        at_once(packet(&bus, 1, "greet", "ada")),
        Some(Ok("hello ada on ws".into()))
    );
    let wave = |body: &'static str, id| {
        at_once(call(
            &bus,
            Caller::Bound,
            Some(session(1)),
            "wave",
            body.into(),
            id,
        ))
        .unwrap()
    };
    assert_eq!(wave("[1,2]", false), Ok(Bytes::new()));
    assert_eq!(
        wave("[1,2]", true),
        Ok(Bytes::new()),
        "one-way with an id: empty answer"
    );
    assert_eq!(wave("[1,1]", true), Err(ErrorCode(1000)));
    assert_eq!(running.stop().await, 0);
    assert_eq!(
        at_once(packet(&bus, 1, "greet", "ada")),
        Some(Err(ErrorCode::UNAVAILABLE))
    );
    Ok(())
}

#[tokio::test]
async fn who_may_call_and_who_must_ask_for_an_answer() {
    async fn ok() {}
    let ran = Arc::new(AtomicUsize::new(0));
    let count = |State(ran): State<Arc<AtomicUsize>>| async move {
        ran.fetch_add(1, Ordering::Relaxed);
    };
    let service = Service::new("s")
        .request("guests", ok)
        .open_to(Guests)
        .request("bound", ok)
        .request("bound2", ok)
        .open_to(Bound)
        .request("internal", ok)
        .open_to(Internal)
        .request("count", count)
        .open_to(Guests)
        .state(ran.clone());
    let (bus, _running) = run(service).await;
    let code = |caller, method, id| {
        let answer = call(&bus, caller, Some(session(1)), method, Bytes::new(), id);
        at_once(answer).unwrap().err()
    };
    let hidden = Some(ErrorCode::NOT_FOUND);
    for (method, guest, bound) in [
        ("guests", None, None),
        ("bound", hidden, None),
        ("bound2", hidden, None),
        ("internal", hidden, hidden),
        ("on_started", hidden, hidden),
    ] {
        assert_eq!(code(Caller::Guest, method, true), guest, "{method}");
        assert_eq!(code(Caller::Bound, method, true), bound, "{method}");
    }
    assert_eq!(code(Caller::Internal, "internal", true), None);
    assert_eq!(
        code(Caller::Guest, "count", false),
        Some(ErrorCode::ID_REQUIRED)
    );
    assert_eq!(
        code(Caller::Internal, "count", false),
        Some(ErrorCode::ID_REQUIRED)
    );
    assert_eq!(ran.load(Ordering::Relaxed), 0, "the handler did not run");
}

#[tokio::test]
async fn arguments() {
    async fn json(Json(v): Json<HashMap<String, u8>>) -> Json<usize> {
        Json(v.len())
    }
    async fn whole(
        s: Option<Session>,
        body: Bytes,
        info: CallInfo,
        _: Clients,
        _: Services,
    ) -> String {
        format!(
            "{} {} {} {:?}",
            s.is_some(),
            body.len(),
            info.method,
            info.caller
        )
    }
    async fn needs(_: Session) {}
    let service = Service::new("s")
        .instance("i")
        .request("json", json)
        .open_to(Guests)
        .request("whole", whole)
        .open_to(Guests)
        .request("text", async |s: String| s)
        .open_to(Guests)
        .request("needs", needs)
        .open_to(Guests)
        .sticky();
    let (bus, _running) = run(service).await;
    let given = packet(&bus, 1, "json", "{\"a\":1}").await.unwrap().unwrap();
    assert_eq!(
        (&*given.body, given.instance),
        (&b"1"[..], Some(InstanceId::new("i").unwrap()))
    );
    let long = format!("{{\"a\":\"{}\"}}", "é".repeat(1000));
    let error = packet(&bus, 1, "json", long).await.unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::BAD_BODY);
    assert!(
        error.message.contains("invalid type") && error.message.len() <= 200,
        "{error}"
    );
    assert_eq!(
        at_once(packet(&bus, 1, "whole", "abc")),
        Some(Ok("true 3 whole Guest".into()))
    );
    assert_eq!(
        at_once(packet(&bus, 1, "text", &[0xff][..])),
        Some(Err(ErrorCode::BAD_BODY))
    );
    let without = |m| at_once(call(&bus, Caller::Internal, None, m, Bytes::new(), true)).unwrap();
    assert_eq!(without("whole"), Ok("false 0 whole Internal".into()));
    assert_eq!(without("needs"), Err(ErrorCode::INTERNAL));
}

#[tokio::test]
async fn mistakes_show_when_built() {
    async fn body(_: Bytes) {}
    async fn with_state(_: State<UserId>) {}
    async fn ended(_: Ended) {}
    async fn previous(_: Previous) {}
    async fn gone(_: GateGone) {}
    async fn of_session(_: Session) {}
    let error = |s: Service| s.build().expect_err("built").to_string();
    let s = || Service::new("s");
    assert!(error(Service::new("a.b")).starts_with("a service or method name"));
    assert!(error(s().request("a/b", body)).starts_with("a service or method name"));
    assert!(error(s().instance("")).starts_with("an instance id"));
    assert_eq!(
        error(s().one_way("a", body).request("a", body)),
        "method a is declared twice"
    );
    assert_eq!(
        error(s().concurrent()),
        "concurrent stands before the first method"
    );
    let missing = error(s().request("a", with_state));
    assert!(
        missing.starts_with("a takes State<") && missing.contains("UserId"),
        "{missing}"
    );
    assert!(error(s().state(1u8).state(2u8)).starts_with("two states of type u8"));
    assert!(error(s().on_started(body)).starts_with("on_started takes a body"));
    assert!(error(s().request("a", ended)).starts_with("a takes the end of a session"));
    assert!(error(s().on_disconnect(previous)).contains("previous instance"));
    assert!(error(s().on_disconnect(gone)).contains("a gate that died"));
    assert_eq!(
        error(s().on_gate_gone(of_session)),
        "on_gate_gone takes a session, which there is none of here"
    );
    assert!(
        s().on_disconnect(ended)
            .on_rebound(previous)
            .build()
            .is_ok()
    );
    let registered = s().concurrent().register(Arc::new(LocalBus::new())).await;
    assert!(matches!(registered, Err(RegisterError::Build(_))));
}

#[tokio::test]
async fn the_other_events_and_their_errors() {
    let (tx, mut seen) = mpsc::unbounded_channel::<String>();
    type Seen = State<mpsc::UnboundedSender<String>>;
    let service = Service::new("s")
        .on_started(async |_: Session, State(tx): Seen| tx.send("started".into()).unwrap())
        .on_rebound(
            async |Previous(p): Previous, State(tx): Seen| -> Result<(), CallError> {
                tx.send(format!("from {p}")).unwrap();
                Err(CallError::service(1000, "only logged"))
            },
        )
        .state(tx);
    let (bus, _running) = run(service).await;
    bus.event(EventTarget::WhoAsked, session(1), Event::Started);
    let from = InstanceId::new("old").unwrap();
    bus.event(
        EventTarget::Service("s", None),
        session(1),
        Event::Rebound { from },
    );
    bus.event(EventTarget::Service("s", None), session(1), ENDED);
    assert_eq!(seen.try_recv().unwrap(), "started");
    assert_eq!(seen.try_recv().unwrap(), "from old");
    assert!(seen.try_recv().is_err());
}

/// A bus that keeps what is registered on it, to speak to it as another bus would.
#[derive(Default)]
struct Keep {
    bus: LocalBus,
    endpoint: parking_lot::Mutex<Option<Arc<dyn Endpoint>>>,
}

impl Bus for Keep {
    fn register(
        &self,
        info: InstanceInfo,
        endpoint: Arc<dyn Endpoint>,
    ) -> BoxFuture<'static, Result<Registration, BusError>> {
        assert!(info.wants_gates);
        *self.endpoint.lock() = Some(endpoint);
        ready(Ok(Registration::new(|| {}))).boxed()
    }
    as_in_bus! { call others }
}

#[tokio::test]
async fn a_gate_that_died() {
    let (tx, mut seen) = mpsc::unbounded_channel::<GateGone>();
    type Seen = State<mpsc::UnboundedSender<GateGone>>;
    let bus = Arc::new(Keep::default());
    let running = Service::new("s")
        .on_gate_gone(
            async |gone: GateGone, s: Option<Session>, State(tx): Seen| {
                assert!(s.is_none());
                tokio::task::yield_now().await;
                tx.send(gone).unwrap();
            },
        )
        .state(tx)
        .register(bus.clone())
        .await
        .unwrap();
    let gone = GateGone {
        gate: GateId::new("gate-1").unwrap(),
        incarnation: 7,
    };
    let endpoint = bus.endpoint.lock().clone().unwrap();
    endpoint.gate_gone(gone.clone());
    assert_eq!(running.under_way(), 1);
    assert_eq!(running.stop().await, 0, "it is waited for");
    assert_eq!(seen.try_recv().unwrap(), gone);
    endpoint.gate_gone(gone);
    assert!(seen.try_recv().is_err(), "none after the stop");
}
