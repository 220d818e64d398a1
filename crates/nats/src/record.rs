//! The record of one bound user: which sessions are the user's, on which gates.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidegate::bus::{KeptLogin, MAX_KEPT_LOGINS};
use tidegate_protocol::{DeviceId, GateId, SessionId, UserId};

use crate::subject::hash;

/// Longest record, in bytes.
pub(crate) const MAX_RECORD: usize = 16 * 1024;
/// The only version there is.
const VERSION: u32 = 1;

/// One life of a gate: another each time that it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Incarnation(pub(crate) u64);

impl Incarnation {
    pub(crate) fn new() -> Self {
        Self(rand::random())
    }
}

impl From<Incarnation> for String {
    fn from(i: Incarnation) -> Self {
        format!("{:016x}", i.0)
    }
}

impl TryFrom<String> for Incarnation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u64::from_str_radix(&text, 16).ok().filter(|_| hex);
        number
            .map(Self)
            .ok_or_else(|| "an incarnation is 16 hexadecimal digits".into())
    }
}

/// A login in a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) session: SessionId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<DeviceId>,
    pub(crate) gate: GateId,
    pub(crate) incarnation: Incarnation,
    /// Another has its place. It stays until its gate has closed it: whoever was to tell the
    /// gate may have died.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) replaced: bool,
}

impl Entry {
    pub(crate) fn kept(&self) -> KeptLogin {
        KeptLogin {
            gate: self.gate.clone(),
            session: self.session,
            device: self.device.clone(),
        }
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        self.session == other.session && self.is_of(&other.gate, other.incarnation)
    }

    pub(crate) fn is_of(&self, gate: &GateId, incarnation: Incarnation) -> bool {
        self.incarnation == incarnation && self.gate == *gate
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    v: u32,
    user: UserId,
    /// The oldest first.
    pub(crate) logins: Vec<Entry>,
}

/// A record that this program does not understand.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a user's record cannot be read: {0}")]
pub(crate) struct Unreadable(String);

/// A record that would be too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Record {
    pub(crate) fn new(user: UserId) -> Self {
        Self {
            v: VERSION,
            user,
            logins: Vec::new(),
        }
    }

    /// The key that a user's record is under: a name may be any text.
    pub(crate) fn key(user: &UserId) -> String {
        format!("u.{}", hash(user))
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Unreadable> {
        if value.len() > MAX_RECORD {
            return Err(Unreadable("it is too long".into()));
        }
        let record: Self = serde_json::from_slice(value).map_err(|e| Unreadable(e.to_string()))?;
        if record.v != VERSION {
            return Err(Unreadable(format!("its version is {}", record.v)));
        }
        Ok(record)
    }

    /// That of `user`; a new one where there is none.
    pub(crate) fn of(user: &UserId, value: Option<&Bytes>) -> Result<Self, Unreadable> {
        let Some(value) = value else {
            return Ok(Self::new(user.clone()));
        };
        let record = Self::decode(value)?;
        match record.user == *user {
            true => Ok(record),
            false => Err(Unreadable("it is another user's".into())),
        }
    }

    pub(crate) fn user(&self) -> &UserId {
        &self.user
    }

    /// Adds a login. Where there is no room those that were replaced are forgotten first.
    pub(crate) fn add(&mut self, entry: Entry) -> Result<Bytes, Full> {
        self.logins.push(entry);
        loop {
            if self.logins.len() <= MAX_KEPT_LOGINS
                && let Some(value) = self.encode()
            {
                return Ok(value);
            }
            let replaced = self.logins.iter().position(|e| e.replaced);
            self.logins.remove(replaced.ok_or(Full)?);
        }
    }

    /// `None` if it is too long.
    pub(crate) fn encode(&self) -> Option<Bytes> {
        // Strings and numbers: nothing that could fail.
        let text = serde_json::to_vec(self).ok()?;
        (text.len() <= MAX_RECORD).then(|| text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(session: u128, gate: &str) -> Entry {
        Entry {
            session: SessionId(session),
            device: DeviceId::new("phone").ok(),
            gate: GateId::new(gate).unwrap(),
            incarnation: Incarnation(7),
            replaced: false,
        }
    }

    fn user() -> UserId {
        UserId::new("ann").unwrap()
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        let mut record = Record::new(user());
        record.add(entry(1, "a")).unwrap();
        let mut replaced = entry(2, "b");
        replaced.replaced = true;
        replaced.device = None;
        let value = record.add(replaced).unwrap();
        let text = std::str::from_utf8(&value).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"v":1,"user":"ann","logins":[{"session":"00000000000000000000000000000001","#,
                r#""device":"phone","gate":"a","incarnation":"0000000000000007"},"#,
                r#"{"session":"00000000000000000000000000000002","gate":"b","#,
                r#""incarnation":"0000000000000007","replaced":true}]}"#
            )
        );
        assert_eq!(Record::of(&user(), Some(&value)).unwrap(), record);
    }

    #[test]
    fn what_is_no_record_of_the_user_is_not_taken_for_one() {
        for text in [
            "",
            "{}",
            r#"{"v":2,"user":"ann","logins":[]}"#,
            r#"{"v":1,"user":"bob","logins":[]}"#,
            r#"{"v":1,"user":"ann","logins":[{"session":"1","gate":"a.b","incarnation":"x"}]}"#,
        ] {
            let value = Bytes::from_static(text.as_bytes());
            assert!(Record::of(&user(), Some(&value)).is_err(), "{text}");
        }
        let long = Bytes::from(vec![b' '; MAX_RECORD + 1]);
        assert!(Record::decode(&long).is_err());
    }

    #[test]
    fn a_record_is_bounded_and_gives_up_the_replaced_first() {
        let mut record = Record::new(user());
        for i in 0..MAX_KEPT_LOGINS as u128 {
            record.add(entry(i, "a")).unwrap();
        }
        assert_eq!(record.clone().add(entry(99, "a")), Err(Full));
        record.logins[5].replaced = true;
        record.add(entry(99, "a")).unwrap();
        assert_eq!(record.logins.len(), MAX_KEPT_LOGINS);
        assert!(record.logins.iter().all(|e| !e.replaced));
    }

    #[test]
    fn a_key_is_safe_whatever_the_name() {
        for name in ["a.b", "*", ">", " ", "u1", "ä/ö", &"x".repeat(64)] {
            let Ok(user) = UserId::new(name) else {
                continue;
            };
            let key = Record::key(&user);
            assert_eq!(key.len(), 2 + 43);
            assert!(
                key[2..]
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            );
        }
    }
}
