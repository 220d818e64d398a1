//! Every key, wrong in every plausible way: in a file, in the environment, in `--set`.
//!
//! The keys come from the model; [`rows`] has at least one mistake of each key's own. What is
//! wrong with any key of a type comes on top.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::rows;
use super::{from_file, from_set, from_variables, mistakes};
use crate::config::key::{Key, Kind, Section};
use crate::config::model::Config;
use crate::config::problem::{KeyPath, Step};
use crate::config::reference::value_of;
use crate::secret::REDACTED;

/// Keys whose rows are those of others: the same declaration.
const SAME: &[(&str, &str)] = &[
    ("tcp.limits.", "limits."),
    ("websocket.limits.", "limits."),
    ("websocket.", "tcp."),
];

/// A key and where it is; elements of lists have number 0.
struct Place {
    path: KeyPath,
    key: Key,
    /// The tables on the way: header, and the keys that must be there too.
    tables: Vec<(String, Vec<Key>)>,
}

impl Place {
    /// Without numbers.
    fn name(&self) -> String {
        self.path.to_string().replace("[0]", "")
    }

    /// A file in which this key is `value`, and the line it is in.
    fn file(&self, name: &str, value: &str) -> (String, usize) {
        let mut text = String::from("# a file\n");
        for (i, (header, required)) in self.tables.iter().enumerate() {
            text += &format!("{header}\n");
            for key in required {
                let is_this = i + 1 == self.tables.len() && key.name == self.key.name;
                if !is_this {
                    text += &format!("{} = {}\n", key.name, value_of(key));
                }
            }
        }
        text += &format!("{name} = {value}\n");
        let line = text.lines().count();
        (text, line)
    }
}

/// All keys, tables too.
fn places() -> Vec<Place> {
    let mut found = Vec::new();
    collect(Config::keys(), &KeyPath::new(), &[], &mut found);
    found
}

type Tables = [(String, fn() -> Vec<Key>)];

fn collect(keys: Vec<Key>, here: &KeyPath, tables: &Tables, found: &mut Vec<Place>) {
    for key in keys {
        let path = here.key(key.name);
        let header = path.to_string().replace("[0]", "");
        let below = match key.kind {
            Kind::Tables(below) => Some((path.index(0), format!("[[{header}]]"), below)),
            Kind::Table { keys: below, .. } => Some((path.clone(), format!("[{header}]"), below)),
            _ => None,
        };
        found.push(Place {
            path,
            key,
            tables: tables
                .iter()
                .map(|(header, keys)| {
                    let required = keys().into_iter().filter(|key| key.required);
                    (header.clone(), required.collect())
                })
                .collect(),
        });
        if let Some((path, header, keys)) = below {
            let tables = [tables, &[(header, keys)]].concat();
            collect(keys(), &path, &tables, found);
        }
    }
}

/// What is wrong with any key of this type, as TOML.
fn wrong_for_type(key: &Key) -> Vec<String> {
    let mut wrong: Vec<&str> = match &key.kind {
        Kind::Text if key.range.is_some() => {
            vec![
                "10",
                "\"\"",
                "\"10\"",
                "\"s\"",
                "\"1.5s\"",
                "\"-1s\"",
                "\"10S\"",
                "true",
                "[\"1s\"]",
                "{}",
                "1979-05-27",
            ]
        }
        Kind::Text | Kind::Choice => vec!["5", "\"\"", "true", "1.5", "[\"a\"]", "{ a = 1 }"],
        Kind::Secret => vec![
            "5",
            "\"\"",
            "true",
            "[\"canary-canary-canary-canary-canary\"]",
            "{ canary = 1 }",
        ],
        Kind::Plain => vec![
            "\"text\"",
            "\"\"",
            "1.5",
            "[1]",
            "{}",
            "-1",
            "99999999999999999999",
            "inf",
        ],
        Kind::List(_) => vec!["5", "true", "{}", "[5]", "[true]", "[[]]", "[\"\"]"],
        Kind::Table { alone: true, .. } => vec!["5", "\"text\"", "true", "[]", "[{}]"],
        Kind::Table { alone: false, .. } => vec!["\"text\"", "\"\"", "true", "[]", "1.5"],
        Kind::Tables(_) => vec!["5", "\"text\"", "true", "{}", "[5]"],
    };
    // One text stands for a list of them in a few keys.
    let one_is_enough = key.expected().ends_with(", or a list of such");
    if matches!(key.kind, Kind::List(_)) && !one_is_enough {
        wrong.push("\"text\"");
    }
    // "off" and {} are right where they are.
    let is_off = key.expected().starts_with("\"off\" or ");
    let mut wrong: Vec<String> = wrong.into_iter().map(str::to_owned).collect();
    if let Some((least, most)) = key.range {
        let time = |ms: u64| format!("\"{ms}ms\"");
        match key.kind {
            Kind::Plain => {
                wrong.extend(least.checked_sub(1).map(|n| n.to_string()));
                wrong.extend((most < i64::MAX as u64).then(|| (most + 1).to_string()));
            }
            Kind::Text => {
                wrong.extend(least.checked_sub(1).map(time));
                wrong.push(time(most + 1));
            }
            Kind::Secret => {
                wrong.push(format!("\"{}\"", "c".repeat(most as usize + 1)));
                wrong.push(format!("\"{REDACTED}\""));
            }
            _ => {}
        }
    }
    if is_off {
        wrong.push("\"on\"".to_owned());
    }
    wrong
}

