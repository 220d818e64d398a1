//! An outbound hook that rewrites what goes to clients, and refuses some of it.
//!
//! The hook runs before a session's queue accepts a packet, answers too. Whoever sent what
//! it refuses gets an error. A broadcast is encoded for each session where there is one.
//!
//! `cargo run -p tidegate --example outbound_rewrite`

use bytes::Bytes;
use tidegate::{Gate, Guests, LocalSession, Packet, Refused, Service, Session, StartError, Tcp};

fn outbound(session: &LocalSession, packet: Packet) -> Result<Packet, Refused> {
    if packet.topic.as_str().starts_with("staff/") && session.is_guest() {
        return Err(Refused::new("guests get nothing of the staff's"));
    }
    match session.get("shout") {
        Some(_) => {
            let text = String::from_utf8_lossy(&packet.body).to_uppercase();
            Ok(Packet::new(packet.topic, text))
        }
        None => Ok(packet),
    }
}

async fn shout(session: Session) -> Result<&'static str, tidegate::bus::GateError> {
    session.set("shout", "yes").await?;
    Ok("from now on everything is loud")
}

/// Tries to send a guest what it must not have.
async fn leak(session: Session) -> String {
    match session.send("staff/news", "secret").await {
        Ok(()) => "it was sent".into(),
        Err(error) => format!("it was not sent: {error}"),
    }
}

#[tokio::main]
async fn main() -> Result<(), StartError> {
    println!(
        "try: cargo run -- connect tcp://127.0.0.1:3653 \\\n  \
         -e 'talk/echo quiet' -e 'talk/shout' -e 'talk/echo loud' -e 'talk/leak'"
    );
    let talk = Service::new("talk")
        .request("echo", async |body: Bytes| body)
        .open_to(Guests)
        .request("shout", shout)
        .open_to(Guests)
        .request("leak", leak)
        .open_to(Guests);
    Gate::builder()
        .listen(Tcp::bind("127.0.0.1:3653"))
        .service(talk)
        .on_outbound(outbound)
        .run_until(tokio::signal::ctrl_c())
        .await
}
