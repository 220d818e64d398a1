//! Gates and services as processes of their own: this test program, started again to play one.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use tidegate::service::{Clients, Service, Session};
use tidegate::{Gate, Guests, Limits, RunningGate, Tcp};
use tidegate_nats::{Nats, NatsOptions};
use tidegate_test_servers::{Process, Site};
use tokio::signal::unix::{SignalKind, signal};

const ROLE: &str = "TIDEGATE_TEST_ROLE";

/// Not a test: what [`start`] runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role() {
    let variable = |name| std::env::var(name).unwrap();
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let servers: Vec<_> = variable("TEST_SERVERS")
        .split(',')
        .map(str::to_owned)
        .collect();
    let name = variable("TEST_NAME");
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    match &*role {
        "gate" => {
            let gate = gate(&servers, &name, variable("TEST_LISTEN").parse().unwrap()).await;
            println!("listening on {}", gate.address(0).unwrap());
            terminated.recv().await;
            gate.stop().await;
        }
        "service" => {
            let service = work(&servers, &name).await;
            println!("serving as {}", service.instance());
            terminated.recv().await;
            service.stop().await;
        }
        other => panic!("no role {other}"),
    }
}

/// A gate with a service of its own, `near`.
pub(crate) async fn gate(servers: &[String], id: &str, address: IpAddr) -> RunningGate {
    let bus = connect(servers, id).await;
    let state = bus.clone();
    let mut limits = Limits::default();
    limits.call_timeout = CALL_TIMEOUT;
    limits.resume_window = Some(Duration::from_secs(60));
    let listener = Tcp::bind(SocketAddr::new(address, 0).to_string())
        .limits(limits)
        .resume_over_plaintext(true);
    let near = Service::new(format!("near-{id}"))
        .request("echo", async |body: bytes::Bytes| body)
        .open_to(Guests)
        // How the bus is, as its gate sees it.
        .request("bus", move || {
            let stats = tidegate::bus::Bus::stats(&*state);
            async move { format!("{stats:?}") }
        })
        .open_to(Guests)
        .request("clock", async || {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.unwrap().as_secs().to_string()
        })
        .open_to(Guests);
    let gate = Gate::builder().id(id).shards(1).bus(bus);
    gate.service(near).listen(listener).start().await.unwrap()
}

/// After so long a call without an answer is one whose outcome is not known.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn connect(servers: &[String], name: &str) -> std::sync::Arc<Nats> {
    let mut options = NatsOptions::new(servers.to_vec());
    options.name = name.to_owned();
    options.wait = Some(Duration::from_secs(20));
    // A cluster keeps the records of gates and users on all its servers.
    options.replicas = servers.len();
    Nats::connect(options).await.unwrap()
}

/// The service `work`. It prints what it does, before it answers.
pub(crate) async fn work(servers: &[String], instance: &str) -> tidegate::service::RunningService {
    let bus = connect(servers, instance).await;
    let (everybody, own) = (Clients::new(bus.clone()), instance.to_owned());
    Service::new("work")
        .instance(instance)
        .request("do", async |number: String| {
            println!("did {number}");
            number
        })
        .open_to(Guests)
        .concurrent()
        // Binds the caller to this instance.
        .request("stay", move |session: Session| {
            let instance = own.clone();
            async move { session.bind_instance("work", instance).await }
        })
        .open_to(Guests)
        // Takes a call, and never answers.
        .request("take", async |number: String| {
            println!("took {number}");
            std::future::pending::<()>().await;
        })
        .open_to(Guests)
        .concurrent()
        // Pushes to the caller, and tells what it was told of it.
        .request("tell", async |session: Session, number: String| {
            let sent = session.send("told", number.clone()).await;
            println!("told {number} {}", crate::account::outcome_of_send(&sent));
            number
        })
        .open_to(Guests)
        .concurrent()
        .request("login", async |session: Session, user: String| {
            session.bind(user).await
        })
        .open_to(Guests)
        .request("shout", move |body: String| {
            let everybody = everybody.clone();
            async move {
                everybody
                    .broadcast("shouted", body)
                    .await
                    .map(|sent| format!("{sent:?}"))
            }
        })
        .open_to(Guests)
        .on_disconnect(async |session: Session| println!("left {}", session.id()))
        .on_gate_gone(async |gone: tidegate::bus::GateGone| println!("gone {}", gone.gate))
        .register(bus)
        .await
        .unwrap()
}

/// Starts a process that plays a role.
pub(crate) struct Role {
    command: Command,
    name: String,
}

impl Role {
    pub(crate) fn new_gate(id: &str, servers: &[String]) -> Self {
        let program = std::env::current_exe().unwrap();
        Self::new(
            "gate",
            id,
            servers,
            Command::new(program),
            [127, 0, 0, 1].into(),
        )
    }

    pub(crate) fn new_gate_at(site: &Site, id: &str, servers: &[String]) -> Self {
        let program = std::env::current_exe().unwrap();
        Self::new("gate", id, servers, site.command(program), site.address())
    }

    pub(crate) fn new_service(instance: &str, servers: &[String]) -> Self {
        let program = std::env::current_exe().unwrap();
        Self::new(
            "service",
            instance,
            servers,
            Command::new(program),
            [127, 0, 0, 1].into(),
        )
    }

    fn new(role: &str, name: &str, servers: &[String], mut command: Command, at: IpAddr) -> Self {
        command
            .args(["--exact", "roles::role", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env("TEST_NAME", name)
            .env("TEST_SERVERS", servers.join(","))
            .env("TEST_LISTEN", at.to_string());
        Self {
            command,
            name: name.to_owned(),
        }
    }

    /// With a clock that shows the time that the file says.
    pub(crate) fn clock(mut self, offset: &Path) -> Self {
        let library = tidegate_test_servers::tool("TIDEGATE_TEST_FAKETIME", "lib/libfaketime.so.1");
        self.command
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", offset)
            .env("FAKETIME_NO_CACHE", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
        self
    }

    /// Starts a gate, and answers its address for clients.
    pub(crate) async fn gate(self) -> (Process, String) {
        let mut process = Process::start(&self.name, self.command);
        let line = process.line_with("listening on ").await;
        let (_, address) = line.split_once("listening on ").unwrap();
        (process, format!("tcp://{address}"))
    }

    /// Starts a service.
    pub(crate) async fn service(self) -> Process {
        let mut process = Process::start(&self.name, self.command);
        process.line_with("serving as ").await;
        process
    }
}
