use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tidegate::bus::{
    Answer, CallError, Connected, Ended, Event, GateError, GateReply, GateRequest, GiveWay, Sent,
    SessionOp, SessionReply,
};
use tidegate::{Delivery, Packet};
use tidegate_protocol::{
    CloseReason, DeviceId, ErrorCode, GroupName, InstanceId, Name, SessionId, Settings,
    SettingsError, TooLarge, Topic, TopicError, UserId,
};

use super::super::call::{self, Head};
use super::super::event::{self, EventName};
use super::super::gate::{self, Asked, LiveGate, Parts};
use super::super::{error, session};
use super::{is_clean, snapshot};
use crate::header::Headers;
use crate::subject::SessionVerb;

fn text(max: usize) -> impl Strategy<Value = String> {
    // Everything that is no control character, of all lengths in bytes.
    proptest::collection::vec(any::<char>(), 1..=max / 4).prop_filter_map("text", move |chars| {
        let text: String = chars.into_iter().filter(|c| !c.is_control()).collect();
        (!text.is_empty()).then_some(text)
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    let body = proptest::collection::vec(any::<u8>(), 0..300);
    (text(400), body).prop_map(|(topic, body)| Packet::new(Topic::new(&topic).unwrap(), body))
}

fn delivery() -> impl Strategy<Value = Delivery> {
    prop_oneof![
        Just(Delivery::Critical),
        Just(Delivery::Droppable),
        any::<String>()
            .prop_filter("bound", |key| key.len() <= 1024)
            .prop_map(|key| Delivery::Latest(key.into())),
    ]
}

fn user() -> impl Strategy<Value = UserId> {
    text(256).prop_map(|t| UserId::new(&t).unwrap())
}

fn group() -> impl Strategy<Value = GroupName> {
    text(128).prop_map(|t| GroupName::new(&t).unwrap())
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,64}"
}

fn settings() -> impl Strategy<Value = Settings> {
    proptest::collection::btree_map(any::<String>(), any::<String>(), 0..5)
        .prop_filter_map("bound", |map| Settings::try_from(map).ok())
}

fn op() -> impl Strategy<Value = SessionOp> {
    let device = proptest::option::of(text(128).prop_map(|t| DeviceId::new(&t).unwrap()));
    let name = || token().prop_map(|t| Name::new(&t).unwrap());
    let instance = token().prop_map(|t| InstanceId::new(&t).unwrap());
    prop_oneof![
        Just(SessionOp::Load),
        (user(), device).prop_map(|(user, device)| SessionOp::Bind(user, device)),
        Just(SessionOp::Unbind),
        settings().prop_map(SessionOp::Set),
        any::<String>().prop_map(SessionOp::Del),
        settings().prop_map(SessionOp::Replace),
        (packet(), delivery()).prop_map(|(packet, d)| SessionOp::Send(packet, d)),
        (packet(), 1..=60_000u64)
            .prop_map(|(packet, ms)| SessionOp::SendWait(packet, Duration::from_millis(ms))),
        Just(SessionOp::Connected),
        Just(SessionOp::Close),
        group().prop_map(SessionOp::Join),
        group().prop_map(SessionOp::Leave),
        (name(), instance).prop_map(|(name, i)| SessionOp::BindInstance(name, i)),
        name().prop_map(SessionOp::UnbindInstance),
        (
            user(),
            proptest::sample::select(&[GiveWay::No, GiveWay::IfDormant, GiveWay::Yes][..])
        )
            .prop_map(|(user, way)| SessionOp::GiveWay(user, way)),
    ]
}

fn request() -> impl Strategy<Value = GateRequest> {
    let sends =
        (user(), group(), packet(), delivery(), 0..3).prop_map(|(u, g, p, d, which)| match which {
            0 => GateRequest::Broadcast(p, d),
            1 => GateRequest::SendToUser(u, p, d),
            _ => GateRequest::SendToGroup(g, p, d),
        });
    prop_oneof![
        sends,
        user().prop_map(GateRequest::CloseUser),
        proptest::collection::vec(user(), 0..20).prop_map(GateRequest::Presence),
        group().prop_map(GateRequest::GroupCount),
        group().prop_map(GateRequest::GroupMembers),
        Just(GateRequest::Count),
    ]
}

proptest! {
    #[test]
    fn an_operation(op in op()) {
        let (verb, envelope) = session::encode(op.clone()).unwrap();
        prop_assert!(is_clean(&envelope));
        let (headers, body) = envelope.arrived();
        prop_assert_eq!(session::decode(verb, headers, body), Ok(op));
    }

    #[test]
    fn a_request_to_gates(request in request()) {
        let (verb, envelope) = gate::encode(request.clone()).unwrap();
        prop_assert!(is_clean(&envelope));
        let (headers, body) = envelope.arrived();
        prop_assert_eq!(gate::decode(verb, headers, body), Ok(Asked::Request(request)));
    }

    #[test]
    fn a_call(name in any::<String>(), span: u64, answer: bool) {
        prop_assume!(name.len() < 8000);
        let snapshot = snapshot(&name);
        let ascii = snapshot.encode_ascii();
        let head = call::head(Some((&ascii, snapshot.trace_id)), span, answer);
        let read = call::read_head(Headers(Some(&head)));
        let span = Some(span).filter(|s| *s != 0);
        prop_assert_eq!(read, Ok(Head { session: Some(snapshot), wants_answer: answer, span }));
    }

    #[test]
    fn many_sessions(ids in proptest::collection::vec(any::<u128>(), 1..1000)) {
        let ids: Vec<SessionId> = ids.into_iter().map(SessionId).collect();
        let (_, mut envelope) = session::encode(SessionOp::Close).unwrap();
        session::many(&mut envelope, &ids);
        prop_assert_eq!(envelope.arrived().0.sessions(), Ok(ids));
    }
}

#[test]
fn every_error_of_a_gate() {
    let errors = [
        GateError::SessionGone,
        GateError::QueueFull,
        GateError::Dormant,
        GateError::Refused,
        GateError::TooLarge(TooLarge { len: 9, max: 8 }),
        GateError::BoundToAnother,
        GateError::TooManyLogins,
        GateError::Settings(SettingsError(20_000)),
        GateError::Name(UserId::new("").unwrap_err()),
        GateError::Name(Name::new("").unwrap_err()),
        GateError::Name("".parse::<SessionId>().unwrap_err()),
        GateError::Topic(TopicError::Control),
        GateError::Topic(TopicError::TooLong),
        GateError::TooMany("groups"),
        GateError::TooMany("instance bindings"),
        GateError::Store("the disk is full".into()),
        GateError::Unavailable,
        GateError::OutcomeUnknown,
        GateError::Overloaded,
    ];
    for error in errors {
        let envelope = error::encode(&error);
        assert!(is_clean(&envelope));
        let (headers, body) = envelope.arrived();
        assert_eq!(error::decode(headers, body), Some(error));
    }
}

#[test]
fn every_result_of_an_operation() {
    let all = [
        (SessionVerb::Load, SessionReply::Session(snapshot("喵"))),
        (SessionVerb::Send, SessionReply::Done),
        (
            SessionVerb::Connected,
            SessionReply::Connected(Connected::Attached),
        ),
        (
            SessionVerb::Connected,
            SessionReply::Connected(Connected::Dormant),
        ),
        (
            SessionVerb::Connected,
            SessionReply::Connected(Connected::Gone),
        ),
    ];
    for (verb, reply) in all {
        let envelope = session::encode_result(&Ok(reply.clone()));
        let (headers, body) = envelope.arrived();
        assert_eq!(session::decode_result(verb, headers, body), Ok(reply));
    }
    let (headers, body) = (Headers(None), b"no snapshot");
    let unreadable = session::decode_result(SessionVerb::Load, headers, body);
    assert_eq!(unreadable, Err(GateError::OutcomeUnknown));
}

fn through_parts(request: GateRequest, reply: GateReply) -> (usize, Result<GateReply, GateError>) {
    let (verb, _) = gate::encode(request).unwrap();
    let envelopes = gate::encode_result(&Ok(reply));
    let mut parts = Parts::default();
    for (i, envelope) in envelopes.iter().enumerate() {
        let (headers, body) = envelope.arrived();
        if let Some(whole) = parts.take(verb, headers, body) {
            assert_eq!(i + 1, envelopes.len(), "whole before its last part");
            return (envelopes.len(), whole);
        }
    }
    panic!("not whole after its last part");
}

#[test]
fn every_reply_of_a_gate() {
    let mut sent = Sent::default();
    (sent.attached, sent.dormant, sent.missed, sent.full) = (1, 2, 3, 4);
    (sent.refused, sent.too_large, sent.unknown) = (5, 6, 7);
    let packet = || Packet::try_new("t", "").unwrap();
    let group: GroupName = "g".try_into().unwrap();
    let counts = GateReply::Count {
        sessions: u64::MAX,
        connections: 1,
    };
    let all = [
        (
            GateRequest::Broadcast(packet(), Delivery::Critical),
            GateReply::Sent(sent),
        ),
        (
            GateRequest::GroupCount(group.clone()),
            GateReply::Number(u64::MAX),
        ),
        (GateRequest::Count, counts),
        (
            GateRequest::Presence(Vec::new()),
            GateReply::Presence(vec![vec![SessionId(1), SessionId(2)], vec![]]),
        ),
        (
            GateRequest::GroupMembers(group),
            GateReply::Members(vec![snapshot("x")]),
        ),
    ];
    for (request, reply) in all {
        assert_eq!(through_parts(request, reply.clone()), (1, Ok(reply)));
    }
}

#[test]
fn long_lists_come_in_parts_and_in_order() {
    let group: GroupName = "g".try_into().unwrap();
    let members: Vec<_> = (0..2000).map(|i| snapshot(&"x".repeat(i))).collect();
    let reply = GateReply::Members(members);
    let (parts, whole) = through_parts(GateRequest::GroupMembers(group.clone()), reply.clone());
    assert!(parts > 2, "{parts}");
    assert_eq!(whole, Ok(reply));
    let users: Vec<_> = (0..40_000u128).map(|i| vec![SessionId(i)]).collect();
    let reply = GateReply::Presence(users);
    let (parts, whole) = through_parts(GateRequest::Presence(Vec::new()), reply.clone());
    assert!(parts > 2, "{parts}");
    assert_eq!(whole, Ok(reply));

    // More than fits is an error, not a part of the truth.
    let big = snapshot(&"x".repeat(16_000));
    let members = GateReply::Members(vec![Arc::clone(&big); 3000]);
    let (parts, whole) = through_parts(GateRequest::GroupMembers(group), members);
    assert_eq!((parts, whole), (1, Err(GateError::Overloaded)));
}

#[test]
fn every_event() {
    let all = [
        Event::Started,
        Event::Dormant,
        Event::Resumed,
        Event::Rebound {
            from: InstanceId::new("chat-1").unwrap(),
        },
    ];
    let ended = CloseReason::ALL.iter().map(|&reason| {
        Event::Disconnected(Ended {
            reason,
            undelivered_packets: u64::MAX,
            undelivered_bytes: 0,
        })
    });
    for event in all.into_iter().chain(ended) {
        let (name, body) = event::encode(&event).unwrap();
        let read = match name {
            EventName::All(name) => event::decode_all(name),
            EventName::Service(name) => event::decode(name, &body).ok(),
        };
        assert_eq!(read, Some(event));
    }
    let gate = "gate-1".try_into().unwrap();
    let gone = event::gate_gone(&gate, u64::MAX);
    assert_eq!(event::read_gate_gone(&gone.body), Ok((gate, u64::MAX)));
}

#[test]
fn live_gates() {
    let live = LiveGate {
        gate: "gate-1".try_into().unwrap(),
        incarnation: u64::MAX - 1,
        version: "1.0.0".into(),
        metadata: [("zone".to_owned(), "a\nb".to_owned())].into(),
    };
    let listed = gate::encode_list(std::slice::from_ref(&live));
    let read: Vec<LiveGate> = serde_json::from_slice(&listed[0].body).unwrap();
    assert_eq!(read, [live]);
}

#[test]
fn answers_and_what_a_service_may_say() {
    let read = |envelope: &super::Envelope| {
        let (headers, body) = envelope.arrived();
        call::read_answer(headers, body.clone()).unwrap()
    };
    let answer = Answer {
        body: Bytes::from_static(b"\xff"),
        instance: InstanceId::new("chat-2").ok(),
    };
    assert_eq!(read(&call::answer(Ok(answer.clone()))), Ok(answer));
    // As an instance says it itself: also that it has not served the call.
    for &code in ErrorCode::ALL {
        let error = CallError::new(code, "text");
        let got = read(&call::answer(Err(error.clone()))).unwrap_err();
        let kept = !matches!(code, ErrorCode::BAD_TOPIC | ErrorCode::RESERVED_TOPIC);
        assert_eq!(got == error, kept, "{code}: {got}");
    }
    // As any library's "respond error" says it.
    for code in (0..=2000).chain([65_535]) {
        let mut envelope = super::Envelope::default();
        crate::header::put_error(envelope.headers_mut(), code, "text");
        let got = read(&envelope).unwrap_err();
        let kept = code >= 1000 || [6, 8, 9, 10, 11].contains(&code);
        assert_eq!(got.code.0, if kept { code } else { 8 });
        assert_eq!(got.message, "text");
    }
}
