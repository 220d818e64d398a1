//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

/// The way to a key, as `tcp[0].limits.write_timeout`. Tables are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeyPath(Vec<Step>);

/// One part of the way to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A key of a table.
    Key(String),
    /// An element of a list.
    Index(usize),
}

impl KeyPath {
    /// The top of the configuration.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A key below this one.
    pub(crate) fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    /// An element of the list here.
    pub(crate) fn index(&self, i: usize) -> Self {
        self.step(Step::Index(i))
    }

    pub(crate) fn step(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The table or list that this is in.
    pub(crate) fn parent(&self) -> Self {
        let steps = self.0.split_last().map_or(&[][..], |(_, rest)| rest);
        Self(steps.to_vec())
    }

    /// Whether this is `table` or in it.
    pub(crate) fn is_in(&self, table: &Self) -> bool {
        self.0.starts_with(&table.0)
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The variable that sets this key.
    pub(crate) fn variable(&self) -> String {
        let mut name = "TIDEGATE".to_owned();
        for step in &self.0 {
            name.push_str("__");
            match step {
                Step::Key(key) => name.push_str(&key.to_ascii_uppercase()),
                Step::Index(i) => name.push_str(&i.to_string()),
            }
        }
        name
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => f.write_str(&escaped(key))?,
                Step::Key(key) => write!(f, ".{}", escaped(key))?,
                Step::Index(i) => write!(f, "[{i}]")?,
            }
        }
        Ok(())
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody gave it.
    Default,
    /// A line of a file, from 1; 0 is the file as a whole.
    File(Arc<PathBuf>, usize),
    /// An environment variable, by its name.
    Variable(String),
    /// A flag, by its name. What it was given is not part of it: that may be secret.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(file, 0) => write!(f, "{}", file.display()),
            Self::File(file, line) => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => f.write_str(&escaped(name)),
            Self::Flag(name) => f.write_str(&escaped(name)),
        }
    }
}

/// One mistake: where, in which key, and what was found where something else was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) origin: Origin,
    pub(crate) key: KeyPath,
    pub(crate) what: String,
}

impl Problem {
    pub(crate) fn new(origin: &Origin, key: &KeyPath, what: impl fmt::Display) -> Self {
        Self {
            origin: origin.clone(),
            key: key.clone(),
            what: what.to_string(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.key.0.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        // One problem, one line.
        f.write_str(&self.what.trim().replace('\n', "; "))
    }
}

/// Why a configuration cannot be used: at least one problem, each one line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", lines(.0))]
pub(crate) struct Mistakes(pub(crate) Vec<Problem>);

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

impl From<Problem> for Mistakes {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// The name that was probably meant, if there is one.
pub(crate) fn nearest<'a>(
    wrong: &str,
    right: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase();
    let distance = |name: &str| {
        let same_words = wrong.replace(['-', '_', ' '], "") == name.replace(['-', '_'], "");
        match same_words {
            true => 0,
            false => strsim::damerau_levenshtein(&wrong, name),
        }
    };
    let near = right.into_iter().map(|name| (distance(name), name));
    near.filter(|(distance, name)| *distance <= 1 + name.len() / 4 && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `; did you mean NAME?`, or nothing.
pub(crate) fn did_you_mean(name: Option<impl fmt::Display>) -> String {
    name.map(|name| format!("; did you mean {name}?"))
        .unwrap_or_default()
}

/// A list for people: `a, b or c`.
pub(crate) fn one_of(names: &[impl fmt::Display]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// Without control characters: what people typed goes to a terminal.
fn escaped(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".to_owned();
    }
    let mut shown = String::new();
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_one_that_could_be_meant() {
        let names = ["read_buffer", "write_timeout", "id", "tcp"];
        for (wrong, right) in [
            ("read_bufer", Some("read_buffer")),
            ("readbuffer", Some("read_buffer")),
            ("Read-Buffer", Some("read_buffer")),
            ("write_timout", Some("write_timeout")),
            ("idd", Some("id")),
            ("tpc", Some("tcp")),
            ("x", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(wrong, names), right, "{wrong}");
        }
    }

    #[test]
    fn paths_and_variables() {
        let path = KeyPath::new().key("tcp").index(0).key("v1_error_topic");
        assert_eq!(path.to_string(), "tcp[0].v1_error_topic");
        assert_eq!(path.variable(), "TIDEGATE__TCP__0__V1_ERROR_TOPIC");
        assert_eq!(KeyPath::new().key("a\u{1b}[b").to_string(), "a\\u{1b}[b");
    }
}
