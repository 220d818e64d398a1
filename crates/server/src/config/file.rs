//! Reading a configuration file, and saying where in it a mistake is.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_path_to_error::Segment;
use thiserror::Error;
use toml::de::{DeTable, DeValue};

use super::Config;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {why}", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// The file is not TOML, or something in it is wrong.
    #[error("{}:{line}: {problem}", file.display())]
    InFile {
        /// Which file.
        file: PathBuf,
        /// In which line, from 1.
        line: usize,
        /// What is wrong.
        problem: Problem,
    },
    /// A flag is wrong.
    #[error("given by flags: {0}")]
    InFlags(Problem),
    /// Neither file nor flags name a listener.
    #[error("no listener: give --tcp or --ws, or [[tcp]] or [[websocket]] in a file with --config")]
    NoListener,
}

/// What is wrong, and with which key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) struct Problem {
    key: KeyPath,
    why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One problem, one line.
        let why = self.why.trim().replace('\n', "; ");
        match self.key.0.is_empty() {
            true => f.write_str(&why),
            false => write!(f, "{}: {why}", self.key),
        }
    }
}

/// The way to a key, as `tcp[0].limits.write_timeout`. Tables are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeyPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// The top of the file.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A key below this one.
    pub(crate) fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    /// An element of the array here.
    pub(crate) fn index(&self, i: usize) -> Self {
        self.step(Step::Index(i))
    }

    /// What is wrong here.
    pub(crate) fn is(&self, why: impl fmt::Display) -> Problem {
        Problem {
            key: self.clone(),
            why: why.to_string(),
        }
    }

    fn step(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// Where in `text` this key is; where it is missing, the table that it would be in.
    fn find(&self, text: &str) -> Option<Range<usize>> {
        let top = DeTable::parse(text).ok()?;
        let mut span = 0..0;
        let mut here: Option<&DeValue<'_>> = None;
        for step in &self.0 {
            let next = match (step, here) {
                (Step::Key(key), None) => top.get_ref().get_key_value(key.as_str()),
                (Step::Key(key), Some(value)) => value
                    .as_table()
                    .and_then(|table| table.get_key_value(key.as_str())),
                (Step::Index(i), Some(value)) => {
                    let Some(element) = value.get(*i) else { break };
                    span = element.span();
                    here = Some(element.get_ref());
                    continue;
                }
                (Step::Index(_), None) => break,
            };
            let Some((key, value)) = next else { break };
            span = key.span();
            here = Some(value.get_ref());
        }
        Some(span)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(i) => write!(f, "[{i}]")?,
            }
        }
        Ok(())
    }
}

/// Reads and checks a file.
pub(crate) fn read(file: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|why| ConfigError::Unreadable {
        file: file.to_owned(),
        why,
    })?;
    let mut config = parse(&text).map_err(|(at, problem)| ConfigError::InFile {
        file: file.to_owned(),
        line: line(&text, at),
        problem,
    })?;
    let home = file.parent().unwrap_or(Path::new(""));
    let tcp = config.tcp.iter_mut().map(|tcp| &mut tcp.tls);
    let ws = config.websocket.iter_mut().map(|ws| &mut ws.tls);
    for tls in tcp.chain(ws).flatten() {
        tls.cert = home.join(&tls.cert);
        tls.key = home.join(&tls.key);
    }
    Ok(config)
}

/// A mistake comes with the byte it is at.
pub(crate) fn parse(text: &str) -> Result<Config, (usize, Problem)> {
    let syntax = |e: toml::de::Error| {
        let at = e.span().map_or(0, |span| span.start);
        (at, KeyPath::new().is(e.message()))
    };
    let toml = toml::Deserializer::parse(text).map_err(syntax)?;
    let config: Config = serde_path_to_error::deserialize(toml).map_err(|e| {
        let steps = e.path().iter().filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        let key = KeyPath(steps.collect());
        let found = e.inner().span().or_else(|| key.find(text));
        (
            found.map_or(0, |span| span.start),
            key.is(e.inner().message()),
        )
    })?;
    config.check().map_err(|problem| {
        let found = problem.key.find(text);
        (found.map_or(0, |span| span.start), problem)
    })?;
    Ok(config)
}

fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line and message of the mistake in a text.
    fn mistake(text: &str) -> (usize, String) {
        let (at, problem) = parse(text).unwrap_err();
        (line(text, at), problem.to_string())
    }

    #[test]
    fn mistakes_name_line_and_key() {
        for (text, at, key) in [
            ("\nidd = \"a\"\n", 2, "idd"),
            ("id = \"a b\"\n", 1, "id: "),
            ("id = 3\n", 1, "id: "),
            ("\n\nshards = 0\n", 3, "shards: "),
            ("shards = -1\n", 1, "shards: "),
            ("services = [\"echo\", \"nats\"]\n", 1, "services[1]"),
            (
                "[limits]\n\nconcurrent_tasks = 0\n",
                3,
                "limits.concurrent_tasks: ",
            ),
            (
                "[limits]\nmax_packet_size = 65536\n",
                2,
                "limits.max_packet_size: ",
            ),
            (
                "[limits]\nwrite_timeout = 10\n",
                2,
                "limits.write_timeout: ",
            ),
            (
                "[limits]\nwrite_timeout = \"10\"\n",
                2,
                "limits.write_timeout: ",
            ),
            (
                "[limits]\nwrite_timeout = \"1ms\"\n",
                2,
                "limits.write_timeout: ",
            ),
            (
                "[limits]\nbind_deadline = \"of\"\n",
                2,
                "limits.bind_deadline: ",
            ),
            ("[limits]\npacket_rate = 0\n", 2, "limits.packet_rate: "),
            ("[limits]\npacket_rate = -1\n", 2, "limits.packet_rate: "),
            (
                "[limits]\npacket_rate = { per_second = 1, brst = 2 }\n",
                2,
                "limits.packet_rate",
            ),
            ("[limits]\nwrite_timout = \"1s\"\n", 2, "write_timout"),
            (
                "[gate]\nshutdown_timeout = \"0s\"\n",
                2,
                "gate.shutdown_timeout: ",
            ),
            ("[gate]\nmax_connections = 0\n", 2, "gate.max_connections: "),
            (
                "[gate]\nmemory_budget = \"1G\"\n",
                2,
                "gate.memory_budget: ",
            ),
            ("[store]\nttl = \"\"\n", 2, "store.ttl: "),
            (
                "[[tcp]]\naddress = \"a:1\"\n[[tcp]]\nname = \"x\"\n",
                3,
                "address",
            ),
            ("[[tcp]]\naddress = \"a\"\n", 2, "tcp[0].address: "),
            ("[[tcp]]\naddress = \"a:1\"\npath = \"/\"\n", 3, "path"),
            (
                "[[tcp]]\naddress = \"a:1\"\n[tcp.limits]\nread_buffer = 1\n",
                4,
                "tcp[0].limits.read_buffer: ",
            ),
            (
                "[[tcp]]\naddress = \"a:1\"\ntls = { cert = \"c\" }\n",
                3,
                "key",
            ),
            (
                "[[tcp]]\naddress = \"a:1\"\nv1_error_topic = \"\\u0007\"\n",
                3,
                "tcp[0].v1_error_topic: ",
            ),
            (
                "[[websocket]]\naddress = \"a:1\"\npath = \"x\"\n",
                3,
                "websocket[0].path: ",
            ),
            (
                "[[websocket]]\naddress = \"a:1\"\n\norigins = [\"x\"]\n",
                4,
                "websocket[0].origins: ",
            ),
            (
                "[[websocket]]\naddress = \"a:1\"\nsubprotocols = [\"a b\"]\n",
                3,
                "websocket[0].subprotocols: ",
            ),
            ("[websocket]\naddress = \"a:1\"\n", 1, "websocket: "),
            ("[admin]\naddress = \"3656\"\n", 2, "admin.address: "),
            ("[log]\nlevel = \"loud\"\n", 2, "log.level: "),
            ("[log]\nformat = \"xml\"\n", 2, "log.format: "),
            ("[log]\ncolour = true\n", 2, "colour"),
            ("id = \"a\"\nid = \"b\"\n", 2, "duplicate key"),
            ("id = \"a\"\n[limits\n", 2, ""),
        ] {
            let (line, message) = mistake(text);
            assert_eq!(line, at, "{text}: {message}");
            assert!(message.contains(key), "{text}: {message}");
            assert!(!message.contains('\n'), "{message:?}");
        }
    }

    #[test]
    fn unlimited_is_said_with_off() {
        let config = parse("[limits]\npacket_rate = 5\nbind_deadline = \"1s\"\n[[tcp]]\naddress = \"a:1\"\n[tcp.limits]\npacket_rate = \"off\"\nbind_deadline = \"off\"\nbyte_rate = { per_second = 2 }\n").unwrap();
        let mut limits = tidegate::Limits::default();
        config.limits.apply(&mut limits);
        assert_eq!(limits.packet_rate, Some(tidegate::Rate::per_second(5)));
        config.tcp[0].limits.apply(&mut limits);
        assert_eq!((limits.packet_rate, limits.bind_deadline), (None, None));
        assert_eq!(limits.byte_rate, Some(tidegate::Rate::per_second(2)));
    }

    #[test]
    fn the_example_of_the_readme_is_right() {
        let readme = include_str!("../../../../README.md");
        let (_, from) = readme.split_once("```toml\n").unwrap();
        let (example, _) = from.split_once("```").unwrap();
        let config = parse(example).unwrap();
        assert_eq!((config.tcp.len(), config.websocket.len()), (1, 1));
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(parse("").unwrap(), Config::default());
    }
}
