//! The gate knows the bus by its seam alone: which bus it is only this crate knows, and who
//! chooses it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

fn names_it(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names_it(&path, found);
        } else if let Ok(text) = fs::read_to_string(&path)
            && text.to_ascii_lowercase().contains("nats")
        {
            found.push(path.display().to_string());
        }
    }
}

#[test]
fn nothing_else_names_the_bus() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for name in ["gate", "protocol", "client", "store", "redis", "bus-suite"] {
        names_it(&crates.join(name), &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
}
