//! What was typed, kept over the end of the program.
//!
//! A file of lines, for its owner only. Secrets do not get into it: of a line in which a
//! word tells of one, the topic is kept and the body is not; a line that begins with a
//! blank is not kept at all.

use std::borrow::Cow;
use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

/// Lines that are kept.
const LINES: usize = 1000;
/// A file beyond this is cut to the last lines.
const MAX_FILE: u64 = 256 * 1024;
/// What tells of a secret, in small letters.
const TELLTALES: &[&str] = &[
    "auth",
    "login",
    "logon",
    "signin",
    "passw",
    "token",
    "secret",
    "credential",
    "bearer",
    "apikey",
    "api_key",
    "api-key",
    "eyj", // how every JWT begins
];

/// The file.
#[derive(Debug)]
pub(super) struct History {
    file: File,
}

/// `$XDG_STATE_HOME/tidegate/history`, else below `~/.local/state`.
pub(super) fn path() -> Option<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state?.join("tidegate/history"))
}

impl History {
    /// Opens the file, which is made where it is missing, and reads its lines.
    pub(super) fn open(path: PathBuf) -> io::Result<(Self, Vec<String>)> {
        if let Some(directory) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(&path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        let len = file.metadata()?.len();
        let start = len.saturating_sub(MAX_FILE);
        file.seek(io::SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        (&file).take(MAX_FILE).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        // Where the reading began within a line, the rest of it is none.
        let lines = text.lines().skip(usize::from(start > 0));
        let lines: Vec<String> = lines
            .filter(|line| !line.is_empty() && !line.contains(char::is_control))
            .map(str::to_owned)
            .collect();
        let kept = lines[lines.len().saturating_sub(LINES)..].to_vec();
        if start > 0 {
            // Beside the old one: nothing is lost if this is cut short.
            let new = path.with_extension("new");
            let mut short = options.clone().truncate(false).open(&new)?;
            short.set_len(0)?;
            short.write_all((kept.join("\n") + "\n").as_bytes())?;
            fs::rename(&new, &path)?;
            file = short;
        }
        Ok((Self { file }, kept))
    }

    /// Keeps a line, or what of it may be kept.
    pub(super) fn add(&mut self, line: &str) -> io::Result<()> {
        match kept(line) {
            // In one write, for others may append too.
            Some(line) => self.file.write_all(format!("{line}\n").as_bytes()),
            None => Ok(()),
        }
    }
}

/// What of a line may be kept.
fn kept(line: &str) -> Option<Cow<'_, str>> {
    if line.starts_with(char::is_whitespace) || line.contains(char::is_control) {
        return None;
    }
    let lower = line.to_lowercase();
    if !TELLTALES.iter().any(|word| lower.contains(word)) {
        return (!line.is_empty()).then_some(line.into());
    }
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let topic = match first {
        "request" | "r" | "send" | "s" => format!("{first} {}", words.next()?),
        // A command that has no body, or a topic.
        _ => first.to_owned(),
    };
    Some(topic.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_kept() {
        for (line, wanted) in [
            ("echo/echo hello", Some("echo/echo hello")),
            ("auth/login eyJhbGciOi.x.y", Some("auth/login")),
            ("r auth/login canary", Some("r auth/login")),
            ("send chat/LOGIN canary", Some("send chat/LOGIN")),
            ("a/b {\"Password\": \"canary\"}", Some("a/b")),
            ("a/b eyJhbGciOi.canary", Some("a/b")),
            (" echo/echo canary", None),
            ("echo/echo\u{1b}", None),
            ("", None),
        ] {
            assert_eq!(kept(line).as_deref(), wanted, "{line}");
        }
    }

    #[test]
    fn a_file_that_grew_is_cut_and_everybody_elses_rights_are_taken() {
        let directory = env::temp_dir().join(format!("tidegate-history-{}", std::process::id()));
        let path = directory.join("deeper/history");
        let (mut history, lines) = History::open(path.clone()).unwrap();
        assert!(lines.is_empty());
        history.add("echo/echo one").unwrap();
        history.add("auth/login canary").unwrap();
        drop(history);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let (mut history, lines) = History::open(path.clone()).unwrap();
        assert_eq!(lines, ["echo/echo one", "auth/login"]);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let parent = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(parent.permissions().mode() & 0o777, 0o700);
        for i in 0..3000 {
            history
                .add(&format!("echo/echo {i} {}", "x".repeat(100)))
                .unwrap();
        }
        let (mut history, lines) = History::open(path.clone()).unwrap();
        assert_eq!(lines.len(), LINES);
        assert!(lines[LINES - 1].starts_with("echo/echo 2999 "));
        assert!(fs::metadata(&path).unwrap().len() < MAX_FILE);
        history.add("echo/echo last").unwrap();
        let (_, lines) = History::open(path).unwrap();
        assert_eq!(lines.last().unwrap(), "echo/echo last");
        fs::remove_dir_all(directory).unwrap();
    }
}
