//! A client of the extended protocol that is not ours: in Python, written from
//! `docs/protocol.md` alone. Its cases are in `tests/clients/extended_cases.py`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use tidegate::bus::Connected;
use tidegate::bus::GateError;
use tidegate::bus::OpenTo::Guests;
use tidegate::service::{Json, Service, Session, State};
use tidegate::{
    CloseReason, Credentials, Gate, Identity, Limits, Refused, RunningGate, SessionId, Tcp, UserId,
    WebSocket,
};
use tokio::process::Command;
use tokio::sync::{Notify, Semaphore};

const PATIENCE: Duration = Duration::from_secs(30);

/// What the service `diary` knows.
struct Diary {
    lines: Mutex<HashMap<SessionId, Vec<String>>>,
    released: Notify,
    done: Semaphore,
}

type Shared = State<Arc<Diary>>;

/// Notes the body, and pushes it back.
async fn write(session: Session, body: Bytes, State(diary): Shared) -> Result<(), GateError> {
    let line = String::from_utf8_lossy(&body).into_owned();
    {
        let mut lines = diary.lines.lock();
        lines.entry(session.id()).or_default().push(line);
    }
    session.send_wait("diary/line", body, PATIENCE).await
}

/// All that was noted.
async fn lines(session: Session, State(diary): Shared) -> Json<Vec<String>> {
    let lines = diary.lines.lock();
    Json(lines.get(&session.id()).cloned().unwrap_or_default())
}

/// Answers the body once there was a call of `release`.
async fn held(body: Bytes, State(diary): Shared) -> Bytes {
    diary.released.notified().await;
    body
}

/// Pushes a small packet, one of 5,000 bytes and `end` once the client is away.
async fn big_when_away(session: Session, State(diary): Shared) -> Result<(), GateError> {
    while session.connected().await? != Connected::Dormant {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for body in [vec![b's'; 5], vec![b'x'; 5000], b"end".to_vec()] {
        session.send("diary/line", body).await?;
    }
    diary.done.add_permits(1);
    Ok(())
}

/// Answers once `big-when-away` is done.
async fn big_done(State(diary): Shared) {
    diary.done.acquire().await.unwrap().forget();
}

/// Pushes more than the narrow listeners keep for a client.
async fn flood(session: Session) -> Result<(), GateError> {
    for n in 0..100 {
        session
            .send_wait("diary/line", n.to_string(), PATIENCE)
            .await?;
    }
    Ok(())
}

fn diary() -> Service {
    Service::new("diary")
        .state(Arc::new(Diary {
            lines: Mutex::default(),
            released: Notify::new(),
            done: Semaphore::new(0),
        }))
        .request("echo", async |body: Bytes| body)
        .open_to(Guests)
        .one_way("write", write)
        .open_to(Guests)
        .request("lines", lines)
        .open_to(Guests)
        .request("held", held)
        .open_to(Guests)
        .concurrent()
        .one_way("release", async |State(diary): Shared| {
            diary.released.notify_one();
        })
        .open_to(Guests)
        .concurrent()
        .one_way("big-when-away", big_when_away)
        .open_to(Guests)
        .concurrent()
        .request("big-done", big_done)
        .open_to(Guests)
        .concurrent()
        .one_way("flood", flood)
        .open_to(Guests)
        .one_way("kick", async |session: Session| session.close().await)
        .open_to(Guests)
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    refuse: bool,
    user: Option<String>,
}

async fn authenticate(who: Credentials) -> Result<Identity, Refused> {
    let Some(auth) = who.hello else {
        return Ok(Identity::guest());
    };
    let auth: Auth = serde_json::from_slice(&auth).map_err(|e| Refused::new(e.to_string()))?;
    if auth.refuse {
        return Err(Refused::new("asked to be"));
    }
    Ok(match auth.user {
        Some(user) => Identity::user(UserId::new(&user).unwrap()),
        None => Identity::guest(),
    })
}

async fn start() -> RunningGate {
    let mut wide = Limits::default();
    // However long a busy machine lets the client wait.
    wide.resume_packets = 10_000;
    let mut narrow = Limits::default();
    narrow.max_packet_size = 4000;
    narrow.resume_packets = 64;
    let tcp = || Tcp::bind("127.0.0.1:0").resume_over_plaintext(true);
    let websocket = || WebSocket::bind("127.0.0.1:0").resume_over_plaintext(true);
    Gate::builder()
        .listen(tcp())
        .listen(websocket())
        .listen(tcp().limits(narrow.clone()))
        .listen(websocket().limits(narrow))
        .limits(wide)
        .service(diary())
        .on_authenticate(PATIENCE, authenticate)
        .start()
        .await
        .unwrap()
}

/// The Python that `scripts/install-test-tools` makes.
fn python() -> PathBuf {
    let path = std::env::var_os("TIDEGATE_TEST_PYTHON").map_or_else(
        || workspace().join("target/tools/venv/bin/python"),
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "{} is missing; scripts/install-test-tools installs it",
        path.display(),
    );
    path
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}

/// All cases over one transport. Answers the gate for a look at what it counted.
async fn run(transport: &str) -> RunningGate {
    let gate = start().await;
    let address = |i| gate.address(i).unwrap().to_string();
    let addresses = serde_json::json!({
        "tcp": address(0),
        "websocket": address(1),
        "narrow_tcp": address(2),
        "narrow_websocket": address(3),
    });
    let output = Command::new(python())
        .arg("-B")
        .arg(workspace().join("tests/clients/extended_cases.py"))
        .args([&addresses.to_string(), transport])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let (out, err) = (output.stdout, output.stderr);
    let closed = CloseReason::ALL.iter().map(|r| (r, gate.gate().closed(*r)));
    assert!(
        output.status.success(),
        "{}\n{}\n{:?}",
        String::from_utf8_lossy(&out),
        String::from_utf8_lossy(&err),
        closed.filter(|(_, n)| *n > 0).collect::<Vec<_>>()
    );
    println!("{}", String::from_utf8_lossy(&out));
    gate
}

fn look_at(gate: &RunningGate) {
    let gate = gate.gate();
    // The one case of it.
    assert_eq!(gate.closed(CloseReason::TokenStolen), 1);
    // As many as the cases provoke: $hello, token, and four violations.
    assert_eq!(gate.closed(CloseReason::ExtendedProtocol), 6);
    assert_eq!(gate.closed(CloseReason::ResumeOverflow), 0);
    assert_eq!(gate.closed(CloseReason::BadFrame), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_from_the_page_alone_over_tcp() {
    let gate = run("tcp").await;
    look_at(&gate);
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_from_the_page_alone_over_websocket() {
    let gate = run("websocket").await;
    look_at(&gate);
    gate.stop().await;
}
