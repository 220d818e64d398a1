//! `tidegate config print`: what is in force, and where each value came from.

use std::fmt::Write;

use serde_json::json;

use super::Loaded;
use super::key::{Key, Section, Shown};
use super::model::Config;
use super::problem::{KeyPath, Step};
use super::tree::Node;

/// A table as it is printed.
struct Printed(Vec<(&'static str, Entry)>);

enum Entry {
    /// A value and where it came from.
    Value(toml::Value, String),
    /// Nothing, and what that means.
    Unset(&'static str),
    Table(Printed),
    Tables(Vec<Printed>),
}

/// As TOML, with comments.
pub(crate) fn toml(loaded: &Loaded) -> String {
    let mut text = String::new();
    write_table(&printed(loaded), "", &mut text);
    text
}

/// As JSON: each value as `{"value": …, "from": …}`.
pub(crate) fn json(loaded: &Loaded) -> String {
    format!("{:#}\n", json_table(&printed(loaded)))
}

fn printed(loaded: &Loaded) -> Printed {
    let shown = loaded.config.shown_table();
    table(&Config::keys(), shown, &KeyPath::new(), &loaded.given)
}

fn table(keys: &[Key], shown: Vec<(&'static str, Shown)>, here: &KeyPath, given: &Node) -> Printed {
    // The limits of a listener that it has not itself are those of the whole gate.
    let own_only =
        matches!(here.steps(), [.., Step::Index(_), Step::Key(last)] if last == "limits");
    let entries = keys.iter().zip(shown).filter_map(|(key, (name, shown))| {
        let at = here.key(name);
        let node = given.find(&at);
        if own_only && node.is_none() {
            return None;
        }
        let below = || key.kind.keys().unwrap_or_default();
        let entry = match shown {
            Shown::Unset => Entry::Unset(key.unset),
            Shown::Value(value) => {
                let file = here.key(&format!("{name}_file"));
                let from = match (node, given.find(&file)) {
                    (Some(node), _) => node.origin.to_string(),
                    (None, Some(_)) => format!("{name}_file"),
                    (None, None) => "default".to_owned(),
                };
                Entry::Value(value, from)
            }
            Shown::Table(shown) => Entry::Table(table(&below(), shown, &at, given)),
            Shown::Tables(tables) => {
                let tables = tables
                    .into_iter()
                    .enumerate()
                    .map(|(i, shown)| match shown {
                        Shown::Table(shown) => table(&below(), shown, &at.index(i), given),
                        _ => Printed(Vec::new()),
                    });
                Entry::Tables(tables.collect())
            }
        };
        Some((name, entry))
    });
    Printed(entries.collect())
}

fn write_table(table: &Printed, header: &str, text: &mut String) {
    let name = |key: &str| match header.is_empty() {
        true => key.to_owned(),
        false => format!("{header}.{key}"),
    };
    // Values first: behind the header of another table they would belong to that.
    for (key, entry) in &table.0 {
        // Writing into a string does not fail.
        let _ = match entry {
            Entry::Value(value, from) => writeln!(text, "{key} = {value}  # {from}"),
            Entry::Unset(meaning) => writeln!(text, "# {key}: {meaning}"),
            Entry::Tables(tables) if tables.is_empty() => writeln!(text, "# {key}: none"),
            _ => Ok(()),
        };
    }
    for (key, entry) in &table.0 {
        let name = name(key);
        match entry {
            Entry::Table(table) if !table.0.is_empty() => {
                let _ = writeln!(text, "\n[{name}]");
                write_table(table, &name, text);
            }
            Entry::Tables(tables) => {
                for table in tables {
                    let _ = writeln!(text, "\n[[{name}]]");
                    write_table(table, &name, text);
                }
            }
            _ => {}
        }
    }
}

fn json_table(table: &Printed) -> serde_json::Value {
    let entries = table.0.iter().map(|(key, entry)| {
        let value = match entry {
            Entry::Value(value, from) => json!({ "value": value, "from": from }),
            Entry::Unset(_) => json!({ "value": null, "from": "default" }),
            Entry::Table(table) => json_table(table),
            Entry::Tables(tables) => tables.iter().map(json_table).collect(),
        };
        ((*key).to_owned(), value)
    });
    serde_json::Value::Object(entries.collect())
}
