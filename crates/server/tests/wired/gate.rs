//! `id`, `shards`, `services`, `expose`, `[gate]`, listeners' names and `[limits]`, `[log]`,
//! `[admin]`, what WebSocket listeners take.

use std::fs;
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::server::{Scratch, Server, client, packet, raw_http, tidegate};
use crate::support::{Output, PATIENCE};
use crate::support::{frame, server::http};
use crate::ws::{Got, Ws};
use crate::{connect, echo};

fn shards(server: &Server) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.process())).unwrap();
    // One may end meanwhile.
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("tidegate-")).count()
}

#[test]
fn the_gate_itself() {
    let config = r#"
id = "gate-of-the-test"
shards = 3
services = ["echo", "chat"]
expose = ["chat/rooms", "echo"]
[[tcp]]
address = "127.0.0.1:0"
name = "players"
v1_error_topic = "error"
[admin]
address = "127.0.0.1:0"
token_file = "token"
hosts = ["gate.example"]
"#;
    let files = Scratch::new();
    files.write("token", "a token of this test\n");
    let server = Server::start_in(files, config, &[]);
    assert!(server.log().contains(r#""gate":"gate-of-the-test""#));
    // A thread gives itself its name when it first runs.
    let deadline = Instant::now() + PATIENCE;
    while shards(&server) != 3 {
        assert!(Instant::now() < deadline, "{} shards", shards(&server));
        thread::sleep(Duration::from_millis(5));
    }

    let url = format!("tcp://{}", server.listeners[0]);
    let (_, said) = connect(&url, &["-e", "echo/echo hi"]);
    assert!(said.contains("hi"), "{said}");
    for hidden in ["chat/login ada", "auth/login x"] {
        let (code, said) = connect(&url, &["-e", hidden]);
        assert!(code == Some(1) && said.contains("NOT_FOUND"), "{said}");
    }

    let ask = |host: &str, token: &str| {
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        raw_http(server.admin.unwrap(), &request).unwrap()
    };
    let page = ask("gate.example", "a token of this test");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains(r#"tidegate_connections{listener="players",network="tcp"} "#));
    assert!(ask("evil.example", "a token of this test").starts_with("HTTP/1.1 421"));
    assert!(ask("gate.example", "another").starts_with("HTTP/1.1 401"));
    assert_eq!(
        http(server.admin.unwrap(), "GET", "/readyz").unwrap().0,
        200
    );
}

#[test]
fn a_listeners_limits_win_over_those_of_all() {
    let config = r#"
services = ["echo"]
[limits]
max_packet_size = 100
bind_deadline = "400ms"
[[tcp]]
address = "127.0.0.1:0"
[[tcp]]
address = "127.0.0.1:0"
limits = { max_packet_size = 1000, bind_deadline = "off" }
"#;
    let server = Server::start(config, &[]);
    let large = frame("echo/echo/1", &[b'x'; 500]);
    for (i, own) in [(0, false), (1, true)] {
        let mut stream = client(server.listeners[i]);
        std::io::Write::write_all(&mut stream, &large).unwrap();
        match own {
            true => assert_eq!(packet(&mut stream).1.len(), 500),
            false => assert_eq!(stream.read(&mut [0; 64]).unwrap_or(0), 0),
        }
    }
    // The guest of the second is there when that of the first, who came later, is not.
    let mut stays = client(server.listeners[1]);
    echo(&mut stays);
    let mut goes = client(server.listeners[0]);
    echo(&mut goes);
    assert_eq!(goes.read(&mut [0; 64]).unwrap_or(0), 0);
    echo(&mut stays);
    assert!(server.line_with("session ended").contains("\"code\":"));
}

#[test]
fn new_connections_come_at_the_rate_that_is_set() {
    let config = "services = [\"echo\"]\n[gate]\n\
                  accept_rate = { per_second = 5, burst = 2 }\nmax_connections_per_address = 8\n\
                  [[tcp]]\naddress = \"127.0.0.1:0\"\n";
    let server = Server::start(config, &[]);
    let began = Instant::now();
    let mut clients: Vec<_> = (0..8).map(|_| client(server.listeners[0])).collect();
    clients.iter_mut().for_each(echo);
    // Two at once, six one after the other.
    assert!(began.elapsed() >= Duration::from_secs(1));
    let mut turned_away = client(server.listeners[0]);
    assert_eq!(turned_away.read(&mut [0; 64]).unwrap_or(0), 0);
    let line = server.line_with("turned away");
    assert!(
        line.contains("\"limit\":\"address\"") && line.contains("\"most\":8,"),
        "{line}"
    );
}

#[test]
fn websocket_requests() {
    let config = r#"
services = ["echo"]
[[websocket]]
address = "127.0.0.1:0"
path = "/gate"
origins = ["https://example.com"]
subprotocols = ["one", "two"]
"#;
    let server = Server::start(config, &[]);
    let at = server.listeners[0];
    let request = |path: &str, origin: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: gate.example\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nOrigin: {origin}\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        raw_http(at, &request).unwrap()
    };
    assert!(request("/", "https://example.com").starts_with("HTTP/1.1 404"));
    assert!(request("/gate", "https://evil.example").starts_with("HTTP/1.1 403"));
    let headers = [
        "Origin: https://example.com",
        "Sec-WebSocket-Protocol: two, one",
    ];
    let mut ws = Ws::open(at, "/gate", &headers.map(str::to_owned));
    let head = ws.head.to_ascii_lowercase();
    assert!(head.contains("sec-websocket-protocol: one"), "{head}");
    ws.send("echo/echo/1", b"hi");
    assert_eq!(ws.next(), Got::Packet("echo/echo/1".into(), b"hi".into()));
}

#[test]
fn the_log_is_as_the_file_says() {
    for (format, level) in [("human", "info"), ("json", "info"), ("json", "warn")] {
        let files = Scratch::new();
        let config = format!(
            "[[tcp]]\naddress = \"127.0.0.1:0\"\ncipher = \"aes-ecb\"\nencryption_key = \"k\"\n\
             [gate]\nmax_connections = 9\n[log]\nformat = \"{format}\"\nlevel = \"{level}\"\n"
        );
        let file = files.write("tidegate.toml", &config);
        let mut child = tidegate()
            .args(["serve", "--config", &file])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = Output::of_stderr(&mut child);
        let seen = output.lines_until(|seen| seen.contains("a legacy cipher").then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
        let log = output.text();
        assert!(seen.is_some(), "{log}");
        assert_eq!(log.starts_with('{'), format == "json", "{log}");
        assert_eq!(log.contains("listening"), level == "info", "{log}");
    }
}
