//! `tidegate config init`: a commented file with every key, and random secrets.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rand::rngs::OsRng;
use rand::{RngCore, TryRngCore};

use super::key::{Key, Kind, Section, Shown};
use super::model::Config;
use super::model::listener::TcpConfig;
use super::reference::value_of;

/// Keys that are set in the file, and to what.
const SET: &[(&str, &str)] = &[
    ("services", "[\"echo\", \"chat\"]"),
    ("tcp.address", "\"127.0.0.1:3653\""),
    ("websocket.address", "\"127.0.0.1:3654\""),
    ("admin.address", "\"127.0.0.1:3656\""),
];

const HEAD: &str = "\
# Configuration of Tidegate: tidegate serve --config FILE
#
# What is set here wins over the defaults; the environment (TIDEGATE__LIMITS__READ_BUFFER) wins
# over this file, and flags (--set limits.read_buffer=4096) over both. A key that is unknown or
# wrong stops the start; `tidegate config check` tells all mistakes, `tidegate config print` what
# is in force. Sizes are in bytes; times are written \"500ms\", \"10s\", \"5m\", \"2h\" or \"1d\";
# relative paths start where this file is.
#
# Lines that begin with `#: ` show every other key with its default, or, where it has none,
# with an example. docs/configuration.md says more.
";

/// The secrets of a new file.
pub(crate) struct Secrets {
    admin_token: String,
    jwt_secret: String,
}

impl Secrets {
    /// 256 random bits each.
    pub(crate) fn random() -> io::Result<Self> {
        let random = || {
            let mut bytes = [0; 32];
            OsRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
            Ok::<String, io::Error>(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        };
        Ok(Self {
            admin_token: random()?,
            jwt_secret: random()?,
        })
    }

    fn of(&self, path: &str) -> Option<&str> {
        match path {
            "admin.token" => Some(&self.admin_token),
            "auth.jwt.secret" => Some(&self.jwt_secret),
            _ => None,
        }
    }
}

/// The text of a new file; without secrets it is the example of the repository.
pub(crate) fn text(secrets: Option<&Secrets>) -> String {
    let mut writer = Writer {
        text: HEAD.to_owned(),
        secrets,
    };
    writer.keys(&Config::keys(), "", &[]);
    writer.text
}

struct Writer<'a> {
    text: String,
    secrets: Option<&'a Secrets>,
}

impl Writer<'_> {
    /// All keys of a table; of those in `known` only the line itself.
    fn keys(&mut self, keys: &[Key], table: &str, known: &[Key]) {
        let is_value =
            |key: &&Key| !matches!(key.kind, Kind::Tables(_) | Kind::Table { alone: true, .. });
        for key in keys.iter().filter(is_value) {
            self.value(key, &join(table, key.name), is_in(known, key));
        }
        for key in keys.iter().filter(|key| !is_value(key)) {
            let path = join(table, key.name);
            match &key.kind {
                Kind::Tables(below) => self.table(key, &below(), &path, known),
                Kind::Table { keys: below, .. } => self.table(key, &below(), &path, known),
                _ => {}
            }
        }
    }

    fn table(&mut self, key: &Key, below: &[Key], path: &str, known: &[Key]) {
        let in_list = matches!(key.kind, Kind::Tables(_));
        let is_top = !path.contains('.');
        // A table that changes what the gate does by being there is not there.
        let off =
            key.default == Shown::Unset || in_list && !is_top || !is_top && key.name == "limits";
        let mark = if off { "#: " } else { "" };
        self.line("");
        if is_top {
            self.line(&format!("# --- {}", key.name));
            self.line("");
        }
        if !is_in(known, key) {
            self.doc(key);
        }
        match in_list {
            true => self.line(&format!("{mark}[[{path}]]")),
            false => self.line(&format!("{mark}[{path}]")),
        }
        if path == "websocket" {
            return self.keys(below, path, &TcpConfig::keys());
        }
        if !is_top && key.name == "limits" {
            return self.line("#: packet_rate = \"off\"  # and all others of [limits]");
        }
        let known = if known.is_empty() { &[][..] } else { below };
        self.keys(below, path, known);
    }

    fn value(&mut self, key: &Key, path: &str, known: bool) {
        let secret = self.secrets.and_then(|secrets| secrets.of(path));
        let set = SET.iter().find(|(name, _)| *name == path);
        let value = match (secret, set) {
            (Some(secret), _) => format!("{secret:?}"),
            (None, Some((_, value))) => (*value).to_owned(),
            (None, None) => value_of(key),
        };
        if !known {
            self.line("");
            self.doc(key);
        }
        // A secret that was made for a key is in force, where that turns nothing on.
        let is_set = set.is_some() || secret.is_some() && path == "admin.token";
        let mark = if is_set { "" } else { "#: " };
        let name = key.name;
        let note = note(key);
        let note = if note.is_empty() {
            note
        } else {
            format!("  # {note}")
        };
        self.line(&format!("{mark}{name} = {value}{note}"));
    }

    fn doc(&mut self, key: &Key) {
        for line in key.doc {
            self.line(&format!("#{line}"));
        }
    }

    fn line(&mut self, line: &str) {
        // Writing into a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// What must be known to set a key, in short.
fn note(key: &Key) -> String {
    let takes = match (&key.kind, key.range) {
        (Kind::Choice, _) => key.expected(),
        (Kind::List(of), _) if matches!(**of, Kind::Choice) => key.expected(),
        (Kind::Plain, Some((least, most))) if most < i64::MAX as u64 => {
            format!("{least} to {most}")
        }
        (Kind::Plain, Some((least, _))) => format!("at least {least}"),
        (Kind::Secret, Some((least, most))) => format!("{least} to {most} bytes"),
        _ => String::new(),
    };
    match (&key.default, takes.is_empty()) {
        (Shown::Unset, true) if !key.required => format!("otherwise: {}", key.unset),
        (Shown::Unset, false) if !key.required => format!("{takes}; otherwise: {}", key.unset),
        _ => takes,
    }
}

fn is_in(keys: &[Key], key: &Key) -> bool {
    keys.iter().any(|known| known.name == key.name)
}

fn join(table: &str, key: &str) -> String {
    match table.is_empty() {
        true => key.to_owned(),
        false => format!("{table}.{key}"),
    }
}

/// Writes `text` to a new file that only its owner can read. It is there as a whole or not at
/// all; one that is there already is replaced only by `force`.
pub(crate) fn write(path: &Path, text: &str, force: bool) -> io::Result<()> {
    let part = beside(path)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| match force {
            true => fs::rename(&part, path),
            // Unlike a rename, this fails where there is something.
            false => fs::hard_link(&part, path),
        });
    if !force || written.is_err() {
        // Its work is done.
        let _ = fs::remove_file(&part);
    }
    written
}

/// A name beside `path` that nobody has.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut part = name.to_owned();
    part.push(format!(".{:016x}", rand::rng().next_u64()));
    Ok(path.with_file_name(part))
}
