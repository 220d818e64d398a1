//! `tidegate connect` and sessions that outlive their connection, or do not: what it says, and
//! how it ends.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::net::SocketAddr;

use serde_json::Value;
use support::Gate;
use support::person::Person;
use support::proxy::Proxy;
use support::server::{Scratch, Server, run};

const SERVE: &str = "services = [\"echo\", \"chat\"]\n[admin]\naddress = \"127.0.0.1:0\"\n\
    token = \"0123456789abcdef0123456789abcdef\"\n\
    [[tcp]]\naddress = \"127.0.0.1:0\"\nresume_over_plaintext = true\n";

/// The id in a line `session ID of …`.
fn session_in(text: &str) -> &str {
    let (_, after) = text.split_once("\nsession ").unwrap();
    after.split(' ').next().unwrap()
}

#[test]
fn a_session_that_is_resumed_gets_what_it_missed() {
    let gate = Gate::start(&[]);
    let address: SocketAddr = gate.tcp_address().parse().unwrap();
    let proxy = Proxy::before(address);
    let mut ada = Person::connect(&proxy.tcp_url(), &["--reconnect"]);
    ada.types("chat/login ada");
    let text = ada.sees("<- chat/login/1");
    assert!(text.contains("extended protocol 1, gate gate-"), "{text}");
    assert!(text.contains(", heartbeat 25 s\n"), "{text}");
    assert!(
        text.contains(" of a guest, resumable for 120 s\n"),
        "{text}"
    );
    let session = session_in(&text).to_owned();
    proxy.down();
    ada.sees("connection lost: it ended without a $close; trying again in ");
    // Both sides go on meanwhile.
    for text in ["one", "two"] {
        let tell = format!("chat/tell ada {text}");
        let bob = [
            "connect",
            &gate.tcp_url,
            "-e",
            "chat/login bob",
            "-e",
            &tell,
        ];
        assert_eq!(run(&bob).code, Some(0));
    }
    ada.types("chat/say from the tunnel");
    proxy.up(address);
    let text = ada.sees("<- chat/say/2");
    let resumed = format!("resumed: session {session} goes on; ");
    assert!(text.contains(&resumed), "{text}");
    for told in ["\"text\": \"one\"", "\"text\": \"two\""] {
        assert_eq!(text.matches(told).count(), 1, "{text}");
    }
    assert!(text.find("\"one\"") < text.find("\"two\""), "{text}");
    ada.types("state");
    ada.sees("not acknowledged ");
    // On purpose.
    ada.types("cut");
    ada.types("echo/echo still here");
    ada.sees(") still here");
    let (code, text) = ada.leaves();
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("connection lost: cut by this client; trying again"),
        "{text}"
    );
    assert_eq!(text.matches(&resumed).count(), 2, "{text}");
}

#[test]
fn scripts_end_with_their_connection_unless_they_are_told_not_to() {
    let gate = Gate::start(&[]);
    let address: SocketAddr = gate.tcp_address().parse().unwrap();
    let proxy = Proxy::before(address);
    let mut script = Person::connect(&proxy.tcp_url(), &[]);
    script.types("echo/echo x");
    script.sees(") x");
    proxy.down();
    let text = script.sees("connection lost: it ended without a $close\n");
    assert!(!text.contains("trying again"), "{text}");
    assert_eq!(script.leaves().0, Some(4));
    // Nothing of it waits at the gate: it was not to come back.
    proxy.up(address);
    let ended = run(&["connect", &proxy.tcp_url(), "-e", "state"]);
    assert!(
        ended.stdout.contains(", not resumable\n"),
        "{}",
        ended.stdout
    );
}

#[test]
fn scripts_read_of_it_in_json() {
    let gate = Gate::start(&[]);
    let ended = run(&[
        "connect",
        &gate.tcp_url,
        "--json",
        "--reconnect",
        "-e",
        "cut",
        "-e",
        "echo/echo x",
        "-e",
        "state",
    ]);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    let lines = ended.stdout.lines();
    let events: Vec<Value> = lines.map(|l| serde_json::from_str(l).unwrap()).collect();
    let names: Vec<_> = events
        .iter()
        .map(|e| e["event"].as_str().unwrap())
        .collect();
    let wanted = ["open", "waiting", "connecting", "open", "answer", "state"];
    assert_eq!(names, wanted, "{}", ended.stdout);
    let [first, waiting, connecting, second, _, state] = &events[..] else {
        panic!("{names:?}");
    };
    assert_eq!(
        (&first["resumed"], &second["resumed"]),
        (&false.into(), &true.into())
    );
    assert_eq!(first["resume_window_ms"], 120_000.0);
    assert_eq!(waiting["cause"], "lost");
    assert!(waiting["delay_ms"].is_number());
    assert_eq!(connecting["attempt"], 2);
    for event in [second, state] {
        assert_eq!(event["session"], first["session"]);
        assert_eq!(
            (&event["protocol"], &event["version"]),
            (&"extended".into(), &1.into())
        );
    }
    assert!(
        state["unacknowledged"].is_u64() && state["queued"] == 0,
        "{state}"
    );
    // Every event is in the help, with these names.
    let help = run(&["connect", "--help"]).stdout;
    for name in names {
        assert!(help.contains(&format!("  {name} ")), "{name}");
    }
}

