//! What keeps a gate from starting on NATS.

use tidegate_test_servers::{Certificates, NatsServer};

use super::support::server::{Ended, Server, run};
use super::{config, gate};

/// `serve` with this configuration, which must end by itself.
fn refused(text: &str) -> Ended {
    let files = super::support::server::Scratch::new();
    run(&["serve", "--config", &files.write("tidegate.toml", text)])
}

#[tokio::test]
async fn nats_that_is_not_there() {
    let mut nats = NatsServer::start().await;
    nats.stop().await;
    let ended = refused(&config("gate-1", &nats.url()));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let said = format!("tidegate: cannot start: NATS at {}: ", nats.url());
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    // Nor does a service.
    let ended = run(&["service", "echo", "--nats", &nats.url()]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
}

/// Told to wait it starts once NATS is there; told to stop meanwhile, it stops.
#[tokio::test]
async fn nats_that_comes_late() {
    let mut nats = NatsServer::start().await;
    nats.stop().await;
    let text = config("gate-1", &nats.url()) + "wait = \"10m\"\n";
    let files = super::support::server::Scratch::new();
    let mut waiting = tidegate_test_servers::Process::start("gate", {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["serve", "--config", &files.write("tidegate.toml", &text)]);
        command
    });
    waiting.line_with("waiting for NATS").await;
    assert!(!waiting.output().contains("listening"));
    nats.restart().await;
    waiting.line_with("ready").await;
    assert!(waiting.stop().await.success());
    nats.stop().await;
    let mut waiting = tidegate_test_servers::Process::start("gate", {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["serve", "--config", &files.write("tidegate.toml", &text)]);
        command
    });
    waiting.line_with("waiting for NATS").await;
    assert!(waiting.stop().await.success());
}

#[tokio::test]
async fn credentials() {
    let users = "authorization { users: [
        { user: gate, password: right-password } ] }";
    let nats = NatsServer::options().config(users).start().await;
    let text = config("gate-1", &nats.url());
    for wrong in [
        "",
        "user = \"gate\"\npassword = \"wrong-password\"\n",
        "token = \"wrong-password\"\n",
    ] {
        let ended = refused(&(text.clone() + wrong));
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("NATS refuses the credentials"),
            "{}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("wrong-password"), "{}", ended.stderr);
    }
    let files = super::support::server::Scratch::new();
    files.write("password", "right-password\n");
    let right = text + "user = \"gate\"\npassword_file = \"password\"\n";
    let mut server = Server::start_in(files, &right, &[]);
    assert_eq!(server.admin("/readyz").unwrap().0, 200);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    assert!(!server.log().contains("right-password"), "{}", server.log());
}

#[tokio::test]
async fn a_token() {
    let token = "authorization { token: right-token }";
    let nats = NatsServer::options().config(token).start().await;
    let text = config("gate-1", &nats.url());
    let ended = refused(&(text.clone() + "token = \"wrong-token\"\n"));
    assert!(
        ended.stderr.contains("NATS refuses the credentials"),
        "{}",
        ended.stderr
    );
    let server = Server::start(&(text + "token = \"right-token\"\n"), &[]);
    assert_eq!(server.admin("/readyz").unwrap().0, 200);
}

#[tokio::test]
async fn tls() {
    let certificates = Certificates::new();
    let nats = NatsServer::options().tls(&certificates, true).start().await;
    let text = config("gate-1", &nats.url());
    let ca = format!("[nats.tls]\nca = {:?}\n", certificates.ca());
    let own = format!(
        "cert = {:?}\nkey = {:?}\n",
        certificates.client(),
        certificates.client_key()
    );
    // A server that nobody known vouches for; then one that wants to see a certificate.
    for (wrong, why) in [
        (String::new(), "certificate"),
        (ca.clone(), "NATS at tls://"),
        ("[nats.tls]\nca = \"/missing\"\n".to_owned(), "/missing"),
    ] {
        let ended = refused(&(text.clone() + &wrong));
        assert_eq!(ended.code, Some(1), "{wrong}{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{wrong}{}", ended.stderr);
    }
    let server = Server::start(&(text + &ca + &own), &[]);
    assert_eq!(server.admin("/readyz").unwrap().0, 200);
}

/// Plain text is not spoken where TLS is wanted.
#[tokio::test]
async fn a_server_without_tls_where_tls_is_wanted() {
    let certificates = Certificates::new();
    let nats = NatsServer::start().await;
    let text = config("gate-1", &nats.url());
    let ended = refused(&format!("{text}[nats.tls]\nca = {:?}\n", certificates.ca()));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("NATS at nats://"), "{}", ended.stderr);
}

#[tokio::test]
async fn an_id_that_is_taken() {
    let nats = NatsServer::start().await;
    let mut first = gate("gate-1", &nats.url());
    let ended = refused(&config("gate-1", &nats.url()));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let said = "cannot start: gate gate-1 lives already; give this one another id";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    // With another one it starts; and with this one, once it is free, killed or not.
    let _second = gate("gate-2", &nats.url());
    first.signal("KILL");
    first.ended();
    let mut first = gate("gate-1", &nats.url());
    first.signal("TERM");
    assert_eq!(first.ended().code(), Some(0));
    let _first = gate("gate-1", &nats.url());
}

#[test]
fn a_service_needs_a_bus() {
    let ended = run(&["service", "echo"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("give --nats"), "{}", ended.stderr);
    let ended = run(&["service", "ecko", "--nats", "nats://127.0.0.1:1"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}
