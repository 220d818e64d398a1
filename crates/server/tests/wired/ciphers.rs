//! `cipher`, `encryption_key`, `encryption_key_file`, `allow_text`.

use crate::connect;
use crate::support::legacy_client;
use crate::support::server::{Scratch, Server};
use crate::ws::{Got, Ws};

const KEY: &str = "0123456789abcdef";

const CONFIG: &str = r#"
services = ["echo"]
[[tcp]]
address = "127.0.0.1:0"
cipher = "aes-ecb"
encryption_key = "k"
[[tcp]]
address = "127.0.0.1:0"
cipher = "aes-cbc"
encryption_key_file = "old.key"
[[websocket]]
address = "127.0.0.1:0"
cipher = "aes-cbc"
encryption_key_file = "old.key"
[[websocket]]
address = "127.0.0.1:0"
cipher = "aes-ecb"
encryption_key = "k"
[[websocket]]
address = "127.0.0.1:0"
allow_text = true
[[websocket]]
address = "127.0.0.1:0"
"#;

#[test]
fn old_clients_are_understood_where_their_cipher_is_set() {
    let files = Scratch::new();
    files.write("old.key", &format!("{KEY}\n"));
    let server = Server::start_in(files, CONFIG, &[]);
    let at = &server.listeners;
    for (i, form, key) in [(0, "aes-ecb", "k"), (1, "aes-cbc", KEY)] {
        let report = legacy_client(&at[i].to_string(), form, key);
        assert!(report.passed, "{form}: {report}");
    }
    for (i, form, key) in [(2, "aes-cbc", KEY), (3, "aes-ecb", "k")] {
        let url = format!("ws://{}", at[i]);
        let options = ["--cipher", form, "--key", key, "-e", "echo/echo hi"];
        let (code, said) = connect(&url, &options);
        assert_eq!(code, Some(0), "{form}: {said}");
        // Without the cipher they talk past each other.
        let (code, said) = connect(&url, &["-e", "echo/echo hi"]);
        assert_eq!(code, Some(3), "{form}: {said}");
    }
    // Once for each listener that has one.
    assert_eq!(server.log().matches("a legacy cipher").count(), 4);
}

#[test]
fn text_messages_are_taken_where_that_is_set() {
    let server = Server::start(
        CONFIG
            .replace(
                "encryption_key_file = \"old.key\"",
                &format!("encryption_key = \"{KEY}\""),
            )
            .as_str(),
        &[],
    );
    for (i, taken) in [(4, true), (5, false)] {
        let mut ws = Ws::open(server.listeners[i], "/", &[]);
        ws.send_as(0x81, "echo/echo/1", b"hi");
        match ws.next() {
            Got::Packet(topic, body) => {
                assert_eq!((taken, &*topic, &*body), (true, "echo/echo/1", &b"hi"[..]))
            }
            Got::Close(code) => assert_eq!((taken, code), (false, 1003)),
        }
    }
}
