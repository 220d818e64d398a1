//! A gate inside another program: hooks, data of the program's own on each session, and
//! the gate's handle used from outside of any service.
//!
//! `cargo run -p tidegate --example embedded`

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidegate::bus::{CallError, Ended};
use tidegate::{
    CloseReason, Gate, GateLimits, Guests, Inbound, LocalSession, Packet, Refused, Service,
    StartError, Tcp,
};

/// The program's own data about a session. It never leaves the process.
#[derive(Default)]
struct Budget {
    spent: AtomicU32,
}

/// How many packets a session may send.
const PACKETS: u32 = 5;

async fn started(session: LocalSession) -> Result<(), Refused> {
    println!("{} began, from {}", session.id(), session.ip());
    session.set_local_data(Budget::default());
    Ok(())
}

async fn receive(session: LocalSession, packet: Packet) -> Result<Inbound, CallError> {
    let budget = session.local_data::<Budget>();
    let spent = budget.map_or(0, |b| b.spent.fetch_add(1, Ordering::Relaxed));
    if spent < PACKETS {
        return Ok(Inbound::Pass(packet));
    }
    session.close(CloseReason::Kicked);
    Err(CallError::service(1001, "you have sent enough"))
}

async fn ended(session: LocalSession, how: Ended) {
    println!(
        "{} ended: {}; {} packets in, {} out, {} not delivered",
        session.id(),
        how.reason,
        session.packets_received(),
        session.packets_sent(),
        how.undelivered_packets
    );
}

#[tokio::main]
async fn main() -> Result<(), StartError> {
    let mut limits = GateLimits::default();
    limits.max_connections = 100;
    let running = Gate::builder()
        .id("embedded")
        .listen(Tcp::bind("127.0.0.1:3653"))
        .service(
            Service::new("echo")
                .request("echo", async |body: Bytes| body)
                .open_to(Guests),
        )
        .gate_limits(limits)
        // Everything runs on this program's runtime.
        .shards(0)
        .on_started(started)
        .on_receive(receive)
        .on_ended(ended)
        .start()
        .await?;
    println!("try: cargo run -- connect tcp://127.0.0.1:3653, and then 'echo/echo hi' six times");

    // The handle is cheap to clone: the rest of the program uses it as it likes.
    let gate = running.gate().clone();
    let news = tokio::spawn(async move {
        for n in 1.. {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let Ok(packet) = Packet::try_new("news", format!("news number {n}")) else {
                return;
            };
            match gate.broadcast(packet).await {
                Ok(sent) => println!("news number {n} went to {} sessions", sent.taken()),
                Err(error) => println!("news number {n}: {error}"),
            }
        }
    });
    // Whether the signal came or cannot be had: the gate stops.
    let _ = tokio::signal::ctrl_c().await;
    news.abort();
    running.stop().await;
    Ok(())
}
