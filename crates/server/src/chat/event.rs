//! What is pushed to clients.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tidegate::bus::GateError;
use tidegate::service::SessionHandle;
use tidegate::{Clients, Delivery, SessionId};

use super::error::ChatError;
use super::name::ChatName;
use super::place;

/// A push: its topic, and its body as JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Event<'a> {
    /// `chat/said`
    Said {
        room: &'a ChatName,
        from: &'a ChatName,
        text: &'a str,
        at: u64,
    },
    /// `chat/told`
    Told {
        from: &'a ChatName,
        text: &'a str,
        at: u64,
    },
    /// `chat/joined`
    Joined {
        room: &'a ChatName,
        name: &'a ChatName,
    },
    /// `chat/left`
    Left {
        room: &'a ChatName,
        name: &'a ChatName,
    },
    /// `chat/renamed`
    Renamed {
        room: &'a ChatName,
        name: &'a ChatName,
        was: &'a ChatName,
    },
    /// `chat/kicked`
    Kicked {
        room: &'a ChatName,
        by: &'a ChatName,
    },
    /// `chat/owner`
    Owner {
        room: &'a ChatName,
        name: &'a ChatName,
    },
    /// `chat/away`
    Away {
        room: &'a ChatName,
        name: &'a ChatName,
        away: bool,
        #[serde(skip)]
        session: SessionId,
    },
}

/// The topic of [`Event::Said`].
pub(super) const SAID: &str = "chat/said";

impl Event<'_> {
    fn topic(&self) -> &'static str {
        match self {
            Self::Said { .. } => SAID,
            Self::Told { .. } => "chat/told",
            Self::Joined { .. } => "chat/joined",
            Self::Left { .. } => "chat/left",
            Self::Renamed { .. } => "chat/renamed",
            Self::Kicked { .. } => "chat/kicked",
            Self::Owner { .. } => "chat/owner",
            Self::Away { .. } => "chat/away",
        }
    }

    /// How much it matters: who is away now is of interest only as long as it is so.
    fn delivery(&self) -> Delivery {
        match self {
            Self::Away { session, .. } => Delivery::Latest(format!("away/{session}").into()),
            _ => Delivery::Critical,
        }
    }

    /// The body.
    pub(super) fn raw(&self) -> Result<Box<RawValue>, ChatError> {
        // Strings and numbers: it does not fail.
        to_raw_value(self).map_err(|_| ChatError::NotDelivered)
    }

    fn body(&self) -> Result<Vec<u8>, ChatError> {
        Ok(self.raw()?.get().as_bytes().to_vec())
    }

    /// To everyone in a room; answers how many took it.
    pub(super) async fn to_room(
        &self,
        clients: &Clients,
        room: &ChatName,
    ) -> Result<u64, ChatError> {
        let group = clients.to_group(place::group(room));
        let sent = group.send_as(self.topic(), self.body()?, self.delivery());
        Ok(sent.await?.taken())
    }

    /// To one session.
    pub(super) async fn to_session(&self, session: &SessionHandle) -> Result<(), ChatError> {
        match session.send(self.topic(), self.body()?).await {
            Ok(()) => Ok(()),
            // Gone, and the end of it has not been heard of yet.
            Err(GateError::SessionGone) => Err(ChatError::NoSuchUser),
            Err(_) => Err(ChatError::NotDelivered),
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 is wrong anyway.
    since.map_or(0, |time| {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    })
}
