//! A NATS server.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Port, Process, TempDir, eventually, tool};

/// What a [`NatsServer`] starts with.
#[derive(Debug)]
pub struct NatsOptions {
    config: String,
    jetstream: bool,
    scheme: &'static str,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            config: String::new(),
            jetstream: true,
            scheme: "nats",
        }
    }
}

impl NatsOptions {
    /// Adds text to the server's configuration file: `authorization`, `accounts`, `tls`,
    /// `max_payload`, `max_pending` …
    pub fn config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self.config.push('\n');
        self
    }

    /// With a certificate; `verify`: and asks clients for theirs.
    pub fn tls(self, certificates: &crate::Certificates, verify: bool) -> Self {
        let text = format!(
            "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: {verify} }}",
            certificates.server(),
            certificates.server_key(),
            certificates.ca(),
        );
        Self {
            scheme: "tls",
            ..self.config(&text)
        }
    }

    /// Without JetStream.
    pub fn without_jetstream(mut self) -> Self {
        self.jetstream = false;
        self
    }

    /// Starts the server and waits until it answers.
    pub async fn start(self) -> NatsServer {
        let mut server = self.spawn("nats", None);
        server.ready().await;
        server
    }

    pub(crate) fn spawn(self, name: &str, cluster: Option<&str>) -> NatsServer {
        let (client, monitor) = (Port::free(), Port::free());
        let dir = TempDir::new();
        let mut config = format!(
            "server_name: {name}\nlisten: {:?}\nhttp: {:?}\nwrite_deadline: \"2s\"\n{}\n{}\n",
            client.listen().to_string(),
            monitor.address().to_string(),
            self.config,
            cluster.unwrap_or_default(),
        );
        if self.jetstream {
            // Explicit limits: without them the server takes most of the disk and memory into
            // account, and refuses the third one on a small machine.
            config.push_str(&format!(
                "jetstream {{ store_dir: {:?}, max_memory_store: 64MB, max_file_store: 256MB }}\n",
                dir.join("jetstream"),
            ));
        }
        dir.write("nats.conf", config);
        NatsServer {
            process: spawn(name, &dir),
            name: name.to_owned(),
            dir,
            client,
            monitor,
            scheme: self.scheme,
            starts: 1,
        }
    }
}

fn spawn(name: &str, dir: &TempDir) -> Process {
    let mut command = Command::new(tool("TIDEGATE_TEST_NATS_SERVER", "venv/bin/nats-server"));
    command.arg("-c").arg(dir.join("nats.conf"));
    Process::start_in(name, command, dir.join("output"))
}

/// A NATS server with JetStream, its store in a directory of its own.
#[derive(Debug)]
pub struct NatsServer {
    process: Process,
    name: String,
    client: Port,
    monitor: Port,
    scheme: &'static str,
    starts: u32,
    // Last: the server is dead before its directory goes.
    dir: TempDir,
}

impl NatsServer {
    /// One that lets everybody in.
    pub async fn start() -> Self {
        Self::options().start().await
    }

    /// One with users, TLS …
    pub fn options() -> NatsOptions {
        NatsOptions::default()
    }

    /// `nats://127.0.0.1:port`, or `tls://`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.client.address())
    }

    /// `nats://user:password@127.0.0.1:port`, or `tls://`.
    pub fn url_for(&self, user: &str, password: &str) -> String {
        format!(
            "{}://{user}:{password}@{}",
            self.scheme,
            self.client.address()
        )
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.client.address()
    }

    /// Its `server_name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process: output, pause, resume.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it where it stands: its connections stay, nothing is answered.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.process.resume();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it in order.
    pub async fn stop(&mut self) {
        self.process.stop().await;
    }

    /// Starts it again on the same port and store, and waits until it answers. A running one is
    /// killed first.
    pub async fn restart(&mut self) {
        self.restart_at_once();
        self.ready().await;
    }

    /// [`restart`](Self::restart) without the wait.
    pub fn restart_at_once(&mut self) {
        self.process.kill();
        self.process = spawn(&self.name, &self.dir);
        self.starts += 1;
    }

    /// Waits until it answers clients, and its JetStream too: in a cluster, until there is a
    /// leader to ask and it has caught up.
    pub async fn ready(&mut self) {
        let what = format!("{} is ready, start {}", self.name, self.starts);
        eventually(&what, async || {
            if !self.process.is_running() {
                panic!("{} ended:\n{}", self.name, self.process.output());
            }
            let healthy = matches!(self.get("/healthz").await, Some((200, _)));
            if !healthy {
                // It logs each time that it is asked and is not.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            healthy.then_some(())
        })
        .await;
    }

    /// What its monitoring page says: `/varz`, `/connz?subs=1`, `/subsz`, `/jsz?streams=1` …
    pub async fn monitor(&self, path: &str) -> serde_json::Value {
        let what = format!("{} answers {path}", self.name);
        let (_, body) = eventually(&what, async || self.get(path).await).await;
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let asked = async {
            let mut stream = TcpStream::connect(self.monitor.address()).await.ok()?;
            let request = format!("GET {path} HTTP/1.0\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let (head, body) = answer.split_once("\r\n\r\n")?;
            let status = head.split(' ').nth(1)?.parse().ok()?;
            Some((status, body.to_owned()))
        };
        tokio::time::timeout(Duration::from_secs(2), asked)
            .await
            .ok()?
    }
}
