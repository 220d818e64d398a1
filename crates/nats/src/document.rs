//! The specification (`docs/nats.md`) and the code say the same: tables both ways, examples
//! as they stand there.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use async_nats::HeaderMap;
use async_nats::header::HeaderValue;
use bytes::Bytes;
use tidegate_protocol::{DeviceId, ErrorCode, GateId, InstanceId, SessionId, Snapshot};

use crate::header::{self, Headers};
use crate::subject::{
    AllEvent, Class, GateVerb, Prefix, ServiceEvent, SessionVerb, ToGate, ToService,
};
use crate::wire::{call, error, event, gate, session};

const PAGE: &str = include_str!("../../../docs/nats.md");

/// From the heading with this text to the next one, of its own level or above.
fn section(heading: &str) -> &'static str {
    let start = PAGE
        .match_indices(heading)
        .find(|(at, _)| {
            let line = PAGE[..*at].rsplit('\n').next().unwrap();
            !line.is_empty() && line.trim_matches('#') == " "
        })
        .unwrap_or_else(|| panic!("no heading {heading:?}"))
        .0;
    let level = PAGE[..start].rsplit('\n').next().unwrap().len();
    let rest = &PAGE[start..];
    let mut end = 0;
    for (at, _) in rest.match_indices("\n#") {
        let hashes = rest[at + 1..].bytes().take_while(|b| *b == b'#').count();
        if hashes < level {
            end = at;
            break;
        }
    }
    &rest[..if end == 0 { rest.len() } else { end }]
}

/// The cells of the rows of all tables in a section, heads left out.
fn rows(section: &str) -> Vec<Vec<&str>> {
    let mut rows = Vec::new();
    let lines: Vec<_> = section.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let head = lines
            .get(i + 1)
            .is_some_and(|next| next.starts_with("| ---"));
        if line.starts_with('|') && !line.starts_with("| ---") && !head {
            rows.push(line.trim_matches('|').split(" | ").map(str::trim).collect());
        }
    }
    rows
}

/// The texts between back-ticks.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn first_column(heading: &str) -> BTreeSet<String> {
    let rows = rows(section(heading));
    let firsts = rows.iter().map(|row| code(row[0])[0].to_owned());
    firsts.collect()
}

fn set<'a>(items: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    items.into_iter().map(str::to_owned).collect()
}

#[test]
fn subjects() {
    let p = Prefix::default();
    let gate = GateId::new("gate").unwrap();
    let instance = InstanceId::new("instance").unwrap();
    let service = "service".try_into().unwrap();
    let session = SessionId(0xfeed);
    // All that can be built, with what varies by its name.
    let mut built = Vec::new();
    for class in [Class::Guest, Class::Client, Class::Service] {
        built.push(p.call(class, "service", "method").unwrap());
    }
    built.push(p.call(Class::Event, "service", "event").unwrap());
    let one = p
        .instance_call(Class::Service, "service", &instance, "method")
        .unwrap();
    built.push(one);
    built.extend([
        p.all(AllEvent::Started),
        p.session(&gate, SessionVerb::Load, session),
        p.many(&gate, SessionVerb::Load),
        p.node(&gate, GateVerb::Count),
        p.any(GateVerb::Count),
        p.gates(GateVerb::Count),
        p.inbox("name").unwrap(),
    ]);
    let mut code: BTreeSet<String> = BTreeSet::new();
    for subject in &built {
        let named = subject.split('.').skip(1).map(|token| match token {
            "service" | "method" | "instance" | "event" | "name" => format!("<{token}>"),
            "started" => "<event>".to_owned(),
            "load" => "<op>".to_owned(),
            "count" => "<request>".to_owned(),
            token if token == session.to_string() => "<session>".to_owned(),
            token => token.to_owned(),
        });
        code.insert(format!("<p>.{}", named.collect::<Vec<_>>().join(".")));
    }
    // `gate` is a word of the grammar and what stands after it; an inbox is a whole family.
    let code: BTreeSet<String> = code
        .into_iter()
        .map(|s| s.replace("<p>.gate.gate", "<p>.gate.<gate>"))
        .map(|s| s.replace("<name>.n", "<name>.n.>"))
        .chain(["<p>.i.<service>.<instance>.<class>.<name>".to_owned()])
        .collect();
    assert_eq!(first_column("Subjects"), code);
    assert!(
        PAGE.contains(
            &p.calls_of(&service)
                .replace("tidegate", "<p>")
                .replace(".service.", ".<service>.")
        )
    );

    let classes: BTreeSet<_> = Class::ALL.iter().map(|c| c.as_str()).collect();
    assert_eq!(classes, BTreeSet::from(["g", "c", "s", "e"]));
}

