//! The demo as someone uses it: what it prints works, and two people chat.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

use support::server::{http, raw_http, signal, tidegate};
use support::{Gate, Output};

/// `tidegate connect`, with lines to type and output to wait for.
struct Repl {
    child: Child,
    stdin: Option<ChildStdin>,
    output: Output,
}

impl Repl {
    fn connect(url: &str) -> Self {
        let mut child = tidegate()
            .args(["connect", "--compact", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take(),
            output: Output::of(&mut child),
            child,
        }
    }

    fn types(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for a line with all of these in it.
    fn sees(&mut self, words: &[&str]) {
        let found = self.output.lines_until(|seen| {
            let mut lines = seen.lines();
            lines.find(|line| words.iter().all(|word| line.contains(word)))?;
            Some(())
        });
        assert!(found.is_some(), "no {words:?} in\n{}", self.output.text());
    }

    /// The end of what is typed is the end of the connection.
    fn leaves(mut self) {
        drop(self.stdin.take());
        assert!(self.output.ended());
        assert!(
            self.child.wait().unwrap().success(),
            "{}",
            self.output.text()
        );
    }
}

impl Drop for Repl {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn two_people_chat_over_tcp_and_websocket() {
    let gate = Gate::start(&[]);
    let mut ada = Repl::connect(&gate.tcp_url);
    ada.types("chat/login ada");
    ada.sees(&["chat/login", "\"room\": \"lobby\"", "\"online\": [\"ada\"]"]);
    let mut bob = Repl::connect(&gate.ws_url);
    bob.types("chat/login {\"name\": \"bob\"}");
    bob.sees(&["chat/login", "[\"ada\", \"bob\"]"]);
    ada.sees(&["chat/joined", "bob"]);
    bob.types("chat/say hello, ada");
    ada.sees(&["chat/said", "\"from\": \"bob\"", "\"text\": \"hello, ada\""]);
    ada.types("chat/tell bob only you");
    bob.sees(&["chat/told", "\"from\": \"ada\"", "\"text\": \"only you\""]);
    ada.types("chat/join tea");
    bob.sees(&["chat/left", "ada"]);
    bob.types("chat/rooms");
    bob.sees(&["chat/rooms", "\"owner\": \"ada\""]);
    ada.types("chat/leave");
    ada.sees(&["chat/leave", "lobby"]);
    ada.leaves();
    bob.sees(&["chat/left", "ada"]);
    bob.leaves();
}

/// Every line that the demo offers to paste can be pasted.
#[test]
fn what_the_demo_prints_works() {
    let mut gate = Gate::start(&[]);
    let printed = gate.printed_until("python3 ");
    let lines: Vec<_> = printed.lines().map(str::trim).collect();
    let connect = lines.iter().filter(|line| line.contains(" connect "));
    let connect: Vec<_> = connect.collect();
    assert_eq!(connect.len(), 2, "{printed}");
    for line in connect {
        let line = format!("{line} -e 'echo/echo hello'");
        assert!(shell(&line).contains("hello"), "{line}");
    }
    let python = lines
        .iter()
        .find(|line| line.starts_with("python3 "))
        .unwrap();
    assert!(shell(python).contains("echo/echo/1hello"), "{python}");
}

#[test]
fn the_page_and_its_counts() {
    let mut gate = Gate::start(&[]);
    let printed = gate.printed_until("/readyz");
    let mut urls = printed
        .split_whitespace()
        .filter_map(|w| w.strip_prefix("http://"));
    let page = urls.next().unwrap().trim_end_matches('/').parse().unwrap();
    let (status, html) = http(page, "GET", "/gate").unwrap();
    assert_eq!(status, 200);
    assert!(
        html.contains(&gate.tcp_url) && html.contains(&gate.ws_url),
        "{html}"
    );
    assert!(!html.contains("{{"), "{html}");
    // Threat row 46: nothing that is written into the page can run.
    let answer = raw_http(
        page,
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    let answer = answer.unwrap();
    let policy = answer
        .lines()
        .find_map(|line| line.strip_prefix("content-security-policy: "));
    let policy = policy.unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"));
    assert!(!policy.contains("unsafe"), "{policy}");
    let port = gate
        .ws_url
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .unwrap();
    assert!(policy.contains(&format!(
        "connect-src 'self' ws://127.0.0.1:{port} ws://localhost:{port};"
    )));
    let (_, html) = http(page, "GET", "/").unwrap();
    assert!(html.contains(&format!("data-port=\"{port}\"")), "{html}");
    assert!(!html.contains("{{"), "{html}");
    for path in ["/chat/app.js", "/chat/chat.css", "/client/index.js"] {
        assert_eq!(http(page, "GET", path).unwrap().0, 200, "{path}");
    }
    assert_eq!(http(page, "GET", "/nothing").unwrap().0, 404);
    let mut ada = Repl::connect(&gate.tcp_url);
    ada.types("chat/login ada");
    ada.sees(&["lobby"]);
    let (_, status) = http(page, "GET", "/status.json").unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        (&status["connections"], &status["sessions"]),
        (&1.into(), &1.into())
    );
    assert_eq!(status["ready"], true);
    signal(&ada.child, "TERM");
}

fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
