//! A real terminal for the binary: tmux, whose screen and whose every byte can be read.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::server::Scratch;
use super::{PATIENCE, installed, tool};

/// Between two looks at the screen.
const GLANCE: Duration = Duration::from_millis(20);

/// `tidegate connect` in a terminal of 100 columns; ended when dropped.
pub(crate) struct Terminal<'a> {
    name: String,
    files: &'a Scratch,
}

impl<'a> Terminal<'a> {
    /// Starts it with these arguments. `files` takes the history.
    pub(crate) fn connect(files: &'a Scratch, name: &str, arguments: &[&str]) -> Self {
        let terminal = Self {
            name: name.to_owned(),
            files,
        };
        let arguments: Vec<_> = arguments.iter().map(|a| format!("'{a}'")).collect();
        // Nothing of what it prints is missed: it waits for a key first. At the end the
        // terminal must be as it was.
        let script = format!(
            "read go; '{}' connect {}; echo \"code $?\"; stty -a | grep -o '[-]*icanon'; cat",
            env!("CARGO_BIN_EXE_tidegate"),
            arguments.join(" ")
        );
        let size = ["-x", "100", "-y", "30"];
        terminal.tmux(&[&["new-session", "-d"], &size[..], &[&script]].concat());
        let raw = terminal.raw_file();
        terminal.tmux(&["pipe-pane", "-O", &format!("cat > '{raw}'")]);
        terminal.key("Enter");
        terminal
    }

    fn socket(&self) -> String {
        let file = self.files.path().join(format!("{}.tmux", self.name));
        file.to_str().unwrap().to_owned()
    }

    fn raw_file(&self) -> String {
        let file = self.files.path().join(format!("{}.raw", self.name));
        file.to_str().unwrap().to_owned()
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let program = installed(tool("TIDEGATE_TEST_TMUX", Path::new("/usr/bin/tmux")));
        let output = Command::new(program)
            .args(["-f", "/dev/null", "-S", &self.socket()])
            .args(arguments)
            .env("XDG_STATE_HOME", self.files.path())
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {text}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Types text.
    pub(crate) fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses a key, by tmux's name for it: Enter, Tab, Up, C-r.
    pub(crate) fn key(&self, name: &str) {
        self.tmux(&["send-keys", name]);
    }

    /// Types a line.
    pub(crate) fn enters(&self, line: &str) {
        self.types(line);
        self.key("Enter");
    }

    /// Pastes text as terminals do.
    pub(crate) fn pastes(&self, text: &str) {
        self.tmux(&["set-buffer", text]);
        self.tmux(&["paste-buffer", "-p", "-r"]);
    }

    /// Types several lines faster than anybody can.
    pub(crate) fn types_at_once(&self, text: &str) {
        self.tmux(&["set-buffer", text]);
        self.tmux(&["paste-buffer"]);
    }

    /// What is on the screen now, without the blank rest.
    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).trim_end().to_owned()
    }

    /// The screen, once it is as wanted.
    pub(crate) fn sees(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "never {what}:\n{screen}");
            thread::sleep(GLANCE);
        }
    }

    /// The screen, once this is on it.
    pub(crate) fn sees_text(&self, text: &str) -> String {
        self.sees(text, |screen| screen.contains(text))
    }

    /// The screen, once its last line is this one.
    pub(crate) fn sees_last(&self, line: &str) -> String {
        self.sees(line, |screen| screen.lines().last() == Some(line))
    }

    /// Waits for the end, after which the terminal must read lines as before.
    pub(crate) fn ends_with(&self, code: u8) -> String {
        self.sees_last("icanon");
        self.sees_text(&format!("code {code}"))
    }

    /// Every byte that the terminal got.
    pub(crate) fn raw(&self) -> Vec<u8> {
        std::fs::read(self.raw_file()).unwrap()
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let program = tool("TIDEGATE_TEST_TMUX", Path::new("/usr/bin/tmux"));
        let mut tmux = Command::new(program);
        tmux.args(["-S", &self.socket(), "kill-server"])
            .env_remove("TMUX");
        tmux.output().ok();
    }
}
