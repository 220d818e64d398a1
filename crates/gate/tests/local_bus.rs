//! The bus within one process: who gets a call, and how gates are reached.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tidegate::bus::gate::{Connected, Sent};
use tidegate::bus::local::LocalBus;
use tidegate::bus::*;
use tidegate::service::{Clients, Session};
use tidegate_protocol::{
    CloseReason, ErrorCode, GateId, InstanceId, Name, Network, SessionId, Settings, Snapshot,
    UserId,
};

fn snapshot(gate: &str) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        id: SessionId(7),
        gate: GateId::new(gate).unwrap(),
        user: None,
        device: None,
        settings: Settings::new(),
        ip: "127.0.0.1".parse().unwrap(),
        network: Network::Tcp,
        trace_id: 1,
    })
}

/// An instance that answers its id and notes its events.
#[derive(Default)]
struct Instance {
    id: String,
    events: Mutex<Vec<Event>>,
}

impl Endpoint for Instance {
    fn call(&self, _: Call<'_>, responder: Responder) {
        let body = Bytes::from(self.id.clone());
        responder.answer(Ok(Answer {
            body,
            instance: None,
        }));
    }

    fn event(&self, _: Arc<Snapshot>, event: Event) {
        self.events.lock().push(event);
    }
}

fn info(instance: &str, methods: &[(&str, OpenTo)]) -> InstanceInfo {
    InstanceInfo {
        service: Name::new("s").unwrap(),
        instance: InstanceId::new(instance).unwrap(),
        version: String::new(),
        metadata: Default::default(),
        ttl: Duration::from_secs(1),
        methods: methods
            .iter()
            .map(|(name, open_to)| MethodInfo {
                name: Name::new(name).unwrap(),
                kind: MethodKind::Request,
                open_to: *open_to,
            })
            .collect(),
        policy: Policy::default(),
        wants_started: true,
        wants_dormancy: false,
        wants_gates: false,
    }
}

const ALL: &[(&str, OpenTo)] = &[
    ("guests", OpenTo::Guests),
    ("bound", OpenTo::Bound),
    ("internal", OpenTo::Internal),
];

async fn add(bus: &LocalBus, id: &str) -> (Registration, Arc<Instance>) {
    let instance = Arc::new(Instance {
        id: id.to_owned(),
        ..Instance::default()
    });
    let registration = bus.register(info(id, ALL), instance.clone()).await.unwrap();
    (registration, instance)
}

/// Calls, and gives what was answered before the call returned.
fn call(
    bus: &LocalBus,
    service: &str,
    method: &str,
    caller: Caller,
    instance: Option<&InstanceId>,
) -> Result<String, ErrorCode> {
    let (responder, mut answer) = Responder::channel();
    let call = Call {
        service,
        method,
        caller,
        session: None,
        body: Bytes::new(),
        instance,
        wants_answer: true,
        span_id: 0,
    };
    bus.call(call, responder);
    match answer.try_recv().expect("answered at once") {
        Ok(answer) => Ok(String::from_utf8(answer.body.to_vec()).unwrap()),
        Err(error) => Err(error.code),
    }
}

#[tokio::test]
async fn exposure() {
    let bus = LocalBus::new();
    let (registration, _instance) = add(&bus, "i").await;
    let ok = |method, caller| call(&bus, "s", method, caller, None).map(drop);
    let hidden = Err(ErrorCode::NOT_FOUND);
    for (method, guest, bound) in [
        ("guests", Ok(()), Ok(())),
        ("bound", hidden, Ok(())),
        ("internal", hidden, hidden),
    ] {
        assert_eq!(ok(method, Caller::Guest), guest, "{method}");
        assert_eq!(ok(method, Caller::Bound), bound, "{method}");
        assert_eq!(ok(method, Caller::Internal), Ok(()), "{method}");
    }
    assert_eq!(ok("other", Caller::Internal), hidden);
    assert_eq!(
        call(&bus, "t", "guests", Caller::Internal, None).map(drop),
        hidden
    );
    // Without an instance, what is not open is still not found.
    drop(registration);
    assert_eq!(ok("guests", Caller::Guest), Err(ErrorCode::UNAVAILABLE));
    assert_eq!(ok("bound", Caller::Guest), hidden);
}

