use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate::bus::Policy;
use tidegate::bus::{
    CallError, Caller, DeadInstance, InstanceInfo, MethodInfo, MethodKind, OpenTo,
};
use tidegate::service::DEFAULT_TTL;
use tidegate_protocol::{InstanceId, Name};

use super::describe::Described;
use super::read::{MAX_INFO, disagreement, read_info};
use super::*;
use crate::subject::Prefix;

fn prefix() -> Prefix {
    Prefix::new("tg.eu").unwrap()
}

fn method(name: &str, kind: MethodKind, open_to: OpenTo) -> MethodInfo {
    let name = Name::new(name).unwrap();
    MethodInfo {
        name,
        kind,
        open_to,
    }
}

fn info() -> InstanceInfo {
    InstanceInfo {
        service: Name::new("chat").unwrap(),
        instance: InstanceId::new("c-1").unwrap(),
        version: "1.2.3-rc.1+b7".into(),
        metadata: [("zone".to_owned(), "é".to_owned())].into(),
        ttl: DEFAULT_TTL,
        methods: vec![
            method("join", MethodKind::Request, OpenTo::Guests),
            method("purge", MethodKind::OneWay, OpenTo::Internal),
            method("say", MethodKind::OneWay, OpenTo::Bound),
        ],
        policy: Policy {
            sticky: true,
            dead_instance: DeadInstance::Hold(Duration::from_millis(1500)),
        },
        wants_started: true,
        wants_dormancy: false,
        wants_gates: true,
    }
}

fn json_of(described: &Described, verb: Verb) -> Value {
    serde_json::from_slice(&described.answer(verb)).unwrap()
}

#[test]
fn subjects() {
    let info = info();
    let (service, instance) = (&info.service, &info.instance);
    assert_eq!(Verb::Ping.all().as_str(), "$SRV.PING");
    assert_eq!(Verb::Info.service(service).as_str(), "$SRV.INFO.chat");
    let one = Verb::Stats.instance(service, instance);
    assert_eq!(one.as_str(), "$SRV.STATS.chat.c-1");
}

