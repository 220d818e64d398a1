//! Calls and their answers.

use async_nats::HeaderMap;
use tidegate::bus::{Bus as _, Caller};
use tidegate_protocol::{ErrorCode, InstanceId, Snapshot};
use tidegate_test_servers::NatsServer;

use crate::support::{Ask, Service, bus, call, code, session, text};

#[tokio::test]
async fn a_call_reaches_a_plain_service_and_its_answer_comes_back() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    let mut service = Service::on(&server, "tidegate.c.chat.say").await;

    let asked = Ask::new("chat", "say", "hello\0\r\n").begin(&*bus);
    let question = service.next().await;
    assert_eq!(text(&question), "hello\0\r\n");
    let headers = question.headers.clone().unwrap();
    let json = headers.get("Tidegate-Session").unwrap().as_str();
    assert!(json.is_ascii());
    assert_eq!(Snapshot::decode(json.as_bytes()).unwrap(), *session(7));
    let trace = headers.get("traceparent").unwrap().as_str();
    assert_eq!(trace, format!("00-{:032x}-{:016x}-01", 0xabc, 0xdef));
    assert!(headers.get("Tidegate-Answer").is_none());
    let mut instance = HeaderMap::new();
    instance.insert("Tidegate-Instance", "room-7");
    service.answer_with(&question, instance, "back").await;
    let answer = asked.await.unwrap();
    assert_eq!(&answer.body[..], b"back");
    assert_eq!(answer.instance, Some(InstanceId::new("room-7").unwrap()));

    let one_way = Ask {
        wants_answer: false,
        ..Ask::new("chat", "say", "")
    };
    let asked = one_way.begin(&*bus);
    let question = service.next().await;
    let headers = question.headers.clone().unwrap();
    assert_eq!(headers.get("Tidegate-Answer").unwrap().as_str(), "0");
    service.answer(&question, "").await;
    assert!(asked.await.unwrap().body.is_empty());
    assert_eq!(bus.stats().calls_in_flight, 0);
}

#[tokio::test]
async fn the_class_of_a_caller_is_in_the_subject() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    let mut service = Service::on(&server, "tidegate.*.chat.*").await;
    for (caller, subject) in [
        (Caller::Guest, "tidegate.g.chat.say"),
        (Caller::Bound, "tidegate.c.chat.say"),
        (Caller::Internal, "tidegate.s.chat.say"),
    ] {
        let ask = Ask {
            caller,
            ..Ask::new("chat", "say", "")
        };
        let asked = ask.begin(&*bus);
        let question = service.next().await;
        assert_eq!(question.subject.as_str(), subject);
        service.answer(&question, "").await;
        asked.await.unwrap();
    }
    let mut instance = Service::on(&server, "tidegate.i.chat.room-7.>").await;
    let ask = Ask {
        instance: Some(InstanceId::new("room-7").unwrap()),
        ..Ask::new("chat", "say", "")
    };
    let asked = ask.begin(&*bus);
    let question = instance.next().await;
    assert_eq!(question.subject.as_str(), "tidegate.i.chat.room-7.c.say");
    instance.answer(&question, "").await;
    asked.await.unwrap();
}

