//! What can go wrong, and its number.

use thiserror::Error;
use tidegate::bus::{CallError, GateError};

/// An error of this service.
#[derive(Debug, Error)]
pub(super) enum ChatError {
    #[error("the name is taken")]
    NameTaken,
    #[error("no such user is here")]
    NoSuchUser,
    #[error("a name has 1 to 32 characters (100 bytes), none of them blank, control or invisible")]
    BadName,
    #[error("there is no such room")]
    NoSuchRoom,
    #[error("only the room's owner may")]
    NotOwner,
    #[error("there are too many already")]
    Full,
    #[error("a text has 1 to 2000 characters")]
    BadText,
    #[error("logged in already; chat/rename changes the name")]
    LoggedIn,
    #[error("not logged in here")]
    NotLoggedIn,
    #[error("it could not be delivered")]
    NotDelivered,
    #[error(transparent)]
    Gate(#[from] GateError),
}

impl ChatError {
    fn number(&self) -> Option<u16> {
        Some(match self {
            Self::NameTaken => 1001,
            Self::NoSuchUser => 1002,
            Self::BadName => 1003,
            Self::NoSuchRoom => 1004,
            Self::NotOwner => 1005,
            Self::Full => 1006,
            Self::BadText => 1007,
            Self::LoggedIn => 1008,
            Self::NotLoggedIn => 1009,
            Self::NotDelivered => 1010,
            Self::Gate(_) => return None,
        })
    }
}

impl From<ChatError> for CallError {
    fn from(error: ChatError) -> Self {
        match (error.number(), error) {
            (_, ChatError::Gate(error)) => error.into(),
            (number, error) => CallError::service(number.unwrap_or(1000), error.to_string()),
        }
    }
}
