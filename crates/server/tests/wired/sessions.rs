//! `resume_over_plaintext`, `gate.max_dormant`, and the `[limits]` of sessions that outlive their
//! connections. `protocol`, `resume_window` and `drain_wait` are in `sessions.rs` beside this
//! folder, `[logins]` in `auth/login.rs`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::support::frame;
use crate::support::server::{Server, client, packet};

/// Says `$hello`, and shows that the `$welcome` has come.
fn join(at: SocketAddr, resume: Option<&Value>) -> (TcpStream, Value) {
    let mut hello = json!({ "versions": [1], "capabilities": ["resume"] });
    if let Some(welcome) = resume {
        hello["resume"] = json!({ "token": welcome["resume"]["token"], "received": 0 });
    }
    let mut stream = client(at);
    let hello = frame("$hello", hello.to_string().as_bytes());
    stream.write_all(&hello).unwrap();
    let (topic, welcome) = packet(&mut stream);
    assert_eq!(topic, "$welcome");
    stream.write_all(&frame("$ack", &[0; 8])).unwrap();
    (stream, serde_json::from_slice(&welcome).unwrap())
}

#[test]
fn sessions_wait_where_and_as_long_as_is_said() {
    let config = r#"
services = ["echo"]
[gate]
max_dormant = 1
[limits]
resume_window = "90s"
[[tcp]]
address = "127.0.0.1:0"
[[tcp]]
address = "127.0.0.1:0"
resume_over_plaintext = true
[admin]
address = "127.0.0.1:0"
token = "0123456789abcdef0123456789abcdef"
"#;
    let server = Server::start(config, &[]);
    let warnings = server.log();
    let warnings = warnings.matches("sessions are resumed without TLS");
    assert_eq!(warnings.count(), 1, "of one listener of two");
    let (_, welcome) = join(server.listeners[0], None);
    assert_eq!(welcome.get("resume"), None);
    let at = server.listeners[1];
    let [(waits, welcome), (ends, _)] = [join(at, None), join(at, None)];
    assert_eq!(welcome["resume"]["window_ms"], 90_000);
    drop(waits);
    server.counts("tidegate_dormant_sessions", 1);
    drop(ends);
    // The one without resume, and the one for which there was no room.
    server.counts("tidegate_sessions_ended_total", 2);
    let (_, back) = join(at, Some(&welcome));
    assert_eq!(
        (&back["resumed"], &back["session"]),
        (&true.into(), &welcome["session"])
    );
}

#[test]
fn so_much_is_kept_for_a_client_and_no_more() {
    let config = r#"
services = ["echo"]
[limits]
resume_packets = 32
[[tcp]]
address = "127.0.0.1:0"
resume_over_plaintext = true
[[tcp]]
address = "127.0.0.1:0"
resume_over_plaintext = true
limits = { resume_bytes = 1024, resume_packets = 1000 }
"#;
    let server = Server::start(config, &[]);
    for (i, body, kept) in [(0, 1, 32), (1, 300, 3)] {
        let (mut stream, _) = join(server.listeners[i], None);
        // Never acknowledged.
        let mut answers = 0;
        loop {
            let request = frame("echo/echo/1", &vec![b'x'; body]);
            stream.write_all(&request).unwrap();
            let topic = loop {
                match packet(&mut stream).0 {
                    ack if ack == "$ack" => {}
                    topic => break topic,
                }
            };
            if topic == "$token" {
                break;
            }
            answers += 1;
            assert!(answers <= kept + 1, "{i}");
        }
        assert!(answers >= kept, "{i}: {answers}");
    }
}

/// The default would take the client for one of version 1 before.
#[test]
fn a_silent_client_is_waited_for_as_long_as_is_said() {
    let config = r#"
services = ["echo"]
[limits]
setup_timeout = "2s"
[[tcp]]
address = "127.0.0.1:0"
limits = { hello_wait = "1h" }
"#;
    let server = Server::start(config, &[]);
    let mut silent = client(server.listeners[0]);
    assert_eq!(silent.read(&mut [0; 64]).unwrap(), 0);
}
