//! `[store]`: settings that survive, and of how many users.

use std::time::Instant;

use tidegate::UserId;
use tidegate::store::Store as _;
use tidegate_store::{Embedded, EmbeddedOptions};

use crate::support::PATIENCE;
use crate::support::server::{Scratch, Server};
use crate::{connect, token};

fn config(store: &str) -> String {
    format!(
        r#"
services = ["auth"]
[[tcp]]
address = "127.0.0.1:0"
v1_error_topic = "error"
[auth]
guests = true
[auth.jwt]
secret = "a secret of the tests, of at least 32 bytes"
settings_claim = "settings"
[store]
{store}
"#
    )
}

const STORE_LINES_PER_SECOND: usize = 10;

/// Whether the user can log in, which saves a setting.
fn logs_in(server: &Server, user: &str) -> bool {
    let token = token(server, user, &["--setting", "colour=blue"]);
    let url = format!("tcp://{}", server.listeners[0]);
    let (code, said) = connect(&url, &["-e", &format!("auth/login {token}")]);
    assert!(code == Some(0) || said.contains("!! auth/login"), "{said}");
    code == Some(0)
}

#[test]
fn settings_survive_a_kill_where_the_store_is_a_file() {
    for (store, kept) in [
        (
            "kind = \"embedded\"\npath = \"settings.db\"\nmax_users = 1",
            true,
        ),
        ("kind = \"memory\"\nmax_users = 1", false),
    ] {
        let config = config(store);
        let server = Server::start_in(Scratch::new(), &config, &[]);
        assert!(logs_in(&server, "ada"));
        assert!(!logs_in(&server, "bob"), "there is room for one");
        let server = server.killed_and_restarted(&config);
        assert_eq!(logs_in(&server, "bob"), !kept);
        if kept {
            let path = server.path("settings.db");
            assert!(
                Embedded::open(&path, EmbeddedOptions::default()).is_err(),
                "a gate has it"
            );
            server.signal("KILL");
            let mut server = server;
            server.ended();
            let store = Embedded::open(&path, EmbeddedOptions::default()).unwrap();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let ada = UserId::new("ada").unwrap();
            let found = runtime.block_on(store.query(&ada)).unwrap();
            assert_eq!(found.unwrap().get("colour"), Some("blue"));
        }
    }
}

#[test]
fn settings_are_forgotten_after_their_time() {
    let config = config("kind = \"memory\"\nmax_users = 1\nttl = \"2s\"");
    let server = Server::start(&config, &[]);
    assert!(logs_in(&server, "ada"));
    let deadline = Instant::now() + PATIENCE;
    while !logs_in(&server, "bob") {
        assert!(Instant::now() < deadline, "{}", server.log());
    }
}

#[test]
fn clients_cannot_fill_the_log_with_a_full_store() {
    let server = Server::start(&config("kind = \"memory\"\nmax_users = 1"), &[]);
    assert!(logs_in(&server, "ada"));
    let login = format!(
        "auth/login {}",
        token(&server, "bob", &["--setting", "a=b"])
    );
    let many = ["-e", &login].repeat(200);
    let began = Instant::now();
    let (code, said) = connect(&format!("tcp://{}", server.listeners[0]), &many);
    assert_eq!(code, Some(1));
    assert_eq!(said.matches("the store failed").count(), 200, "{said}");
    let seconds = began.elapsed().as_secs() as usize + 2;
    let lines = server.log().matches("the store failed").count();
    // Two kinds of lines: what failed, and that the packet was not served.
    assert!(
        lines <= 2 * STORE_LINES_PER_SECOND * seconds,
        "{lines} in {seconds} s"
    );
    assert!(server.log().contains("\"kind\":\"full\""));
}
