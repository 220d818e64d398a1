//! What `docs/protocol.md` says of the extended protocol is what the code does.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod page;

use std::collections::BTreeMap;

use page::{PAGE, blocks, section, table, tables};
use serde_json::{Map, Value, json};
use tidegate_protocol::extended::{self, *};
use tidegate_protocol::{Codec, Packet, V1};

fn packet(topic: &str, body: impl Into<String>) -> Packet {
    Packet::try_new(topic, body.into()).unwrap()
}

/// The topics that the code names.
fn topics() -> Vec<&'static str> {
    let source = include_str!("../src/extended/mod.rs");
    let values = source.split("&str = \"$").skip(1);
    values
        .map(|rest| {
            let start = rest.as_ptr() as usize - source.as_ptr() as usize - 1;
            &source[start..start + 1 + rest.find('"').unwrap()]
        })
        .collect()
}

/// Every topic: who sends it, what its body is, whether it counts.
#[test]
fn every_topic_stands_there_as_it_is() {
    let row = |topic: &str| {
        let body = |bytes: &[u8]| Packet::try_new(topic, bytes.to_vec()).unwrap();
        let eight = body(&[0; 8]);
        let client = ClientControl::read(&eight);
        let gate = GateControl::read(&eight);
        let from = match (&client, &gate) {
            (Err(ControlError::Topic), Err(ControlError::Topic)) => "nobody",
            (_, Err(ControlError::Topic)) => "client",
            (Err(ControlError::Topic), _) => "gate",
            _ => "both",
        };
        let (client, gate) = (
            ClientControl::read(&body(b"")),
            GateControl::read(&body(b"")),
        );
        let body = match (client, gate) {
            (Ok(ClientControl::Bye), _) => "empty",
            (Err(ControlError::Length(0)), _) | (_, Err(ControlError::Length(0))) => "8 bytes",
            (Err(ControlError::Json { .. }), _) | (_, Err(ControlError::Json { .. })) => "JSON",
            other => panic!("{topic}: {other:?}"),
        };
        let counts = match topic {
            GAP => "count",
            _ if is_counted(&eight.topic) => "1",
            _ => "0",
        };
        [topic, from, body, counts].map(str::to_owned)
    };
    let mut page = table("Topic | From | Body | Counts | Meaning");
    for topic in topics() {
        let row = row(topic);
        let found = page.iter().position(|r| r[..4] == row);
        page.remove(found.unwrap_or_else(|| panic!("not in docs/protocol.md: {row:?}")));
    }
    assert!(page.is_empty(), "not in the code: {page:?}");
}

/// A body of each JSON packet with everything in it.
fn samples() -> BTreeMap<&'static str, Value> {
    let refused = json!({"code": 1, "text": "t"});
    let heartbeat = json!({"client_ms": 1, "gate_ms": 1});
    let hello = json!({
        "versions": [1], "agent": "a", "device": "d", "capabilities": ["c"], "auth": 1,
        "heartbeat": heartbeat, "resume": {"token": "t", "received": 1},
    });
    let welcome = json!({
        "version": 1, "gate": "g", "session": "s", "user": "u", "capabilities": ["c"],
        "heartbeat": heartbeat, "max_packet": 1, "resume": {"token": "t", "window_ms": 1},
        "resumed": true, "refused": refused, "received": 1,
    });
    [
        (HELLO, hello),
        (WELCOME, welcome),
        (
            ERROR,
            json!({"topic": "t", "packet": 1, "code": 1, "message": "m"}),
        ),
        (GAP, json!({"count": 1, "reason": "dropped"})),
        (TOKEN, json!({"token": "t", "refused": refused})),
        (DRAIN, json!({"deadline_ms": 1, "retry_after_ms": 1})),
        (
            CLOSE,
            json!({"code": 4000, "text": "t", "reconnect": true, "retry_after_ms": 1}),
        ),
    ]
    .into()
}