#[tokio::test]
async fn errors_of_services_are_told_and_their_numbers_checked() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    let mut service = Service::on(&server, "tidegate.c.chat.say").await;
    let long = "x".repeat(5000);
    for (headers, number, message) in [
        (
            vec![
                ("Nats-Service-Error-Code", "1000"),
                ("Nats-Service-Error", "no room"),
            ],
            1000,
            "no room",
        ),
        (
            vec![
                ("Nats-Service-Error-Code", "65535"),
                ("Nats-Service-Error", &long),
            ],
            65535,
            &long[..1024],
        ),
        // A service cannot say that a call was not delivered, nor take HTTP's numbers for ours.
        (
            vec![
                ("Nats-Service-Error-Code", "7"),
                ("Nats-Service-Error", "x"),
            ],
            8,
            "x",
        ),
        (
            vec![
                ("Nats-Service-Error-Code", "500"),
                ("Nats-Service-Error", "x"),
            ],
            8,
            "x",
        ),
        (
            vec![
                ("Nats-Service-Error-Code", "6"),
                ("Nats-Service-Error", "x"),
            ],
            6,
            "x",
        ),
        // Not numbers.
        (
            vec![("Nats-Service-Error-Code", "-1")],
            8,
            "the service's answer is malformed",
        ),
        (
            vec![("Nats-Service-Error-Code", "99999999")],
            8,
            "the service's answer is malformed",
        ),
        (
            vec![("Tidegate-Instance", "a.b")],
            8,
            "the service's answer is malformed",
        ),
        (
            vec![("Tidegate-Instance", ">")],
            8,
            "the service's answer is malformed",
        ),
        (
            vec![("Tidegate-Instance", "a"), ("Tidegate-Instance", "b")],
            8,
            "the service's answer is malformed",
        ),
        (
            vec![("Tidegate-Instance", &long)],
            8,
            "the service's answer is malformed",
        ),
    ] {
        let asked = Ask::new("chat", "say", "").begin(&*bus);
        let question = service.next().await;
        let mut map = HeaderMap::new();
        for (name, value) in &headers {
            map.append(*name, *value);
        }
        service.answer_with(&question, map, "").await;
        let error = asked.await.unwrap_err();
        assert_eq!(
            (error.code.0, &*error.message),
            (number, message),
            "{headers:.100?}"
        );
    }
    assert_eq!(bus.stats().malformed, 6);
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    let nobody = code(&*bus, "nobody", "home").await;
    assert_eq!(nobody, Some(ErrorCode::NOT_FOUND));
    let gone = Ask {
        instance: Some(InstanceId::new("gone").unwrap()),
        ..Ask::new("nobody", "home", "")
    };
    let error = gone.begin(&*bus).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::INSTANCE_GONE);
}

#[tokio::test]
async fn calls_of_a_session_arrive_in_order() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    let mut service = Service::on(&server, "tidegate.*.chat.*").await;
    const COUNT: usize = 2_000;
    let calls: Vec<_> = (0..COUNT)
        .map(|i| Ask::new("chat", ["say", "shout"][i % 2], &i.to_string()).begin(&*bus))
        .collect();
    for i in 0..COUNT {
        let question = service.next().await;
        assert_eq!(text(&question), i.to_string());
        service.answer(&question, &i.to_string()).await;
    }
    for (i, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().body, i.to_string());
    }
}

/// Row 40: names that would be more than one token, or another subject, go nowhere.
#[tokio::test]
async fn names_are_whole_tokens_or_nothing() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    // Whatever is said on this server.
    let mut all = Service::on(&server, ">").await;
    let long = "x".repeat(65_536);
    let long_by_one = "x".repeat(65);
    let evil = [
        "",
        ".",
        "*",
        ">",
        "a.b",
        "a.>",
        "a b",
        "a\tb",
        "a\r\nPUB x 0\r\n\r\n",
        "a\0",
        "é",
        "$SYS",
        &long,
        &long_by_one,
    ];
    for name in evil {
        assert_eq!(
            code(&*bus, name, "say").await,
            Some(ErrorCode::NOT_FOUND),
            "{name:.20?}"
        );
        assert_eq!(
            code(&*bus, "chat", name).await,
            Some(ErrorCode::NOT_FOUND),
            "{name:.20?}"
        );
        assert!(InstanceId::new(name).is_err());
    }
    let asked = Ask::new("chat", "last", "").begin(&*bus);
    loop {
        let message = all.next().await;
        // What is heard before it is the work of this test's own fence.
        if message.subject.as_str() == "tidegate.c.chat.last" {
            all.answer(&message, "").await;
            break;
        }
        assert!(
            !message.subject.starts_with("tidegate"),
            "{}",
            message.subject
        );
    }
    asked.await.unwrap();
}

#[tokio::test]
async fn a_packet_that_nats_does_not_take_is_refused() {
    let server = NatsServer::options()
        .config("max_payload: 2000")
        .start()
        .await;
    let bus = bus(&server).await;
    let mut service = Service::on(&server, "tidegate.c.chat.say").await;
    let error = call(&*bus, "chat", "say", &"x".repeat(2000))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::BAD_BODY);
    let asked = Ask::new("chat", "say", "small").begin(&*bus);
    let question = service.next().await;
    assert_eq!(text(&question), "small");
    service.answer(&question, "").await;
    asked.await.unwrap();
}
