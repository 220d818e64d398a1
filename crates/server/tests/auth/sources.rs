//! Where tokens come from, and what of them is logged.

use serde_json::{Value, json};

use crate::support::jwt_tool;
use crate::support::server::Server;
use crate::ws::{Got, Ws};
use crate::{KINDS, Keys, SECRET, config};

const REFUSED: Got = Got::Close(4503);
/// What a guest is told of a method for bound sessions.
const NOT_FOUND: u64 = 3;

/// How a request carries a token: target and headers.
type Carried = (String, Vec<String>);

fn authorization(token: &str) -> Carried {
    ("/".into(), vec![format!("Authorization: Bearer {token}")])
}

fn query(token: &str) -> Carried {
    (format!("/?a=b&token={token}"), vec![])
}

fn cookie(token: &str) -> Carried {
    ("/".into(), vec![format!("Cookie: a=b; __Host-id={token}")])
}

fn subprotocol(token: &str) -> Carried {
    let offered = format!("Sec-WebSocket-Protocol: tidegate, bearer.{token}");
    ("/".into(), vec![offered])
}

const CARRIERS: [fn(&str) -> Carried; 4] = [authorization, query, cookie, subprotocol];

const SOURCES: &str =
    "sources = [\"authorization\", \"query:token\", \"cookie:__Host-id\", \"subprotocol\"]";

fn open(server: &Server, (target, headers): &Carried) -> Ws {
    Ws::open(server.listeners[1], target, headers)
}

