//! A Redis server.

use std::net::SocketAddr;
use std::process::Command;

use crate::{Certificates, Port, Process, TempDir, tool};

/// What a [`RedisServer`] starts with.
#[derive(Debug, Default)]
pub struct RedisOptions {
    config: String,
    tls: bool,
}

impl RedisOptions {
    /// Adds lines to the server's configuration file: `requirepass`, `user`, `maxmemory` …
    pub fn config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self.config.push('\n');
        self
    }

    /// On TLS only; `verify`: and asks clients for their certificate.
    pub fn tls(self, certificates: &Certificates, verify: bool) -> Self {
        let text = format!(
            "tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients {}",
            certificates.server().display(),
            certificates.server_key().display(),
            certificates.ca().display(),
            if verify { "yes" } else { "no" },
        );
        Self {
            tls: true,
            ..self.config(&text)
        }
    }

    /// Starts the server and waits until it answers.
    pub async fn start(self) -> RedisServer {
        let port = Port::free();
        let dir = TempDir::new();
        let (plain, tls) = match self.tls {
            true => (0, port.number()),
            false => (port.number(), 0),
        };
        // Each write is on the disk before it is answered, so that it is there after a kill.
        let config = format!(
            "bind 127.0.0.1\nport {plain}\ntls-port {tls}\ndir {}\nsave \"\"\n\
             appendonly yes\nappendfsync always\n{}",
            dir.path().display(),
            self.config,
        );
        dir.write("redis.conf", config);
        let mut server = RedisServer {
            process: spawn(&dir),
            port,
            tls: self.tls,
            dir,
        };
        server.ready().await;
        server
    }
}

fn spawn(dir: &TempDir) -> Process {
    let mut command = Command::new(tool("TIDEGATE_TEST_REDIS_SERVER", "bin/redis-server"));
    command.arg(dir.join("redis.conf"));
    Process::start_in("redis", command, dir.join("output"))
}

/// A Redis server, its data in a directory of its own.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    port: Port,
    tls: bool,
    // Last: the server is dead before its directory goes.
    dir: TempDir,
}

impl RedisServer {
    /// One that lets everybody in.
    pub async fn start() -> Self {
        Self::options().start().await
    }

    /// One with a password, ACL users, TLS, a limit of memory …
    pub fn options() -> RedisOptions {
        RedisOptions::default()
    }

    /// `redis://127.0.0.1:port`, or `rediss://`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.address())
    }

    /// `redis://user:password@127.0.0.1:port`, or `rediss://`; an empty user is the default one.
    pub fn url_for(&self, user: &str, password: &str) -> String {
        format!("{}://{user}:{password}@{}", self.scheme(), self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
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

    /// Starts it again on the same port and data, and waits until it answers. A running one is
    /// killed first.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.dir);
        self.ready().await;
    }

    async fn ready(&mut self) {
        self.process.line_with("Ready to accept connections").await;
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "rediss" } else { "redis" }
    }
}
