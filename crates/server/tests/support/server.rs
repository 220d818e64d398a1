//! The built binary by itself: `tidegate serve` with a configuration, and runs that end.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::{PATIENCE, collect};

/// The built binary.
pub(crate) fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.stdin(Stdio::null());
    command
}

/// A directory that is removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-scratch-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// What a run that ends by itself left behind.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary, which must end in time.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    run_with(arguments, b"")
}

/// The same, with something to read. It must fit a pipe.
pub(crate) fn run_with(arguments: &[&str], input: &[u8]) -> Ended {
    let mut child = tidegate()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading.
    child.stdin.take().unwrap().write_all(input).ok();
    let mut child = Killed(child);
    let texts = [Arc::new(Mutex::new(String::new())), Arc::default()];
    let (stdout_lines, stdout_end) = mpsc::channel();
    let (stderr_lines, stderr_end) = mpsc::channel();
    collect(
        child.0.stdout.take().unwrap(),
        texts[0].clone(),
        Some(stdout_lines),
    );
    collect(
        child.0.stderr.take().unwrap(),
        texts[1].clone(),
        Some(stderr_lines),
    );
    let ended = wait_for_end(&stdout_end) && wait_for_end(&stderr_end);
    let [stdout, stderr] = texts.map(|text| text.lock().unwrap().clone());
    assert!(
        ended,
        "{arguments:?} still runs after {PATIENCE:?}; it printed:\n{stdout}{stderr}"
    );
    Ended {
        code: child.0.wait().unwrap().code(),
        stdout,
        stderr,
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `tidegate serve`; killed when dropped.
pub(crate) struct Server {
    child: Killed,
    text: Arc<Mutex<String>>,
    lines: Receiver<String>,
    /// The listeners, in the order of the log: TCP before WebSocket. Unspecified is one on
    /// no port.
    pub(crate) listeners: Vec<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
    files: Scratch,
}

impl Server {
    /// Returns when it is ready. Every listener must have port 0.
    pub(crate) fn start(config: &str, arguments: &[&str]) -> Self {
        Self::start_in(Scratch::new(), config, arguments)
    }

    /// The same, with a log for people.
    pub(crate) fn start_human(config: &str, arguments: &[&str]) -> Self {
        Self::start_logging("human", Scratch::new(), config, arguments)
    }

    /// The same, with a directory that holds what the configuration names.
    pub(crate) fn start_in(files: Scratch, config: &str, arguments: &[&str]) -> Self {
        Self::start_logging("json", files, config, arguments)
    }

    fn start_logging(format: &str, files: Scratch, config: &str, arguments: &[&str]) -> Self {
        let file = files.write("tidegate.toml", config);
        let child = tidegate()
            .args(["serve", "--config", &file, "--log-format", format])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Killed(child);
        let text = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = mpsc::channel();
        collect(child.0.stderr.take().unwrap(), text.clone(), Some(sender));
        let mut server = Self {
            child,
            text,
            lines,
            listeners: Vec::new(),
            admin: None,
            files,
        };
        let wanted = config.lines().filter(|line| line.starts_with("[[")).count();
        while server.listeners.len() < wanted {
            let line = server.line_with("address");
            let address = address_in(&line).unwrap_or(([0; 4], 0).into());
            match line.contains("listening") {
                true => server.listeners.push(address),
                false => server.admin = Some(address),
            }
        }
        server.line_with("ready");
        server
    }

    /// The next line of the log that contains `wanted`.
    pub(crate) fn line_with(&self, wanted: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(wanted) => return line,
                Ok(_) => {}
                Err(_) => panic!("no {wanted} in the log:\n{}", self.log()),
            }
        }
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// One of its files.
    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.files.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.0.id()
    }

    /// Kills it, and starts it again with the same files and flags. Listeners with port 0
    /// take other ones.
    pub(crate) fn killed_and_restarted(self, config: &str) -> Self {
        self.signal("KILL");
        let Self { child, files, .. } = self;
        drop(child);
        Self::start_in(files, config, &[])
    }

    /// Sends a signal, by its name: TERM, INT.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child.0, name);
    }

    /// Waits for the end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        assert!(
            wait_for_end(&self.lines),
            "still running after {PATIENCE:?}:\n{}",
            self.log()
        );
        self.child.0.wait().unwrap()
    }

    /// Waits until a metric has this value. Its admin token is `0123456789abcdef0123456789abcdef`.
    pub(crate) fn counts(&self, metric: &str, value: u64) {
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
            Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\r\n";
        let line = format!("{metric} {value}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let page = raw_http(self.admin.unwrap(), request).unwrap();
            if page.lines().any(|l| l == line) {
                return;
            }
            assert!(Instant::now() < deadline, "never {line}:\n{page}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Status and body of `GET path` at the admin address; `None` where nobody answers.
    pub(crate) fn admin(&self, path: &str) -> Option<(u16, String)> {
        http(self.admin.unwrap(), "GET", path).ok()
    }
}

/// The bound address in a line of the log: in either format the last one, and not of port 0.
fn address_in(line: &str) -> Option<SocketAddr> {
    let words = line.split(['"', '=', ' ', '\n']);
    let mut addresses = words.filter_map(|word| word.parse().ok());
    addresses.rfind(|at: &SocketAddr| at.port() != 0)
}

/// Signals a process that we started.
pub(crate) fn signal(child: &Child, name: &str) {
    // The shell's own `kill`: std has no signals.
    let kill = format!("kill -{name} {}", child.id());
    let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(sent.success());
}

/// Status and body of a request that is asked as a client on this machine does.
pub(crate) fn http(address: SocketAddr, method: &str, path: &str) -> io::Result<(u16, String)> {
    let answer = raw_http(
        address,
        &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    )?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, body.to_owned()))
}

/// Everything that comes back.
pub(crate) fn raw_http(address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Connects, with a deadline on every read.
pub(crate) fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Topic and body of the next packet.
pub(crate) fn packet(stream: &mut impl Read) -> (String, Vec<u8>) {
    let mut head = [0; 4];
    stream.read_exact(&mut head).unwrap();
    let total = usize::from(u16::from_le_bytes([head[0], head[1]]));
    let topic = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let mut rest = vec![0; total - 4];
    stream.read_exact(&mut rest).unwrap();
    let body = rest.split_off(topic);
    (String::from_utf8(rest).unwrap(), body)
}

fn wait_for_end(lines: &Receiver<String>) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left: Duration = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}
