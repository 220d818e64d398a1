//! Someone who types at `tidegate connect`.

use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::server::tidegate;
use super::{Output, PATIENCE};

/// See the module. Killed on drop.
pub(crate) struct Person {
    pub(crate) child: Child,
    stdin: Option<ChildStdin>,
    output: Output,
}

impl Person {
    pub(crate) fn connect(url: &str, arguments: &[&str]) -> Self {
        let mut child = tidegate()
            .args(["connect", "--compact", "--timeout", "30", url])
            .args(arguments)
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

    pub(crate) fn types(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Everything it has printed.
    pub(crate) fn text(&self) -> String {
        self.output.text()
    }

    /// Everything it has printed, once this is among it.
    pub(crate) fn sees(&self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.output.text();
            if text.contains(words) {
                return text;
            }
            assert!(Instant::now() < deadline, "never {words}:\n{text}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a line with all of these in it, behind those that were waited for before.
    pub(crate) fn sees_line(&mut self, words: &[&str]) {
        let found = self.output.lines_until(|seen| {
            let mut lines = seen.lines();
            lines.find(|line| words.iter().all(|word| line.contains(word)))?;
            Some(())
        });
        assert!(found.is_some(), "no {words:?} in\n{}", self.output.text());
    }

    /// The input ends. Answers exit code and all that was printed.
    pub(crate) fn leaves(mut self) -> (Option<i32>, String) {
        drop(self.stdin.take());
        assert!(self.output.ended(), "{}", self.output.text());
        (self.child.wait().unwrap().code(), self.output.text())
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
