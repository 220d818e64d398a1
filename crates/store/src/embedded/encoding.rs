//! Settings as bytes: for each pair the key's length, the key, the value's length and
//! the value; lengths as 16 bits, little-endian.

use std::collections::BTreeMap;

use tidegate::Settings;
use tidegate::store::StoreError;

/// The pairs of `settings`, one after the other.
pub(crate) fn encode(settings: &Settings) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(settings.size() + 4 * settings.len());
    for text in settings.iter().flat_map(|(key, value)| [key, value]) {
        // Settings have 16 KiB in all.
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// Reads what [`encode`] wrote, and checks it.
pub(crate) fn decode(mut bytes: &[u8]) -> Result<Settings, StoreError> {
    let mut pairs = BTreeMap::new();
    while !bytes.is_empty() {
        let key = text(&mut bytes)?;
        let value = text(&mut bytes)?;
        pairs.insert(key.to_owned(), value.to_owned());
    }
    Settings::try_from(pairs).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, StoreError> {
    let cut_short = || StoreError::Corrupt("they are cut short".into());
    let (length, rest) = bytes.split_first_chunk::<2>().ok_or_else(cut_short)?;
    let length = usize::from(u16::from_le_bytes(*length));
    let (text, rest) = rest.split_at_checked(length).ok_or_else(cut_short)?;
    *bytes = rest;
    std::str::from_utf8(text).map_err(|_| StoreError::Corrupt("they are not UTF-8".into()))
}