#[test]
fn every_key_has_rows() {
    let rows: BTreeSet<&str> = rows().map(|(key, ..)| key).collect();
    let mut known = BTreeSet::new();
    for place in places() {
        let name = place.name();
        known.insert(name.clone());
        let own = rows.contains(&*name)
            || SAME.iter().any(|(from, to)| {
                let same = name.strip_prefix(from).map(|rest| format!("{to}{rest}"));
                same.is_some_and(|same| rows.contains(&*same))
            });
        assert!(
            own,
            "{name} is new: what can be wrong with it? Add it to rows.rs"
        );
    }
    for row in rows {
        assert!(known.contains(row), "{row} is no key any more");
    }
}

/// In a file: line, key, what was found, what was expected.
#[test]
fn a_wrong_value_in_a_file_is_named() {
    let mut checked = 0;
    for place in places() {
        let mut wrong: BTreeMap<String, Option<&str>> = wrong_for_type(&place.key)
            .into_iter()
            .map(|value| (value, None))
            .collect();
        for (key, value, message) in rows() {
            let same = SAME.iter().filter_map(|(from, to)| {
                let rest = place.name().strip_prefix(from)?.to_owned();
                Some(format!("{to}{rest}"))
            });
            if key == place.name() || same.into_iter().any(|same| same == key) {
                wrong.insert(value.to_owned(), Some(message));
            }
        }
        for (value, message) in wrong {
            let (text, line) = place.file(place.key.name, &value);
            let found = mistakes(from_file(&text));
            assert_eq!(found.len(), 1, "{text}{found:#?}");
            let start = format!("{line}: {}", place.path);
            assert!(
                found[0].starts_with(&start),
                "{text}{found:?} is not at {start}"
            );
            assert!(
                found[0].contains("found ") || found[0].contains("missing"),
                "{text}{found:?}"
            );
            assert!(found[0].contains("expected "), "{text}{found:?}");
            if let Some(message) = message {
                assert!(
                    found[0].contains(message),
                    "{text}{found:?} without {message}"
                );
            }
            assert!(!found[0].contains("canary"), "{found:?}");
            checked += 1;
        }
    }
    assert!(checked > 800, "{checked}");
}

/// A misspelt key is known by its nearest right name, a key that is there twice by its line.
#[test]
fn a_misspelt_or_repeated_key_in_a_file_is_named() {
    for place in places() {
        let right = place.key.name;
        let mut misspelt = vec![
            format!("{right}x"),
            right.to_uppercase(),
            format!("_{right}"),
        ];
        if right.len() > 3 {
            let (start, end) = right.split_at(2);
            misspelt.push(format!("{start}{}", &end[1..]));
        }
        if right.contains('_') {
            misspelt.push(right.replace('_', "-"));
        }
        for name in misspelt {
            let (text, line) = place.file(&name, "1");
            let found = mistakes(from_file(&text));
            let start = format!("{line}: {}: unknown key", place.path.parent().key(&name));
            let its = found.iter().find(|found| found.starts_with(&start));
            let its = its.unwrap_or_else(|| panic!("{text}{found:?} without {start}"));
            assert!(
                its.ends_with(&format!("; did you mean {right}?")),
                "{text}{its}"
            );
        }
        let (text, line) = place.file(right, &value_of(&place.key));
        let twice = format!("{text}{right} = {}\n", value_of(&place.key));
        let found = mistakes(from_file(&twice));
        let start = format!("{}: ", line + 1);
        assert!(
            found.len() == 1 && found[0].starts_with(&start),
            "{twice}{found:?}"
        );
        assert!(found[0].contains("duplicate key"), "{twice}{found:?}");
    }
}

