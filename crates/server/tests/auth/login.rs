//! Logging in after the connection has begun, guests who do not, and tokens that end.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::frame;
use crate::support::server::{Server, client, packet};
use crate::ws::{Got, Ws, number};
use crate::{Keys, config};

struct Tcp(TcpStream);

impl Tcp {
    fn open(server: &Server) -> Self {
        Self(client(server.listeners[0]))
    }

    fn send(&mut self, topic: &str, body: &[u8]) {
        self.0.write_all(&frame(topic, body)).unwrap();
    }

    fn ask(&mut self, topic: &str, body: &str) -> Vec<u8> {
        self.send(topic, body.as_bytes());
        let (answered, body) = packet(&mut self.0);
        assert_eq!(answered, topic, "{}", String::from_utf8_lossy(&body));
        body
    }

    fn error(&mut self, topic: &str, body: impl AsRef<[u8]>) -> u64 {
        self.send(topic, body.as_ref());
        let (under, body) = packet(&mut self.0);
        assert_eq!(under, "error", "{}", String::from_utf8_lossy(&body));
        number(&body)
    }

    fn login(&mut self, token: &str) -> Value {
        serde_json::from_slice(&self.ask("auth/login/1", token)).unwrap()
    }

    /// Everything up to the gate's close.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }
}

const NOT_FOUND: u64 = 3;
const NOT_ACCEPTED: u64 = 1001;
const EXPIRED: u64 = 1002;
const ANOTHER: u64 = 1003;
const TOO_MANY: u64 = 1004;

#[test]
fn a_guest_logs_in_and_out() {
    let keys = Keys::new();
    let auth = format!(
        "[auth]\nguests = true\n[auth.jwt]\nsettings_claim = \"set\"\n{}",
        keys.setting("secret")
    );
    let server = Server::start(&config("", &auth), &[]);
    let ada = keys.token("ada", json!({ "set": { "role": "admin" } }));
    let bob = keys.token("bob", json!({}));
    let expired = keys.token("ada", json!({ "from_now": { "exp": -600 } }));

    let mut client = Tcp::open(&server);
    assert_eq!(client.error("chat/who/1", ""), NOT_FOUND);
    assert_eq!(
        client.error("auth/logout/1", ""),
        NOT_FOUND,
        "a guest is nobody"
    );
    assert_eq!(client.error("auth/login/1", "x"), NOT_ACCEPTED);
    assert_eq!(client.error("auth/login/1", b"\xff"), NOT_ACCEPTED);
    assert_eq!(client.error("auth/login/1", ""), NOT_ACCEPTED);
    assert_eq!(client.error("auth/login/1", &expired), EXPIRED);
    assert_eq!(client.error("chat/who/1", ""), NOT_FOUND);

    let login = client.login(&format!("{ada}\n"));
    assert_eq!(login["user"], "ada");
    assert!(login["expires"].as_u64().unwrap() > 1_700_000_000);
    client.ask("chat/who/1", "");
    assert_eq!(client.login(&ada)["user"], "ada", "again");
    assert_eq!(client.error("auth/login/1", &bob), ANOTHER);
    assert_eq!(client.login(&ada)["user"], "ada", "as before");
    assert!(client.ask("auth/logout/1", "").is_empty());
    assert_eq!(client.error("chat/who/1", ""), NOT_FOUND);
    assert_eq!(client.login(&bob)["user"], "bob");
}

#[test]
fn one_login_for_each_user_or_device_as_configured() {
    let keys = Keys::new();
    let start = |logins: &str| {
        let auth = format!(
            "[logins]\nlimit = 1\n{logins}\n[auth]\nguests = true\n[auth.jwt]\n\
             device_claim = \"dev\"\n{}",
            keys.setting("secret")
        );
        Server::start(&config("", &auth), &[])
    };
    let phone = keys.token("ada", json!({ "dev": "phone" }));
    let desk = keys.token("ada", json!({ "dev": "desk" }));
    let ws = |server: &Server, token: &str| {
        let bearer = format!("Authorization: Bearer {token}");
        Ws::open(server.listeners[1], "/", &[bearer])
    };

    let server = start("over = \"refuse\"");
    let (mut first, mut second) = (Tcp::open(&server), Tcp::open(&server));
    first.login(&phone);
    assert_eq!(second.error("auth/login/1", &desk), TOO_MANY);
    assert_eq!(ws(&server, &phone).next(), Got::Close(4511));
    first.login(&phone);
    first.ask("auth/logout/1", "");
    second.login(&desk);
    assert_eq!(first.error("auth/login/1", &phone), TOO_MANY);
    server.line_with("login refused");

    let server = start("per = \"device\"");
    let mut first = ws(&server, &phone);
    first.ask("chat/who/1", b"");
    let mut other = Tcp::open(&server);
    other.login(&desk);
    let mut second = Tcp::open(&server);
    second.login(&phone);
    assert_eq!(first.next(), Got::Close(4510));
    other.ask("chat/who/1", "");
    second.ask("chat/who/1", "");
    server.line_with("login replaced");
}

