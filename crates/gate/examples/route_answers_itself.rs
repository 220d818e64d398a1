//! A route hook that answers some packets itself and fails others: no service is asked.
//!
//! `cargo run -p tidegate --example route_answers_itself`

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidegate::bus::CallError;
use tidegate::{Gate, Guests, Inbound, LocalSession, Packet, Service, StartError, Tcp};

/// Sees each packet whose topic follows the router's grammar, before it is routed.
async fn route(session: LocalSession, packet: Packet) -> Result<Inbound, CallError> {
    let Ok(route) = packet.topic.route() else {
        return Ok(Inbound::Pass(packet));
    };
    match (route.service, route.method) {
        ("gate", "time") => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.map_or(0, |since| since.as_millis());
            Ok(Inbound::Answer(Packet::new(packet.topic, now.to_string())))
        }
        ("gate", "me") => {
            let me = format!("{} from {}", session.id(), session.ip());
            Ok(Inbound::Answer(Packet::new(packet.topic, me)))
        }
        // The client gets this as the error of its packet.
        ("gate", _) => Err(CallError::service(1000, "the gate knows time and me")),
        _ => Ok(Inbound::Pass(packet)),
    }
}

#[tokio::main]
async fn main() -> Result<(), StartError> {
    println!(
        "try: cargo run -- connect tcp://127.0.0.1:3653 -e 'gate/time' -e 'gate/me' -e 'echo/echo hi'"
    );
    let echo = Service::new("echo").request("echo", async |body: Bytes| body);
    Gate::builder()
        .listen(Tcp::bind("127.0.0.1:3653").v1_error_topic("error"))
        .service(echo.open_to(Guests))
        .on_route(route)
        .run_until(tokio::signal::ctrl_c())
        .await
}