#[test]
fn verbs_and_events() {
    let ops = SessionVerb::ALL.iter().map(|v| v.as_str());
    assert_eq!(first_column("Operations on a session"), set(ops));
    let section = section("Requests to all gates");
    let requests = rows(section)
        .iter()
        .map(|row| code(row[0])[0].to_owned())
        .collect();
    let verbs = GateVerb::ALL.iter().map(|v| v.as_str());
    assert_eq!(set(verbs), requests);
    let events = ServiceEvent::ALL.iter().map(|e| e.as_str());
    let events = events.chain(AllEvent::ALL.iter().map(|e| e.as_str()));
    assert_eq!(first_column("Events"), set(events));
}

#[test]
fn headers() {
    let all = header::all();
    let names = all.iter().map(AsRef::<str>::as_ref);
    assert_eq!(first_column("Headers"), set(names));
    // What is named anywhere on the page is one of them.
    for (at, _) in PAGE.match_indices("Tidegate-") {
        let rest = &PAGE[at..];
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .unwrap();
        let known = all
            .iter()
            .any(|name| AsRef::<str>::as_ref(name) == &rest[..end]);
        assert!(known, "{}", &rest[..end]);
    }
}

#[test]
fn errors() {
    let page: BTreeSet<_> = rows(section("Errors"))
        .iter()
        .map(|row| (code(row[0])[0].to_owned(), row[1].parse().unwrap()))
        .collect();
    let known = error::NAMES
        .iter()
        .map(|(name, number)| ((*name).to_owned(), *number));
    assert_eq!(page, known.collect());

    let answers = rows(section("Answers"));
    let page: BTreeSet<_> = answers
        .iter()
        .filter(|row| row.len() == 3)
        .map(|row| (code(row[0])[0].to_owned(), row[1].parse().unwrap()))
        .collect();
    let known = call::NOT_SERVED.iter();
    assert_eq!(
        page,
        known
            .map(|(name, code)| ((*name).to_owned(), code.0))
            .collect()
    );

    // The numbers that a plain error may have.
    let row = answers.iter().find(|row| row[0].starts_with('6')).unwrap();
    let page: BTreeSet<u16> = row[0].split(", ").map(|n| n.parse().unwrap()).collect();
    let kept = ErrorCode::ALL.iter().filter(|code| {
        let mut map = HeaderMap::new();
        header::put_error(&mut map, code.0, "x");
        let read = call::read_answer(Headers(Some(&map)), Bytes::new()).unwrap();
        read.unwrap_err().code == **code
    });
    assert_eq!(page, kept.map(|code| code.0).collect());
}

#[test]
fn the_session() {
    let snapshot = Snapshot {
        device: Some(DeviceId::new("phone").unwrap()),
        ..Snapshot::decode(example_session().as_bytes()).unwrap()
    };
    let json: serde_json::Value = serde_json::from_slice(&snapshot.encode()).unwrap();
    let fields = json.as_object().unwrap().keys().map(String::as_str);
    assert_eq!(first_column("The session"), set(fields));
}

#[test]
fn bodies_of_the_tables_are_read() {
    let none = Headers(None);
    let mut read = 0;
    for row in rows(section("Operations on a session")) {
        let verb = SessionVerb::from_token(code(row[0])[0]).unwrap();
        for body in code(row[1]).iter().filter(|c| c.starts_with("{\"")) {
            let body = Bytes::from(*body);
            session::decode(verb, none, &body).unwrap_or_else(|e| panic!("{verb:?}: {e}"));
            read += 1;
        }
    }
    for row in rows(section("Requests to all gates")) {
        let verb = GateVerb::from_token(code(row[0])[0]).unwrap();
        for body in code(row[1]).iter().filter(|c| c.starts_with('{')) {
            gate::decode(verb, none, &Bytes::from(*body))
                .unwrap_or_else(|e| panic!("{verb:?}: {e}"));
            read += 1;
        }
        for reply in code(row[2])
            .iter()
            .filter(|c| c.starts_with("{\"n") || c.starts_with("{\"s"))
        {
            if matches!(
                verb,
                GateVerb::CloseUser | GateVerb::GroupCount | GateVerb::Count
            ) {
                let whole = gate::Parts::default().take(verb, none, reply.as_bytes());
                whole.unwrap().unwrap();
                read += 1;
            }
        }
    }
    for row in rows(section("Events")) {
        let name = code(row[0])[0];
        let body = code(row[2]).first().copied().unwrap_or_default().as_bytes();
        if let Some(name) = ServiceEvent::from_token(name) {
            event::decode(name, body).unwrap();
            read += 1;
        } else if name == AllEvent::GateGone.as_str() {
            event::read_gate_gone(body).unwrap();
            read += 1;
        }
    }
    assert_eq!(read, 20, "bodies");
    let sent = section("What became of a send to many");
    let sent = sent.lines().find(|line| line.starts_with('{')).unwrap();
    let whole = gate::Parts::default().take(GateVerb::Broadcast, none, sent.as_bytes());
    whole.unwrap().unwrap();
}