#[test]
fn answers_have_the_protocols_form_and_counts() {
    let described = Described::new(&prefix(), info(), 7);
    described.set_claimed();
    let ping = json_of(&described, Verb::Ping);
    assert_eq!(
        ping,
        json!({
            "type": "io.nats.micro.v1.ping_response", "name": "chat", "id": "c-1",
            "version": "1.2.3-rc.1+b7",
            "metadata": {
                "zone": "é", "tidegate-spec": "1", "tidegate-policy": "sticky",
                "tidegate-dead-instance": "hold:1500", "tidegate-wants": "started,gates",
            },
        })
    );
    let info = json_of(&described, Verb::Info);
    assert_eq!(info["type"], "io.nats.micro.v1.info_response");
    let subjects: Vec<_> = info["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            assert_eq!(e["queue_group"], "q");
            (
                e["subject"].as_str().unwrap(),
                e["metadata"]["tidegate-kind"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        subjects,
        [
            ("tg.eu.g.chat.join", "request"),
            ("tg.eu.c.chat.join", "request"),
            ("tg.eu.s.chat.join", "request"),
            ("tg.eu.s.chat.purge", "one-way"),
            ("tg.eu.c.chat.say", "one-way"),
            ("tg.eu.s.chat.say", "one-way"),
        ]
    );
    assert!(described.method("say", Caller::Guest).is_none());
    assert!(described.method("nope", Caller::Internal).is_none());
    let say = described.method("say", Caller::Bound).unwrap();
    described.count(say, Duration::from_nanos(30), None);
    let error = CallError::service(1001, "no\r\nroom");
    described.count(say, Duration::from_nanos(10), Some(&error));
    let stats = json_of(&described, Verb::Stats);
    assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
    assert!(stats["started"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        stats["endpoints"][4],
        json!({
            "name": "say", "subject": "tg.eu.c.chat.say", "queue_group": "q",
            "num_requests": 2, "num_errors": 1, "last_error": "1001:no  room",
            "processing_time": 40, "average_processing_time": 20,
        })
    );
    assert_eq!(stats["endpoints"][5]["num_requests"], 0);
}

#[test]
fn what_is_written_is_read() {
    for (version, told) in [("", "0.0.0"), ("2026-11", "2026-11"), ("1.0.0", "1.0.0")] {
        let mut info = info();
        info.version = version.into();
        let described = Described::new(&prefix(), info.clone(), 0xab);
        let found = read_info(&prefix(), &described.answer(Verb::Info))
            .unwrap()
            .unwrap();
        assert_eq!((found.claim, found.keeps_spec), (Some(0xab), true));
        info.version = told.into();
        assert_eq!(found.info, info);
        assert_eq!(disagreement(&found.info, &info), None);
        assert!(found.open.admits("join", Caller::Guest));
        assert!(found.open.admits("say", Caller::Bound));
        assert!(!found.open.admits("say", Caller::Guest));
        assert!(!found.open.admits("purge", Caller::Bound));
        described.set_claimed();
        let found = read_info(&prefix(), &described.answer(Verb::Info))
            .unwrap()
            .unwrap();
        assert_eq!(found.claim, None);
    }
}

#[test]
fn plain_services_are_known_by_their_subjects() {
    let read = |body: &Value| read_info(&prefix(), body.to_string().as_bytes());
    let service = |name: &str, subjects: &[&str], metadata: Value| {
        let endpoints: Vec<_> = subjects
            .iter()
            .map(|s| json!({"name": "x", "subject": s}))
            .collect();
        json!({"type": "io.nats.micro.v1.info_response", "name": name, "id": "abc",
            "version": "1.0.0", "metadata": metadata, "endpoints": endpoints})
    };
    let subjects = [
        "tg.eu.c.dice.roll",
        "tg.eu.g.dice.see",
        "tg.eu.e.dice.disconnected",
        "tg.eu.c.other.roll",
        "tg.c.dice.x",
        "tg.eu.c.dice",
        "dice.roll",
        "tg.eu.c.dice.a.b",
    ];
    let found = read(&service(
        "dice",
        &subjects,
        json!({"tidegate-policy": "sticky"}),
    ))
    .unwrap()
    .unwrap();
    assert!(found.info.policy.sticky && !found.keeps_spec);
    let names: Vec<_> = found
        .info
        .methods
        .iter()
        .map(|m| (&*m.name, m.open_to))
        .collect();
    assert_eq!(names, [("roll", OpenTo::Bound), ("see", OpenTo::Guests)]);
    assert!(!found.open.admits("roll", Caller::Internal));
    let wild = read(&service("dice", &["tg.eu.*.dice.*"], json!(null)))
        .unwrap()
        .unwrap();
    assert!(wild.open.admits("whatever", Caller::Guest));
    let wild = read(&service("dice", &["tg.eu.s.dice.>"], json!({})))
        .unwrap()
        .unwrap();
    assert!(
        wild.open.admits("whatever", Caller::Internal)
            && !wild.open.admits("whatever", Caller::Guest)
    );
    // Others' services are none of ours, whatever their names.
    assert_eq!(read(&service("a b", &["some.where"], json!({}))), Ok(None));
    for bad in [
        service("a.b", &["tg.eu.c.a.b.c"], json!({"tidegate-spec": "1"})),
        service(
            "dice",
            &["tg.eu.c.dice.roll"],
            json!({"tidegate-dead-instance": "hold:-1"}),
        ),
        service(
            "dice",
            &["tg.eu.c.dice.roll"],
            json!({"tidegate-claim": "x"}),
        ),
        json!({"type": "io.nats.micro.v1.ping_response", "name": "a", "id": "b"}),
        json!([]),
    ] {
        assert!(read(&bad).is_err(), "{bad}");
    }
    assert!(read_info(&prefix(), &vec![b' '; MAX_INFO + 1]).is_err());
}

#[test]
fn instances_that_disagree() {
    let live = info();
    let differs = |change: fn(&mut InstanceInfo)| {
        let mut new = info();
        change(&mut new);
        disagreement(&new, &live).unwrap()
    };
    assert_eq!(differs(|i| i.policy.sticky = false), "policy");
    assert_eq!(
        differs(|i| i.wants_gates = false),
        "which events it asks for"
    );
    assert_eq!(
        differs(|i| i.methods[0].open_to = OpenTo::Bound),
        "method join"
    );
    assert_eq!(differs(|i| drop(i.methods.pop())), "method say");
}

#[test]
fn policies_for_dead_instances() {
    for (policy, text) in [
        (DeadInstance::Fail, "fail"),
        (DeadInstance::Rebind, "rebind"),
        (DeadInstance::Hold(Duration::from_secs(30)), "hold:30000"),
        (DeadInstance::Hold(Duration::from_millis(250)), "hold:250"),
    ] {
        assert_eq!(write_dead_instance(policy), text);
        assert_eq!(read_dead_instance(text), Some(policy));
    }
    for bad in [
        "",
        "hold",
        "hold:",
        "hold:s",
        "hold:3s",
        "hold:+3s",
        "hold:3 s",
        "hold:9999999999s",
    ] {
        assert_eq!(read_dead_instance(bad), None, "{bad}");
    }
}

#[test]
fn versions() {
    for good in [
        "0.0.0",
        "1.2.3",
        "1.0.0-alpha.1",
        "1.0.0+20130313",
        "1.0.0-a-b.0+x.y-z",
    ] {
        assert!(is_semver(good), "{good}");
    }
    for bad in [
        "", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "v1.2.3", "1.2.3-é",
    ] {
        assert!(!is_semver(bad), "{bad}");
    }
}

proptest! {
    #[test]
    fn reading_never_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_info(&prefix(), &body);
    }

    #[test]
    fn hostile_texts_are_refused_or_bounded(text in ".{0,200}", subject in "tg\\.eu\\.[gcse*]\\.[a-z.*> ]{0,20}") {
        let body = json!({"type": "io.nats.micro.v1.info_response", "name": text, "id": text,
            "version": text, "metadata": {"tidegate-wants": text, "k": text, &text: "v"},
            "endpoints": [{"subject": subject}, {"subject": text}]});
        if let Ok(Some(found)) = read_info(&prefix(), body.to_string().as_bytes()) {
            prop_assert!(tidegate_protocol::name::is_token(&found.info.service));
        }
    }
}
