//! How often one user may be logged in.

use std::num::NonZeroU32;

use clap::ValueEnum;
use tidegate::{Logins, LoginsOver, LoginsPer};

use crate::config::key::section;
use crate::config::value::choice::choices;
use crate::config::value::time::OrOff;

section! {
    /// How often one user may be logged in, on all gates of the bus. A login is a session that
    /// is bound to a user, with a connection or waiting for its client to come back.
    LoginsConfig {
        /// Logins at a time; any number where it is off.
        limit: OrOff<u32> = OrOff::Off => range(1, 1000).example("1"),

        /// What they are counted by: all of a user together, or those on each device. Sessions
        /// of which the device is not known count as one device's.
        per: Per = Per::User,

        /// What becomes of one more: it replaces the oldest, or it is refused.
        over: Over = Over::Replace,
    }
}

impl LoginsConfig {
    pub(crate) fn logins(&self) -> Logins {
        Logins {
            limit: self.limit.on().copied().and_then(NonZeroU32::new),
            per: match self.per {
                Per::User => LoginsPer::User,
                Per::Device => LoginsPer::UserAndDevice,
            },
            over: match self.over {
                Over::Replace => LoginsOver::Replace,
                Over::Refuse => LoginsOver::Refuse,
            },
        }
    }
}

/// What logins are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Per {
    /// The user
    User,
    /// The user's device
    Device,
}

/// What becomes of one login more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Over {
    /// It takes the place of the oldest
    Replace,
    /// It gets no place
    Refuse,
}

choices!(Per, Over);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_off_unless_set() {
        assert_eq!(LoginsConfig::default().logins(), Logins::unlimited());
        let one = Logins::limit(NonZeroU32::MIN);
        let config = LoginsConfig {
            limit: OrOff::On(1),
            ..LoginsConfig::default()
        };
        assert_eq!(config.logins(), one);
        let config = LoginsConfig {
            per: Per::Device,
            over: Over::Refuse,
            ..config
        };
        assert_eq!(config.logins(), one.per_device().refuse());
    }
}