/// A table written as a list of them, and the other way round.
#[test]
fn the_wrong_kind_of_table_is_named() {
    for place in places() {
        let name = place.name();
        let (header, expected) = match place.key.kind {
            Kind::Tables(_) => (format!("[{name}]"), "a list of tables"),
            Kind::Table { .. } => (format!("[[{name}]]"), "found a list, expected "),
            _ => continue,
        };
        let (mut text, line) = place.file("unused", "1");
        text.truncate(text.rfind("unused").unwrap());
        text += &format!("{header}\n");
        let found = mistakes(from_file(&text));
        let its = format!("{line}: {}: found ", place.path);
        let is = |found: &&String| found.starts_with(&its) && found.contains(expected);
        assert!(found.iter().any(|found| is(&found)), "{text}{found:?}");
    }
}

/// As the environment and `--set` write it: texts are texts, whatever they look like.
fn raw(key: &Key) -> Vec<String> {
    let fits = |value: &String| match &key.kind {
        Kind::Text if key.range.is_some() => true,
        // Most texts are some text.
        Kind::Text | Kind::Choice | Kind::Secret => false,
        // "a,b" is a list there.
        Kind::List(_) => value.starts_with('[') && value.len() > 2 || value == "5",
        _ => true,
    };
    let mut wrong: Vec<String> = wrong_for_type(key).into_iter().filter(fits).collect();
    match &key.kind {
        Kind::Choice => wrong.push("canari".to_owned()),
        Kind::Secret => wrong.push(String::new()),
        Kind::Text => wrong.push(String::new()),
        _ => {}
    }
    wrong
}

/// What must be there beside a wrong value, as dotted keys with values as in TOML.
fn beside(place: &Place) -> Vec<(KeyPath, String)> {
    let mut needed = Vec::new();
    let mut here = KeyPath::new();
    let mut tables = place.tables.iter();
    for step in place.path.parent().steps() {
        here = here.step(step.clone());
        if let Step::Index(_) = step {
            continue;
        }
        let Some((_, required)) = tables.next() else {
            break;
        };
        let inside = match place.path.steps().get(here.steps().len()) {
            Some(Step::Index(i)) => here.index(*i),
            _ => here.clone(),
        };
        for key in required {
            let path = inside.key(key.name);
            if path != place.path {
                needed.push((path, value_of(key)));
            }
        }
    }
    needed
}

#[test]
fn a_wrong_variable_is_named() {
    for place in places() {
        let variable = place.path.variable();
        let beside: Vec<(String, String)> = beside(&place)
            .into_iter()
            .map(|(path, value)| (path.variable(), value))
            .collect();
        let with = |name: &str, value: &str| {
            let mut all: Vec<(&str, &str)> = beside
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            all.push((name, value));
            mistakes(from_variables(&all))
        };
        for value in raw(&place.key) {
            let found = with(&variable, &value);
            assert_eq!(found.len(), 1, "{variable}={value}: {found:#?}");
            let start = format!("{variable}: {}", place.path);
            assert!(
                found[0].starts_with(&start),
                "{variable}={value}: {found:?}"
            );
            assert!(
                found[0].contains("expected "),
                "{variable}={value}: {found:?}"
            );
            assert!(
                found[0].contains("found ") || found[0].contains("missing"),
                "{found:?}"
            );
        }
        let misspelt = format!("{variable}X");
        let mut found = with(&misspelt, "1");
        // It is so too.
        found.retain(|found| !found.contains(": missing; "));
        assert_eq!(found.len(), 1, "{misspelt}: {found:?}");
        assert!(found[0].starts_with(&format!("{misspelt}: ")), "{found:?}");
        assert!(
            found[0].ends_with(&format!("did you mean {variable}?")),
            "{found:?}"
        );
    }
}

#[test]
fn a_wrong_set_is_named() {
    for place in places() {
        let path = &place.path;
        let beside: Vec<String> = beside(&place)
            .into_iter()
            .map(|(path, value)| format!("{path}={value}"))
            .collect();
        let with = |text: String| {
            let mut all: Vec<&str> = beside.iter().map(|text| &**text).collect();
            all.push(&text);
            mistakes(from_set(&all))
        };
        for value in raw(&place.key) {
            let found = with(format!("{path}={value}"));
            assert_eq!(found.len(), 1, "{path}={value}: {found:#?}");
            let start = format!("--set: {path}");
            assert!(found[0].starts_with(&start), "{path}={value}: {found:?}");
            assert!(found[0].contains("expected "), "{path}={value}: {found:?}");
        }
        let mut found = with(format!("{path}x=1"));
        found.retain(|found| !found.contains(": missing; "));
        assert_eq!(found.len(), 1, "{path}x: {found:?}");
        assert!(
            found[0].ends_with(&format!("did you mean {path}?")),
            "{found:?}"
        );
    }
}
