//! Starts the built gate and the foreign client programs in `tests/clients`.
//!
//! Nothing here skips: a missing program fails the test with the command that installs it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a panic is the report"
)]
#![allow(dead_code, reason = "each test file uses its own part of this module")]

pub(crate) mod hostile;
pub(crate) mod keys;
pub(crate) mod person;
pub(crate) mod proxy;
pub(crate) mod server;
pub(crate) mod terminal;

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before the test fails. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A version 1 frame: u16 total | u16 topic length | topic | body. Written out here, not taken
/// from the protocol crate, so that a mistake there cannot hide.
pub(crate) fn frame(topic: &str, body: &[u8]) -> Vec<u8> {
    let total = u16::try_from(4 + topic.len() + body.len()).unwrap();
    let topic_len = u16::try_from(topic.len()).unwrap();
    let mut frame = Vec::new();
    frame.extend(total.to_le_bytes());
    frame.extend(topic_len.to_le_bytes());
    frame.extend(topic.as_bytes());
    frame.extend(body);
    frame
}

pub(crate) fn frame_hex(topic: &str, body: &[u8]) -> String {
    frame(topic, body)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// `tidegate demo` on free ports; killed on drop.
pub(crate) struct Gate {
    child: Child,
    output: Output,
    pub(crate) tcp_url: String,
    pub(crate) ws_url: String,
}

impl Gate {
    /// Returns when the gate has printed its addresses.
    pub(crate) fn start(extra_arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("demo")
            .args(
                ["--tcp", "--ws", "--page", "--admin"]
                    .iter()
                    .flat_map(|flag| [flag, "127.0.0.1:0"]),
            )
            .args(extra_arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the tidegate binary");
        let mut output = Output::of(&mut child);
        let urls = output.lines_until(|seen| Some((url(seen, "tcp://")?, url(seen, "ws://")?)));
        let Some((tcp_url, ws_url)) = urls else {
            child.kill().ok();
            child.wait().ok();
            panic!(
                "tidegate demo printed no tcp:// and ws:// addresses:\n{}",
                output.text()
            );
        };
        Self {
            child,
            output,
            tcp_url,
            ws_url,
        }
    }

    /// `host:port`
    pub(crate) fn tcp_address(&self) -> String {
        self.tcp_url
            .trim_start_matches("tcp://")
            .trim_end_matches('/')
            .to_owned()
    }

    /// The admin interface's address, and the token that goes with it.
    pub(crate) fn admin(&mut self) -> (std::net::SocketAddr, String) {
        let printed = self.printed_until("/metrics\n");
        let line = printed.lines().find(|line| line.contains("Bearer"));
        let (_, rest) = line.and_then(|l| l.split_once("Bearer ")).unwrap();
        let (token, url) = rest.split_once("' http://").unwrap();
        let address = url.strip_suffix("/metrics").unwrap();
        (address.parse().unwrap(), token.to_owned())
    }

    /// Everything the gate has printed so far, for a failed assertion's message.
    pub(crate) fn output(&self) -> String {
        format!("the gate printed:\n{}", self.output.text())
    }

    /// What the gate has printed, once a line with `word` is among it.
    pub(crate) fn printed_until(&mut self, word: &str) -> String {
        let text = Arc::clone(&self.output.text);
        let printed = self.output.lines_until(|_| {
            let text = text.lock().unwrap();
            text.contains(word).then(|| text.clone())
        });
        printed.unwrap_or_else(|| panic!("no {word}; {}", self.output()))
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        server::signal(&self.child, "TERM");
        assert!(
            self.output.ended(),
            "still running {PATIENCE:?} after SIGTERM; {}",
            self.output()
        );
        (self.child.wait().unwrap(), self.output())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The first URL of a scheme in a human text.
fn url(text: &str, scheme: &str) -> Option<String> {
    text.split(|c: char| c.is_whitespace() || "\"'()<>,".contains(c))
        .find(|word| word.starts_with(scheme))
        .map(str::to_owned)
}

/// What a child prints, read all the time so that it never blocks on a full pipe.
pub(crate) struct Output {
    text: Arc<Mutex<String>>,
    stdout_lines: Receiver<String>,
}

impl Output {
    pub(crate) fn of(child: &mut Child) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let (lines, stdout_lines) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        let stderr = child.stderr.take().unwrap();
        collect(stdout, Arc::clone(&text), Some(lines));
        collect(stderr, Arc::clone(&text), None);
        Self { text, stdout_lines }
    }

    /// Of a child whose standard output is not ours.
    pub(crate) fn of_stderr(child: &mut Child) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let (lines, stdout_lines) = mpsc::channel();
        let stderr = child.stderr.take().unwrap();
        collect(stderr, Arc::clone(&text), Some(lines));
        Self { text, stdout_lines }
    }

    pub(crate) fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// Feeds standard output so far to `found` after each line, until it answers.
    pub(crate) fn lines_until<T>(&mut self, found: impl Fn(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = String::new();
        loop {
            if let Some(answer) = found(&seen) {
                return Some(answer);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            seen += &self.stdout_lines.recv_timeout(left).ok()?;
        }
    }

    /// Whether standard output ends, as it does with the process, in time.
    pub(crate) fn ended(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.stdout_lines.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

fn collect(
    stream: impl Read + Send + 'static,
    text: Arc<Mutex<String>>,
    lines: Option<mpsc::Sender<String>>,
) {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let shown = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            text.lock().unwrap().push_str(&shown);
            if let Some(lines) = &lines {
                // Nobody has to listen: the text above is kept anyway.
                lines.send(shown).ok();
            }
        }
    });
}

/// How a client program ended.
pub(crate) struct Report {
    pub(crate) passed: bool,
    pub(crate) stdout: String,
    stderr: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the client printed:\n{}{}", self.stdout, self.stderr)
    }
}

/// `examples/v1_client.py HOST:PORT`
pub(crate) fn v1_client(address: &str) -> Report {
    run(Command::new(python())
        .arg(workspace().join("examples/v1_client.py"))
        .arg(address))
}

/// `examples/legacy_client.py HOST:PORT FORM KEY`
pub(crate) fn legacy_client(address: &str, form: &str, key: &str) -> Report {
    run(Command::new(python())
        .arg(workspace().join("examples/legacy_client.py"))
        .args([address, form, key]))
}

/// `tests/tools/legacy_golden.py`
pub(crate) fn legacy_golden() -> Report {
    run(Command::new(python()).arg(workspace().join("tests/tools/legacy_golden.py")))
}

/// `tests/clients/ws_client.mjs`; what `steps` and `options` may hold is written there.
pub(crate) fn node_client(url: &str, steps: &str, options: &str) -> Report {
    run(node("ws_client.mjs").args([url, steps, options]))
}

/// `tests/clients/chat_page.mjs`: the demo's page in Chromium.
pub(crate) fn chat_page() -> Report {
    installed(tool(
        "TIDEGATE_TEST_CHROMIUM",
        Path::new("/usr/bin/chromium"),
    ));
    run(node("chat_page.mjs").arg(env!("CARGO_BIN_EXE_tidegate")))
}

/// `tests/clients/ws_client.py`, the same contract.
pub(crate) fn python_client(url: &str, steps: &str, options: &str) -> Report {
    let script = workspace().join("tests/clients/ws_client.py");
    run(Command::new(python())
        .arg(script)
        .args([url, steps, options]))
}

/// `tests/clients/jwt_tool.py`: its output's lines, one for each job.
pub(crate) fn jwt_tool(what: &str, jobs: &serde_json::Value) -> Vec<String> {
    let script = workspace().join("tests/clients/jwt_tool.py");
    let report = run(Command::new(python())
        .arg(script)
        .args([what, &jobs.to_string()]));
    assert!(
        report.passed,
        "{jobs}: {report}\n`scripts/install-test-tools` installs PyJWT"
    );
    report.stdout.lines().map(str::to_owned).collect()
}

/// What sslyze finds at a TLS listener: `tests/tools/tls_scan.py`.
pub(crate) fn tls_scan(address: SocketAddr) -> Report {
    let script = workspace().join("tests/tools/tls_scan.py");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    run(Command::new(python()).arg(script).args([host, port]))
}

/// The client programs have deadlines of their own, so this needs none.
fn run(command: &mut Command) -> Report {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; run `scripts/install-test-tools`"));
    Report {
        passed: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Chromium with one page on each of three origins: `tests/clients/origin_page.mjs`.
pub(crate) struct OriginPage {
    child: Child,
    /// `None` only while dropping.
    stdin: Option<ChildStdin>,
    output: Output,
    origins: Vec<String>,
}

impl OriginPage {
    pub(crate) fn start() -> Self {
        installed(tool(
            "TIDEGATE_TEST_CHROMIUM",
            Path::new("/usr/bin/chromium"),
        ));
        let mut child = node("origin_page.mjs")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start node; scripts/install-test-tools installs it");
        let stdin = child.stdin.take();
        let mut output = Output::of(&mut child);
        let origins = output.lines_until(|seen| json_strings(seen, "origins"));
        let Some(origins) = origins else {
            child.kill().ok();
            child.wait().ok();
            panic!("the browser did not start:\n{}", output.text());
        };
        Self {
            child,
            stdin,
            output,
            origins,
        }
    }

    /// The origin of the page that was served under this host name.
    pub(crate) fn origin(&self, host: &str) -> String {
        let wanted = format!("http://{host}:");
        self.origins
            .iter()
            .find(|origin| origin.starts_with(&wanted))
            .unwrap()
            .clone()
    }

    /// Tries to open a WebSocket from each page.
    pub(crate) fn try_to_open(&mut self, url: &str) -> OriginAnswer {
        writeln!(self.stdin.as_mut().unwrap(), "{url}").unwrap();
        let answer = self.output.lines_until(|seen| {
            Some(OriginAnswer {
                let_in: json_strings(seen, "let_in")?,
                refused: json_strings(seen, "refused")?,
            })
        });
        answer.unwrap_or_else(|| panic!("no answer from the browser:\n{}", self.output.text()))
    }
}

impl Drop for OriginPage {
    fn drop(&mut self) {
        // Not killed: the script ends with its standard input, and takes Chromium with it.
        self.stdin.take();
        self.output.ended();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Which origins the gate let in.
#[derive(Debug)]
pub(crate) struct OriginAnswer {
    let_in: Vec<String>,
    refused: Vec<String>,
}

impl OriginAnswer {
    pub(crate) fn let_in(&self, origin: &str) -> bool {
        self.let_in.iter().any(|each| each == origin)
    }

    pub(crate) fn refused(&self, origin: &str) -> bool {
        self.refused.iter().any(|each| each == origin)
    }
}

impl fmt::Display for OriginAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The strings of `"key":["a","b"]`; enough JSON for a script of our own that prints URLs.
fn json_strings(text: &str, key: &str) -> Option<Vec<String>> {
    let (_, after) = text.split_once(&format!("\"{key}\":["))?;
    let (list, _) = after.split_once(']')?;
    Some(
        list.split('"')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect(),
    )
}

fn node(script: &str) -> Command {
    let modules = installed(tool(
        "TIDEGATE_TEST_NODE_MODULES",
        &workspace().join("target/tools/node/node_modules"),
    ));
    let mut command = Command::new(std::env::var_os("TIDEGATE_TEST_NODE").unwrap_or("node".into()));
    command.arg(workspace().join("tests/clients").join(script));
    command.env("TIDEGATE_TEST_NODE_MODULES", modules);
    command
}

fn python() -> PathBuf {
    installed(tool(
        "TIDEGATE_TEST_PYTHON",
        &workspace().join("target/tools/venv/bin/python"),
    ))
}

pub(crate) fn prometheus() -> PathBuf {
    let default = workspace().join("target/tools/bin/prometheus");
    installed(tool("TIDEGATE_TEST_PROMETHEUS", &default))
}

pub(crate) fn promtool() -> PathBuf {
    let default = workspace().join("target/tools/bin/promtool");
    installed(tool("TIDEGATE_TEST_PROMTOOL", &default))
}

pub(crate) fn tool(variable: &str, default: &Path) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| default.to_owned(), PathBuf::from)
}

pub(crate) fn installed(path: PathBuf) -> PathBuf {
    assert!(
        path.exists(),
        "{} is missing; scripts/install-test-tools installs it",
        path.display(),
    );
    path
}

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}