#[test]
fn a_session_that_is_not_resumed_is_told_why() {
    let config = format!("{SERVE}limits = {{ resume_window = \"100ms\" }}\n");
    let server = Server::start(&config, &[]);
    let proxy = Proxy::before(server.listeners[0]);
    let mut ada = Person::connect(&proxy.tcp_url(), &["--reconnect"]);
    ada.types("chat/login ada");
    let text = ada.sees("<- chat/login/1");
    assert!(text.contains("resumable for 100 ms"), "{text}");
    proxy.down();
    server.counts("tidegate_sessions_ended_total", 1);
    proxy.up(server.listeners[0]);
    let text = ada.sees("connected again");
    let why = "connected again, not resumed: the session has expired (2 Expired)\nnew session ";
    assert!(text.contains(why), "{text}");
    // The other one knows nothing of it.
    let other = Server::start(SERVE, &[]);
    proxy.down();
    proxy.up(other.listeners[0]);
    ada.sees("connected again, not resumed: no session has this token (1 Unknown)\n");
    ada.types("echo/echo all the same");
    ada.sees(") all the same");
    assert_eq!(ada.leaves().0, Some(0));
}

#[test]
fn a_gate_that_is_restarted_is_found_again() {
    let server = Server::start(SERVE, &[]);
    let proxy = Proxy::before(server.listeners[0]);
    let mut ada = Person::connect(&proxy.tcp_url(), &["--reconnect"]);
    ada.types("echo/echo before");
    ada.sees(") before");
    server.signal("TERM");
    let text = ada.sees("(4000 Shutdown); trying again in ");
    assert!(
        text.contains("closed by the gate: the gate is shutting down"),
        "{text}"
    );
    let other = Server::start(SERVE, &[]);
    proxy.up(other.listeners[0]);
    ada.types("echo/echo after");
    ada.sees(") after");
    let (code, text) = ada.leaves();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("connected again"), "{text}");
}

#[test]
fn a_gate_that_drains_is_left_in_time() {
    let config = format!("{SERVE}[gate]\ndrain_wait = \"20s\"\n");
    let server = Server::start(&config, &[]);
    let proxy = Proxy::before(server.listeners[0]);
    let mut ada = Person::connect(&proxy.tcp_url(), &["--reconnect"]);
    let url = format!("tcp://{}", server.listeners[0]);
    let mut script = Person::connect(&url, &[]);
    for person in [&mut ada, &mut script] {
        person.types("echo/echo before");
        person.sees(") before");
    }
    let other = Server::start(SERVE, &[]);
    proxy.up(other.listeners[0]);
    server.signal("TERM");
    ada.types("wait 0.001");
    let told = "the gate is going to close within ";
    assert!(ada.sees(told).contains(": it asks to connect again after "));
    ada.sees("connected again, not resumed: no session has this token (1 Unknown)\n");
    ada.types("echo/echo after");
    let text = ada.sees(") after");
    assert!(!text.contains("trying again"), "{text}");
    assert_eq!(ada.leaves().0, Some(0));
    // Who does not connect again is done.
    script.sees(told);
    script.sees("the gate is going to close: left it\n");
    assert_eq!(script.leaves().0, Some(4));
}

