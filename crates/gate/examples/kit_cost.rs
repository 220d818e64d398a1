//! What the local bus and the service kit cost per call that is ready in place.
//!
//! `cargo run --release -p tidegate --example kit_cost`

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate::bus::OpenTo::Guests;
use tidegate::bus::local::LocalBus;
use tidegate::bus::*;
use tidegate::service::{Service, Session};
use tidegate_protocol::{GateId, InstanceId, Name, Network, SessionId, Settings, Snapshot};

const CALLS: u32 = 2_000_000;

/// An echo without the kit: what is left is the bus.
struct Bare;

impl Endpoint for Bare {
    fn call(&self, call: Call<'_>, responder: Responder) {
        responder.answer(Ok(Answer {
            body: call.body,
            instance: None,
        }));
    }

    fn event(&self, _: Arc<Snapshot>, _: Event) {}
}

async fn echo(body: Bytes) -> Bytes {
    body
}

async fn with_session(session: Session, body: Bytes) -> Bytes {
    black_box(session.is_guest());
    body
}

async fn waits() {
    tokio::task::yield_now().await;
}

/// Best of several runs, in nanoseconds per call.
fn measure(bus: &dyn Bus, service: &str, method: &str, session: &Arc<Snapshot>) -> f64 {
    let body = Bytes::from_static(&[0; 64]);
    let run = || {
        let start = Instant::now();
        for _ in 0..CALLS {
            let call = Call {
                service,
                method,
                caller: Caller::Guest,
                session: Some(session.clone()),
                body: body.clone(),
                instance: None,
                wants_answer: true,
                span_id: 1,
            };
            // A closure that holds nothing: the responder itself allocates nothing.
            bus.call(call, Responder::new(|result| drop(black_box(result))));
        }
        start.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    (0..7).map(|_| run()).fold(f64::INFINITY, f64::min)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
    let name = Name::new("echo")?;
    let bare = InstanceInfo {
        service: Name::new("bare")?,
        instance: InstanceId::new("i")?,
        version: String::new(),
        metadata: Default::default(),
        ttl: Duration::from_secs(30),
        methods: vec![MethodInfo {
            name,
            kind: MethodKind::Request,
            open_to: Guests,
        }],
        policy: Policy::default(),
        wants_started: false,
        wants_dormancy: false,
        wants_gates: false,
    };
    let _bare = bus.register(bare, Arc::new(Bare)).await?;
    let kit = Service::new("kit")
        .request("echo", echo)
        .open_to(Guests)
        .request("with_session", with_session)
        .open_to(Guests)
        .request("waits", waits)
        .open_to(Guests);
    let _kit = kit.register(bus.clone()).await?;
    let session = Arc::new(Snapshot {
        id: SessionId(1),
        gate: GateId::new("g")?,
        user: None,
        device: None,
        settings: Settings::new(),
        ip: [127, 0, 0, 1].into(),
        network: Network::Tcp,
        trace_id: 1,
    });
    let on_bus = measure(&*bus, "bare", "echo", &session);
    let in_kit = measure(&*bus, "kit", "echo", &session);
    let with_session = measure(&*bus, "kit", "with_session", &session);
    println!("bus alone               {on_bus:6.1} ns per call");
    println!(
        "bus + kit, echo(Bytes)  {in_kit:6.1} ns: the kit costs {:.1}",
        in_kit - on_bus
    );
    println!("echo(Session, Bytes)    {with_session:6.1} ns");

    let rounds = 200_000;
    let start = Instant::now();
    for _ in 0..rounds {
        let (responder, answer) = Responder::channel();
        let call = Call {
            service: "kit",
            method: "waits",
            caller: Caller::Guest,
            session: Some(session.clone()),
            body: Bytes::new(),
            instance: None,
            wants_answer: true,
            span_id: 1,
        };
        bus.call(call, responder);
        let _ = black_box(answer.await?);
    }
    let waiting = start.elapsed().as_nanos() as f64 / f64::from(rounds);
    println!("a handler that waits    {waiting:6.1} ns, there and back through a task and a lane");
    Ok(())
}