/// Reads a JSON packet and writes it again; `None` if it is refused.
fn again(topic: &str, body: &Value) -> Option<Value> {
    let packet = packet(topic, body.to_string());
    let written = match topic {
        HELLO => ClientControl::read(&packet).ok()?.packet(),
        _ => GateControl::read(&packet).ok()?.packet(),
    };
    Some(serde_json::from_slice(&written.body).unwrap())
}

/// The object that holds a field, and the field's own name.
fn holder<'a, 'b>(body: &'a mut Value, field: &'b str) -> (&'a mut Map<String, Value>, &'b str) {
    match field.split_once('.') {
        Some((object, name)) => (body[object].as_object_mut().unwrap(), name),
        None => (body.as_object_mut().unwrap(), field),
    }
}

fn names(body: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for (name, value) in body.as_object().unwrap() {
        names.push(name.clone());
        let inner = value.as_object().into_iter().flatten();
        names.extend(inner.map(|(inner, _)| format!("{name}.{inner}")));
    }
    names.sort();
    names
}

/// Values that a type takes, and such as it does not.
fn values(kind: &str) -> (Vec<Value>, Vec<Value>) {
    let integers = |max: u64| {
        let too_large = Value::from_iter([max]).to_string();
        let too_large = format!("{}0", &too_large[1..too_large.len() - 1]);
        let too_large = serde_json::from_str(&too_large).unwrap();
        (
            vec![json!(0), json!(max)],
            vec![json!(-1), json!(1.5), json!("1"), json!(null), too_large],
        )
    };
    match kind {
        "text" => (vec![json!("")], vec![json!(1), json!([])]),
        "flag" => (
            vec![json!(true), json!(false)],
            vec![json!(0), json!("true")],
        ),
        "integer" => integers(u64::MAX),
        "integer, 32 bits" => integers(u32::MAX.into()),
        "integer, 16 bits" => integers(u16::MAX.into()),
        "list of integers, 16 bits" => (
            vec![json!([]), json!([0, 65535])],
            vec![json!(1), json!([65536]), json!(["1"])],
        ),
        "list of texts" => (vec![json!([]), json!(["x"])], vec![json!("x"), json!([1])]),
        "any" => (
            vec![json!(1), json!("x"), json!([]), json!({"deep": {"er": []}})],
            vec![],
        ),
        "object" => (vec![], vec![json!(1), json!("x")]),
        other => panic!("a type called {other}"),
    }
}

/// Every field: its type, and whether it is needed.
#[test]
fn every_field_stands_there_as_it_is() {
    for (topic, sample) in samples() {
        assert_eq!(again(topic, &sample), Some(sample.clone()), "{topic}");
        let text = section(&format!("### `{topic}`"));
        let mut found = tables(text, "Field | Type | Needed | Meaning");
        assert_eq!(found.len(), 1, "{topic}");
        let rows = found.remove(0);
        let mut documented: Vec<_> = rows.iter().map(|row| row[0].clone()).collect();
        documented.sort();
        assert_eq!(documented, names(&sample), "{topic}");
        for row in rows {
            let [field, kind, needed, _] = &row[..] else {
                panic!("{topic}: {row:?}");
            };
            let what = format!("{topic} {field}");
            let mut without = sample.clone();
            let (object, name) = holder(&mut without, field);
            object.remove(name).unwrap();
            let is_needed = again(topic, &without).is_none();
            assert_eq!(needed, if is_needed { "yes" } else { "no" }, "{what}");
            let with = |value: &Value| {
                let mut changed = sample.clone();
                let (object, name) = holder(&mut changed, field);
                object.insert(name.to_owned(), value.clone());
                again(topic, &changed)
            };
            // Which texts it may be is another question.
            let (good, bad) = values(if what == "$gap reason" {
                "object"
            } else {
                kind
            });
            for value in good {
                assert!(with(&value).is_some(), "{what}: {value}");
            }
            for value in bad {
                // What is not needed may be null, though it should not.
                let passed_over = value.is_null() && needed == "no";
                assert!(passed_over || with(&value).is_none(), "{what}: {value}");
            }
        }
        let mut more = sample.clone();
        more["later"] = json!({"version": 2});
        assert_eq!(again(topic, &more), Some(sample), "{topic}");
    }
}

