//! What travels of a session: an immutable snapshot, replaced when something changes.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::{DeviceId, GateId, InvalidName, UserId};

/// Most bytes of keys and values together in a session's settings.
pub const MAX_SETTINGS: usize = 16 * 1024;

/// A session's identity: 32 hexadecimal digits. The first two are its
/// [lane](Self::lane), the others 120 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(pub u128);

impl SessionId {
    /// An id of these random bits, on a lane.
    pub const fn new(random: u128, lane: u8) -> Self {
        Self((random >> 8) | ((lane as u128) << 120))
    }

    /// Which of its gate's ways to the bus the session keeps for life, so that what it sends
    /// stays in order.
    pub const fn lane(self) -> u8 {
        (self.0 >> 120) as u8
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        u128::from_str_radix(text, 16)
            .ok()
            .filter(|_| hex)
            .map(Self)
            .ok_or(InvalidName {
                kind: "a session id",
                rule: "32 hexadecimal digits",
            })
    }
}

impl TryFrom<String> for SessionId {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> String {
        id.to_string()
    }
}

/// What a client's connection runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A stream of frames.
    Tcp,
    /// One frame in each binary message.
    Ws,
}

impl Network {
    /// `"tcp"` or `"ws"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ws => "ws",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A session's string map. Cloning is cheap; changing copies when shared.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<String, String>",
    into = "BTreeMap<String, String>"
)]
pub struct Settings(Option<Arc<BTreeMap<String, String>>>);

/// Settings that would exceed their bound: nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("settings would have {0} bytes, {MAX_SETTINGS} are allowed")]
pub struct SettingsError(pub usize);

impl Settings {
    /// No settings; allocates nothing.
    pub const fn new() -> Self {
        Self(None)
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.as_ref()?.get(key).map(String::as_str)
    }

    /// All pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .flat_map(|map| map.iter().map(|(k, v)| (k.as_str(), v.as_str())))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes of keys and values together.
    pub fn size(&self) -> usize {
        self.iter().map(|(k, v)| k.len() + v.len()).sum()
    }

    /// Overwrites the keys given and leaves the others. All or nothing.
    pub fn merge<I, K, V>(&mut self, pairs: I) -> Result<(), SettingsError>
    where
        I: IntoIterator<Item = (K, V)>,
        K: Into<String>,
        V: Into<String>,
    {
        self.change(|map| map.extend(pairs.into_iter().map(|(k, v)| (k.into(), v.into()))))
    }

    /// Takes the keys that are not there yet; existing keys win. All or nothing.
    pub fn import(&mut self, other: &Settings) -> Result<(), SettingsError> {
        self.change(|map| {
            for (k, v) in other.iter() {
                if !map.contains_key(k) {
                    map.insert(k.to_owned(), v.to_owned());
                }
            }
        })
    }

    /// Removes `key`; answers whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        if let Some(map) = self.0.as_mut() {
            Arc::make_mut(map).remove(key);
            if map.is_empty() {
                self.0 = None;
            }
        }
        true
    }

    fn change(
        &mut self,
        f: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<(), SettingsError> {
        let mut map = self.0.as_deref().cloned().unwrap_or_default();
        f(&mut map);
        *self = Self::try_from(map)?;
        Ok(())
    }
}

impl TryFrom<BTreeMap<String, String>> for Settings {
    type Error = SettingsError;
    fn try_from(map: BTreeMap<String, String>) -> Result<Self, SettingsError> {
        let size = map.iter().map(|(k, v)| k.len() + v.len()).sum();
        if size > MAX_SETTINGS {
            return Err(SettingsError(size));
        }
        Ok(Self((!map.is_empty()).then(|| Arc::new(map))))
    }
}

impl From<Settings> for BTreeMap<String, String> {
    fn from(settings: Settings) -> Self {
        settings.0.as_deref().cloned().unwrap_or_default()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A session as a service sees it: accompanies each call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The session.
    pub id: SessionId,
    /// The gate that holds it.
    pub gate: GateId,
    /// The user it is bound to; none for a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// The client's device, as far as it is known: who authenticated the client says it, or
    /// else the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Its settings, at most [`MAX_SETTINGS`] bytes.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
    /// The client's address.
    pub ip: IpAddr,
    /// What its connection runs over.
    pub network: Network,
    /// Groups all calls of the session in traces (W3C Trace Context trace-id).
    #[serde(with = "hex128")]
    pub trace_id: u128,
}

impl Snapshot {
    /// Whether the session has no user.
    pub fn is_guest(&self) -> bool {
        self.user.is_none()
    }

