//! Row by row: every field, with what could end a line, a token or a bound.

use async_nats::HeaderMap;
use async_nats::header::HeaderValue;
use bytes::Bytes;
use proptest::prelude::*;
use tidegate_protocol::{GateId, InstanceId, Name};

use super::super::{call, event, gate, session};
use crate::header::{self, Headers, Malformed};
use crate::subject::{
    AllEvent, Class, GateVerb, Prefix, ServiceEvent, SessionVerb, ToGate, ToService, hash,
};

/// What attackers put into fields.
const NASTY: &[&str] = &[
    "",
    ".",
    "..",
    "*",
    ">",
    "a.b",
    "a.*",
    "a.>",
    ".a",
    "a.",
    " ",
    " a",
    "a b",
    "a\tb",
    "\r\n",
    "a\r\nTidegate-Session: {}",
    "a\nb",
    "a\rb",
    "\0",
    "a\0b",
    "\u{7f}",
    "\u{85}",
    "é",
    "喵",
    "\u{202e}",
    "$SRV",
    "$JS.API",
    "_INBOX.x",
    "q\" \\",
    "%",
    "%0",
    "%zz",
    "%0d%0a",
    "%ff",
];

fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(NASTY).prop_map(str::to_owned),
        any::<String>(),
        "[A-Za-z0-9_.*> \r\n\0$-]{0,80}",
        (proptest::sample::select(NASTY), 1..4096usize)
            .prop_map(|(text, times)| format!("a{text}").repeat(times)),
        Just("a".repeat(64 * 1024)),
        Just("喵".repeat(64 * 1024 / 3)),
    ]
}

fn all_nasty() -> impl Iterator<Item = String> {
    let long =
        ["a", ".", "\r\n", "喵", "%41", "{\"a\":", "[["].map(|t| t.repeat(64 * 1024 / t.len()));
    NASTY.iter().map(|t| (*t).to_owned()).chain(long)
}

fn is_token(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(good)
}

