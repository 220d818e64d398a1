//! What is wrong with a configuration, and how that is said.
//!
//! - This file: help for the others. [`keys`]: every key, wrong in every plausible way;
//!   [`rows`]: the ways of one key.
//! - [`sources`]: files, environment and flags. [`between`]: what must hold between keys.
//! - [`pages`]: what is written from the model.

mod between;
mod keys;
mod pages;
mod rows;
mod sources;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::problem::Problem;
use super::{Given, Loaded, Sources};
use crate::secret::Secret;

/// A directory that is removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-config-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn from_file(text: impl AsRef<[u8]>) -> Result<Loaded, Vec<Problem>> {
    let scratch = Scratch::new();
    load(Sources {
        file: Some(scratch.write("tidegate.toml", text)),
        ..Sources::default()
    })
}

fn from_variables(variables: &[(&str, &str)]) -> Result<Loaded, Vec<Problem>> {
    let variables = variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    load(Sources {
        environment: variables.collect(),
        ..Sources::default()
    })
}

fn from_set(settings: &[&str]) -> Result<Loaded, Vec<Problem>> {
    let flags = settings
        .iter()
        .map(|text| Given::set(&Secret::new(*text)).unwrap());
    load(Sources {
        flags: flags.collect(),
        ..Sources::default()
    })
}

fn load(sources: Sources) -> Result<Loaded, Vec<Problem>> {
    Loaded::load(&sources).map_err(|mistakes| mistakes.0)
}

/// The mistakes, each as `LINE: key: what`, or `VARIABLE: key: what`.
fn mistakes(loaded: Result<Loaded, Vec<Problem>>) -> Vec<String> {
    let problems = match loaded {
        Ok(_) => return Vec::new(),
        Err(problems) => problems,
    };
    let shown = problems.iter().map(|problem| {
        let line = problem.to_string();
        assert!(!line.contains('\n'), "{line:?}");
        match line.split_once("tidegate.toml:") {
            Some((_, line)) => line.to_owned(),
            None => line,
        }
    });
    shown.collect()
}

/// The tree of a text.
fn tree(text: &str) -> super::tree::Node {
    super::tree::of_file(&Arc::new(PathBuf::from("tidegate.toml")), text).unwrap()
}
