//! A service of ten lines: each session counts for itself.
//!
//! `cargo run -p tidegate --example ten_lines`

use tidegate::bus::GateError;
use tidegate::{Gate, Guests, Service, Session, StartError, Tcp};

async fn count(session: Session) -> Result<String, GateError> {
    let count = session.get("count").and_then(|n| n.parse().ok());
    let count = count.unwrap_or(0) + 1;
    session.set("count", count.to_string()).await?;
    Ok(count.to_string())
}

#[tokio::main]
async fn main() -> Result<(), StartError> {
    println!(
        "try: cargo run -- connect tcp://127.0.0.1:3653 -e 'counter/count' -e 'counter/count'"
    );
    Gate::builder()
        .listen(Tcp::bind("127.0.0.1:3653"))
        .service(
            Service::new("counter")
                .request("count", count)
                .open_to(Guests),
        )
        .run_until(tokio::signal::ctrl_c())
        .await
}
