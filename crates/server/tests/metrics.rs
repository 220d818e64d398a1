//! Prometheus scrapes a gate under load: what it then knows is what the clients counted.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use support::server::{Scratch, client, raw_http};
use support::{Gate, Output, PATIENCE, frame};

/// What the clients counted, under the names that Prometheus has it under.
#[derive(Debug, Default)]
struct Counted(BTreeMap<String, u64>);

impl Counted {
    fn add(&mut self, series: &str, n: u64) {
        *self.0.entry(series.to_owned()).or_default() += n;
    }

    fn call(&mut self, service: &str, outcome: &str) {
        let series = format!("tidegate_calls_total{{outcome={outcome},service={service}}}");
        self.add(&series, 1);
    }

    fn error(&mut self, code: &str, error: &str) {
        let series = format!("tidegate_packet_errors_total{{code={code},error={error}}}");
        self.add(&series, 1);
    }

    fn session(&mut self, code: &str, reason: &str) {
        self.add("tidegate_connections_accepted_total{}", 1);
        self.add("tidegate_sessions_started_total{}", 1);
        self.add("tidegate_sessions_ended_total{}", 1);
        let closed = format!("tidegate_closed_total{{code={code},reason={reason}}}");
        self.add(&closed, 1);
    }

    fn merge(&mut self, other: Self) {
        for (series, n) in other.0 {
            self.add(&series, n);
        }
    }
}

/// A client that counts. It knows one packet is answered by one packet, where one has an
/// id or fails: the demo has an error topic.
struct Player {
    stream: TcpStream,
    ws: bool,
    counted: Counted,
    buffered: Vec<u8>,
}

impl Player {
    fn over(stream: TcpStream, ws: bool) -> Self {
        Self {
            stream,
            ws,
            counted: Counted::default(),
            buffered: Vec::new(),
        }
    }

    fn ws(at: SocketAddr) -> Self {
        let mut stream = client(at);
        let upgrade = format!(
            "GET / HTTP/1.1\r\nHost: {at}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        Self::over(stream, true)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        let n = bytes.len() as u64;
        self.counted.add("tidegate_received_bytes_total{}", n);
    }

    /// A WebSocket frame, masked with a key of zeros.
    fn ws_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            short @ ..126 => frame.push(0x80 | short as u8),
            long => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(long).unwrap().to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    }

    fn send(&mut self, topic: &str, body: &[u8]) {
        let mut bytes = frame(topic, body);
        if self.ws {
            bytes = Self::ws_frame(2, &bytes);
        }
        self.write(&bytes);
        self.counted.add("tidegate_packets_received_total{}", 1);
    }

    fn read(&mut self, n: usize) -> Vec<u8> {
        while self.buffered.len() < n {
            let mut part = [0; 16 * 1024];
            let got = self.stream.read(&mut part).unwrap();
            assert!(got > 0, "closed");
            self.buffered.extend(&part[..got]);
        }
        self.counted.add("tidegate_sent_bytes_total{}", n as u64);
        self.buffered.drain(..n).collect()
    }

    fn receive(&mut self) {
        let head = self.read(2);
        let length = match (self.ws, head[1]) {
            (false, _) => usize::from(u16::from_le_bytes([head[0], head[1]])) - 2,
            (true, 126) => {
                let length = self.read(2);
                usize::from(u16::from_be_bytes([length[0], length[1]]))
            }
            (true, length) => usize::from(length),
        };
        self.read(length);
        self.counted.add("tidegate_packets_sent_total{}", 1);
    }

    /// Calls of each kind, well and badly made.
    fn round(&mut self) {
        for i in 0..10 {
            self.send(&format!("echo/echo/{i}"), &vec![b'x'; 1 + i * 37]);
            self.counted.call("echo", "ok");
        }
        for (topic, service, outcome, code, error) in [
            ("nobody/there/1", "(none)", "not_found", "3", "not_found"),
            ("echo/nothing/1", "echo", "not_found", "3", "not_found"),
            ("echo/echo", "echo", "id_required", "4", "id_required"),
            ("chat/login/1", "chat", "service", "1000+", "service"),
        ] {
            self.send(topic, b"not a name");
            self.counted.call(service, outcome);
            self.counted.error(code, error);
        }
        self.send("not-a-route", b"");
        self.counted.error("1", "bad_topic");
        self.send("$reserved", b"");
        self.counted.error("2", "reserved_topic");
        for _ in 0..16 {
            self.receive();
        }
    }

    /// Counts what still comes, up to the gate's close.
    fn rest(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        let rest = self.buffered.len() + rest.len();
        self.counted.add("tidegate_sent_bytes_total{}", rest as u64);
    }

    /// Ends in one of the ways there are.
    fn end(mut self, how: usize) -> Counted {
        let (code, reason) = match (self.ws, how % 3) {
            (false, 0) => ("1000", "ClientLeft"),
            (false, 1) => {
                self.write(&[2, 0]);
                ("4500", "BadFrame")
            }
            (false, _) => {
                self.write(&[20, 0, 3]);
                ("1006", "ConnectionLost")
            }
            (true, 0) => {
                self.write(&Self::ws_frame(8, &[3, 232]));
                ("1000", "ClientLeft")
            }
            (true, 1) => {
                self.write(&Self::ws_frame(1, b"text"));
                ("1003", "TextNotAllowed")
            }
            (true, _) => ("1006", "ConnectionLost"),
        };
        if code == "1006" || (!self.ws && code == "1000") {
            self.stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        self.rest();
        self.counted.session(code, reason);
        self.counted
    }
}

/// A Prometheus that scrapes one gate each second; killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _files: Scratch,
}

