//! The configuration before it has types: a tree in which each value knows where it came from.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::problem::{KeyPath, Origin, Problem, Step};

/// A value and where it came from. For a key of a file that is the line of the key. It has no
/// `Debug`: there are secrets in it.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) data: Data,
    pub(crate) origin: Origin,
}

/// What can be written in a configuration.
#[derive(Clone)]
pub(crate) enum Data {
    Text(String),
    Integer(i64),
    Bool(bool),
    /// What no key takes: fractions, dates, numbers beyond 64 bits.
    Other(String),
    List(Vec<Node>),
    Table(Table),
}

pub(crate) type Table = BTreeMap<String, Node>;

impl Data {
    /// What this is, for an error.
    pub(crate) fn shown(&self) -> String {
        const LONGEST: usize = 60;
        match self {
            Self::Text(text) if text.chars().count() > LONGEST => {
                let start: String = text.chars().take(LONGEST).collect();
                format!("{start:?}…")
            }
            Self::Text(text) => format!("{text:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Other(text) => text.clone(),
            Self::List(_) | Self::Table(_) => self.type_name().to_owned(),
        }
    }

    /// What this is, without its value.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Other(_) => "a fraction, a date or a huge number",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    /// A table with nothing in it.
    pub(crate) fn empty(origin: Origin) -> Self {
        Self {
            data: Data::Table(Table::new()),
            origin,
        }
    }

    /// What is at `path`, if anything is.
    pub(crate) fn find(&self, path: &KeyPath) -> Option<&Node> {
        let mut here = self;
        for step in path.steps() {
            here = match (step, &here.data) {
                (Step::Key(key), Data::Table(table)) => table.get(key)?,
                (Step::Index(i), Data::List(list)) => list.get(*i)?,
                _ => return None,
            };
        }
        Some(here)
    }

    /// Where the value at `path` came from; where it is missing, what it would be in.
    pub(crate) fn origin_of(&self, path: &KeyPath) -> &Origin {
        let mut path = path.clone();
        loop {
            match self.find(&path) {
                Some(node) => return &node.origin,
                None => path = path.parent(),
            }
        }
    }
}

/// The tree of a file's text, or all places where it is not TOML.
pub(crate) fn of_file(file: &Arc<PathBuf>, text: &str) -> Result<Node, Vec<Problem>> {
    let lines = Lines::of(text);
    let origin = |at: Range<usize>| Origin::File(file.clone(), lines.at(at.start));
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mut problems: Vec<Problem> = Vec::new();
        for e in errors {
            let origin = origin(e.span().unwrap_or(0..0));
            // What follows from a mistake is on its line.
            if problems.last().is_none_or(|last| last.origin != origin) {
                problems.push(Problem::new(&origin, &KeyPath::new(), e.message()));
            }
        }
        return Err(problems);
    }
    let table = from_table(table.get_ref(), &origin);
    Ok(Node {
        data: Data::Table(table),
        origin: Origin::File(file.clone(), 1),
    })
}

/// The tree of one TOML value that did not come from a file; `None` where it is not TOML.
pub(crate) fn of_value(text: &str, origin: &Origin) -> Option<Data> {
    let value = DeValue::parse(text).ok()?;
    Some(from_value(value.get_ref(), &|_| origin.clone()))
}

fn from_table(table: &DeTable<'_>, origin: &impl Fn(Range<usize>) -> Origin) -> Table {
    let entries = table.iter().map(|(key, value)| {
        let node = Node {
            data: from_value(value.get_ref(), origin),
            origin: origin(key.span()),
        };
        (key.get_ref().to_string(), node)
    });
    entries.collect()
}

fn from_value(value: &DeValue<'_>, origin: &impl Fn(Range<usize>) -> Origin) -> Data {
    match value {
        DeValue::String(text) => Data::Text(text.to_string()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or_else(|_| Data::Other(number.as_str().to_owned()), Data::Integer)
        }
        DeValue::Float(number) => Data::Other(number.as_str().to_owned()),
        DeValue::Boolean(value) => Data::Bool(*value),
        DeValue::Datetime(date) => Data::Other(date.to_string()),
        DeValue::Array(list) => {
            let nodes = list.iter().map(|element| Node {
                data: from_value(element.get_ref(), origin),
                origin: origin(element.span()),
            });
            Data::List(nodes.collect())
        }
        DeValue::Table(table) => Data::Table(from_table(table, origin)),
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The line of a byte, from 1.
    fn at(&self, byte: usize) -> usize {
        1 + self.0.partition_point(|newline| *newline < byte)
    }
}