proptest! {
    #[test]
    fn a_subject_is_built_of_tokens_or_not_at_all(
        a in prop_oneof![nasty(), Just("chat".to_owned())],
        b in prop_oneof![nasty(), Just("say".to_owned())],
    ) {
        let prefix = Prefix::default();
        let instance = InstanceId::new("i-1").unwrap();
        for class in Class::ALL {
            let good = is_token(&a) && is_token(&b);
            let subject = prefix.call(*class, &a, &b);
            prop_assert_eq!(subject.is_ok(), good);
            prop_assert_eq!(prefix.instance_call(*class, &a, &instance, &b).is_ok(), good);
            if let Ok(subject) = subject {
                prop_assert_eq!(subject.split('.').count(), 4);
            }
        }
        prop_assert_eq!(prefix.inbox(&a).is_ok(), is_token(&a));
        // Those that are tokens by birth.
        prop_assert_eq!(Name::new(&a).is_ok(), is_token(&a));
        prop_assert_eq!(InstanceId::new(&a).is_ok(), is_token(&a));
        prop_assert_eq!(GateId::new(&a).is_ok(), is_token(&a));
        prop_assert!(is_token(&hash(&a)));
        let tokens = a.split('.');
        let good = tokens.clone().count() <= 3 && tokens.clone().all(|t| is_token(t) && t.len() <= 32);
        prop_assert_eq!(Prefix::new(&a).is_ok(), good);
    }

    /// What is read from a subject is what it would be built from.
    #[test]
    fn a_subject_is_read_exactly_or_not_at_all(
        tokens in proptest::collection::vec(prop_oneof![
            nasty(),
            proptest::sample::select(&[
                "g", "c", "s", "e", "i", "all", "any", "gate", "gates", "node", "many",
                "send", "count", "started", "gate-1", "0123456789abcdef0123456789abcdef",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            ][..]).prop_map(str::to_owned),
        ], 0..7),
        prefix in proptest::sample::select(&["tidegate", "a.b.c"][..]),
    ) {
        let prefix = Prefix::new(prefix).unwrap();
        let gate = GateId::new("gate-1").unwrap();
        let subject = format!("{prefix}.{}", tokens.join("."));
        if let Some(read) = prefix.to_gate(&gate, &subject) {
            let built = match read {
                ToGate::Session(verb, session) => prefix.session(&gate, verb, session),
                ToGate::Many(verb) => prefix.many(&gate, verb),
                ToGate::Node(verb) => prefix.node(&gate, verb),
                ToGate::Any(verb) => prefix.any(verb),
                ToGate::Gates(verb) => prefix.gates(verb),
            };
            prop_assert_eq!(built.as_str(), &subject);
        }
        if let Some(read) = prefix.to_service(&subject) {
            let built = match read {
                ToService::All(event) => prefix.all(event),
                ToService::One { class, service, instance: None, name } => {
                    prefix.call(class, service, name).unwrap()
                }
                ToService::One { class, service, instance: Some(id), name } => {
                    let id = InstanceId::new(id).unwrap();
                    prefix.instance_call(class, service, &id, name).unwrap()
                }
            };
            prop_assert_eq!(built.as_str(), &subject);
        }
        for foreign in ["", "tidegate", "other.c.a.b", "tidegate.c.a.b.", "xtidegate.c.a.b"] {
            prop_assert!(prefix.to_service(foreign).is_none());
            prop_assert!(prefix.to_gate(&gate, foreign).is_none());
        }
    }

    #[test]
    fn encoded_text_is_clean_and_comes_back(text in nasty()) {
        let encoded = header::percent_encode(&text);
        prop_assert!(encoded.bytes().all(|b| (0x21..=0x7e).contains(&b)));
        prop_assert_eq!(header::percent_decode(&encoded), Some(text.clone()));
        let line = header::one_line(&text, 100);
        prop_assert!(line.len() <= 100 && !line.chars().any(char::is_control));
    }

    #[test]
    fn bodies_are_read_or_refused(text in nasty(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for body in [Bytes::from(text.clone()), Bytes::from(bytes)] {
            all_bodies(&body);
        }
    }
}

fn all_bodies(body: &Bytes) {
    let headers = Headers(None);
    for verb in SessionVerb::ALL {
        let _ = session::decode(*verb, headers, body);
        let _ = session::decode_result(*verb, headers, body);
    }
    for verb in GateVerb::ALL {
        let _ = gate::decode(*verb, headers, body);
        let _ = gate::Parts::default().take(*verb, headers, body);
    }
    for name in ServiceEvent::ALL {
        let _ = event::decode(*name, body);
    }
    let _ = event::read_gate_gone(body);
}

/// Reads everything that can be read from headers; answers whether all was taken.
fn read_all(headers: Headers<'_>) -> Result<(), Malformed> {
    call::read_head(headers)?;
    let _ = call::read_answer(headers, Bytes::new())?;
    // These must be there; other tests look after their being read.
    let missing = |e: Malformed| match e.why == "is missing" {
        true => Ok(()),
        false => Err(e),
    };
    headers.topic().map(drop).or_else(missing)?;
    headers.delivery()?;
    headers.deadline().map(drop).or_else(missing)?;
    headers.sessions().map(drop).or_else(missing)?;
    headers.user().map(drop).or_else(missing)?;
    headers.group().map(drop).or_else(missing)?;
    headers.more()?;
    headers.is_near("chat")?;
    headers.error()?;
    headers.service_error()?;
    Ok(())
}

/// Headers that are text for people, or that their standard wants ignored when they are wrong.
const LENIENT: &[&str] = &["Nats-Service-Error", "traceparent"];

#[test]
fn every_header_refuses_what_it_is_not() {
    let plain = [
        "", ".", "*", ">", "a.b", " ", "a b", "\0", "é", "%", "%zz", "\u{7f}",
    ];
    for name in header::all() {
        let text: &str = name.as_ref();
        for value in all_nasty() {
            // Line ends never get here: neither library nor server lets them into a value.
            let Ok(parsed) = value.parse::<HeaderValue>() else {
                assert!(value.contains(['\r', '\n']));
                continue;
            };
            let mut map = HeaderMap::new();
            map.insert(name.clone(), parsed);
            let read = read_all(Headers(Some(&map)));
            // A topic, a user or a group is any text, once it is encoded; so is an error's name.
            let free = [
                "Tidegate-Topic",
                "Tidegate-User",
                "Tidegate-Group",
                "Tidegate-Error",
            ];
            if LENIENT.contains(&text) {
                assert_eq!(read, Ok(()), "{text}: {value:?}");
            } else if !free.contains(&text) {
                assert!(read.is_err(), "{text}: {value:?}");
            } else if value.len() > 60_000 && text != "Tidegate-Topic" {
                assert!(read.is_err(), "{text} of 64 KiB");
            } else if text != "Tidegate-Error" && !value.chars().all(|c| c.is_ascii_graphic()) {
                assert!(read.is_err(), "{text}: {value:?}");
            }
        }
        for value in plain {
            let mut map = HeaderMap::new();
            map.append(name.clone(), value.parse::<HeaderValue>().unwrap());
            map.append(name.clone(), value.parse::<HeaderValue>().unwrap());
            let read = read_all(Headers(Some(&map)));
            let ignored = text == "traceparent";
            assert_eq!(read.is_ok(), ignored, "{text}, twice: {value:?}");
        }
    }
}

#[test]
fn what_has_bounds_has_them() {
    let with = |name: &async_nats::HeaderName, value: &str| {
        let mut map = HeaderMap::new();
        map.insert(name.clone(), value.parse::<HeaderValue>().unwrap());
        map
    };
    let read = |map: &HeaderMap| read_all(Headers(Some(map))).is_ok();
    let id = "0123456789abcdef0123456789abcdef";
    let ids = |n| vec![id; n].join(",");
    let cases = [
        (header::USER, "u".repeat(256), "u".repeat(257)),
        (header::USER, "%41".repeat(256), "%41".repeat(257)),
        (header::GROUP, "g".repeat(128), "g".repeat(129)),
        (header::TOPIC, "t".repeat(65_531), "t".repeat(65_532)),
        (header::SESSIONS, ids(1000), ids(1001)),
        (header::DEADLINE, "60000".into(), "60001".into()),
        (header::DEADLINE, "1".into(), "0".into()),
        (header::DEADLINE, "10".into(), "+10".into()),
        (header::INSTANCE, "i".repeat(64), "i".repeat(65)),
        (header::ERROR_CODE, "65535".into(), "65536".into()),
        (
            header::DELIVERY,
            format!("latest:{}", "k".repeat(1024)),
            format!("latest:{}", "k".repeat(1025)),
        ),
        (header::DELIVERY, "latest:".into(), "Latest:".into()),
        (header::USER, "%c3%a9".into(), "%c3".into()),
        (header::USER, "a".into(), "%0a".into()),
        (header::TOPIC, "a%20".into(), "a%00".into()),
        (header::ANSWER, "0".into(), "00".into()),
        (header::MORE, "1".into(), "2".into()),
    ];
    for (name, good, bad) in cases {
        assert!(read(&with(&name, &good)), "{name:?}: {good:.80}");
        assert!(!read(&with(&name, &bad)), "{name:?}: {bad:.80}");
    }
    let text = "喵".repeat(64 * 1024 / 3);
    let map = with(&header::ERROR_TEXT, &text);
    let (_, cut) = Headers(Some(&map)).service_error().unwrap().unwrap();
    assert_eq!(cut.len(), 1023, "cut between characters");
}

#[test]
fn events_for_all_are_no_calls() {
    let prefix = Prefix::new("a.b.c").unwrap();
    for event in AllEvent::ALL {
        assert_eq!(
            prefix.to_service(&prefix.all(*event)),
            Some(ToService::All(*event))
        );
    }
}

/// Of all subjects only calls and events have three tokens after the prefix: an instance takes
/// them all with one wildcard, and nothing else, whatever names are chosen.
#[test]
fn nothing_else_looks_like_a_call() {
    let prefix = Prefix::default();
    let gate = GateId::new("chat").unwrap();
    let mut others = Vec::new();
    for verb in SessionVerb::ALL {
        others.push(prefix.session(&gate, *verb, tidegate_protocol::SessionId(1)));
        others.push(prefix.many(&gate, *verb));
    }
    for verb in GateVerb::ALL {
        others.extend([
            prefix.node(&gate, *verb),
            prefix.any(*verb),
            prefix.gates(*verb),
        ]);
    }
    others.extend(AllEvent::ALL.iter().map(|event| prefix.all(*event)));
    let inbox = prefix.inbox("chat").unwrap();
    others.push(format!("{inbox}.abc").into());
    for subject in others {
        assert_ne!(subject.split('.').count(), 4, "{subject}");
        assert_eq!(
            prefix.to_service(&subject).is_some(),
            subject.contains(".all.")
        );
    }
}

/// What one does not know it might mean: it is not for guessing.
#[test]
fn unknown_fields_are_refused() {
    let ops = [
        (SessionVerb::Bind, r#""user":"a""#),
        (SessionVerb::Del, r#""key":"a""#),
        (SessionVerb::Join, r#""group":"a""#),
        (SessionVerb::Leave, r#""group":"a""#),
        (SessionVerb::BindInstance, r#""service":"a","instance":"b""#),
        (SessionVerb::UnbindInstance, r#""service":"a""#),
    ];
    let none = Headers(None);
    for (verb, fields) in ops {
        let read = |body: String| session::decode(verb, none, &body.into()).is_ok();
        assert!(read(format!("{{{fields}}}")), "{verb:?}");
        assert!(!read(format!("{{{fields},\"x\":1}}")), "{verb:?}");
    }
    let requests = [
        (GateVerb::CloseUser, r#""user":"a""#),
        (GateVerb::Presence, r#""users":["a"]"#),
        (GateVerb::GroupCount, r#""group":"a""#),
        (GateVerb::GroupMembers, r#""group":"a""#),
        (GateVerb::Locate, r#""user":"a""#),
    ];
    for (verb, fields) in requests {
        let read = |body: String| gate::decode(verb, none, &body.into()).is_ok();
        assert!(read(format!("{{{fields}}}")), "{verb:?}");
        assert!(!read(format!("{{{fields},\"x\":1}}")), "{verb:?}");
    }
}
