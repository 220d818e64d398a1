//! Paths and modes of files.

use std::path::{Path, PathBuf};

use crate::config::key::{Key, Kind, Reader, Shown, Value};
use crate::config::problem::Origin;
use crate::config::tree::{Data, Node};

/// A path. One that was read from a file and is relative starts where that file is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FilePath(pub(crate) PathBuf);

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Value for FilePath {
    fn kind() -> Kind {
        Kind::Text
    }

    fn expected(_: &Key) -> String {
        "a path".to_owned()
    }

    fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
        let Data::Text(text) = &node.data else {
            return reader.wrong(node, &key.expected());
        };
        if text.is_empty() || text.contains('\0') {
            return reader.wrong(node, &key.expected());
        }
        let home = match &node.origin {
            Origin::File(file, _) => file.parent().unwrap_or(Path::new("")),
            _ => Path::new(""),
        };
        Some(Self(home.join(text)))
    }

    fn shown(&self) -> Shown {
        Shown::text(self.0.to_string_lossy())
    }
}

/// Who may use a file, as `"0660"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

impl Value for Mode {
    fn kind() -> Kind {
        Kind::Text
    }

    fn expected(_: &Key) -> String {
        "a mode of octal digits in quotes, from \"0000\" to \"0777\"".to_owned()
    }

    fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
        let mode = match &node.data {
            Data::Text(text) if (3..=4).contains(&text.len()) && !text.starts_with('+') => {
                u32::from_str_radix(text, 8).ok()
            }
            _ => None,
        };
        match mode.filter(|mode| *mode <= 0o777) {
            Some(mode) => Some(Self(mode)),
            None => reader.wrong(node, &key.expected()),
        }
    }

    fn shown(&self) -> Shown {
        Shown::text(format!("{:04o}", self.0))
    }
}
