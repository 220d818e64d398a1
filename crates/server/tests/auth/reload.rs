//! Keys that are replaced while the gate runs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::config;
use crate::support::jwt_tool;
use crate::support::server::{Scratch, Server};
use crate::ws::{Got, Ws};

/// A key set with this one secret.
fn set(kid: &str, secret: &str) -> String {
    let k = URL_SAFE_NO_PAD.encode(secret);
    json!({ "keys": [{ "kty": "oct", "kid": kid, "use": "sig", "alg": "HS256", "k": k }] })
        .to_string()
}

#[test]
fn sighup_rotates_the_keys_and_bad_ones_leave_the_old() {
    let files = Scratch::new();
    let path = |name: &str| files.path().join(name);
    let (jwks, new) = (path("jwks.json"), path("new"));
    let (first, second) = ("1".repeat(32), "2".repeat(32));
    std::fs::write(&jwks, set("first", &first)).unwrap();
    let mint = |kid: &str, secret: &str| {
        let key = files.write(kid, secret);
        let job = json!([{
            "alg": "HS256", "key": key, "claims": { "sub": "ada" },
            "from_now": { "exp": 600 }, "headers": { "kid": kid },
        }]);
        jwt_tool("mint", &job).remove(0)
    };
    let (old, fresh) = (mint("first", &first), mint("second", &second));
    // Relative to the configuration file, which is beside it.
    let auth = "[auth.jwt]\nalgorithms = [\"HS256\"]\njwks_file = \"jwks.json\"";
    let server = Server::start_in(files, &config("", auth), &[]);
    let open = |token: &str| {
        let header = format!("Authorization: Bearer {token}");
        Ws::open(server.listeners[1], "/", &[header])
    };
    let mut stays = open(&old);
    stays.ask("chat/who/1", b"");
    assert_eq!(open(&fresh).next(), Got::Close(4503));

    for bad in ["", "{", "{\"keys\": []}"] {
        std::fs::write(&jwks, bad).unwrap();
        server.signal("HUP");
        let line = server.line_with("token keys not reloaded; the old ones stay in use");
        assert!(line.contains("jwks.json"), "{line}");
        open(&old).ask("chat/who/1", b"");
    }
    std::fs::write(&new, set("second", &second)).unwrap();
    std::fs::rename(&new, &jwks).unwrap();
    server.signal("HUP");
    server.line_with("token keys reloaded");
    open(&fresh).ask("chat/who/1", b"");
    assert_eq!(open(&old).next(), Got::Close(4503));
    stays.ask("chat/who/1", b"");
    let log = server.log();
    assert!(!log.contains(&first) && !log.contains(&second), "{log}");

    // Without being told: the file is looked at now and then.
    std::fs::write(&new, set("first", &first)).unwrap();
    std::fs::rename(&new, &jwks).unwrap();
    loop {
        // A line may still be about the change before.
        server.line_with("token keys reloaded");
        let mut client = open(&old);
        client.send("chat/who/1", b"");
        if client.next() != Got::Close(4503) {
            break;
        }
    }
}
