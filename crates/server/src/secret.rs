//! Text that must not be seen: keys and tokens.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// What is shown in place of a secret.
pub(crate) const REDACTED: &str = "[redacted]";

/// A key or a token. Printed, logged or serialized it is [`REDACTED`]; only
/// [`expose`](Self::expose) gives the text.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Whoever calls this keeps it out of logs, errors and answers.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_of_writing_it_shows_it() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Config {
            token: Secret,
        }
        let config: Config = toml::from_str("token = \"canary\"").unwrap();
        assert_eq!(config.token.expose(), "canary");
        for shown in [
            format!("{config:?}"),
            format!("{config:#?}"),
            config.token.to_string(),
            toml::to_string(&config).unwrap(),
            serde_json::to_string(&config).unwrap(),
        ] {
            assert!(shown.contains(REDACTED), "{shown}");
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
}
