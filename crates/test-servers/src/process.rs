//! Child processes.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::TempDir;

/// How long anything may take: it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Waits until `check` answers something.
///
/// # Panics
/// If it does not within a minute; `what` says what was waited for.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "not in a minute: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// A child process that is killed when this is dropped. What it writes is kept in a file; a test
/// that panics prints the end of it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    _dir: Option<TempDir>,
}

impl Process {
    /// Starts it. `name` is what failures call it.
    pub fn start(name: &str, command: Command) -> Self {
        let dir = TempDir::new();
        let mut process = Self::start_in(name, command, dir.join("output"));
        process._dir = Some(dir);
        process
    }

    /// Starts it, its output written to this file.
    pub fn start_in(name: &str, mut command: Command, log: PathBuf) -> Self {
        let output = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("starting {name}, {command:?}: {error}"));
        Self {
            name: name.to_owned(),
            child,
            log,
            _dir: None,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it has written this, and answers the whole line.
    ///
    /// # Panics
    /// If it ends before.
    pub async fn line_with(&mut self, text: &str) -> String {
        eventually(&format!("{} writes {text:?}", self.name), async || {
            // Asked before its output is looked at, or what it wrote last would be missed.
            let running = self.is_running();
            let output = self.output();
            // A line without its end may go on.
            let mut lines = output.split_inclusive('\n').filter(|l| l.ends_with('\n'));
            let line = lines.find(|line| line.contains(text));
            if line.is_none() && !running {
                panic!("{} ended:\n{output}", self.name);
            }
            line.map(|line| line.trim_end().to_owned())
        })
        .await
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Stops it where it stands, with SIGSTOP: connections stay, nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.ended().await
    }

    /// Waits for the end.
    pub async fn ended(&mut self) -> ExitStatus {
        let name = format!("{} ends", self.name);
        eventually(&name, async || self.child.try_wait().unwrap()).await
    }

    /// `kill -9`; gone when this returns.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal)
            .unwrap_or_else(|error| panic!("{signal:?} to {}: {error}", self.name));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let output = self.output();
            let skipped = output.lines().count().saturating_sub(40);
            let end: Vec<_> = output.lines().skip(skipped).collect();
            eprintln!("-- end of {}'s output:\n{}", self.name, end.join("\n"));
        }
    }
}