impl Prometheus {
    fn start(gate: SocketAddr, token: &str) -> Self {
        let files = Scratch::new();
        files.write("token", token);
        let config = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: tidegate\n    \
             authorization:\n      credentials_file: token\n    \
             static_configs:\n      - targets: ['{gate}']\n"
        );
        let config = files.write("prometheus.yml", &config);
        let data = files.path().join("data");
        let child = Command::new(support::prometheus())
            .arg(format!("--config.file={config}"))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut started = Self {
            child,
            address: gate,
            _files: files,
        };
        let log = Output::of_stderr(&mut started.child);
        let listening = "msg=\"Listening on\" address=";
        started.address = wait_for("Prometheus listens", || {
            let text = log.text();
            let (_, rest) = text.split_once(listening)?;
            rest.lines().next()?.trim().parse().ok()
        });
        started
    }

    /// The series that `query` has now, with their values.
    fn query(&self, query: &str) -> BTreeMap<String, f64> {
        let escape = |byte: u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        };
        let query: String = query.bytes().map(escape).collect();
        // HTTP/1.0: not in chunks.
        let request = format!("GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n");
        let answer = raw_http(self.address, &request).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let series = body["data"]["result"].as_array().into_iter().flatten();
        series
            .map(|series| {
                let labels = series["metric"].as_object().unwrap();
                let text = |name: &str| labels.get(name).and_then(Value::as_str);
                let own = labels
                    .keys()
                    .filter(|name| !["__name__", "instance", "job"].contains(&name.as_str()));
                let own: Vec<_> = own
                    .map(|name| format!("{name}={}", text(name).unwrap()))
                    .collect();
                let name = text("__name__").unwrap_or_default();
                let value = series["value"][1].as_str().unwrap().parse().unwrap();
                (format!("{name}{{{}}}", own.join(",")), value)
            })
            .collect()
    }

    fn number(&self, query: &str) -> Option<f64> {
        self.query(query).into_values().next()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came that {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn page(admin: SocketAddr, token: &str) -> String {
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    );
    let answer = raw_http(admin, &request).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn prometheus_knows_what_the_clients_counted() {
    let mut gate = Gate::start(&[]);
    let (admin, token) = gate.admin();
    let prometheus = Prometheus::start(admin, &token);
    let tcp: SocketAddr = gate.tcp_address().parse().unwrap();
    let ws: SocketAddr = {
        let host = gate.ws_url.strip_prefix("ws://").unwrap();
        host.trim_end_matches('/').parse().unwrap()
    };
    let enough = Arc::new(AtomicBool::new(false));
    let counted = Arc::new(Mutex::new(Counted::default()));
    let players = (0..12).map(|number| {
        let (enough, counted) = (enough.clone(), counted.clone());
        thread::spawn(move || {
            // Many sessions each, so that there are many ends.
            for how in number.. {
                let mut player = match number % 2 {
                    0 => Player::over(client(tcp), false),
                    _ => Player::ws(ws),
                };
                for _ in 0..5 {
                    player.round();
                }
                counted.lock().unwrap().merge(player.end(how));
                if enough.load(Ordering::Relaxed) {
                    return;
                }
            }
        })
    });
    let players: Vec<_> = players.collect();
    wait_for("it was scraped several times under load", || {
        let scrapes = "count_over_time(tidegate_packets_received_total[10m])";
        (prometheus.number(scrapes)? >= 3.0).then_some(())
    });
    enough.store(true, Ordering::Relaxed);
    for player in players {
        player.join().unwrap();
    }
    wait_for("all sessions have ended", || {
        let page = page(admin, &token);
        let now = |name: &'static str| page.lines().filter(move |line| line.starts_with(name));
        let mut now = now("tidegate_sessions{").chain(now("tidegate_connections{"));
        now.all(|line| line.ends_with(" 0")).then_some(())
    });
    let over = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    wait_for("it was scraped after that", || {
        let at = prometheus.number("timestamp(tidegate_packets_received_total)")?;
        (at > over.as_secs_f64()).then_some(())
    });
    let known = prometheus.query("{__name__=~\"tidegate_.*\"}");
    let counted = counted.lock().unwrap();
    let mut wrong = Vec::new();
    for (series, n) in &counted.0 {
        let knows = known.get(series).copied();
        if knows != Some(*n as f64) {
            wrong.push(format!("{series}: {n} counted, Prometheus knows {knows:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // And of nothing that nobody did.
    for family in [
        "tidegate_calls_total",
        "tidegate_closed_total",
        "tidegate_packet_errors_total",
    ] {
        let of = |series: &String| series.starts_with(family);
        let there: f64 = known.iter().filter(|(s, _)| of(s)).map(|(_, n)| n).sum();
        let mine: u64 = counted
            .0
            .iter()
            .filter(|(s, _)| of(s))
            .map(|(_, n)| n)
            .sum();
        assert_eq!(there, mine as f64, "{family}");
    }
    assert_eq!(known["tidegate_calls_in_flight{}"], 0.0);
    assert_eq!(known["tidegate_queued_packets{}"], 0.0);
    assert_eq!(known["tidegate_undelivered_packets_total{}"], 0.0);
    assert!(counted.0["tidegate_packets_received_total{}"] > 1000);
}

fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(support::promtool())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let done = child.wait_with_output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    (
        done.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn promtool_finds_no_fault_with_the_page_nor_with_the_alerts() {
    let mut gate = Gate::start(&[]);
    let (admin, token) = gate.admin();
    let (good, said) = promtool(&["check", "metrics"], &page(admin, &token));
    assert!(good && said.is_empty(), "{said}");
    let rules = support::workspace().join("examples/prometheus-alerts.yml");
    let (good, said) = promtool(&["check", "rules", rules.to_str().unwrap()], "");
    assert!(good && said.contains("7 rules found"), "{said}");
}
