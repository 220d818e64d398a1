//! The layers of the configuration: a file, over it the environment, over that the flags.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::key::{Kind, Section, unknown};
use super::model::Config;
use super::problem::{KeyPath, Origin, Problem};
use super::tree::{self, Data, Node, Table};
use crate::secret::Secret;

/// What the names of our variables begin with. Others, such as the `TIDEGATE_PORT` that
/// orchestrators set for a service of that name, are none of ours.
const PREFIX: &str = "TIDEGATE__";
/// Larger files are no configuration.
const LARGEST_FILE: u64 = 1024 * 1024;

/// Where a configuration comes from. What is further down wins.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) file: Option<PathBuf>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) flags: Vec<Given>,
}

/// What a flag says.
#[derive(Debug)]
pub(crate) struct Given {
    flag: &'static str,
    /// The parts of the key.
    key: Vec<String>,
    value: Secret,
}

impl Given {
    /// `flag` sets `key`, which is written as in `tcp.0.address`.
    pub(crate) fn new(flag: &'static str, key: &str, value: impl Into<String>) -> Self {
        Self {
            flag,
            key: key.split('.').map(str::to_owned).collect(),
            value: Secret::new(value),
        }
    }

    /// `--set KEY=VALUE`, with a key as in `tcp.0.address` or `tcp[0].address`. Without `=`
    /// there is no value, and what is there is not shown: who knows what it is.
    pub(crate) fn set(text: &Secret) -> Result<Self, Problem> {
        match text.expose().split_once('=') {
            Some((key, value)) => {
                let key = key.trim().replace('[', ".").replace(']', "");
                Ok(Self::new("--set", &key, value))
            }
            None => {
                let origin = Origin::Flag("--set".to_owned());
                let what = "found no =, expected KEY=VALUE, such as limits.read_buffer=4096";
                Err(Problem::new(&origin, &KeyPath::new(), what))
            }
        }
    }
}

/// The merged tree, and all that is wrong with its sources.
pub(crate) fn merge(sources: &Sources) -> (Node, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut tree = match sources.file.as_deref().map(read_file) {
        Some(Ok(tree)) => tree,
        Some(Err(wrong)) => {
            problems = wrong;
            Node::empty(Origin::Default)
        }
        None => Node::empty(Origin::Default),
    };
    let mut variables = Vec::new();
    for (name, value) in &sources.environment {
        match variable(name, value) {
            Some(Ok(variable)) => variables.push(variable),
            Some(Err(problem)) => problems.push(problem),
            None => {}
        }
    }
    // Tables before what is in them, elements in their order.
    variables.sort_by_cached_key(|(origin, key, _)| {
        let order = key
            .iter()
            .map(|part| (part.parse::<usize>().ok(), part.clone()));
        (key.len(), order.collect::<Vec<_>>(), origin.to_string())
    });
    let flags = sources.flags.iter().map(|given| {
        let origin = Origin::Flag(given.flag.to_owned());
        (origin, given.key.clone(), given.value.expose().to_owned())
    });
    for (origin, key, value) in variables.into_iter().chain(flags) {
        let top = Kind::Table {
            keys: Config::keys,
            alone: true,
        };
        // What cannot be placed leaves nothing behind.
        let mut with = tree.clone();
        let placed = place(&mut with, &top, &key, &KeyPath::new(), (&value, &origin));
        if placed.is_ok() {
            tree = with;
        }
        problems.extend(placed.err());
    }
    (tree, problems)
}

type Variable = (Origin, Vec<String>, String);

/// One variable of the environment; `None` for those that are none of ours.
fn variable(name: &OsString, value: &OsString) -> Option<Result<Variable, Problem>> {
    let shown = name.to_string_lossy();
    let key = shown.strip_prefix(PREFIX)?;
    let origin = Origin::Variable(shown.clone().into_owned());
    let (Some(_), Some(value)) = (name.to_str(), value.to_str()) else {
        let what = "found bytes that are not UTF-8, expected text";
        return Some(Err(Problem::new(&origin, &KeyPath::new(), what)));
    };
    let key = key.to_ascii_lowercase();
    let key = key.split("__").map(str::to_owned).collect();
    Some(Ok((origin, key, value.to_owned())))
}

