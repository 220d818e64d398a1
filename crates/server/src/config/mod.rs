//! The configuration of `tidegate serve`: one typed model, from which come defaults, the
//! file, the environment, the flags, what is checked, and `docs/configuration.md`.
//!
//! - [`model`]: all keys, with their types, defaults, ranges and meanings. [`value`]: the types.
//! - [`key`]: how a section is declared and read. [`tree`]: values that know where they came
//!   from. [`layer`]: file, environment and flags, merged. [`secrets`]: secrets in files.
//! - [`check`]: what must hold between keys; [`odd`]: what is warned of. [`problem`]: mistakes, and where they are.
//! - [`gate`], [`listener`]: the gate that a configuration stands for.
//! - [`command`]: `tidegate config`: [`init`], check, [`print`], [`reference`].

pub(crate) mod check;
pub(crate) mod command;
pub(crate) mod gate;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod layer;
pub(crate) mod listener;
pub(crate) mod model;
pub(crate) mod odd;
pub(crate) mod print;
pub(crate) mod problem;
pub(crate) mod reference;
pub(crate) mod secrets;
pub(crate) mod tree;
pub(crate) mod value;

use std::ffi::OsString;
use std::fmt;

use key::{Reader, Section};
pub(crate) use layer::{Given, Sources};
pub(crate) use model::{BuiltIn, Config, LogConfig, LogFormat, LogLevel};
pub(crate) use problem::Mistakes;
use problem::{KeyPath, Origin, Problem};
use tree::{Data, Node, Table};

/// A configuration without mistakes, and where each value came from.
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// What was given, without defaults.
    pub(crate) given: Node,
    /// What is legal and yet odd.
    pub(crate) warnings: Vec<Problem>,
}

/// Without what was given: there are secrets in it.
impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loaded").field(&self.config).finish()
    }
}

impl Loaded {
    /// Reads all sources, and checks everything that can be checked without opening a socket,
    /// a certificate or a store.
    pub(crate) fn load(sources: &Sources) -> Result<Self, Mistakes> {
        let (given, mut problems) = layer::merge(sources);
        let (mut config, wrong) = read(&given);
        problems.extend(wrong);
        if problems.is_empty() {
            let mut inherited = given.clone();
            layer::inherit_limits(&mut inherited);
            config = read(&inherited).0;
        }
        let found = secrets::read(&mut config, &given);
        let mut warnings = found.warnings;
        warnings.extend(odd::find(&config, &given));
        // What follows from a mistake is not told beside it.
        let wrong: Vec<_> = problems.iter().map(|problem| problem.key.clone()).collect();
        let follows = |problem: &Problem| {
            let table = problem.key.parent();
            let beside = |key: &KeyPath| key.parent() == table || key.is_in(&problem.key);
            wrong.iter().any(beside)
        };
        let between = check::check(&config, &given);
        let between = found.problems.into_iter().chain(between);
        problems.extend(between.filter(|problem| !follows(problem)));
        match problems.is_empty() {
            true => Ok(Self {
                config,
                given,
                warnings,
            }),
            false => Err(Mistakes(in_order(problems))),
        }
    }
}

/// The environment of this process.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

fn read(tree: &Node) -> (Config, Vec<Problem>) {
    let nothing = Table::new();
    let table = match &tree.data {
        Data::Table(table) => table,
        _ => &nothing,
    };
    let mut reader = Reader::default();
    let config = Config::read_table(table, &tree.origin, &mut reader);
    (config, reader.problems)
}

/// By line, as one goes through a file; then the rest.
fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| match problem.origin {
        Origin::File(_, line) => line,
        _ => usize::MAX,
    });
    problems
}

#[cfg(test)]
mod tests;