#[test]
fn every_reason_of_a_gap_stands_there() {
    let page = table("Reason | Meaning");
    let documented: Vec<_> = page.iter().map(|row| row[0].as_str()).collect();
    let written = |reason: GapReason| {
        let name = serde_json::to_value(reason).unwrap();
        let name = name.as_str().unwrap().to_owned();
        // To be in the list below too.
        match reason {
            GapReason::Replaced | GapReason::Dropped | GapReason::TooLarge => name,
        }
    };
    let all = [GapReason::Replaced, GapReason::Dropped, GapReason::TooLarge];
    assert_eq!(documented, all.map(written));
}

#[test]
fn the_examples_are_what_the_code_reads_and_writes() {
    let mut seen = BTreeMap::<&str, usize>::new();
    for text in blocks("json") {
        let value: Value = serde_json::from_str(text).unwrap();
        // Version 1's errors have their own.
        let is = |(topic, _): &(&'static str, Value)| again(topic, &value).as_ref() == Some(&value);
        match samples().into_iter().find(|sample| is(sample)) {
            Some((topic, _)) => *seen.entry(topic).or_default() += 1,
            None => assert!(value.get("packet").is_none() && value.get("topic").is_some()),
        }
    }
    // `$token` has two in a sentence.
    let expected = samples().into_keys().filter(|topic| *topic != TOKEN);
    assert_eq!(seen, expected.map(|topic| (topic, 1)).collect());
    for text in [
        r#"{"token": "…"}"#,
        r#"{"refused": {"code": 3, "text": "…"}}"#,
    ] {
        assert!(PAGE.contains(text));
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(again(TOKEN, &value), Some(value));
    }
}

#[test]
fn the_frames_are_what_the_code_writes() {
    let frame = |packet: Packet| {
        let mut frame = Vec::new();
        V1.encode(&packet, &mut frame);
        frame
    };
    let hello = Hello::read(br#"{"versions":[1]}"#).unwrap();
    let hello = frame(ClientControl::Hello(Box::new(hello)).packet());
    assert_eq!(
        page::bytes_behind("The smallest one, as a frame of 26 bytes"),
        hello
    );
    let examples: Vec<_> = blocks("text")
        .into_iter()
        .filter(|text| text.lines().count() > 0 && text.as_bytes()[2] == b' ')
        .filter(|text| u8::from_str_radix(&text[..2], 16).is_ok())
        .map(page::bytes)
        .collect();
    for control in [
        ClientControl::Ack(3),
        ClientControl::Ping(7),
        ClientControl::Pong(7),
        ClientControl::Bye,
    ] {
        let frame = frame(control.packet());
        assert!(examples.contains(&frame), "not there: {control:?}");
    }
}

#[test]
fn the_numbers_stand_there_as_they_are() {
    let longest = u64::MAX;
    for phrase in [
        format!("this page is version {VERSION} |"),
        format!("versions of the extended protocol that the client speaks, at most {MAX_LIST};"),
        format!("can do and wants, at most {MAX_LIST};"),
        format!("for logs; at most {MAX_NAME} bytes"),
        format!("limits the logins on each; at most {MAX_NAME} bytes"),
        format!(
            "the last token that the client got; at most {} bytes",
            extended::MAX_TOKEN
        ),
        format!("a new token, at most {} bytes", extended::MAX_TOKEN),
        format!("`$hello` has at most {MAX_HELLO} bytes"),
        format!(
            "acknowledges after {ACK_PACKETS} packets or {} s",
            ACK_DELAY.as_secs()
        ),
        format!(
            "as far as it is between {} s and that",
            MIN_HEARTBEAT.as_secs()
        ),
        format!("there is `{RESUME}`"),
        format!("of 64 bits (up to {longest})"),
    ] {
        page::says(&phrase);
    }
    let hello = |agent: usize, versions: usize, capabilities: usize, token: usize| {
        let body = json!({
            "versions": vec![1; versions], "agent": "a".repeat(agent), "device": "a".repeat(agent),
            "capabilities": vec!["c"; capabilities],
            "resume": {"token": "t".repeat(token), "received": 0},
        });
        Hello::read(body.to_string().as_bytes()).is_ok()
    };
    let token = extended::MAX_TOKEN;
    assert!(hello(MAX_NAME, MAX_LIST, MAX_LIST, token));
    assert!(!hello(MAX_NAME + 1, MAX_LIST, MAX_LIST, token));
    assert!(!hello(MAX_NAME, MAX_LIST + 1, MAX_LIST, token));
    assert!(!hello(MAX_NAME, MAX_LIST, MAX_LIST + 1, token));
    assert!(!hello(MAX_NAME, MAX_LIST, MAX_LIST, token + 1));
}

/// The client's side of the examples of resume does what they say.
#[test]
fn the_examples_of_resume_are_what_a_client_does() {
    let examples = blocks("resume");
    assert_eq!(examples.len(), 4);
    for example in examples {
        let mut client = ClientSession::default();
        // What the client writes by itself, next.
        let mut due = std::collections::VecDeque::new();
        for line in example.lines() {
            if line == "--" {
                assert!(due.is_empty(), "before the cut: {due:?}\n{example}");
                continue;
            }
            let (direction, rest) = line.split_at(2);
            let mut came = match rest.split_once(' ') {
                Some((topic @ (ACK | PING | PONG), n)) => {
                    let n = n.parse::<u64>().unwrap().to_le_bytes();
                    Packet::try_new(topic, n.to_vec()).unwrap()
                }
                Some((topic, body)) => packet(topic, body),
                None => packet(rest, ""),
            };
            match (direction, came.topic.as_str()) {
                ("> ", HELLO) => {
                    let wishes = r#"{"versions":[1],"capabilities":["resume"]}"#;
                    let written = client.hello(&Hello::read(wishes.as_bytes()).unwrap());
                    assert_eq!(body(&written), body(&came), "{line}");
                }
                ("> ", topic) => match due.pop_front() {
                    Some(written) => {
                        assert_eq!(written, came, "{line}");
                        client.write(&written);
                    }
                    None if topic == ACK => assert_eq!(client.ack(), Some(came), "{line}"),
                    None => _ = client.write(&came),
                },
                ("< ", WELCOME) => {
                    came.body = full_welcome(&came).to_string().into();
                    let Ok(GateControl::Welcome(welcome)) = GateControl::read(&came) else {
                        panic!("{line}");
                    };
                    let again = match client.welcome(&welcome).unwrap() {
                        Welcomed::Resumed { again } => again,
                        Welcomed::Fresh { .. } => Vec::new(),
                    };
                    due.extend(again);
                    due.push_front(client.confirm());
                    // Cut before the client could say anything.
                    if example.contains(&format!("{line}\n--")) {
                        due.clear();
                    }
                }
                ("< ", _) => {
                    if let Taken::Reply(reply) = client.take(came).unwrap() {
                        due.push_back(reply);
                    }
                }
                _ => panic!("{line}"),
            }
        }
        assert!(due.is_empty(), "{due:?}\n{example}");
    }
}

fn body(packet: &Packet) -> Value {
    serde_json::from_slice(&packet.body).unwrap()
}

/// With what the page leaves out of the examples.
fn full_welcome(short: &Packet) -> Value {
    let mut welcome = json!({
        "version": 1, "gate": "g", "session": "s",
        "heartbeat": {"client_ms": 1000, "gate_ms": 1000}, "max_packet": 65535,
    });
    let short = body(short);
    let fields = short.as_object().unwrap().clone();
    welcome.as_object_mut().unwrap().extend(fields);
    welcome
}