    /// The snapshot as JSON, for a bus that leaves the process.
    pub fn encode(&self) -> Vec<u8> {
        // A struct of strings and numbers always serializes.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Like [`encode`](Self::encode), in ASCII without control characters: for headers.
    pub fn encode_ascii(&self) -> String {
        let mut text = Vec::with_capacity(256);
        let mut writer = serde_json::Serializer::with_formatter(&mut text, Ascii);
        // As above; and what is written is ASCII.
        let _ = self.serialize(&mut writer);
        String::from_utf8(text).unwrap_or_default()
    }

    /// Reads what [`encode`](Self::encode) wrote; bounds are checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        serde_json::from_slice(bytes).map_err(|e| SnapshotError(e.to_string()))
    }
}

/// JSON with `\u` in place of what is not ASCII (and of U+007F).
struct Ascii;

impl serde_json::ser::Formatter for Ascii {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let plain = |b: u8| b.is_ascii() && b != 0x7f;
        if fragment.bytes().all(plain) {
            return writer.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            match u8::try_from(c) {
                Ok(b) if plain(b) => writer.write_all(&[b])?,
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Bytes that are not a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a session snapshot: {0}")]
pub struct SnapshotError(String);

mod hex128 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(v: &u128, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{v:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u128, D::Error> {
        let text = String::deserialize(d)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let mut settings = Settings::new();
        settings
            .merge([("name", "ada\n\u{1b}"), ("k", "")])
            .unwrap();
        Snapshot {
            id: SessionId(7),
            gate: GateId::new("gate-1").unwrap(),
            user: Some(UserId::from(42)),
            device: Some(DeviceId::new("phone").unwrap()),
            settings,
            ip: "2001:db8::1".parse().unwrap(),
            network: Network::Ws,
            trace_id: u128::MAX,
        }
    }

    #[test]
    fn round_trip() {
        let s = snapshot();
        assert_eq!(Snapshot::decode(&s.encode()).unwrap(), s);
        let guest = Snapshot {
            user: None,
            device: None,
            settings: Settings::new(),
            ..s
        };
        assert_eq!(Snapshot::decode(&guest.encode()).unwrap(), guest);
    }

    #[test]
    fn ascii() {
        let mut s = snapshot();
        let pairs = [
            ("é", "\u{7f}\u{10ffff}\u{1f600}\r\n\0\"\\/"),
            ("plain", "a"),
        ];
        s.settings.merge(pairs).unwrap();
        let text = s.encode_ascii();
        assert!(text.bytes().all(|b| (b' '..0x7f).contains(&b)), "{text}");
        assert!(text.contains(r"\u00e9") && text.contains(r"\ud83d\ude00"));
        assert_eq!(Snapshot::decode(text.as_bytes()).unwrap(), s);
    }

    #[test]
    fn ids_keep_their_lane() {
        for lane in [0, 1, 255] {
            let id = SessionId::new(u128::MAX / 3, lane);
            assert_eq!(id.lane(), lane);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.0 << 8 >> 8, (u128::MAX / 3) >> 8);
        }
    }

    #[test]
    fn decoding_checks_the_bounds() {
        let mut value: serde_json::Value = serde_json::from_slice(&snapshot().encode()).unwrap();
        value["user"] = "x".repeat(257).into();
        assert!(Snapshot::decode(value.to_string().as_bytes()).is_err());
        value["user"] = "x".into();
        for wrong in ["x".repeat(129), "a\nb".into(), String::new()] {
            value["device"] = wrong.into();
            assert!(Snapshot::decode(value.to_string().as_bytes()).is_err());
        }
        value["device"] = "x".repeat(128).into();
        value["settings"]["big"] = "x".repeat(MAX_SETTINGS).into();
        assert!(Snapshot::decode(value.to_string().as_bytes()).is_err());
        value["settings"]["big"] = "x".into();
        assert!(Snapshot::decode(value.to_string().as_bytes()).is_ok());
    }

    #[test]
    fn settings_merge_import_and_bound() {
        let mut s = Settings::new();
        s.merge([("a", "1"), ("b", "2")]).unwrap();
        let kept = s.clone();
        s.merge([("b", "3")]).unwrap();
        assert_eq!(s.get("b"), Some("3"));
        assert_eq!(kept.get("b"), Some("2"), "a clone does not change");
        s.import(
            &Settings::try_from(BTreeMap::from([
                ("a".to_owned(), "old".to_owned()),
                ("c".to_owned(), "4".to_owned()),
            ]))
            .unwrap(),
        )
        .unwrap();
        assert_eq!((s.get("a"), s.get("c")), (Some("1"), Some("4")));
        let big = "x".repeat(MAX_SETTINGS);
        assert!(s.merge([("d", big)]).is_err());
        assert_eq!(s.len(), 3, "a refused change leaves nothing behind");
        assert!(s.remove("a") && !s.remove("a"));
    }

    #[test]
    fn session_ids_are_32_hex_digits() {
        let id = SessionId(0xabc);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(
            "+0000000000000000000000000000abc"
                .parse::<SessionId>()
                .is_err()
        );
        assert!("abc".parse::<SessionId>().is_err());
    }
}
