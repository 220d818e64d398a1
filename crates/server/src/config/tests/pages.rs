//! What is written from the model is what lies in the repository.

use std::path::Path;

use super::{from_file, tree};
use crate::config::{init, read, reference};

/// With this variable set the files are written instead of compared.
const WRITE: &str = "TIDEGATE_TEST_WRITE";

fn compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(name);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let command = format!("{WRITE}=1 cargo test -p tidegate-server config::tests::pages");
    assert!(there == text, "{name} is stale; `{command}` writes it anew");
}

#[test]
fn the_reference_is_current() {
    compare("docs/configuration.md", &reference::page());
}

#[test]
fn the_example_is_current() {
    compare("examples/tidegate.toml", &init::text(None));
}

/// Without its `#: ` each line is a key of the table it stands in, with a value that it takes.
#[test]
fn every_line_of_a_new_file_is_right() {
    for secrets in [None, Some(init::Secrets::random().unwrap())] {
        let text = init::text(secrets.as_ref());
        from_file(&text).unwrap();
        let all = text.replace("\n#: ", "\n");
        assert_ne!(text, all);
        let (_, problems) = read(&tree(&all));
        assert_eq!(problems, [], "{all}");
    }
}

#[test]
fn the_example_of_the_readme_is_right() {
    let readme = include_str!("../../../../../README.md");
    let (_, from) = readme.split_once("```toml\n").unwrap();
    let (example, _) = from.split_once("```").unwrap();
    let config = from_file(example).unwrap().config;
    assert_eq!((config.tcp.len(), config.websocket.len()), (1, 1));
}
