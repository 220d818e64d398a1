//! The processes that take part.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

/// A process, killed when dropped.
struct Process(process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A NATS server.
pub(crate) struct Nats {
    pub(crate) url: String,
    _process: Process,
    _store: Directory,
}

/// Removed when dropped.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // Left behind it is one of many in a place for such.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Nats {
    /// Starts one on a free port, and waits for it.
    pub(crate) fn start(program: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let program = program.map_or_else(
            || std::env::var("TIDEGATE_NATS_SERVER").unwrap_or("nats-server".to_owned()),
            str::to_owned,
        );
        let store = std::env::temp_dir().join(format!("tidegate-bench-{}", process::id()));
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let child = Command::new(&program)
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
            .arg(&store)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                format!(
                    "cannot start {program}: {error}; give the NATS server's program by \
                     --nats-server or TIDEGATE_NATS_SERVER"
                )
            })?;
        let nats = Self {
            url: format!("nats://127.0.0.1:{port}"),
            _process: Process(child),
            _store: Directory(store),
        };
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                return Err(format!("{program} does not listen").into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(nats)
    }
}

/// This program in another role.
pub(crate) struct Child {
    /// Where it listens, if it does.
    pub(crate) address: String,
    process: Process,
}

impl Child {
    /// Starts it, and waits until it is ready.
    pub(crate) fn start(role: &[&str]) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("nats-role")
            .args(role)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        let process = Process(child);
        let mut line = String::new();
        BufReader::new(stdout.ok_or("no standard output")?).read_line(&mut line)?;
        let address = line
            .strip_prefix("ready")
            .ok_or_else(|| format!("{role:?} did not start"))?;
        Ok(Self {
            address: address.trim().to_owned(),
            process,
        })
    }

    /// The CPU time that it has taken.
    pub(crate) fn cpu(&self) -> Result<Duration, Box<dyn Error>> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.0.id()))?;
        // The name, in parentheses, may hold anything.
        let (_, rest) = stat.rsplit_once(')').ok_or("no process state")?;
        let mut fields = rest.split_whitespace().skip(11);
        let mut ticks = || -> Result<u64, Box<dyn Error>> {
            Ok(fields.next().ok_or("too few fields")?.parse()?)
        };
        let ticks = ticks()? + ticks()?;
        Ok(Duration::from_secs_f64(
            ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        ))
    }
}
