//! One of a few words.

use clap::ValueEnum;

use crate::config::key::{Key, Reader, Shown};
use crate::config::problem::{did_you_mean, nearest, one_of};
use crate::config::tree::{Data, Node};

/// The words of a choice.
pub(crate) fn words<T: ValueEnum>() -> Vec<String> {
    let values = T::value_variants().iter();
    let values = values.filter_map(T::to_possible_value);
    values.map(|value| value.get_name().to_owned()).collect()
}

/// What is expected of a choice.
pub(crate) fn expected<T: ValueEnum>() -> String {
    let words: Vec<String> = words::<T>()
        .iter()
        .map(|word| format!("{word:?}"))
        .collect();
    one_of(&words)
}

/// Reads a choice.
pub(crate) fn read<T: ValueEnum>(node: &Node, key: &Key, reader: &mut Reader) -> Option<T> {
    let Data::Text(text) = &node.data else {
        return reader.wrong(node, &key.expected());
    };
    if let Ok(value) = T::from_str(text, false) {
        return Some(value);
    }
    let found = node.data.shown();
    let words = words::<T>();
    let meant = nearest(text, words.iter().map(String::as_str));
    let meant = did_you_mean(meant.map(|word| format!("{word:?}")));
    reader.say(
        node,
        format!("found {found}, expected {}{meant}", key.expected()),
    );
    None
}

/// Makes clap's enumerations types that keys can have: the same words everywhere.
macro_rules! choices {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::config::key::Value for $type {
            fn kind() -> $crate::config::key::Kind {
                $crate::config::key::Kind::Choice
            }

            fn expected(_: &$crate::config::key::Key) -> String {
                $crate::config::value::choice::expected::<$type>()
            }

            fn read(
                node: &$crate::config::tree::Node,
                key: &$crate::config::key::Key,
                reader: &mut $crate::config::key::Reader,
            ) -> Option<Self> {
                $crate::config::value::choice::read(node, key, reader)
            }

            fn shown(&self) -> $crate::config::key::Shown {
                $crate::config::value::choice::shown(self)
            }
        }
    )+};
}

pub(crate) use choices;

/// Writes a choice.
pub(crate) fn shown<T: ValueEnum>(value: &T) -> Shown {
    value
        .to_possible_value()
        .map_or(Shown::Unset, |value| Shown::text(value.get_name()))
}
