//! What is malformed is refused by name and counted, and hurts nobody.

use std::time::Duration;

use tidegate::bus::Bus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{join, until, within};
use crate::support::{Bench, bench};

/// Text that has broken other people's parsers.
fn hostile() -> Vec<String> {
    [
        "",
        ".",
        "*",
        ">",
        "a b",
        " ",
        "\t",
        "%",
        "%zz",
        "%0d%0aX: y",
        "%00",
        "$JS.API",
        "a,b",
        ",",
        "\u{1b}[31m",
        "{}",
        "null",
        "\"",
        "-1",
        "99999999999999999999",
        "\u{e9}",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([
        "x".repeat(64 * 1024),
        "%41".repeat(20_000),
        "../".repeat(100),
    ])
    .collect()
}

#[tokio::test]
async fn each_field_is_checked_and_the_error_names_it() {
    let bench = bench().await;
    let plain = bench.plain().await;
    let (mut client, session) = join(&bench.gate).await;
    let id = session.id();
    let good = [
        ("Tidegate-Topic", "a"),
        ("Tidegate-Delivery", "critical"),
        ("Tidegate-Deadline-Ms", "100"),
    ];
    let mut refused = 0;
    for (i, (name, _)) in good.iter().enumerate() {
        for text in hostile() {
            let mut fields = good;
            fields[i].1 = &text;
            let reply = plain.ask("send-wait", id, &fields, "").await;
            if reply.error.is_none() {
                // A topic may be any text without control characters.
                assert_eq!(*name, "Tidegate-Topic", "{text:?}");
                assert!(client.recv().await.0.len() <= 65_535);
                continue;
            }
            let (error, why) = reply.failed();
            if error == "refused" {
                assert!(text.starts_with('$'));
                continue;
            }
            assert_eq!(error, "bad-request", "{name}: {text:?}");
            assert!(why.starts_with(name), "{name}: {text:?}: {why}");
            assert!(!why.chars().any(char::is_control) && why.len() <= 1024);
            refused += 1;
        }
        // Twice.
        let fields = [good.as_slice(), &[*good.get(i).unwrap()]].concat();
        let (error, why) = plain.ask("send-wait", id, &fields, "").await.failed();
        assert_eq!(error, "bad-request");
        assert!(why.starts_with(name), "{why}");
        refused += 1;
    }
    let long = "x".repeat(64 * 1024);
    for (op, field, bodies) in [
        (
            "bind",
            "user",
            vec![
                r#"{"user":""}"#.to_owned(),
                format!(r#"{{"user":"{long}"}}"#),
            ],
        ),
        (
            "bind",
            "body",
            vec![r#"{"user":"a\u0000"}"#.to_owned(), "[]".to_owned()],
        ),
        (
            "set",
            "body",
            vec![
                r#"{"a":1}"#.to_owned(),
                "[1]".to_owned(),
                format!("[{long}"),
            ],
        ),
        ("replace", "body", vec![format!(r#"{{"a":"{long}"}}"#)]),
        (
            "del",
            "body",
            vec!["{}".to_owned(), r#"{"key":"a","x":1}"#.to_owned()],
        ),
        (
            "join",
            "body",
            vec![
                r#"{"group":""}"#.to_owned(),
                format!(r#"{{"group":"{long}"}}"#),
            ],
        ),
        ("leave", "body", vec!["a".to_owned()]),
        (
            "bind-instance",
            "body",
            vec![
                r#"{"service":"a.b","instance":"c"}"#.to_owned(),
                r#"{"service":"a","instance":">"}"#.to_owned(),
                format!(r#"{{"service":"a","instance":"{long}"}}"#),
            ],
        ),
        (
            "unbind-instance",
            "body",
            vec![r#"{"service":"*"}"#.to_owned()],
        ),
    ] {
        for body in bodies {
            let (error, why) = plain.ask(op, id, &[], body.clone()).await.failed();
            assert_eq!(error, "bad-request", "{op} {field}: {why}");
            assert!(why.starts_with("body") && why.len() <= 1024, "{op}: {why}");
            refused += 1;
        }
    }
    for subject in [
        format!("load.{id}.more"),
        format!("LOAD.{id}"),
        "load.7".to_owned(),
        format!("load.+{}", &id.to_string()[1..]),
        "load".to_owned(),
        "many.load.x".to_owned(),
        "node.nothing".to_owned(),
        format!("load.{}", "x".repeat(3000)),
    ] {
        let subject = format!("tidegate.gate.g1.{subject}");
        let (error, why) = plain.request(subject.clone(), &[], "").await.failed();
        assert_eq!(error, "bad-request", "{subject}");
        assert!(why.starts_with("subject"), "{subject}: {why}");
        refused += 1;
    }
    assert_eq!(bench.bus.stats().malformed, refused);
    still_serves(&bench).await;
}

/// A connection to NATS without a library: says what it wants.
async fn raw(bench: &Bench, bytes: &[u8]) {
    let mut socket = TcpStream::connect(bench.server.address()).await.unwrap();
    socket
        .write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n")
        .await
        .unwrap();
    socket.write_all(bytes).await.unwrap();
    socket.write_all(b"PING\r\n").await.unwrap();
    let mut said = Vec::new();
    let answered = async {
        while !said.ends_with(b"PONG\r\n") && !said.windows(4).any(|w| w == b"-ERR") {
            if socket.read_buf(&mut said).await.unwrap_or(0) == 0 {
                return;
            }
        }
    };
    within("the server has taken it", answered).await;
}

fn message(subject: &str, reply: &str, headers: &[u8]) -> Vec<u8> {
    let mut all = format!("HPUB {subject} {reply} {0} {0}\r\n", headers.len()).into_bytes();
    all.extend(headers);
    all.extend(b"\r\n");
    all
}

/// A plain client gets an answer, and a client its packet.
async fn still_serves(bench: &Bench) {
    let (mut client, session) = join(&bench.gate).await;
    let plain = bench.plain().await;
    let asked = async {
        loop {
            let topic = [("Tidegate-Topic", "alive")];
            let subject = format!("tidegate.gate.g1.send.{}", session.id());
            let headers = crate::support::headers(&topic);
            let asked = plain.0.request_with_headers(subject, headers, "".into());
            // While the gate connects anew nobody is there.
            if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(1), asked).await {
                return;
            }
        }
    };
    within("the gate serves", asked).await;
    assert_eq!(client.recv().await.0, "alive");
}

#[tokio::test]
async fn replies_do_not_go_where_the_gate_may_publish_and_the_asker_may_not() {
    let bench = bench().await;
    let plain = bench.plain().await;
    let (_client, session) = join(&bench.gate).await;
    let mut all = plain.0.subscribe("tidegate.>").await.unwrap();
    let mut store = plain.0.subscribe("$KV.>").await.unwrap();
    plain.0.flush().await.unwrap();
    let id = session.id();
    let load = format!("tidegate.gate.g1.load.{id}");
    for reply in [
        "tidegate.c.chat.say",
        "tidegate.all.gate-gone",
        "tidegate.e.chat.disconnected",
        &format!("tidegate.gate.g1.close.{id}"),
        "$KV.tidegate-users.u.x",
        "$JS.API.STREAM.LIST",
    ] {
        raw(&bench, &message(&load, reply, b"NATS/1.0\r\n\r\n")).await;
    }
    until("all are refused", || bench.bus.stats().malformed == 6).await;
    // Everything that the gate had published before has come when this has.
    let fence = plain
        .request("tidegate.gates.fence".to_owned(), &[], "")
        .await;
    fence.is_done();
    use futures_util::{FutureExt as _, StreamExt as _};
    while let Some(Some(message)) = all.next().now_or_never() {
        let asked = message.reply.is_some();
        assert!(asked, "the gate published on {}", message.subject);
    }
    assert!(store.next().now_or_never().is_none());
    still_serves(&bench).await;
}

#[tokio::test]
async fn headers_that_no_library_would_write_are_survived() {
    let bench = bench().await;
    let (_client, session) = join(&bench.gate).await;
    let send = format!("tidegate.gate.g1.send.{}", session.id());
    for headers in [
        &b"NATS/1.0\r\nTidegate-Topic: a\rb\r\n\r\n"[..],
        b"NATS/1.0\r\nTidegate-Topic: a\nb\r\n\r\n",
        b"NATS/1.0\r\nTidegate-Topic\r\n\r\n",
        b"NATS/1.0\r\nTidegate-Topic: \xff\xfe\r\n\r\n",
        b"NATS/1.0\r\nTide gate: a\r\n\r\n",
        b"NATS/1.0\r\n: a\r\n\r\n",
        b"NATS/1.0 503\r\n\r\n",
        b"NATS/1.0 abc\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"NATS/1.0\r\n",
        b"",
    ] {
        raw(&bench, &message(&send, "", headers)).await;
        still_serves(&bench).await;
    }
}

/// Replies are subscriptions, too: whoever learns where they arrive can send anything there.
#[tokio::test]
async fn a_gate_whose_replies_are_attacked_stays_one_of_the_gates() {
    let bench = bench().await;
    let (_client, session) = join(&bench.gate).await;
    let mut attacked = 0;
    let connections = bench.server.monitor("/connz?subs=1").await;
    for connection in connections["connections"].as_array().unwrap() {
        for subject in connection["subscriptions_list"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let subject = subject.as_str().unwrap();
            if let Some(lane) = subject.strip_suffix(".*")
                && lane.starts_with("tidegate.inbox.")
            {
                let bad = b"NATS/1.0\r\nX: a\rb\r\n\r\n";
                raw(&bench, &message(&format!("{lane}.0"), "", bad)).await;
                attacked += 1;
            }
        }
    }
    assert!(attacked > 0, "{connections}");
    until("the losses are counted", || {
        bench.bus.stats().disconnects >= attacked
    })
    .await;
    until("it is back", || !bench.bus.stats().down).await;
    still_serves(&bench).await;
    // A login goes to the records, and the answers of other processes come back.
    within("a bind", session.bind(crate::harness::user("ada")))
        .await
        .unwrap();
    let presence = bench.gate.gate().clients();
    let users = [crate::harness::user("ada")];
    let here = within("an answer", presence.presence(&users))
        .await
        .unwrap();
    assert_eq!(here, [vec![session.id()]]);
}
