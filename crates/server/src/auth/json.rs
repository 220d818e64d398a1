//! JSON objects of which each name occurs once.
//!
//! What two readers of one token could understand differently is refused: of a name that
//! occurs twice some take the first value and some the last.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// A JSON object without repeated names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object<T>(pub(super) BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<T>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name occurs twice"));
                    }
                }
                Ok(Object(members))
            }
        }
        from.deserialize_map(Members(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_however_they_are_written() {
        let read = |text| serde_json::from_str::<Object<u8>>(text).ok();
        assert_eq!(read("{}").unwrap().0.len(), 0);
        assert_eq!(read(r#"{"a":1,"A":2}"#).unwrap().0.len(), 2);
        for wrong in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            "[]",
            "1",
            r#"{"a":1}{}"#,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