#[tokio::test]
async fn instances_in_turn_by_name_and_gone() {
    let bus = LocalBus::new();
    let (a, _) = add(&bus, "a").await;
    let (_b, _) = add(&bus, "b").await;
    let id = InstanceId::new("a").unwrap();
    let any = || call(&bus, "s", "guests", Caller::Guest, None);
    let at_a = |service| call(&bus, service, "guests", Caller::Guest, Some(&id));
    let mut four = [any(), any(), any(), any()].map(Result::unwrap);
    four.sort();
    assert_eq!(four, ["a", "a", "b", "b"]);
    assert_eq!(at_a("s").unwrap(), "a");
    assert_eq!(at_a("s").unwrap(), "a");
    assert!(bus.instance_up("s", &id).now_or_never().is_some());
    drop(a);
    assert_eq!(at_a("s"), Err(ErrorCode::INSTANCE_GONE));
    assert_eq!(at_a("t"), Err(ErrorCode::NOT_FOUND));
    assert_eq!(any().unwrap(), "b");
    let mut up = bus.instance_up("s", &id);
    assert!((&mut up).now_or_never().is_none());
    let (_c, _) = add(&bus, "c").await;
    assert!((&mut up).now_or_never().is_none(), "another instance came");
    let (_a, _) = add(&bus, "a").await;
    up.await;
    assert_eq!(at_a("s").unwrap(), "a");
    assert_eq!(bus.instances("s").await.unwrap().len(), 3);
    assert!(bus.instances("t").await.unwrap().is_empty());
}

#[tokio::test]
async fn instances_must_agree() {
    let bus = LocalBus::new();
    let (first, _) = add(&bus, "a").await;
    let refused = async |info: InstanceInfo| {
        let endpoint = Arc::new(Instance::default());
        bus.register(info, endpoint).await.expect_err("accepted")
    };
    assert!(matches!(refused(info("a", ALL)).await, BusError::Taken(_)));
    let disagrees = |e: BusError| match e {
        BusError::Disagrees { what, .. } => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        disagrees(refused(info("b", &ALL[1..])).await),
        "method guests"
    );
    let more = [ALL, &[("more", OpenTo::Guests)]].concat();
    assert_eq!(disagrees(refused(info("b", &more)).await), "method more");
    let other = [ALL[0], ALL[1], ("internal", OpenTo::Guests)];
    assert_eq!(
        disagrees(refused(info("b", &other)).await),
        "method internal"
    );
    let mut sticky = info("b", ALL);
    sticky.policy.sticky = true;
    assert_eq!(disagrees(refused(sticky.clone()).await), "policy");
    let twice = [ALL[0], ALL[0]];
    assert!(disagrees(refused(info("b", &twice)).await).contains("twice"));
    drop(first);
    let registered = bus.register(sticky, Arc::new(Instance::default())).await;
    assert!(registered.is_ok(), "nobody is left to disagree with");
    assert!(bus.policy("s").sticky && !bus.policy("t").sticky);
}

#[tokio::test]
async fn events_to_one_instance_or_counted() {
    let bus = LocalBus::new();
    let ended = Event::Disconnected(Ended {
        reason: CloseReason::ClientLeft,
        undelivered_packets: 0,
        undelivered_bytes: 0,
    });
    let tell = |to: EventTarget<'_>, event: &Event| bus.event(to, snapshot("g"), event.clone());
    tell(EventTarget::WhoAsked, &Event::Started);
    assert_eq!(bus.undelivered_events(), 0, "nobody asked");
    let (ra, a) = add(&bus, "a").await;
    let (rb, b) = add(&bus, "b").await;
    tell(EventTarget::WhoAsked, &Event::Started);
    assert_eq!(
        a.events.lock().len() + b.events.lock().len(),
        1,
        "one of a service's"
    );
    let id = InstanceId::new("b").unwrap();
    b.events.lock().clear();
    tell(EventTarget::Service("s", Some(&id)), &ended);
    assert_eq!(*b.events.lock(), std::slice::from_ref(&ended));
    drop(rb);
    a.events.lock().clear();
    tell(EventTarget::Service("s", Some(&id)), &ended);
    assert_eq!(
        *a.events.lock(),
        std::slice::from_ref(&ended),
        "another where that one is gone"
    );
    drop(ra);
    tell(EventTarget::Service("s", None), &ended);
    tell(EventTarget::Service("t", None), &ended);
    tell(EventTarget::WhoAsked, &Event::Started);
    assert_eq!(bus.undelivered_events(), 3);
}

