//! Times, rates, and what can be switched off.

use std::fmt;
use std::time::Duration;

use tidegate::Rate;

use crate::config::key::{Key, Kind, Reader, Shown, Value, section};
use crate::config::tree::{Data, Node};

/// A time, as `"500ms"`, `"10s"`, `"5m"`, `"2h"` or `"1d"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

/// The units of a time, the largest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Time {
    /// From seconds.
    pub(crate) const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let time = number.checked_mul(*milliseconds)?;
        Some(Self(Duration::from_millis(time)))
    }

    fn milliseconds(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.milliseconds();
        let exact = UNITS
            .iter()
            .find(|(_, unit)| all >= *unit && all.is_multiple_of(*unit));
        let (name, unit) = exact.unwrap_or(&("ms", 1));
        write!(f, "{}{name}", all / unit)
    }
}

impl From<Duration> for Time {
    fn from(time: Duration) -> Self {
        Self(time)
    }
}

impl From<Time> for Duration {
    fn from(time: Time) -> Self {
        time.0
    }
}

impl Value for Time {
    fn kind() -> Kind {
        Kind::Text
    }

    fn expected(key: &Key) -> String {
        let range = key.range.map(|(least, most)| {
            let [least, most] = [least, most].map(|ms| Time(Duration::from_millis(ms)));
            format!(" from {least} to {most}")
        });
        let range = range.unwrap_or_default();
        format!("a time{range} with its unit (ms, s, m, h, d), such as \"10s\"")
    }

    fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
        let time = match &node.data {
            Data::Text(text) => Time::parse(text),
            _ => None,
        };
        let (least, most) = key.range.unwrap_or((0, u64::MAX));
        match time.filter(|time| (least..=most).contains(&time.milliseconds())) {
            Some(time) => Some(time),
            None => reader.wrong(node, &key.expected()),
        }
    }

    fn shown(&self) -> Shown {
        Shown::text(self.to_string())
    }
}

section! {
    /// A rate.
    RateConfig {
        /// How many in a second.
        per_second: u32 => range(1, u32::MAX.into()).example("100"),
        /// How many at once after a quiet time.
        burst: Option<u32> = None => range(1, u32::MAX.into()).unset("as many as per_second").example("200"),
    }
}

/// A rate, as a number per second or as `{ per_second = 100, burst = 200 }`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RateValue(RateConfig);

impl RateValue {
    fn rate(&self) -> Rate {
        let mut rate = Rate::per_second(self.0.per_second);
        rate.burst = self.0.burst.unwrap_or(rate.burst);
        rate
    }
}

impl Value for RateValue {
    fn kind() -> Kind {
        Kind::Table {
            keys: <RateConfig as crate::config::key::Section>::keys,
            alone: false,
        }
    }

    fn expected(_: &Key) -> String {
        "a whole number per second of at least 1, or { per_second = 100, burst = 200 }".to_owned()
    }

    fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
        let per_second = match node.data {
            Data::Table(_) => return RateConfig::read(node, key, reader).map(Self),
            Data::Integer(number) => u32::try_from(number).ok().filter(|number| *number > 0),
            _ => None,
        };
        match per_second {
            Some(per_second) => Some(Self(RateConfig {
                per_second,
                burst: None,
            })),
            None => reader.wrong(node, &key.expected()),
        }
    }

    fn shown(&self) -> Shown {
        match self.0.burst {
            None => self.0.per_second.shown(),
            Some(_) => self.0.shown(),
        }
    }
}

/// A value that can be switched off with `"off"`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum OrOff<T> {
    #[default]
    Off,
    On(T),
}

impl<T> OrOff<T> {
    /// What it is, unless it is off.
    pub(crate) fn on(&self) -> Option<&T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl<T: From<U>, U> From<Option<U>> for OrOff<T> {
    fn from(value: Option<U>) -> Self {
        value.map_or(Self::Off, |value| Self::On(value.into()))
    }
}

impl From<OrOff<Time>> for Option<Duration> {
    fn from(value: OrOff<Time>) -> Self {
        value.on().map(|time| time.0)
    }
}

impl From<OrOff<RateValue>> for Option<Rate> {
    fn from(value: OrOff<RateValue>) -> Self {
        value.on().map(RateValue::rate)
    }
}

impl From<Rate> for RateValue {
    fn from(rate: Rate) -> Self {
        Self(RateConfig {
            per_second: rate.per_second,
            burst: (rate.burst != rate.per_second).then_some(rate.burst),
        })
    }
}

impl<T: Value> Value for OrOff<T> {
    fn kind() -> Kind {
        match T::kind() {
            Kind::Table { keys, .. } => Kind::Table { keys, alone: false },
            other => other,
        }
    }

    fn expected(key: &Key) -> String {
        format!("\"off\" or {}", T::expected(key))
    }

    fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
        match &node.data {
            Data::Text(text) if text == "off" => Some(Self::Off),
            _ => T::read(node, key, reader).map(Self::On),
        }
    }

    fn shown(&self) -> Shown {
        match self {
            Self::Off => Shown::text("off"),
            Self::On(value) => value.shown(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let ms = |text| Time::parse(text).map(|time| time.0.as_millis());
        for (text, expected, shown) in [
            ("500ms", 500, "500ms"),
            ("10s", 10_000, "10s"),
            ("90s", 90_000, "90s"),
            ("60s", 60_000, "1m"),
            ("5m", 300_000, "5m"),
            ("2h", 7_200_000, "2h"),
            ("24h", 86_400_000, "1d"),
            ("0s", 0, "0ms"),
        ] {
            assert_eq!(ms(text), Some(expected));
            assert_eq!(Time::parse(text).unwrap().to_string(), shown);
        }
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
            "18446744073709551615d",
        ] {
            assert_eq!(ms(wrong), None, "{wrong}");
        }
    }
}