fn json_of(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn every_algorithm_from_every_source() {
    let keys = Keys::new();
    for (kind, algorithms) in KINDS {
        let job = |(i, algorithm)| {
            json!({
                "alg": algorithm, "key": keys.signing(kind),
                "claims": { "sub": format!("user {i}"), "set": { "role": "tester" } },
                "from_now": { "exp": 600, "iat": 0, "nbf": 0 },
            })
        };
        let jobs: Vec<_> = algorithms.iter().enumerate().map(job).collect();
        let tokens = jwt_tool("mint", &json!(jobs));
        let auth = format!(
            "[auth.jwt]\nalgorithms = {algorithms:?}\n{SOURCES}\nsettings_claim = \"set\"\n{}",
            keys.setting(kind)
        );
        let server = Server::start(&config("", &auth), &[]);
        for (i, token) in tokens.iter().enumerate() {
            for carrier in CARRIERS {
                let mut client = open(&server, &carrier(token));
                // Open to bound sessions only; and bound to whom it is said.
                assert_eq!(json_of(&client.ask("chat/who/1", b""))["count"], 0);
                let login = json_of(&client.ask("auth/login/2", token.as_bytes()));
                assert_eq!(login["user"], format!("user {i}"), "{kind}");
            }
        }
        // No token, and no guests.
        let mut client = open(&server, &("/".into(), vec![]));
        assert_eq!(client.next(), REFUSED);
    }
}

#[test]
fn a_bad_token_is_refused_where_none_would_do() {
    let keys = Keys::new();
    let good = keys.token("ada", json!({}));
    let another = keys.token("bob", json!({}));
    let expired = keys.token("ada", json!({ "from_now": { "exp": -600 } }));
    let auth = format!(
        "[auth]\nguests = true\n[auth.jwt]\n{SOURCES}\n{}",
        keys.setting("secret")
    );
    let mut server = Server::start(&config("", &auth), &["--log-level", "trace"]);

    let mut guest = open(&server, &("/".into(), vec![]));
    assert_eq!(guest.ask("echo/echo/1", b"hi"), b"hi");
    assert_eq!(guest.error("chat/who/1", b""), NOT_FOUND);

    // One letter of the signature, in the middle of it.
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other = if &signature[9..10] == "A" { "B" } else { "A" };
    let forged = format!("{message}.{}{other}{}", &signature[..9], &signature[10..]);
    // First, because the log takes no more than ten lines in a second.
    let twice = (query(&good).0, authorization(&another).1);
    for refused in [&query(&expired), &query(&forged), &twice] {
        assert_eq!(open(&server, refused).next(), REFUSED);
    }
    for bad in [
        expired.as_str(),
        &forged,
        "",
        "x",
        "a.b.c",
        &good[1..],
        "\"\"",
        "null",
    ] {
        for carrier in CARRIERS {
            // An empty offer is no subprotocol, and the upgrade itself fails on a quote.
            let carried = carrier(bad);
            let offers_nothing =
                carried.1.iter().any(|h| h.contains("Protocol")) && bad.contains('"');
            if !offers_nothing {
                assert_eq!(
                    open(&server, &carried).next(),
                    REFUSED,
                    "{bad:?} {carried:?}"
                );
            }
        }
    }
    // The same twice is one; two different ones are none.
    let both = |a: &str, b: &str| (query(a).0, authorization(b).1);
    assert_eq!(
        open(&server, &both(&good, &good)).ask("echo/echo/1", b"x"),
        b"x"
    );
    for (a, b) in [(&good, &another), (&good, &expired), (&expired, &good)] {
        assert_eq!(open(&server, &both(a, b)).next(), REFUSED);
    }
    let (_, headers) = authorization(&good);
    let basic = vec!["Authorization: Basic YTpi".to_owned()];
    assert_eq!(open(&server, &("/".into(), basic)).next(), REFUSED);
    assert_eq!(
        open(
            &server,
            &(
                "/".into(),
                [&headers[..], &authorization(&another).1].concat()
            )
        )
        .next(),
        REFUSED
    );

    // What is logged says why, and shows nothing of what was tried.
    let mut client = crate::support::server::client(server.listeners[0]);
    use std::io::Write;
    client
        .write_all(&crate::support::frame("auth/login/1", expired.as_bytes()))
        .unwrap();
    crate::support::server::packet(&mut client);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let log = server.log();
    for why in [
        "the token has expired",
        "the token's signature is wrong",
        "two different tokens",
    ] {
        assert!(log.contains(why), "{why} in\n{log}");
    }
    for token in [&good, &another, &expired, &forged] {
        for part in token.split('.').skip(1) {
            assert!(!log.contains(&part[..part.len() - 1]), "{part} in\n{log}");
        }
    }
    assert!(!log.contains(SECRET));
}

#[test]
fn the_answer_to_a_browser_names_the_subprotocol_and_not_the_token() {
    let keys = Keys::new();
    let token = keys.token("ada", json!({}));
    let auth = format!(
        "[auth.jwt]\nsources = [\"subprotocol\"]\n{}",
        keys.setting("secret")
    );
    let server = Server::start(&config("", &auth), &[]);
    let offer = |offered: &str| {
        let header = format!("Sec-WebSocket-Protocol: {offered}");
        open(&server, &("/".into(), vec![header]))
    };
    let mut client = offer(&format!("bearer.{token}, tidegate"));
    assert!(
        client.head.contains("Sec-WebSocket-Protocol: tidegate\r\n"),
        "{}",
        client.head
    );
    assert!(!client.head.contains(&token) && !client.head.contains("bearer"));
    client.ask("chat/who/1", b"");
    let mut client = offer(&format!("bearer.{token}"));
    assert!(
        !client.head.contains("Sec-WebSocket-Protocol"),
        "{}",
        client.head
    );
    client.ask("chat/who/1", b"");
    assert_eq!(offer("tidegate, bearer.x").next(), REFUSED);
    assert_eq!(offer("tidegate").next(), REFUSED);
    // What is not among the sources is not looked at.
    assert_eq!(open(&server, &query(&token)).next(), REFUSED);
}

#[test]
fn a_listener_may_have_subprotocols_of_its_own_beside() {
    let keys = Keys::new();
    let token = keys.token("ada", json!({}));
    let auth = format!(
        "[auth.jwt]\nsources = [\"subprotocol\"]\n{}",
        keys.setting("secret")
    );
    let config = config("", &auth).replace(
        "[[websocket]]\n",
        "[[websocket]]\nsubprotocols = [\"chat.v1\"]\n",
    );
    let server = Server::start(&config, &[]);
    let header = format!("Sec-WebSocket-Protocol: tidegate, chat.v1, bearer.{token}");
    let client = open(&server, &("/".into(), vec![header]));
    assert!(
        client.head.contains("Sec-WebSocket-Protocol: chat.v1\r\n"),
        "{}",
        client.head
    );
}

#[test]
fn issuer_audience_and_user_claim_are_as_configured() {
    let keys = Keys::new();
    let auth = format!(
        "[auth.jwt]\nissuer = \"https://login.example\"\naudience = [\"gate\", \"other\"]\n\
         user_claim = \"uid\"\nleeway = \"0s\"\n{}",
        keys.setting("secret")
    );
    let server = Server::start(&config("", &auth), &[]);
    let good = json!({ "iss": "https://login.example", "aud": ["x", "gate"], "uid": 42 });
    let token = keys.token("ignored", good.clone());
    let mut client = open(&server, &authorization(&token));
    let login = json_of(&client.ask("auth/login/1", token.as_bytes()));
    assert_eq!(login["user"], "42");
    for (claim, value) in [
        ("iss", json!("https://evil.example")),
        ("aud", json!("elsewhere")),
        ("uid", json!("")),
        ("nbf", json!(4_000_000_000_u64)),
    ] {
        let mut claims = good.clone();
        claims[claim] = value;
        let token = keys.token("ignored", claims);
        assert_eq!(
            open(&server, &authorization(&token)).next(),
            REFUSED,
            "{claim}"
        );
    }
}

#[test]
fn what_is_not_exposed_is_not_there() {
    let keys = Keys::new();
    let auth = format!("[auth.jwt]\n{}", keys.setting("secret"));
    let top = "expose = [\"echo/echo\", \"chat/who\"]";
    let server = Server::start(&config(top, &auth), &[]);
    let token = keys.token("ada", json!({}));
    let mut client = open(&server, &authorization(&token));
    assert_eq!(client.ask("echo/echo/1", b"x"), b"x");
    client.ask("chat/who/1", b"");
    for hidden in [
        "echo/after/1",
        "auth/login/1",
        "chat/rooms/1",
        "nobody/there/1",
    ] {
        assert_eq!(
            client.error(hidden, token.as_bytes()),
            NOT_FOUND,
            "{hidden}"
        );
    }
}
