use async_nats::HeaderMap;
use bytes::Bytes;
use tidegate::bus::{
    Answer, CallError, Ended, Event, GateError, GateReply, GateRequest, Sent, SessionOp,
    SessionReply,
};
use tidegate::{Delivery, Packet};
use tidegate_protocol::{CloseReason, ErrorCode, InstanceId, TooLarge};

use super::super::{Envelope, call, error, event, gate, session};
use super::{lines, snapshot};

#[track_caller]
fn check(envelope: &Envelope, headers: &[&str], body: &str) {
    assert_eq!(lines(envelope.headers.as_ref()), headers);
    assert_eq!(String::from_utf8_lossy(&envelope.body), body);
}

#[test]
fn a_call_has_its_session_in_ascii() {
    let snapshot = snapshot("Zoë\r\n");
    let session = snapshot.encode_ascii();
    let head = call::head(Some((&session, snapshot.trace_id)), 0xb7, false);
    assert_eq!(
        lines(Some(&head)),
        [
            "Tidegate-Answer: 0",
            concat!(
                r#"Tidegate-Session: {"id":"0000000000000000000000000000002a","gate":"gate-1","#,
                r#""user":"ada","settings":{"name":"Zo\u00eb\r\n"},"ip":"203.0.113.7","#,
                r#""network":"tcp","trace_id":"00000000000000000000000000000007"}"#
            ),
            "traceparent: 00-00000000000000000000000000000007-00000000000000b7-01",
        ]
    );
    assert_eq!(call::head(None, 7, true), HeaderMap::new());
}

#[test]
fn answers() {
    let answer = |instance| Answer {
        body: Bytes::from_static(b"\0yes"),
        instance,
    };
    check(&call::answer(Ok(answer(None))), &[], "\0yes");
    let instance = InstanceId::new("chat-2").ok();
    check(
        &call::answer(Ok(answer(instance))),
        &["Tidegate-Instance: chat-2"],
        "\0yes",
    );
    check(
        &call::answer(Err(CallError::service(1001, "you are\r\nmuted"))),
        &[
            "Nats-Service-Error-Code: 1001",
            "Nats-Service-Error: you are  muted",
        ],
        "",
    );
    check(
        &call::answer(Err(ErrorCode::NOT_FOUND.into())),
        &[
            "Nats-Service-Error-Code: 3",
            "Nats-Service-Error: no such method for this client",
            "Tidegate-Error: not-found",
        ],
        "",
    );
}

#[test]
fn operations() {
    let op = |op: SessionOp| {
        let (verb, envelope) = session::encode(op).unwrap();
        (verb.as_str(), envelope)
    };
    let packet = Packet::try_new("chat/сказал 1%", &b"\xff\0"[..]).unwrap();
    let (verb, send) = op(SessionOp::Send(packet, Delivery::Latest("a b".into())));
    assert_eq!(verb, "send");
    assert_eq!(
        lines(send.headers.as_ref()),
        [
            "Tidegate-Delivery: latest:a%20b",
            "Tidegate-Topic: chat/%D1%81%D0%BA%D0%B0%D0%B7%D0%B0%D0%BB%201%25",
        ]
    );
    assert_eq!(&send.body[..], b"\xff\0");
    let (verb, bind) = op(SessionOp::Bind("ada".try_into().unwrap(), None));
    assert_eq!(verb, "bind");
    check(&bind, &[], r#"{"user":"ada"}"#);
    let (verb, close) = op(SessionOp::Close);
    assert_eq!((verb, close), ("close", Envelope::default()));
}

#[test]
fn results() {
    check(&session::encode_result(&Ok(SessionReply::Done)), &[], "");
    let too_large = TooLarge {
        len: 70_012,
        max: 65_535,
    };
    check(
        &error::encode(&too_large.into()),
        &[
            "Nats-Service-Error-Code: 413",
            "Nats-Service-Error: the packet's frame has 70012 bytes, 65535 are allowed",
            "Tidegate-Error: too-large",
        ],
        concat!(
            r#"{"error":"too-large","text":"the packet's frame has 70012 bytes, "#,
            r#"65535 are allowed","size":70012,"limit":65535}"#
        ),
    );
    let many = session::encode_results(&[
        Ok(SessionReply::Done),
        Err(GateError::SessionGone),
        Ok(SessionReply::Session(snapshot("x"))),
    ]);
    assert_eq!(many.len(), 1);
    let snapshot = String::from_utf8(snapshot("x").encode()).unwrap();
    let gone = r#"{"error":"session-gone","text":"the session is gone"}"#;
    let list = format!(r#"[{{"ok":true}},{gone},{{"session":{snapshot}}}]"#);
    check(&many[0], &[], &list);
}

#[test]
fn requests_to_gates() {
    let packet = Packet::try_new("news", "hi").unwrap();
    let user = "ада".try_into().unwrap();
    let request = GateRequest::SendToUser(user, packet, Delivery::Droppable);
    let (verb, envelope) = gate::encode(request).unwrap();
    assert_eq!(verb.as_str(), "send-user");
    check(
        &envelope,
        &[
            "Tidegate-Delivery: droppable",
            "Tidegate-Topic: news",
            "Tidegate-User: %D0%B0%D0%B4%D0%B0",
        ],
        "hi",
    );
    let mut sent = Sent::default();
    (sent.attached, sent.unknown) = (2, 1);
    let replies = gate::encode_result(&Ok(GateReply::Sent(sent)));
    let body = concat!(
        r#"{"attached":2,"dormant":0,"missed":0,"full":0,"refused":0,"#,
        r#""too_large":0,"unknown":1}"#
    );
    check(&replies[0], &[], body);
    let replies = gate::encode_result(&Ok(GateReply::Presence(vec![vec![], vec![]])));
    check(&replies[0], &[], "[[],[]]");
}

#[test]
fn events() {
    let ended = Event::Disconnected(Ended {
        reason: CloseReason::Kicked,
        undelivered_packets: 1,
        undelivered_bytes: 2,
    });
    let (_, body) = event::encode(&ended).unwrap();
    assert_eq!(
        String::from_utf8(body).unwrap(),
        concat!(
            r#"{"reason":4504,"text":"closed by the service","#,
            r#""undelivered_packets":1,"undelivered_bytes":2}"#
        )
    );
    let gone = event::gate_gone(&"g".try_into().unwrap(), 0xc0ffee);
    check(
        &gone,
        &[],
        r#"{"gate":"g","incarnation":"0000000000c0ffee"}"#,
    );
}
