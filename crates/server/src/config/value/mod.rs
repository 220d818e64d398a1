//! The types that keys can have.
//!
//! - This file: numbers, true and false, lists, what may be missing.
//! - [`time`]: times, rates, `"off"`. [`text`]: texts of a form. [`choice`]: one of a few.
//! - [`file`]: paths, modes. [`secret`]: what is never shown. [`server`]: whom to connect to.

pub(crate) mod choice;
pub(crate) mod file;
pub(crate) mod secret;
pub(crate) mod server;
pub(crate) mod text;
pub(crate) mod time;

pub(crate) use time::Time;

use super::key::{Key, Kind, Reader, Shown, Value};
use super::tree::{Data, Node};

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn kind() -> Kind {
                Kind::Plain
            }

            fn expected(key: &Key) -> String {
                let (least, most) = key.range.unwrap_or((0, <$type>::MAX as u64));
                whole_number(least, most)
            }

            fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
                let (least, most) = key.range.unwrap_or((0, <$type>::MAX as u64));
                let number = match node.data {
                    Data::Integer(number) => u64::try_from(number).ok(),
                    _ => None,
                };
                let number = number.filter(|number| (least..=most).contains(number));
                match number.and_then(|number| <$type>::try_from(number).ok()) {
                    Some(number) => Some(number),
                    None => reader.wrong(node, &key.expected()),
                }
            }

            fn shown(&self) -> Shown {
                // Numbers of TOML end here.
                let number = i64::try_from(*self).unwrap_or(i64::MAX);
                Shown::Value(toml::Value::Integer(number))
            }
        }
    )*};
}

number!(u16, u32, u64, usize);

fn whole_number(least: u64, most: u64) -> String {
    match most < i64::MAX as u64 {
        true => format!("a whole number from {least} to {most}"),
        false => format!("a whole number of at least {least}"),
    }
}

impl Value for bool {
    fn kind() -> Kind {
        Kind::Plain
    }

    fn expected(_: &Key) -> String {
        "true or false".to_owned()
    }

    fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
        match node.data {
            Data::Bool(value) => Some(value),
            _ => reader.wrong(node, &key.expected()),
        }
    }

    fn shown(&self) -> Shown {
        Shown::Value(toml::Value::Boolean(*self))
    }
}

impl<T: Value> Value for Option<T> {
    fn kind() -> Kind {
        T::kind()
    }

    fn expected(key: &Key) -> String {
        T::expected(key)
    }

    fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
        T::read(node, key, reader).map(Some)
    }

    fn shown(&self) -> Shown {
        self.as_ref().map_or(Shown::Unset, T::shown)
    }
}

impl<T: Value> Value for Vec<T> {
    fn kind() -> Kind {
        match T::kind() {
            Kind::Table { keys, alone: true } => Kind::Tables(keys),
            other => Kind::List(Box::new(other)),
        }
    }

    fn expected(key: &Key) -> String {
        match T::kind() {
            Kind::Table { .. } => format!("a list of tables: [[{}]]", key.name),
            _ => format!("a list, each {}", T::expected(key)),
        }
    }

    fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
        let Data::List(list) = &node.data else {
            // Of tables never the value: there may be secrets in it.
            return match T::kind() {
                Kind::Table { .. } => {
                    reader.wrong_type(node, node.data.type_name(), &key.expected())
                }
                _ => reader.wrong(node, &key.expected()),
            };
        };
        let mut values = Vec::new();
        for (i, element) in list.iter().enumerate() {
            let path = reader.path.index(i);
            let value: Option<T> = reader.below(path, |reader| {
                let value = read_element(element, key, reader)?;
                let shown = T::shown(&value);
                // Tables have rules of their own for what may not be there twice.
                let twice = !matches!(shown, Shown::Table(_))
                    && values.iter().any(|earlier: &T| earlier.shown() == shown);
                if twice {
                    reader.say(element, format!("found {} twice", element.data.shown()));
                }
                Some(value)
            });
            values.extend(value);
        }
        (values.len() == list.len()).then_some(values)
    }

    fn shown(&self) -> Shown {
        if matches!(T::kind(), Kind::Table { .. }) {
            return Shown::Tables(self.iter().map(T::shown).collect());
        }
        let values = self.iter().filter_map(|element| match element.shown() {
            Shown::Value(value) => Some(value),
            _ => None,
        });
        Shown::Value(toml::Value::Array(values.collect()))
    }
}

/// A list in which one can stand alone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OneOrMore<T>(pub(crate) Vec<T>);

impl<T> Default for OneOrMore<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Value> Value for OneOrMore<T> {
    fn kind() -> Kind {
        Vec::<T>::kind()
    }

    fn expected(key: &Key) -> String {
        format!("{}, or a list of such", T::expected(key))
    }

    fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
        let read = match node.data {
            Data::List(_) => Vec::read(node, key, reader),
            _ => T::read(node, key, reader).map(|one| vec![one]),
        };
        read.map(Self)
    }

    fn shown(&self) -> Shown {
        self.0.shown()
    }
}

/// Reads an element, of which something else is expected than of the whole list.
fn read_element<T: Value>(node: &Node, list: &Key, reader: &mut Reader) -> Option<T> {
    let mut element = Key::new::<T>(list.name, list.doc);
    element.range = list.range;
    T::read(node, &element, reader)
}
