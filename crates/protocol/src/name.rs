//! Identifiers. Each is checked once, where it enters, and cheap to clone.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest token (service, method, instance, gate), in bytes.
pub const MAX_TOKEN: usize = 64;
/// Longest user id, in bytes.
pub const MAX_USER_ID: usize = 256;
/// Longest device id, in bytes.
pub const MAX_DEVICE: usize = 128;
/// Longest group name, in bytes.
pub const MAX_GROUP: usize = 128;

/// Text that is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{kind} must be {rule}")]
pub struct InvalidName {
    /// What was to be named.
    pub kind: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// Whether `text` is `[A-Za-z0-9_-]{1,64}`: safe as one whole token of a bus subject.
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_TOKEN
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn is_text(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max && !text.chars().any(char::is_control)
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and copies `text`.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(InvalidName { kind: $kind, rule: $rule })
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidName;
            fn try_from(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(&text)
            }
        }

        impl TryFrom<&String> for $name {
            type Error = InvalidName;
            fn try_from(text: &String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<&$name> for $name {
            type Error = InvalidName;
            fn try_from(name: &$name) -> Result<Self, InvalidName> {
                Ok(name.clone())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }
    )*};
}

names! {
    /// A service or a method.
    Name, "a service or method name", "1 to 64 of A-Z a-z 0-9 _ -", is_token;
    /// One instance of a service.
    InstanceId, "an instance id", "1 to 64 of A-Z a-z 0-9 _ -", is_token;
    /// A gate.
    GateId, "a gate id", "1 to 64 of A-Z a-z 0-9 _ -", is_token;
    /// A user, as the services know it.
    UserId, "a user id", "1 to 256 bytes without control characters", |t| is_text(t, MAX_USER_ID);
    /// One of a user's devices, as far as that is told apart.
    DeviceId, "a device id", "1 to 128 bytes without control characters", |t| is_text(t, MAX_DEVICE);
    /// A named set of sessions.
    GroupName, "a group name", "1 to 128 bytes without control characters", |t| is_text(t, MAX_GROUP);
}

impl UserId {
    /// The user id as a number, where it is a decimal one.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_str().parse().ok()
    }
}

impl From<u64> for UserId {
    fn from(number: u64) -> Self {
        Self(Arc::from(number.to_string().as_str()))
    }
}
