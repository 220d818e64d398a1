//! Values that a configuration file writes in a way of its own.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, de::value::StrDeserializer};
use tidegate::Rate;

/// A time, as `"500ms"`, `"10s"`, `"5m"`, `"2h"` or `"1d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

/// How a time is written.
const TIME: &str = "a time such as \"500ms\", \"10s\", \"5m\", \"2h\" or \"1d\"";

impl Time {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let time = number.checked_mul(milliseconds)?;
        Some(Self(Duration::from_millis(time)))
    }
}

impl From<Time> for Duration {
    fn from(time: Time) -> Self {
        time.0
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(TIME)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                let wrong = || E::invalid_value(de::Unexpected::Str(text), &self);
                Time::parse(text).ok_or_else(wrong)
            }
        }
        from.deserialize_str(Text)
    }
}

/// A rate, as a number per second or as `{ per_second = 100, burst = 200 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateValue(Rate);

impl<'de> Deserialize<'de> for RateValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(RateVisitor)
    }
}

struct RateVisitor;

impl<'de> Visitor<'de> for RateVisitor {
    type Value = RateValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number per second or { per_second = N, burst = N }")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<RateValue, E> {
        let wrong = |_| E::invalid_value(de::Unexpected::Signed(number), &self);
        let per_second = u32::try_from(number).map_err(wrong)?;
        Ok(RateValue(Rate::per_second(per_second)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RateValue, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            per_second: u32,
            burst: Option<u32>,
        }
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(RateValue(Rate {
            per_second: table.per_second,
            burst: table.burst.unwrap_or(table.per_second),
        }))
    }
}

/// A value that can be switched off with `"off"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OrOff<T> {
    Off,
    On(T),
}

impl From<OrOff<Time>> for Option<Duration> {
    fn from(value: OrOff<Time>) -> Self {
        match value {
            OrOff::Off => None,
            OrOff::On(time) => Some(time.0),
        }
    }
}

impl From<OrOff<RateValue>> for Option<Rate> {
    fn from(value: OrOff<RateValue>) -> Self {
        match value {
            OrOff::Off => None,
            OrOff::On(rate) => Some(rate.0),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrOff<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OrOff<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or \"off\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<OrOff<T>, E> {
                match text {
                    "off" => Ok(OrOff::Off),
                    _ => T::deserialize(StrDeserializer::new(text)).map(OrOff::On),
                }
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<OrOff<T>, E> {
                T::deserialize(de::value::I64Deserializer::new(number)).map(OrOff::On)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OrOff<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(OrOff::On)
            }
        }
        from.deserialize_any(Either(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let ms = |text| Time::parse(text).map(|time| time.0.as_millis());
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("10s"), Some(10_000));
        assert_eq!(ms("5m"), Some(300_000));
        assert_eq!(ms("2h"), Some(7_200_000));
        assert_eq!(ms("1d"), Some(86_400_000));
        for wrong in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "1 s",
            "10S",
            "99999999999999999999s",
            "1s1",
        ] {
            assert_eq!(ms(wrong), None, "{wrong}");
        }
        assert_eq!(ms("18446744073709551615d"), None, "does not wrap");
    }
}
