//! `tidegate config reference`: docs/configuration.md, made from the model.

use std::fmt::Write;

use super::key::{Key, Kind, Section, Shown};
use super::model::Config;
use super::model::listener::TcpConfig;

const HEAD: &str = "\
# Configuration

This page is written by `tidegate config reference`; a test compares the two.

```sh
tidegate config init tidegate.toml            # a commented file, with random secrets
tidegate config check --config tidegate.toml  # ok, or all mistakes
tidegate serve --config tidegate.toml
tidegate config print --config tidegate.toml  # what is in force, and where it came from
```

## Where values come from

Defaults, then the file of `--config`, then the environment, then flags: what comes later wins,
key by key. `serve` without `--config` reads no file.

- **File**: [TOML](https://toml.io), UTF-8, at most 1 MiB. Relative paths in it start where it is.
- **Environment**: `TIDEGATE__SECTION__KEY`, with two underscores between the parts, and the
  number of an element in a list: `TIDEGATE__TCP__0__ADDRESS=127.0.0.1:3653`. Texts are written as
  they are (`TIDEGATE__ID=gate-1`), everything else as in TOML; lists of texts also as
  `TIDEGATE__SERVICES=echo,chat`. Other variables, such as the `TIDEGATE_PORT` that an
  orchestrator sets for a service of that name, are not looked at.
- **Flags**: `--set KEY=VALUE` sets any key (`--set tcp.0.address=127.0.0.1:3653`), with values as
  in the environment; `tidegate serve --help` lists shorter ones. Everyone on the machine can see
  flags, so secrets do not belong there.

Anything unknown or wrong stops the start with exit code 2, one line for each mistake: the place
(file and line, variable or flag), the key, what was found, what was expected, and the nearest
right name.

Times are written with a unit: `\"500ms\"`, `\"10s\"`, `\"5m\"`, `\"2h\"`, `\"1d\"`. Sizes are in bytes.

## Secrets

Each secret has a key of its own and one that ends in `_file`, which names a file that holds it
(one line end behind it does not count); one of the two may be given. Nothing prints a secret:
`config print` writes `[redacted]`, and errors tell at most its length. `config init` makes a file
that only its owner can read. A secret in a file that everyone on the machine can read is warned
of.
";

/// The page.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    // Writing into a string does not fail.
    let _ = writeln!(page, "\n## Keys of the whole gate");
    table(&Config::keys(), "", &[], &mut page);
    page
}

/// What can stand after `key =` in a file: its default, or an example.
pub(crate) fn value_of(key: &Key) -> String {
    match (&key.default, key.example) {
        (Shown::Value(_), Some(example)) if key.required => example.to_owned(),
        (Shown::Value(value), example) => match (value.as_array(), example) {
            // An empty list shows nothing.
            (Some(list), Some(example)) if list.is_empty() => example.to_owned(),
            _ => value.to_string(),
        },
        (_, Some(example)) => example.to_owned(),
        _ => "\"0123456789abcdef0123456789abcdef\"".to_owned(),
    }
}

fn table(keys: &[Key], path: &str, known: &[Key], page: &mut String) {
    let is_known = |key: &Key| known.iter().any(|other| other.name == key.name);
    let is_value =
        |key: &&Key| !matches!(key.kind, Kind::Tables(_) | Kind::Table { alone: true, .. });
    for key in keys.iter().filter(is_value).filter(|key| !is_known(key)) {
        value(key, path, page);
        // What can be a table too.
        for below in key.kind.keys().unwrap_or_default() {
            value(&below, &join(path, key.name), page);
        }
    }
    for key in keys
        .iter()
        .filter(|key| !is_value(key))
        .filter(|key| !is_known(key))
    {
        let path = join(path, key.name);
        let header = match key.kind {
            Kind::Tables(_) => format!("[[{path}]]"),
            _ => format!("[{path}]"),
        };
        let _ = writeln!(page, "\n## `{header}`\n\n{}", doc(key));
        if path.ends_with(".limits") {
            let _ = writeln!(page, "\nAll keys of [`[limits]`](#limits).");
            continue;
        }
        let below = key.kind.keys().unwrap_or_default();
        let known = match path == "websocket" {
            true => {
                let _ = writeln!(page, "\nAll keys of [`[[tcp]]`](#tcp), and these:");
                TcpConfig::keys()
            }
            false => Vec::new(),
        };
        table(&below, &path, &known, page);
    }
}

fn value(key: &Key, table: &str, page: &mut String) {
    let name = join(table, key.name);
    let _ = writeln!(page, "\n### `{name}`\n\n{}\n", doc(key));
    let mut line = |what: &str, text: String| {
        let _ = writeln!(page, "- {what}: {text}");
    };
    line("Takes", key.expected());
    match &key.default {
        _ if key.required => line("Default", "none, it must be given".to_owned()),
        Shown::Unset => line("Default", key.unset.to_owned()),
        Shown::Value(value) => line("Default", format!("`{value}`")),
        Shown::Table(_) | Shown::Tables(_) => line("Default", format!("`{}`", value_of(key))),
    }
    if let Some(example) = key.example {
        line("Example", format!("`{} = {example}`", key.name));
    }
    line("Environment", format!("`{}`", variable(&name)));
}

fn doc(key: &Key) -> String {
    let lines: Vec<&str> = key.doc.iter().map(|line| line.trim_start()).collect();
    lines.join("\n")
}

fn variable(path: &str) -> String {
    let mut name = "TIDEGATE".to_owned();
    for part in path.split('.') {
        name.push_str("__");
        name.push_str(&part.to_ascii_uppercase());
        if matches!(part, "tcp" | "websocket" | "certificates") {
            name.push_str("__0");
        }
    }
    name
}

fn join(table: &str, key: &str) -> String {
    match table.is_empty() {
        true => key.to_owned(),
        false => format!("{table}.{key}"),
    }
}