/// A message of the worked example.
struct Message {
    verb: &'static str,
    subject: &'static str,
    headers: HeaderMap,
    body: Bytes,
}

fn messages() -> Vec<Message> {
    let blocks = PAGE.split("```nats\n").skip(1);
    let blocks = blocks.map(|block| block.split("\n```").next().unwrap());
    blocks.map(message).collect()
}

/// Reads a block, and checks its lengths.
fn message(block: &'static str) -> Message {
    let (line, rest) = block.split_once('\n').unwrap();
    let words: Vec<_> = line.split(' ').collect();
    let number = |back: usize| words[words.len() - back].parse::<usize>().unwrap();
    let mut headers = HeaderMap::new();
    let body = if words[0].starts_with('H') {
        let (head, body) = rest.split_once("\n\n").unwrap();
        let wire = format!("{}\r\n\r\n", head.replace('\n', "\r\n"));
        assert_eq!(number(2), wire.len(), "{line}");
        assert_eq!(
            number(1),
            wire.len() + body.trim_end_matches('\n').len(),
            "{line}"
        );
        for header in head.lines().skip(1) {
            let (name, value) = header.split_once(": ").unwrap();
            headers.insert(name, value.parse::<HeaderValue>().unwrap());
        }
        body.trim_end_matches('\n')
    } else {
        assert_eq!(number(1), rest.len(), "{line}");
        rest
    };
    let at = usize::from(words[0].ends_with("MSG"));
    Message {
        verb: words[0],
        subject: words[at.min(1)..].iter().find(|w| w.contains('.')).unwrap(),
        headers,
        body: Bytes::from(body),
    }
}

fn example_session() -> &'static str {
    let line = PAGE
        .lines()
        .find(|line| line.starts_with("Tidegate-Session: "))
        .unwrap();
    line.trim_start_matches("Tidegate-Session: ")
}

#[test]
fn the_worked_example() {
    let [call, send, sent, gone, answer, refuse] = messages().try_into().ok().unwrap();
    let verbs = [&call, &send, &sent, &gone, &answer, &refuse].map(|m| m.verb);
    assert_eq!(verbs, ["HMSG", "HPUB", "MSG", "HMSG", "PUB", "HPUB"]);
    let p = Prefix::default();

    let expected = ToService::One {
        class: Class::Client,
        service: "chat",
        instance: None,
        name: "say",
    };
    assert_eq!(p.to_service(call.subject), Some(expected));
    let head = call::read_head(Headers(Some(&call.headers))).unwrap();
    let session = head.session.unwrap();
    assert_eq!(session.user.as_deref(), Some("ada"));
    // Header by header as a gate writes it.
    let written = call::head(
        Some((&session.encode_ascii(), session.trace_id)),
        head.span.unwrap(),
        head.wants_answer,
    );
    assert_eq!(written, call.headers);

    let expected = ToGate::Session(SessionVerb::Send, session.id);
    assert_eq!(p.to_gate(&session.gate, send.subject), Some(expected));
    let op = session::decode(SessionVerb::Send, Headers(Some(&send.headers)), &send.body).unwrap();
    let (_, written) = session::encode(op).unwrap();
    assert_eq!(
        (written.headers.as_ref(), &written.body),
        (Some(&send.headers), &send.body)
    );

    let written = session::encode_result(&Ok(tidegate::bus::SessionReply::Done));
    assert_eq!((written.headers, written.body), (None, sent.body));
    let written = error::encode(&tidegate::bus::GateError::SessionGone);
    assert_eq!(
        (written.headers, written.body),
        (Some(gone.headers), gone.body)
    );

    for (reply, ok) in [(&answer, true), (&refuse, false)] {
        let read = call::read_answer(Headers(Some(&reply.headers)), reply.body.clone()).unwrap();
        assert_eq!(read.is_ok(), ok);
        let written = call::answer(read);
        assert_eq!(written.headers.unwrap_or_default(), reply.headers);
        assert_eq!(written.body, reply.body);
    }
}
