//! A gate to try resume on, over plain TCP and WebSocket: it remembers what each session
//! sent, and pushes numbered packets. Tests of clients in other languages drive it.
//!
//! `cargo run -p tidegate --example resume_gate` prints one line of JSON with its addresses,
//! and serves until its standard input is closed. Connections may come and go as they like:
//!
//! | Method of service `history` | Meaning |
//! | --- | --- |
//! | `note` | one-way: the body is remembered, and one packet is pushed |
//! | `notes` | answers what was remembered, as a JSON list |
//! | `echo` | answers the same body |
//! | `start` | one-way: a packet is pushed every few milliseconds |
//! | `stop` | ends that; answers how many were pushed so far |
//! | `never` | gives no answer |
//! | `kick` | closes the session |
//!
//! Pushed packets have the topic `history/push`, and their number as text. A client whose
//! `auth` is `{"user": "…"}` is that user; with `{"refuse": true}` it is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use serde::Deserialize;
use tidegate::bus::{CallError, GateError};
use tidegate::{
    Credentials, Gate, GateLimits, Guests, Identity, Json, Limits, Refused, Service, Session,
    SessionId, StartError, State, Tcp, UserId, WebSocket,
};
use tokio::io::AsyncReadExt;

/// What is known of one session.
#[derive(Default)]
struct History {
    notes: Mutex<Vec<String>>,
    /// Packets that were pushed. Held while one is, so that they leave in order.
    pushed: tokio::sync::Mutex<u64>,
    is_pushing: AtomicBool,
}

#[derive(Default)]
struct Histories(Mutex<HashMap<SessionId, Arc<History>>>);

impl Histories {
    fn of(&self, session: &Session) -> Arc<History> {
        self.0.lock().entry(session.id()).or_default().clone()
    }
}

impl History {
    async fn push(&self, session: &Session) -> Result<(), GateError> {
        let mut pushed = self.pushed.lock().await;
        let next = *pushed + 1;
        let wait = Duration::from_secs(30);
        session
            .send_wait("history/push", next.to_string(), wait)
            .await?;
        *pushed = next;
        Ok(())
    }
}

async fn note(
    session: Session,
    body: Bytes,
    State(all): State<Arc<Histories>>,
) -> Result<(), GateError> {
    let history = all.of(&session);
    let note = String::from_utf8_lossy(&body).into_owned();
    history.notes.lock().push(note);
    history.push(&session).await
}

async fn notes(session: Session, State(all): State<Arc<Histories>>) -> Json<Vec<String>> {
    Json(all.of(&session).notes.lock().clone())
}

async fn start(session: Session, State(all): State<Arc<Histories>>) {
    let history = all.of(&session);
    history.is_pushing.store(true, Ordering::Relaxed);
    tokio::spawn(async move {
        while history.is_pushing.load(Ordering::Relaxed) {
            if history.push(&session).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    });
}

async fn stop(session: Session, State(all): State<Arc<Histories>>) -> String {
    let history = all.of(&session);
    history.is_pushing.store(false, Ordering::Relaxed);
    history.pushed.lock().await.to_string()
}

async fn never() -> Result<(), CallError> {
    std::future::pending().await
}

async fn kick(session: Session) -> Result<(), GateError> {
    session.close().await
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    refuse: bool,
    user: Option<String>,
}

async fn authenticate(who: Credentials) -> Result<Identity, Refused> {
    let Some(hello) = who.hello else {
        return Ok(Identity::guest());
    };
    let auth: Auth = serde_json::from_slice(&hello).map_err(|e| Refused::new(e.to_string()))?;
    if auth.refuse {
        return Err(Refused::new("asked to be refused"));
    }
    let user = auth.user.as_deref().map(UserId::new).transpose();
    let user = user.map_err(|e| Refused::new(e.to_string()))?;
    Ok(user.map_or_else(Identity::guest, Identity::user))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), StartError> {
    let history = Service::new("history")
        .state(Arc::<Histories>::default())
        .one_way("note", note)
        .open_to(Guests)
        .request("notes", notes)
        .open_to(Guests)
        .request("echo", async |body: Bytes| body)
        .open_to(Guests)
        .one_way("start", start)
        .open_to(Guests)
        .request("stop", stop)
        .open_to(Guests)
        .request("never", never)
        .open_to(Guests)
        .concurrent()
        .one_way("kick", kick)
        .open_to(Guests);
    let mut limits = Limits::default();
    // On a busy machine a client may take its time.
    limits.resume_packets = 10_000;
    let mut gate_limits = GateLimits::default();
    // `never` will not come to its end.
    gate_limits.shutdown_timeout = Duration::from_millis(500);
    let running = Gate::builder()
        .listen(Tcp::bind("127.0.0.1:0").resume_over_plaintext(true))
        .listen(
            WebSocket::bind("127.0.0.1:0")
                .resume_over_plaintext(true)
                .any_origin(),
        )
        .service(history)
        .limits(limits)
        .gate_limits(gate_limits)
        .on_authenticate(Duration::from_secs(5), authenticate)
        .shards(1)
        .start()
        .await?;
    let address = |i| running.address(i).map(|a| a.to_string());
    println!(
        "{}",
        serde_json::json!({ "tcp": address(0), "websocket": address(1) })
    );
    // Whoever started it and is gone has closed it.
    let mut nothing = Vec::new();
    let _ = tokio::io::stdin().read_to_end(&mut nothing).await;
    running.stop().await;
    Ok(())
}
