//! What systemd hears of the gate, and the unit it starts it with.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use support::server::{Scratch, client, packet, signal, tidegate};
use support::{PATIENCE, frame, installed, tool, workspace};

/// Plays systemd: a socket that the gate tells things.
struct Manager {
    socket: UnixDatagram,
    files: Scratch,
}

impl Manager {
    fn new() -> Self {
        let files = Scratch::new();
        let socket = UnixDatagram::bind(files.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, files }
    }

    /// Starts a gate on a free port, with these variables.
    fn start(&self, variables: &[(&str, &str)]) -> Started {
        let serve = "serve --tcp 127.0.0.1:0 --service echo --log-format json";
        let child = tidegate()
            .args(serve.split(' '))
            .env("NOTIFY_SOCKET", self.files.path().join("notify"))
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Started(child)
    }

    /// The next message.
    fn hears(&self) -> String {
        let mut message = [0; 4096];
        let len = self.socket.recv(&mut message).unwrap();
        String::from_utf8(message[..len].to_vec()).unwrap()
    }

    /// The next message that has this line.
    fn hears_of(&self, line: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.hears();
            if message.lines().any(|l| l == line) {
                return message;
            }
            assert!(Instant::now() < deadline, "never {line}");
        }
    }
}

/// A gate; killed when dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Where the gate of this process listens, as its log says.
fn address(gate: &mut Started) -> std::net::SocketAddr {
    use std::io::{BufRead, BufReader};
    let mut lines = BufReader::new(gate.0.stderr.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().contains("listening"));
    let line = line.unwrap().unwrap();
    let (_, port) = line.rsplit_once("127.0.0.1:").unwrap();
    let port = port.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    // The log goes on: nobody may close it.
    std::thread::spawn(move || lines.for_each(drop));
    format!("127.0.0.1:{port}").parse().unwrap()
}

#[test]
fn it_is_ready_once_it_takes_clients_and_says_when_it_stops() {
    let manager = Manager::new();
    let mut gate = manager.start(&[]);
    let ready = manager.hears();
    assert_eq!(ready, "READY=1\nSTATUS=0 connections, 0 sessions\n");
    let mut client = client(address(&mut gate));
    client.write_all(&frame("echo/echo/1", b"x")).unwrap();
    packet(&mut client);
    signal(&gate.0, "TERM");
    let stopping = manager.hears_of("STOPPING=1");
    // 10 s of gate.shutdown_timeout and 5 s more.
    assert!(
        stopping.contains("EXTEND_TIMEOUT_USEC=15000000\n"),
        "{stopping}"
    );
    assert_eq!(gate.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reload_is_told_from_its_beginning_to_its_end() {
    let manager = Manager::new();
    let mut gate = manager.start(&[]);
    manager.hears_of("READY=1");
    signal(&gate.0, "HUP");
    let reloading = manager.hears();
    let time = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .unwrap();
    assert!(time.trim_end().parse::<u64>().is_ok(), "{reloading}");
    assert_eq!(manager.hears(), "READY=1\n");
    signal(&gate.0, "TERM");
    assert_eq!(gate.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_gate_that_cannot_start_is_never_ready() {
    let manager = Manager::new();
    let serve = "serve --tcp 192.0.2.1:1";
    let status = tidegate()
        .args(serve.split(' '))
        .env("NOTIFY_SOCKET", manager.files.path().join("notify"))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    manager.socket.set_nonblocking(true).unwrap();
    let heard = manager.socket.recv(&mut [0; 4096]).map_err(|e| e.kind());
    assert_eq!(heard, Err(std::io::ErrorKind::WouldBlock));
}

#[test]
fn the_watchdog_is_answered_with_what_there_is() {
    let manager = Manager::new();
    let mut gate = manager.start(&[("WATCHDOG_USEC", "1000000")]);
    manager.hears_of("READY=1");
    let mut client = client(address(&mut gate));
    client.write_all(&frame("echo/echo/1", b"x")).unwrap();
    packet(&mut client);
    manager.hears_of("WATCHDOG=1");
    let with_client = manager.hears_of("STATUS=1 connections, 1 sessions");
    assert!(with_client.starts_with("WATCHDOG=1\n"), "{with_client}");
    drop(client);
    manager.hears_of("STATUS=0 connections, 0 sessions");
}

/// A socket that is gone, or never was, harms nobody.
#[test]
fn nobody_has_to_listen() {
    let mut gate = {
        let manager = Manager::new();
        let gate = manager.start(&[("WATCHDOG_USEC", "400000")]);
        manager.hears_of("WATCHDOG=1");
        gate
    };
    let mut client = client(address(&mut gate));
    client.write_all(&frame("echo/echo/1", b"x")).unwrap();
    packet(&mut client);
    signal(&gate.0, "TERM");
    assert_eq!(gate.0.wait().unwrap().code(), Some(0));
}

fn analyze(arguments: &[&str], unit: &Path) -> (bool, String) {
    let program = tool(
        "TIDEGATE_TEST_SYSTEMD_ANALYZE",
        Path::new("/usr/bin/systemd-analyze"),
    );
    let output = Command::new(installed(program))
        .args(arguments)
        .arg(unit)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn the_unit_is_one_and_exposes_little() {
    let file = workspace().join("packaging/systemd/tidegate.service");
    let text = std::fs::read_to_string(&file).unwrap();
    // It names a program that is there.
    let text = text.replace("/usr/local/bin/tidegate", env!("CARGO_BIN_EXE_tidegate"));
    let files = Scratch::new();
    let unit = files.write("tidegate.service", &text);
    let (passed, said) = analyze(&["verify"], Path::new(&unit));
    assert!(passed && said.is_empty(), "{said}");
    let security = ["security", "--offline=yes", "--no-pager", "--threshold=12"];
    let (passed, said) = analyze(&security, Path::new(&unit));
    assert!(passed, "{said}");
}

/// What the unit and the gate have to agree on.
#[test]
fn the_unit_is_about_this_binary() {
    let file = workspace().join("packaging/systemd/tidegate.service");
    let text = std::fs::read_to_string(file).unwrap();
    let start = text
        .lines()
        .find_map(|l| l.strip_prefix("ExecStart="))
        .unwrap();
    let arguments: Vec<_> = start.split(' ').skip(1).collect();
    assert_eq!(
        arguments,
        ["serve", "--config", "/etc/tidegate/tidegate.toml"]
    );
    // It reads that file: 2 is for configurations that are wrong, or not there.
    let status = tidegate().args(arguments).stderr(Stdio::null()).status();
    assert_eq!(status.unwrap().code(), Some(2));
    assert!(text.contains("RestartPreventExitStatus=2\n"));
    assert!(text.contains("Type=notify\n") && text.contains("-HUP $MAINPID\n"));
}