/// A gate with one session, which it changes as it is told.
struct Gate {
    session: Mutex<Snapshot>,
    sent: Mutex<Vec<String>>,
}

impl GateEndpoint for Gate {
    fn session(
        &self,
        id: SessionId,
        op: SessionOp,
    ) -> BoxFuture<'static, Result<SessionReply, GateError>> {
        let mut session = self.session.lock();
        if id != session.id {
            return ready(Err(GateError::SessionGone)).boxed();
        }
        let settings = &mut session.settings;
        let reply = match op {
            SessionOp::Load => Ok(None),
            SessionOp::Bind(user, _) => match &session.user {
                Some(other) if *other != user => Err(GateError::BoundToAnother),
                _ => {
                    session.user = Some(user);
                    Ok(None)
                }
            },
            SessionOp::Unbind => {
                session.user = None;
                Ok(None)
            }
            SessionOp::Set(new) => settings
                .merge(new.iter())
                .map(|()| None)
                .map_err(Into::into),
            SessionOp::Del(key) => {
                settings.remove(&key);
                Ok(None)
            }
            SessionOp::Replace(new) => {
                *settings = new;
                Ok(None)
            }
            SessionOp::Connected => Ok(Some(SessionReply::Connected(Connected::Attached))),
            other => {
                self.sent.lock().push(format!("{other:?}"));
                Ok(Some(SessionReply::Done))
            }
        };
        let now = SessionReply::Session(Arc::new(session.clone()));
        ready(reply.map(|reply| reply.unwrap_or(now))).boxed()
    }

    fn gate(&self, request: GateRequest) -> BoxFuture<'static, Result<GateReply, GateError>> {
        let session = self.session.lock();
        let attached = Sent {
            attached: 1,
            ..Sent::default()
        };
        let reply = match request {
            GateRequest::Broadcast(..)
            | GateRequest::SendToUser(..)
            | GateRequest::SendToGroup(..) => GateReply::Sent(attached),
            GateRequest::CloseUser(_) | GateRequest::GroupCount(_) => GateReply::Number(1),
            GateRequest::Presence(users) => {
                let sessions = |user| (session.user == Some(user)).then_some(session.id);
                let users = users.into_iter();
                GateReply::Presence(users.map(|u| sessions(u).into_iter().collect()).collect())
            }
            GateRequest::GroupMembers(_) => GateReply::Members(vec![Arc::new(session.clone())]),
            GateRequest::Count => GateReply::Count {
                sessions: 1,
                connections: 2,
            },
        };
        ready(Ok(reply)).boxed()
    }
}

async fn add_gate(bus: &LocalBus, id: &str) -> Result<(Registration, Arc<Gate>), BusError> {
    let gate = Arc::new(Gate {
        session: Mutex::new((*snapshot(id)).clone()),
        sent: Mutex::default(),
    });
    let info = GateInfo {
        id: GateId::new(id).unwrap(),
        version: String::new(),
        metadata: Default::default(),
    };
    Ok((bus.register_gate(info, gate.clone()).await?, gate))
}

