//! A whole gate on an embedded store: killed in the middle of what a client sets, it has
//! on its next start what the client was told.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use tidegate::bus::GateError;
use tidegate::{Gate, Guests, Service, Session, Tcp, UserId};
use tidegate_client::{Client, Protocol};
use tidegate_store::{Embedded, EmbeddedOptions};

const PATH: &str = "TIDEGATE_STORE_GATE_TEST";
const ROUNDS: u64 = 5;

#[tokio::test]
async fn a_killed_gate_has_what_clients_were_told() {
    let directory = TempDir::new();
    let path = directory.0.join("settings.db");
    let (mut told, mut asked) = (0, 0);
    for round in 0..ROUNDS {
        let mut gate = Running::start(&path);
        let client = gate.client().await;
        let at_bind = client.request("me/bind", "ada").await.unwrap();
        let found = number(&at_bind);
        assert!(
            (told..=asked).contains(&found),
            "round {round}: {found} at bind; {told} was answered, {asked} asked for"
        );
        // Different moments in the life of a change.
        let turns = rand::random_range(0..100_000);
        let last = asked + 1 + rand::random_range(0..40);
        let mut told_one = false;
        for next in asked + 1..=last {
            asked = next;
            let answer = client.request("me/set", next.to_string());
            if next == last {
                tokio::pin!(answer);
                // Sent, and not waited for.
                for _ in 0..3 {
                    let _ = futures_util::FutureExt::now_or_never(answer.as_mut());
                    tokio::task::yield_now().await;
                }
                break;
            }
            assert_eq!(number(&answer.await.unwrap()), next);
            (told, told_one) = (next, true);
        }
        for _ in 0..turns {
            std::hint::spin_loop();
        }
        gate.kill();
        assert!(told_one || last == asked);
    }
    // The store by itself.
    use tidegate::store::Store;
    let store = Embedded::open(&path, EmbeddedOptions::default()).unwrap();
    let found = store.query(&UserId::new("ada").unwrap()).await.unwrap();
    let found: u64 = found.unwrap().get("n").unwrap().parse().unwrap();
    assert!((told..=asked).contains(&found), "{found}, {told}, {asked}");
    assert!(told > 0);
}

fn number(body: &[u8]) -> u64 {
    std::str::from_utf8(body).unwrap().parse().unwrap()
}

#[tokio::test]
#[ignore = "the process that the test above kills"]
async fn child() {
    let path = std::env::var_os(PATH).expect("it is started by the test above");
    let service = Service::new("me")
        .request("bind", bind)
        .open_to(Guests)
        .request("set", set);
    let gate = Gate::builder()
        .listen(Tcp::bind("127.0.0.1:0"))
        .service(service)
        .store(Embedded::open(path, EmbeddedOptions::default()).unwrap())
        .start()
        .await
        .unwrap();
    println!("\nport {}", gate.address(0).unwrap().port());
    std::future::pending::<()>().await;
}

async fn bind(session: Session, user: String) -> Result<Bytes, GateError> {
    session.bind(UserId::new(&user).unwrap()).await?;
    Ok(session.get("n").unwrap_or_else(|| "0".into()).into())
}

async fn set(session: Session, number: String) -> Result<Bytes, GateError> {
    session.set("n", number.clone()).await?;
    Ok(number.into())
}

struct Running {
    child: Child,
    port: u16,
}

impl Running {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(PATH, path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("the gate did not start").unwrap();
            if let Some(port) = line.strip_prefix("port ") {
                break port.parse().unwrap();
            }
        };
        Self { child, port }
    }

    async fn client(&self) -> Client {
        Client::builder(&format!("tcp://127.0.0.1:{}", self.port))
            .protocol(Protocol::V1)
            .request_timeout(Duration::from_secs(60))
            .connect()
            .await
            .unwrap()
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        let name = format!("tidegate-store-{:016x}", rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
