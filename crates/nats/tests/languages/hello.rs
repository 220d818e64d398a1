//! The service `hello`, as it is started in each language.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use tidegate::bus::{CallError, Ended, GateError, Sent};
use tidegate::service::{Clients, RunningService, Service, Session};
use tidegate::{Bound, ErrorCode, Guests};
use tidegate_bus_suite::stage::Log;
use tidegate_nats::{Nats, NatsOptions};
use tidegate_test_servers::{NatsServer, Process, TempDir, tool, workspace};

/// `hello`, as it runs.
pub(crate) enum Hello {
    /// In a process of its own, and what it needs.
    Process(Process, #[expect(dead_code)] TempDir),
    /// In this one, as long as it runs.
    Kit(#[expect(dead_code)] RunningService, Log),
}

impl Hello {
    pub(crate) fn python(nats: &NatsServer) -> Self {
        let mut command = Command::new(tool("TIDEGATE_TEST_PYTHON", "venv/bin/python"));
        command.arg(example("python/hello.py"));
        Self::start(nats, command, TempDir::new())
    }

    pub(crate) fn javascript(nats: &NatsServer) -> Self {
        // A module finds its packages beside itself.
        let dir = TempDir::new();
        let modules = tool("TIDEGATE_TEST_NODE_MODULES", "node/node_modules");
        std::os::unix::fs::symlink(modules, dir.join("node_modules")).unwrap();
        std::fs::copy(example("node/hello.mjs"), dir.join("hello.mjs")).unwrap();
        let node = std::env::var_os("TIDEGATE_TEST_NODE").unwrap_or("node".into());
        let mut command = Command::new(node);
        command.arg(dir.join("hello.mjs"));
        Self::start(nats, command, dir)
    }

    pub(crate) fn go(nats: &NatsServer) -> Self {
        let dir = TempDir::new();
        let program = dir.join("hello");
        let mut build = Command::new(tool("TIDEGATE_TEST_GO", "bin/go"));
        build.args(["build", "-o"]).arg(&program).arg(".");
        let built = build.current_dir(example("go")).status().unwrap();
        assert!(built.success());
        Self::start(nats, Command::new(program), dir)
    }

    fn start(nats: &NatsServer, mut command: Command, dir: TempDir) -> Self {
        command.env("NATS_URL", nats.url());
        Self::Process(Process::start("hello", command), dir)
    }

    pub(crate) async fn rust(options: NatsOptions) -> Self {
        let bus = Nats::connect(options).await.unwrap();
        let log = Log::default();
        let (left, everybody) = (log.clone(), Clients::new(bus.clone()));
        let service = Service::new("hello")
            .version("1.0.0")
            .request("echo", async |body: Bytes| body)
            .open_to(Guests)
            .request("login", async |session: Session, user: String| {
                session.bind(user).await.map_err(refused)?;
                Ok::<_, CallError>(session.snapshot().encode())
            })
            .open_to(Guests)
            .request("note", async |session: Session, note: String| {
                session.set("note", note).await.map_err(refused)?;
                Ok::<_, CallError>(session.snapshot().encode())
            })
            .open_to(Bound)
            .one_way("tell", async |session: Session, body: Bytes| {
                session.send("hello.told", body).await.map_err(refused)
            })
            .open_to(Bound)
            .request("shout", move |body: Bytes| {
                let everybody = everybody.clone();
                async move {
                    let sent = everybody.broadcast("hello.shouted", body).await;
                    sent.map(summary).map_err(refused)
                }
            })
            .open_to(Bound)
            .request("bye", async |session: Session| {
                session.close().await.map_err(refused)
            })
            .open_to(Bound)
            .on_disconnect(move |ended: Ended| {
                left.add(format!("disconnected {}", ended.reason.code()));
                async {}
            })
            .register(bus)
            .await
            .unwrap();
        Self::Kit(service, log)
    }

    /// All that it printed.
    pub(crate) fn output(&self) -> String {
        match self {
            Self::Process(process, _) => process.output(),
            Self::Kit(_, log) => log.lines().join("\n"),
        }
    }
}

fn refused(error: GateError) -> CallError {
    let name = match error {
        // What a gate calls it that is asked over NATS.
        GateError::Name(_) => "bad-request".to_owned(),
        other => other.to_string(),
    };
    CallError::new(ErrorCode(1001), name)
}

fn summary(sent: Sent) -> String {
    let Sent {
        attached, unknown, ..
    } = sent;
    format!(r#"{{"attached":{attached},"unknown":{unknown}}}"#)
}

fn example(path: &str) -> impl AsRef<Path> + AsRef<std::ffi::OsStr> {
    workspace().join("examples/nats").join(path)
}
