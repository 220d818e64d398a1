//! The body of a packet, as it is typed.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use serde::de::IgnoredAny;
use thiserror::Error;
use tidegate_client::Bytes;

/// More than any frame holds.
const MAX_FILE: u64 = 64 * 1024;

/// A body, or where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    Bytes(Bytes),
    File(PathBuf),
}

/// Text that is no body.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum BodyError {
    #[error("hex: wants pairs of 0-9 a-f, which may stand apart")]
    Hex,
    #[error("@ wants the name of a file; text:@ sends what begins with @ as it is")]
    NoFile,
    #[error("the body begins as JSON but is none: {0}; text:{{ sends it as it is")]
    Json(String),
}

/// A file that is no body.
#[derive(Debug, Error)]
pub(super) enum FileError {
    #[error("{}: {why}; text:@ sends what begins with @ as it is", path.display())]
    Read { path: PathBuf, why: io::Error },
    #[error("{}: more than any frame holds", path.display())]
    TooLarge { path: PathBuf },
}

impl Body {
    /// Reads what is typed: `hex:`, `@FILE`, `text:`, or the body itself. What begins with
    /// `{` must be JSON, so that a slip of the finger is not sent.
    pub(super) fn parse(text: &str) -> Result<Self, BodyError> {
        if let Some(digits) = text.strip_prefix("hex:") {
            return Ok(Self::Bytes(hex(digits)?.into()));
        }
        if let Some(path) = text.strip_prefix('@') {
            return match path.trim_end() {
                "" => Err(BodyError::NoFile),
                path => Ok(Self::File(path.into())),
            };
        }
        if text.starts_with('{')
            && let Err(e) = serde_json::from_str::<IgnoredAny>(text)
        {
            return Err(BodyError::Json(e.to_string()));
        }
        let text = text.strip_prefix("text:").unwrap_or(text);
        Ok(Self::Bytes(Bytes::copy_from_slice(text.as_bytes())))
    }

    /// What is to be sent. May block, where it is a file.
    pub(super) fn bytes(self) -> Result<Bytes, FileError> {
        let path = match self {
            Self::Bytes(bytes) => return Ok(bytes),
            Self::File(path) => path,
        };
        let mut bytes = Vec::new();
        let read =
            File::open(&path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) if bytes.len() as u64 > MAX_FILE => Err(FileError::TooLarge { path }),
            Ok(_) => Ok(bytes.into()),
            Err(why) => Err(FileError::Read { path, why }),
        }
    }
}

/// Whether text begins as JSON and ends before it does.
pub(super) fn is_unfinished_json(text: &str) -> bool {
    text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_err_and(|e| e.is_eof())
}

fn hex(digits: &str) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for word in digits.split_whitespace() {
        if !word.is_ascii() || word.len() % 2 != 0 {
            return Err(BodyError::Hex);
        }
        for i in (0..word.len()).step_by(2) {
            let pair = &word[i..i + 2];
            // `+1` is a number to Rust.
            if pair.starts_with('+') {
                return Err(BodyError::Hex);
            }
            bytes.push(u8::from_str_radix(pair, 16).map_err(|_| BodyError::Hex)?);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Result<Vec<u8>, BodyError> {
        Body::parse(text).map(|body| body.bytes().unwrap().to_vec())
    }

    #[test]
    fn bodies() {
        assert_eq!(bytes(""), Ok(vec![]));
        assert_eq!(bytes("hello  world "), Ok(b"hello  world ".to_vec()));
        assert_eq!(bytes("hex:00fF 1b"), Ok(vec![0, 0xff, 0x1b]));
        assert_eq!(bytes("hex:"), Ok(vec![]));
        assert_eq!(bytes("text:hex:00"), Ok(b"hex:00".to_vec()));
        assert_eq!(bytes("text:{"), Ok(b"{".to_vec()));
        assert_eq!(bytes("{\"a\":\n1}"), Ok(b"{\"a\":\n1}".to_vec()));
        assert_eq!(bytes("[afk]"), Ok(b"[afk]".to_vec()), "only objects are");
        assert_eq!(Body::parse("@a b "), Ok(Body::File(PathBuf::from("a b"))));
    }

    #[test]
    fn mistakes() {
        for text in ["hex:0", "hex:0x00", "hex:+1", "hex:zz", "hex:ä", "hex:0 0"] {
            assert_eq!(bytes(text), Err(BodyError::Hex), "{text}");
        }
        assert_eq!(bytes("@ "), Err(BodyError::NoFile));
        assert!(matches!(bytes("{\"a\":1,}"), Err(BodyError::Json(_))));
        assert!(matches!(bytes("{} x"), Err(BodyError::Json(_))));
        assert!(is_unfinished_json("{\"a\":") && !is_unfinished_json("{]"));
        assert!(!is_unfinished_json("{}") && !is_unfinished_json("a"));
    }

    #[test]
    fn files() {
        let missing = Body::parse("@/nonexistent/file").unwrap();
        assert!(matches!(missing.bytes(), Err(FileError::Read { .. })));
        let endless = Body::parse("@/dev/zero").unwrap();
        assert!(matches!(endless.bytes(), Err(FileError::TooLarge { .. })));
    }
}