#[test]
fn tokens_travel_in_the_hello_and_bad_ones_are_refused_in_words() {
    let config = format!(
        "{SERVE}[auth]\nguests = false\n[auth.jwt]\nsecret = \"{}\"\n",
        "0123456789abcdef".repeat(2)
    );
    let server = Server::start(&config, &[]);
    let file = server.path("tidegate.toml");
    let token = run(&["token", "--config", &file, "--user", "ada"]).stdout;
    let token = token.trim();
    let url = format!("tcp://{}", server.listeners[0]);
    let files = Scratch::new();
    let object = format!("{{\"token\": \"{token}\"}}");
    let object_file = files.write("auth.json", &format!("{object}\n"));
    let token_file = files.write("token", &format!("{token}\n"));
    for shown in [
        ["--token", token],
        ["--token-file", &token_file],
        ["--auth", &object],
        ["--auth", token],
        ["--auth-file", &object_file],
        ["--auth-file", &token_file],
    ] {
        let ended = run(&["connect", &url, "-e", "state", shown[0], shown[1]]);
        assert_eq!(ended.code, Some(0), "{shown:?} {}", ended.stderr);
        assert!(ended.stdout.contains(" of user ada, "), "{}", ended.stdout);
    }
    for shown in [&["--token", "x.y.z"][..], &["--auth", "{\"a\": 1}"], &[]] {
        let arguments = [&["connect", &url, "--reconnect"], shown].concat();
        let ended = run(&arguments);
        assert_eq!(ended.code, Some(3), "{shown:?} {}", ended.stdout);
        let why = "closed by the gate: authentication refused (4503 AuthenticationRefused); \
            connecting again does not help; --token and --auth show who you are\n";
        assert!(ended.stderr.ends_with(why), "{}", ended.stderr);
    }
    // The session that goes on stays ada's.
    let again = [
        "--reconnect",
        "-e",
        "cut",
        "-e",
        "echo/echo x",
        "-e",
        "state",
    ];
    let ended = run(&[&["connect", &url, "--token", token], &again[..]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("\nresumed: session "),
        "{}",
        ended.stderr
    );
    assert!(ended.stdout.contains(" of user ada, "), "{}", ended.stdout);
}

/// A close that tells a client not to come back ends it, whatever it was told to do.
#[test]
fn who_is_not_wanted_does_not_come_back() {
    let config = format!(
        "{}[auth]\nguests = true\n[auth.jwt]\nsecret = \"{}\"\n",
        SERVE.replace("\"chat\"", "\"auth\""),
        "0123456789abcdef".repeat(2)
    );
    let server = Server::start(&config, &[]);
    let url = format!("tcp://{}", server.listeners[0]);
    let mut arguments = vec!["connect", &*url, "--reconnect"];
    for _ in 0..6 {
        arguments.extend(["-e", "auth/login x.y.z"]);
    }
    arguments.extend(["-e", "wait 600"]);
    let ended = run(&arguments);
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    let why = "\nclosed by the gate: authentication refused (4503 AuthenticationRefused); \
        connecting again does not help";
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
    let refused = "!! auth/login: ";
    assert!(
        ended.stderr.matches(refused).count() >= 5,
        "{}",
        ended.stderr
    );
}

#[test]
fn listeners_for_one_protocol_are_told_from_broken_ones() {
    let config = "services = [\"echo\"]\n\
        [[tcp]]\naddress = \"127.0.0.1:0\"\nprotocol = \"v1\"\n\
        [[tcp]]\naddress = \"127.0.0.1:0\"\nprotocol = \"extended\"\n\
        [[websocket]]\naddress = \"127.0.0.1:0\"\nprotocol = \"v1\"\nv1_error_topic = \"error\"\n\
        [[websocket]]\naddress = \"127.0.0.1:0\"\nprotocol = \"extended\"\n";
    let server = Server::start(config, &[]);
    let ask = ["-e", "echo/echo x"];
    let [v1, extended, ws_v1, ws_extended] = [
        ("tcp", server.listeners[0]),
        ("tcp", server.listeners[1]),
        ("ws", server.listeners[2]),
        ("ws", server.listeners[3]),
    ]
    .map(|(scheme, address)| format!("{scheme}://{address}"));
    for (url, protocol) in [
        (&v1, "v1"),
        (&extended, "extended"),
        (&ws_v1, "v1"),
        (&ws_extended, "extended"),
    ] {
        let ended = run(&[&["connect", url, "--protocol", protocol], &ask[..]].concat());
        assert_eq!(ended.code, Some(0), "{url} {protocol}: {}", ended.stderr);
    }
    for (url, why) in [
        (&v1, "the gate did not answer $hello within 500ms"),
        (&ws_v1, "the gate does not speak the extended protocol"),
    ] {
        let ended = run(&[&["connect", url, "--timeout", "0.5"], &ask[..]].concat());
        assert_eq!(ended.code, Some(3), "{url}: {}", ended.stdout);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
        assert!(
            ended.stderr.ends_with("try --protocol v1\n"),
            "{}",
            ended.stderr
        );
    }
    for url in [&extended, &ws_extended] {
        let ended = run(&[&["connect", url, "--protocol", "v1"], &ask[..]].concat());
        assert_eq!(ended.code, Some(4), "{url}: {}", ended.stdout);
        assert!(
            ended
                .stderr
                .ends_with("the extended protocol: leave out --protocol v1\n"),
            "{}",
            ended.stderr
        );
    }
}
