//! The keys that tokens are checked with, and which of them a token gets.

use std::fmt;
use std::io::Read;
use std::path::Path;

use jsonwebtoken::{Algorithm, DecodingKey};

use super::jwks;
use super::material::{self, Material};
use super::settings::{AuthError, KeySource};
use super::verify::TokenError;

/// Longest file that can hold keys, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// One key.
pub(super) struct Key {
    pub(super) material: Material,
    pub(super) decoding: DecodingKey,
    id: Option<String>,
    /// The only one it is for, where its set says so.
    algorithm: Option<Algorithm>,
}

impl Key {
    pub(super) fn new(
        material: Material,
        id: Option<String>,
        algorithm: Option<Algorithm>,
    ) -> Self {
        Self {
            decoding: material.decoding_key(),
            material,
            id,
            algorithm,
        }
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        self.material.is_for(algorithm) && self.algorithm.is_none_or(|only| only == algorithm)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.material.name(), self.id)
    }
}

/// The keys, and the algorithms that they may be used with.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) keys: Vec<Key>,
    /// Whether tokens name keys by their ids here.
    has_ids: bool,
}

impl Keys {
    /// What the source holds now.
    pub(super) fn read(source: &KeySource) -> Result<Vec<u8>, AuthError> {
        match source {
            KeySource::Secret(secret) => Ok(secret.expose().as_bytes().to_vec()),
            KeySource::SecretFile(file)
            | KeySource::PublicKeyFile(file)
            | KeySource::JwksFile(file) => {
                read_file(file).map_err(|why| AuthError::new(source.key(), why))
            }
        }
    }

    /// Makes keys of what was read.
    pub(super) fn parse(
        source: &KeySource,
        content: &[u8],
        algorithms: &[Algorithm],
    ) -> Result<Self, AuthError> {
        let wrong = |why: String| {
            AuthError::new(
                source.key(),
                match source.file() {
                    Some(file) => format!("{}: {why}", file.display()),
                    None => why,
                },
            )
        };
        let keys = match source {
            KeySource::Secret(_) => vec![Key::new(Material::Secret(content.to_vec()), None, None)],
            KeySource::SecretFile(_) => {
                let secret = content.strip_suffix(b"\n").unwrap_or(content);
                let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
                vec![Key::new(Material::Secret(secret.to_vec()), None, None)]
            }
            KeySource::PublicKeyFile(_) => {
                let key = material::public_key(content).map_err(wrong)?;
                vec![Key::new(key, None, None)]
            }
            KeySource::JwksFile(_) => jwks::read(content).map_err(wrong)?,
        };
        let is_set = matches!(source, KeySource::JwksFile(_));
        let algorithms = match (algorithms, keys.as_slice()) {
            ([], _) if is_set => {
                let why = "a JWKS file does not say which to accept: name them";
                return Err(AuthError::new("jwt.algorithms", why));
            }
            ([], [only]) => vec![only.material.default_algorithm()],
            (given, _) => given.to_vec(),
        };
        for algorithm in &algorithms {
            let mut fitting = keys.iter().filter(|key| key.is_for(*algorithm)).peekable();
            // Of a set that changes some may be there later.
            if fitting.peek().is_none() && !is_set {
                let held = keys.first().map_or("nothing", |key| key.material.name());
                let why = format!("{algorithm:?} does not go with {held} ({})", source.key());
                return Err(AuthError::new("jwt.algorithms", why));
            }
            for key in fitting {
                if let Material::Secret(secret) = &key.material {
                    material::check_secret(secret, *algorithm).map_err(wrong)?;
                }
            }
        }
        if !algorithms
            .iter()
            .any(|a| keys.iter().any(|key| key.is_for(*a)))
        {
            return Err(wrong(format!("no key in it is for {algorithms:?}")));
        }
        Ok(Self {
            algorithms,
            has_ids: is_set,
            keys,
        })
    }

    #[cfg(test)]
    pub(super) fn of(keys: Vec<Key>, algorithms: &[Algorithm], has_ids: bool) -> Self {
        Self {
            algorithms: algorithms.to_vec(),
            keys,
            has_ids,
        }
    }

    /// The keys that a token may be signed with: by its key id where it has one, else all
    /// that are for its algorithm.
    pub(super) fn candidates(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<Vec<&Key>, TokenError> {
        let fits = |key: &&Key| key.is_for(algorithm);
        match id.filter(|_| self.has_ids) {
            None => match self.keys.iter().filter(fits).collect::<Vec<_>>() {
                none if none.is_empty() => Err(TokenError::NoKey),
                some => Ok(some),
            },
            Some(id) => {
                let key = self.keys.iter().find(|key| key.id() == Some(id));
                let key = key.ok_or(TokenError::UnknownKey)?;
                match fits(&key) {
                    true => Ok(vec![key]),
                    false => Err(TokenError::WrongKey),
                }
            }
        }
    }
}

impl KeySource {
    /// The file to look after.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Secret(_) => None,
            Self::SecretFile(file) | Self::PublicKeyFile(file) | Self::JwksFile(file) => Some(file),
        }
    }
}

/// Whether a secret may be used as it is set.
pub(super) fn check_secret(secret: &[u8], algorithms: &[Algorithm]) -> Result<(), String> {
    match algorithms {
        [] => material::check_secret(secret, Algorithm::HS256),
        given => given
            .iter()
            .try_for_each(|algorithm| material::check_secret(secret, *algorithm)),
    }
}

pub(super) fn read_file(file: &Path) -> Result<Vec<u8>, String> {
    let read = || {
        let mut content = Vec::new();
        let file = std::fs::File::open(file)?;
        file.take(MAX_FILE + 1).read_to_end(&mut content)?;
        std::io::Result::Ok(content)
    };
    match read() {
        Ok(content) if content.len() as u64 > MAX_FILE => {
            Err(format!("{}: longer than 1 MiB", file.display()))
        }
        Ok(content) => Ok(content),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}
