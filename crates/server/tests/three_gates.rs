//! The script of `examples/three-gates`, as someone uses it who has read `docs/many-gates.md`.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use futures_util::{SinkExt, StreamExt};
use support::frame;
use support::person::Person;
use support::server::Scratch;
use tidegate_test_servers::{Process, eventually, tool, workspace};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

/// What the script prints at the place of a gate's URLs, and of the commands that kill.
struct Printed(String);

impl Printed {
    fn url(&self, gate: &str, scheme: &str) -> String {
        let line = self.line_with(&format!("  {gate}   tcp://"));
        let mut words = line.split_whitespace();
        words
            .find(|word| word.starts_with(scheme))
            .unwrap()
            .to_owned()
    }

    /// The process of this name, as started last.
    fn process(&self, name: &str) -> u32 {
        let first = self.line_with(&format!("# {name}"));
        let again = format!("{name} | started again: process ");
        let last = self.0.lines().rfind(|line| line.contains(&again));
        let id = match last {
            Some(line) => line.rsplit(' ').next(),
            None => first.split_whitespace().nth(2),
        };
        id.unwrap().parse().unwrap()
    }

    fn line_with(&self, text: &str) -> &str {
        let line = self.0.lines().find(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("no {text} in\n{}", self.0))
    }
}

fn kill(signal: &str, process: u32) {
    let kill = format!("kill -{signal} {process}");
    assert!(shell(&kill).0);
}

/// Whether it succeeds, and what it prints.
fn shell(line: &str) -> (bool, String) {
    let done = Command::new("sh").args(["-c", line]).output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(text).unwrap())
}

/// The processes whose temporary directory this is.
fn processes_of(home: &Path) -> Vec<String> {
    let mark = format!("TMPDIR={}", home.display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let of_home = processes.filter(|process| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|variable| variable == mark.as_bytes())
    });
    let shown = of_home.map(|process| {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).replace('\0', " ")
    });
    shown.collect()
}

#[tokio::test]
async fn three_gates_two_services_and_a_cluster() {
    let home = Scratch::new();
    let python = tool("TIDEGATE_TEST_PYTHON", "venv/bin/python");
    let nats = tool("TIDEGATE_TEST_NATS_SERVER", "venv/bin/nats-server");
    let mut command = Command::new(&python);
    command
        .arg(workspace().join("examples/three-gates/run.py"))
        .arg("--free-ports")
        .args(["--tidegate", env!("CARGO_BIN_EXE_tidegate")])
        .arg("--nats-server")
        .arg(nats)
        .arg("--python")
        .arg(&python)
        .env("TMPDIR", home.path());
    let mut script = Process::start("run.py", command);
    script.line_with("All is up").await;
    script.line_with("# hello").await;
    let printed = Printed(script.output());

    // What it prints can be pasted, and the services answer through each gate.
    let lines: Vec<&str> = printed.0.lines().map(str::trim).collect();
    let connect = lines.iter().filter(|line| line.contains(" connect "));
    assert_eq!(connect.clone().count(), 2, "{}", printed.0);
    for line in connect {
        let (done, text) = shell(&format!("{line} -e 'hello/echo from Python'"));
        assert!(done && text.contains("from Python"), "{line}: {text}");
    }
    let (_, metrics) = shell(printed.line_with("curl -H ").trim());
    assert!(metrics.contains("tidegate_bus_up 1"), "{metrics}");

    // Two people at two gates, one of them without a client of ours.
    let mut ada = Person::connect(&printed.url("gate-1", "tcp://"), &[]);
    ada.types("chat/login ada");
    ada.sees_line(&["chat/login", "\"online\": [\"ada\"]"]);
    let (mut bob, _) = connect_async(printed.url("gate-2", "ws://")).await.unwrap();
    let says = |topic: &str, body: &str| Message::binary(frame(topic, body.as_bytes()));
    bob.send(says("chat/login/1", "bob")).await.unwrap();
    ada.sees_line(&["chat/joined", "bob"]);
    bob.send(says("chat/say", "hello from the second gate"))
        .await
        .unwrap();
    ada.sees_line(&[
        "chat/said",
        "\"from\": \"bob\"",
        "hello from the second gate",
    ]);
    ada.types("chat/tell bob only you");
    eventually("bob is told", async || {
        let packet = bob.next().await.unwrap().unwrap().into_data();
        let text = String::from_utf8_lossy(&packet).into_owned();
        (text.contains("chat/told") && text.contains("only you")).then_some(())
    })
    .await;

    // A gate dies: its people have left, the others go on, and it is there again.
    kill("KILL", printed.process("gate-2"));
    script.line_with("gate-2 | was killed by signal 9").await;
    ada.sees_line(&["chat/left", "bob"]);
    script.line_with("gate-2 | started again").await;
    script.line_with("gate-2 | INFO ready").await;
    let url = printed.url("gate-2", "tcp://");
    eventually("bob is at the gate again", async || {
        Person::connect(&url, &["-e", "chat/login bob"])
            .leaves()
            .0
            .filter(|code| *code == 0)
    })
    .await;
    ada.sees_line(&["chat/joined", "bob"]);

    // A NATS server dies, and the chat service with it.
    kill("KILL", printed.process("nats-1"));
    kill("KILL", printed.process("chat"));
    script.line_with("nats-1 | started again").await;
    script.line_with("chat | started again").await;
    eventually("ada is heard again", async || {
        ada.types("chat/say still here");
        ada.text()
            .contains("\"text\": \"still here\"")
            .then_some(())
    })
    .await;
    drop(ada);

    assert!(
        processes_of(home.path()).len() >= 9,
        "{:?}",
        processes_of(home.path())
    );
    kill("INT", script.id());
    assert!(script.ended().await.success(), "{}", script.output());
    let output = script.output();
    assert!(output.contains("stopped; nothing is left"), "{output}");
    // The permissions are in force, and enough.
    assert!(!output.contains("Violation"), "{output}");
    assert_eq!(processes_of(home.path()), [""; 0]);
    let files: Vec<_> = fs::read_dir(home.path()).unwrap().collect();
    assert!(files.is_empty(), "{files:?}");
}