#[test]
fn who_guesses_is_closed() {
    let keys = Keys::new();
    let auth = format!(
        "[auth]\nguests = true\n[auth.jwt]\n{}",
        keys.setting("secret")
    );
    let server = Server::start(&config("", &auth), &[]);
    let good = keys.token("ada", json!({}));
    let mut client = Tcp::open(&server);
    for _ in 0..4 {
        assert_eq!(client.error("auth/login/1", "x"), NOT_ACCEPTED);
    }
    // One that is accepted begins a new count.
    client.login(&good);
    for _ in 0..5 {
        assert_eq!(client.error("auth/login/1", "x"), NOT_ACCEPTED);
    }
    // Not even a good one is looked at now.
    client.send("auth/login/1", good.as_bytes());
    let rest = client.rest();
    assert!(!String::from_utf8_lossy(&rest).contains("expires"));
    // Nor are many at once.
    let mut client = Tcp::open(&server);
    for _ in 0..5 {
        client.send("auth/login/1", b"x");
    }
    client.send("auth/login/1", good.as_bytes());
    let rest = client.rest();
    assert!(!String::from_utf8_lossy(&rest).contains("expires"));
    // Others are not concerned.
    assert_eq!(Tcp::open(&server).login(&good)["user"], "ada");
    server.line_with("AuthenticationRefused");
}

#[test]
fn a_guest_who_logs_in_in_time_stays_and_one_who_does_not_is_closed() {
    let keys = Keys::new();
    let auth = format!(
        "[auth]\nguests = true\n[auth.jwt]\n{}",
        keys.setting("secret")
    );
    let config = config("[limits]\nbind_deadline = \"5s\"", &auth);
    let server = Server::start(&config, &[]);
    let token = keys.token("ada", json!({}));
    let mut stays = Tcp::open(&server);
    stays.login(&token);
    // Later than the one who logged in: when it is closed, that one's time is over too.
    let mut idle = Ws::open(server.listeners[1], "/", &[]);
    assert_eq!(idle.next(), Got::Close(4505));
    stays.ask("chat/who/1", "");
}

#[test]
fn a_session_ends_with_its_token_only_where_that_is_set() {
    let keys = Keys::new();
    let start = |close: bool| {
        let auth = format!(
            "[auth]\nguests = true\n[auth.jwt]\nleeway = \"0s\"\nclose_on_expiry = {close}\n{}",
            keys.setting("secret")
        );
        Server::start(&config("", &auth), &[])
    };
    let (closes, keeps) = (start(true), start(false));
    let open = |server: &Server, token: &str| {
        let header = format!("Authorization: Bearer {token}");
        Ws::open(server.listeners[1], "/", &[header])
    };
    let long = keys.token("ada", json!({}));
    let mut other = open(&closes, &long);
    other.ask("chat/who/1", b"");
    let mut renewed = Tcp::open(&closes);
    let mut logged_out = Tcp::open(&closes);
    let mut logged_in = Tcp::open(&closes);

    // On a machine that is too busy a short-lived token is over before it is used.
    let mut seconds = 4;
    let (mut short_lived, mut kept) = loop {
        let short = keys.token("ada", json!({ "from_now": { "exp": seconds } }));
        let (mut one, mut two) = (open(&closes, &short), open(&keeps, &short));
        for client in [&mut one, &mut two] {
            client.send("chat/who/1", b"");
        }
        let begun = |client: &mut Ws| matches!(client.next(), Got::Packet(topic, _) if topic == "chat/who/1");
        let mut logins = [&mut renewed, &mut logged_out, &mut logged_in];
        let sent = logins.iter_mut().all(|client| {
            client.send("auth/login/1", short.as_bytes());
            packet(&mut client.0).0 == "auth/login/1"
        });
        if begun(&mut one) && begun(&mut two) && sent {
            break (one, two);
        }
        seconds *= 2;
        assert!(seconds < 100, "no token was fast enough");
    };
    renewed.login(&long);
    logged_out.ask("auth/logout/1", "");
    assert_eq!(short_lived.next(), Got::Close(4503));
    assert!(logged_in.rest().is_empty());
    // The others' tokens are good, or have ended without consequence.
    other.ask("chat/who/1", b"");
    renewed.ask("chat/who/1", "");
    logged_out.ask("echo/echo/1", "");
    kept.ask("chat/who/1", b"");
}