#[tokio::test]
async fn a_session_from_a_service() {
    let bus = Arc::new(LocalBus::new());
    let (registration, gate) = add_gate(&bus, "g").await.unwrap();
    let session = Session::new(bus.clone(), snapshot("g"), 5);
    session.bind("ada").await.unwrap();
    assert_eq!(session.user().unwrap(), "ada");
    assert_eq!(session.bind(7u64).await, Err(GateError::BoundToAnother));
    assert!(matches!(session.bind("").await, Err(GateError::Name(_))));
    session.unbind().await.unwrap();
    session.bind(UserId::from(7)).await.unwrap();
    assert_eq!(session.user_u64(), Some(7));
    session.set("a", "1").await.unwrap();
    session.set_batch([("b", "2"), ("c", "3")]).await.unwrap();
    session.del("c").await.unwrap();
    let big = "x".repeat(20_000);
    assert!(matches!(
        session.set("d", &big).await,
        Err(GateError::Settings(_))
    ));
    assert_eq!(session.settings(), gate.session.lock().settings);
    // Local edits stay here until they are pushed.
    let copy = session.clone();
    session.set_local("a", "local").unwrap();
    session.set_local("e", "5").unwrap();
    assert!(session.remove_local("b"));
    assert_eq!(copy.get("a").unwrap(), "1");
    let mut older = Settings::new();
    older.merge([("a", "older"), ("f", "6")]).unwrap();
    session.import_local(&older).unwrap();
    assert_eq!(gate.session.lock().settings, copy.settings());
    session.push().await.unwrap();
    let all: Vec<_> = [("a", "local"), ("b", "2"), ("e", "5"), ("f", "6")].into();
    assert_eq!(session.settings().iter().collect::<Vec<_>>(), all);
    copy.update().await.unwrap();
    assert_eq!(copy.snapshot(), session.snapshot());
    session.set_user_local(None);
    assert!(session.is_guest() && !copy.is_guest());
    session.send("a/b", "body").await.unwrap();
    session.send_json("a/b", &[1, 2]).await.unwrap();
    session.join("room").await.unwrap();
    session.bind_instance("s", "i").await.unwrap();
    assert!(matches!(
        session.send("", "x").await,
        Err(GateError::Topic(_))
    ));
    assert_eq!(session.connected().await, Ok(Connected::Attached));
    session.close().await.unwrap();
    assert_eq!(gate.sent.lock().len(), 5);
    let clients = Clients::new(bus.clone());
    let stranger = clients.session(session.gate(), SessionId(8));
    assert_eq!(stranger.send("a/b", "x").await, Err(GateError::SessionGone));
    drop(registration);
    assert_eq!(session.update().await, Err(GateError::Unavailable));
    assert_eq!(
        clients.broadcast("a/b", "").await,
        Err(GateError::Unavailable)
    );
}

#[tokio::test]
async fn every_gate_is_asked_and_summed_up() {
    let bus = Arc::new(LocalBus::new());
    let gates = [
        add_gate(&bus, "g1").await.unwrap(),
        add_gate(&bus, "g2").await.unwrap(),
    ];
    let taken = add_gate(&bus, "g1").await.map(drop);
    assert!(matches!(taken, Err(BusError::Taken(_))));
    assert_eq!(bus.gates().await.unwrap().len(), 2);
    gates[1].1.session.lock().user = Some(UserId::from(1));
    let clients = Clients::new(bus.clone());
    assert_eq!(clients.broadcast("a/b", "x").await.unwrap().taken(), 2);
    assert_eq!(
        clients
            .to_user(1u64)
            .send("a/b", "x")
            .await
            .unwrap()
            .taken(),
        2
    );
    assert_eq!(clients.to_user("ada").close().await, Ok(2));
    assert!(matches!(
        clients.to_user("").close().await,
        Err(GateError::Name(_))
    ));
    assert_eq!(clients.to_group("room").count().await, Ok(2));
    assert_eq!(clients.to_group("room").members().await.unwrap().len(), 2);
    assert_eq!(clients.count().await, Ok((2, 4)));
    let presence = clients
        .presence(&[UserId::from(2), UserId::from(1)])
        .await
        .unwrap();
    assert_eq!(presence, [vec![], vec![SessionId(7)]]);
}
