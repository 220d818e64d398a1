//! Users' settings, kept where all gates find them.

use std::io::Write;
use std::net::TcpStream;

use tidegate::bus::GateError;
use tidegate::service::RunningService;
use tidegate::{Guests, Service, Session};
use tidegate_nats::{Nats, NatsOptions};
use tidegate_test_servers::{Certificates, NatsServer, RedisServer, eventually};

use super::config;
use super::support::frame;
use super::support::server::{Scratch, Server, client, packet, run};

async fn login(session: Session, user: String) -> Result<(), GateError> {
    session.bind(user.as_str()).await
}

async fn paint(session: Session, colour: String) -> Result<(), GateError> {
    session.set("colour", colour).await
}

async fn colour(session: Session) -> String {
    session.get("colour").unwrap_or_default()
}

/// A service that keeps something of its users.
async fn painter(url: &str) -> RunningService {
    let mut options = NatsOptions::new([url]);
    options.name = "painter".to_owned();
    let bus = Nats::connect(options).await.unwrap();
    let service = Service::new("painter").request("login", login);
    let service = service.open_to(Guests).request("paint", paint);
    let service = service.request("colour", colour);
    service.register(bus).await.unwrap()
}

/// Someone at a gate, once the service can be reached there.
async fn user(server: &Server, name: &str) -> TcpStream {
    let mut stream = client(server.listeners[0]);
    eventually("the painter is there", async || {
        let (topic, _) = ask(&mut stream, "painter/login/1", name);
        (topic == "painter/login/1").then_some(())
    })
    .await;
    stream
}

fn ask(stream: &mut TcpStream, topic: &str, body: &str) -> (String, String) {
    stream.write_all(&frame(topic, body.as_bytes())).unwrap();
    let (topic, body) = packet(stream);
    (topic, String::from_utf8(body).unwrap())
}

/// What was kept at one gate, which is gone, is there at another one.
async fn all_gates_find_them(nats: &NatsServer, store: &str) {
    let painter = painter(&nats.url()).await;
    let text = |id| format!("{}\n{store}", config(id, &nats.url()));
    let first = Server::start(&text("gate-1"), &[]);
    let mut ada = user(&first, "ada").await;
    assert_eq!(
        ask(&mut ada, "painter/paint/2", "blue").0,
        "painter/paint/2"
    );
    first.signal("KILL");
    let second = Server::start(&text("gate-2"), &[]);
    let mut ada = user(&second, "ada").await;
    assert_eq!(ask(&mut ada, "painter/colour/3", "").1, "blue");
    let mut bob = user(&second, "bob").await;
    assert_eq!(ask(&mut bob, "painter/colour/3", "").1, "");
    painter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_nats() {
    let nats = NatsServer::start().await;
    let store = "[store]\nkind = \"nats\"\n[store.nats]\nin_memory = true\n";
    all_gates_find_them(&nats, store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis() {
    let nats = NatsServer::start().await;
    let certificates = Certificates::new();
    let password = "requirepass right-password";
    let redis = RedisServer::options().tls(&certificates, true);
    let redis = redis.config(password).start().await;
    let (key, own, ca) = (
        certificates.client_key(),
        certificates.client(),
        certificates.ca(),
    );
    let store = |password: &str| {
        format!(
            "[store]\nkind = \"redis\"\n[store.redis]\nservers = \"rediss://{}\"\n\
             password = \"{password}\"\n\
             [store.redis.tls]\nca = {ca:?}\ncert = {own:?}\nkey = {key:?}\n",
            redis.address()
        )
    };
    all_gates_find_them(&nats, &store("right-password")).await;
    let wrong = format!(
        "{}\n{}",
        config("gate-3", &nats.url()),
        store("wrong-password")
    );
    let files = Scratch::new();
    let ended = run(&["serve", "--config", &files.write("tidegate.toml", &wrong)]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let said = "cannot start: store: Redis at rediss://";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    assert!(!ended.stderr.contains("wrong-password"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_nats_that_is_not_there() {
    let files = Scratch::new();
    let text = "[[tcp]]\naddress = \"127.0.0.1:0\"\n[store]\nkind = \"nats\"\n\
        [nats]\nservers = \"nats://127.0.0.1:1\"\n";
    let ended = run(&["serve", "--config", &files.write("tidegate.toml", text)]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let said = "cannot start: store: NATS at nats://127.0.0.1:1: ";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}