/// Puts a value where its key says, over what is there.
fn place(
    node: &mut Node,
    kind: &Kind,
    key: &[String],
    here: &KeyPath,
    (value, origin): (&str, &Origin),
) -> Result<(), Problem> {
    let Some((step, rest)) = key.split_first() else {
        *node = Node {
            data: typed(value, kind, origin),
            origin: origin.clone(),
        };
        return Ok(());
    };
    let wrong = |what: String| Err(Problem::new(origin, &here.key(step), what));
    match kind {
        Kind::Table { keys, .. } => {
            let keys = keys();
            let Some(key) = keys.iter().find(|key| key.name == step) else {
                return wrong(unknown(step, here, &keys, origin));
            };
            if !matches!(node.data, Data::Table(_)) {
                *node = Node::empty(origin.clone());
            }
            let Data::Table(table) = &mut node.data else {
                return Ok(());
            };
            let below = table
                .entry(key.name.to_owned())
                .or_insert_with(|| Node::empty(origin.clone()));
            place(below, &key.kind, rest, &here.key(step), (value, origin))
        }
        Kind::Tables(_) | Kind::List(_) => {
            let Ok(i) = step.parse::<usize>() else {
                return wrong(format!("found {step:?}, expected the number of an element"));
            };
            if !matches!(node.data, Data::List(_)) {
                node.data = Data::List(Vec::new());
                node.origin = origin.clone();
            }
            let Data::List(list) = &mut node.data else {
                return Ok(());
            };
            if i > list.len() {
                let last = here.index(i - 1);
                return Err(Problem::new(
                    origin,
                    &here.index(i),
                    format!("there is no {last}: elements are counted from 0, without gaps"),
                ));
            }
            if i == list.len() {
                list.push(Node::empty(origin.clone()));
            }
            let below = match kind {
                Kind::Tables(keys) => &Kind::Table {
                    keys: *keys,
                    alone: true,
                },
                Kind::List(element) => element,
                other => other,
            };
            place(&mut list[i], below, rest, &here.index(i), (value, origin))
        }
        _ => wrong(format!("unknown key: {here} has none below it")),
    }
}

/// What a value of the environment or of a flag is, by the type of its key: text as it is
/// (or in the quotes of TOML), all else as TOML. A list of texts can be written `a,b`.
fn typed(value: &str, kind: &Kind, origin: &Origin) -> Data {
    if kind.is_text() {
        let quoted = value.starts_with(['"', '\'']) && value.len() > 1;
        return match quoted.then(|| tree::of_value(value, origin)).flatten() {
            Some(text @ Data::Text(_)) => text,
            _ => Data::Text(value.to_owned()),
        };
    }
    if let Some(data) = tree::of_value(value.trim(), origin) {
        return data;
    }
    match kind {
        Kind::List(element) if element.is_text() && !value.trim().starts_with('[') => {
            let texts = value.split(',').map(|text| Node {
                data: Data::Text(text.trim().to_owned()),
                origin: origin.clone(),
            });
            Data::List(texts.collect())
        }
        _ => Data::Text(value.to_owned()),
    }
}

/// Reads the tree of a file.
fn read_file(path: &Path) -> Result<Node, Vec<Problem>> {
    let file = Arc::new(path.to_owned());
    let wrong = |line, what: String| {
        let origin = Origin::File(file.clone(), line);
        vec![Problem::new(&origin, &KeyPath::new(), what)]
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(|e| wrong(0, format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > LARGEST_FILE {
        let what = "found more than 1 MiB, expected a configuration file".to_owned();
        return Err(wrong(0, what));
    }
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let good = &bytes[..e.valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        wrong(
            line,
            "found bytes that are not UTF-8, expected text".to_owned(),
        )
    })?;
    // Some editors begin a file with a mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    tree::of_file(&file, text)
}

/// Gives each listener the limits of the whole gate where it has none of its own.
pub(crate) fn inherit_limits(tree: &mut Node) {
    let Data::Table(top) = &mut tree.data else {
        return;
    };
    let limits = match top.get("limits") {
        Some(Node {
            data: Data::Table(limits),
            ..
        }) => limits.clone(),
        _ => return,
    };
    for kind in ["tcp", "websocket"] {
        let Some(Node {
            data: Data::List(listeners),
            ..
        }) = top.get_mut(kind)
        else {
            continue;
        };
        for listener in listeners {
            let origin = listener.origin.clone();
            let Data::Table(listener) = &mut listener.data else {
                continue;
            };
            let own = listener.entry("limits".to_owned()).or_insert_with(|| Node {
                data: Data::Table(Table::new()),
                origin,
            });
            if let Data::Table(own) = &mut own.data {
                for (key, value) in &limits {
                    own.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
        }
    }
}
