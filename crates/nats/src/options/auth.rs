//! Who a process is to NATS. Secrets are read anew for each connection, so that they can
//! be changed while the process runs.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use nkeys::KeyPair;
use thiserror::Error;

use super::OptionsError;

/// Largest file that is read as a secret.
const MAX_SECRET: u64 = 64 * 1024;

/// Who a process is to NATS.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Auth {
    /// It does not say; a client certificate may tell.
    #[default]
    None,
    /// A user and its password.
    UserPassword {
        /// The user.
        user: String,
        /// Its password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
    /// The seed of an NKey of a user (`SU…`).
    NKey(Secret),
    /// A file with a user's JWT and the seed of its NKey, as `nsc` writes it.
    CredsFile(PathBuf),
}

/// A secret; never shown.
#[derive(Clone)]
pub struct Secret(Source);

#[derive(Clone)]
enum Source {
    Text(String),
    File(PathBuf),
}

impl Secret {
    /// This text.
    pub fn text(text: impl Into<String>) -> Self {
        Self(Source::Text(text.into()))
    }

    /// The first line of this file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    fn read(&self) -> Result<String, SecretError> {
        let text = match &self.0 {
            Source::Text(text) => text.clone(),
            Source::File(path) => {
                let mut text = read_file(path)?;
                text.truncate(text.find(['\r', '\n']).unwrap_or(text.len()));
                text
            }
        };
        match text.is_empty() || text.chars().any(char::is_control) {
            true => Err(SecretError::NotOne(self.place())),
            false => Ok(text),
        }
    }

    fn place(&self) -> String {
        match &self.0 {
            Source::Text(_) => "the secret for NATS".to_owned(),
            Source::File(path) => path.display().to_string(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Text(_) => f.write_str("Secret(***)"),
            Source::File(path) => write!(f, "Secret({})", path.display()),
        }
    }
}

/// A secret that cannot be used. Never holds any of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// Empty, or with control characters.
    #[error("{0} is empty or holds control characters")]
    NotOne(String),
    /// Not a seed.
    #[error("{0} holds no seed of a user's NKey (SU…)")]
    Seed(String),
    /// Not a credentials file.
    #[error("{0} is not a credentials file with a user's JWT and seed")]
    Creds(String),
}

fn read_file(path: &Path) -> Result<String, SecretError> {
    let failed = |why: &dyn fmt::Display| SecretError::File {
        path: path.display().to_string(),
        why: why.to_string(),
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SECRET + 1).read_to_string(&mut text))
        .map_err(|error: io::Error| failed(&error))?;
    match text.len() as u64 > MAX_SECRET {
        true => Err(failed(&"it is too large")),
        false => Ok(text),
    }
}

/// What is told the server when connecting.
pub(crate) enum Credentials {
    None,
    UserPassword(String, String),
    Token(String),
    /// The server's nonce is signed; with a JWT the server needs no list of keys.
    Key {
        key: Box<KeyPair>,
        jwt: Option<String>,
    },
}

/// Reads what `auth` names. Reads files: may block.
pub(crate) fn read(auth: &Auth) -> Result<Credentials, SecretError> {
    Ok(match auth {
        Auth::None => Credentials::None,
        Auth::UserPassword { user, password } => {
            Credentials::UserPassword(user.clone(), password.read()?)
        }
        Auth::Token(token) => Credentials::Token(token.read()?),
        Auth::NKey(seed) => Credentials::Key {
            key: key(&seed.read()?)
                .ok_or_else(|| SecretError::Seed(seed.place()))?
                .into(),
            jwt: None,
        },
        Auth::CredsFile(path) => {
            let text = read_file(path)?;
            let wrong = || SecretError::Creds(path.display().to_string());
            let jwt = block(&text, "NATS USER JWT").ok_or_else(wrong)?;
            let seed = block(&text, "USER NKEY SEED").ok_or_else(wrong)?;
            Credentials::Key {
                key: key(seed).ok_or_else(wrong)?.into(),
                jwt: Some(jwt.to_owned()),
            }
        }
    })
}

fn key(seed: &str) -> Option<KeyPair> {
    // A seed of another kind (of an account, say) must not be what signs.
    seed.starts_with("SU")
        .then(|| KeyPair::from_seed(seed).ok())
        .flatten()
}

/// The one line between `-----BEGIN <name>-----` and the line that ends it.
fn block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    let begins = |line: &str| {
        line.trim_matches('-')
            .strip_prefix("BEGIN ")
            .is_some_and(|rest| rest == name)
    };
    lines.find(|line| begins(line))?;
    let value = lines.find(|line| !line.is_empty())?;
    let end = lines.find(|line| !line.is_empty())?;
    let is_value = |b: u8| b.is_ascii_alphanumeric() || b"-_.=".contains(&b);
    (end.starts_with("---") && !value.starts_with("---") && value.bytes().all(is_value))
        .then_some(value)
}

impl Auth {
    pub(super) fn check(&self) -> Result<(), OptionsError> {
        if let Self::UserPassword { user, .. } = self
            && (user.is_empty() || user.len() > 256 || user.chars().any(char::is_control))
        {
            return Err(OptionsError::User);
        }
        Ok(())
    }
}
