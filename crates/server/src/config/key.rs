//! What a key is: the one description from which come reading, errors and documentation.

use super::model::Config;
use super::problem::{KeyPath, Origin, Problem, did_you_mean, nearest};
use super::tree::{Data, Node, Table};

/// A key of a section.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// What it means, in lines.
    pub(crate) doc: &'static [&'static str],
    pub(crate) kind: Kind,
    /// Smallest and largest value: a number, or milliseconds.
    pub(crate) range: Option<(u64, u64)>,
    /// What can stand after `key =` in a file.
    pub(crate) example: Option<&'static str>,
    /// What happens where it is not given and has no default value.
    pub(crate) unset: &'static str,
    /// Whether it must be given.
    pub(crate) required: bool,
    pub(crate) default: Shown,
    expected: fn(&Key) -> String,
}

/// What may stand in a key, as far as environment, flags and documentation care.
pub(crate) enum Kind {
    /// Text: taken as it is.
    Text,
    /// One of these texts.
    Choice,
    /// Text that is never shown.
    Secret,
    /// What TOML makes of it: numbers, true and false.
    Plain,
    List(Box<Kind>),
    /// A table; `alone` where nothing but a table will do.
    Table {
        keys: fn() -> Vec<Key>,
        alone: bool,
    },
    /// A list of tables.
    Tables(fn() -> Vec<Key>),
}

impl Kind {
    /// Whether text is taken as it is, without the rules of TOML.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::Choice | Self::Secret)
    }

    /// The names of the tables or keys below, if there are any.
    pub(crate) fn keys(&self) -> Option<Vec<Key>> {
        match self {
            Self::Table { keys, .. } | Self::Tables(keys) => Some(keys()),
            _ => None,
        }
    }
}

/// A value as documentation and `config print` show it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shown {
    /// Nothing is set.
    Unset,
    Value(toml::Value),
    Table(Vec<(&'static str, Shown)>),
    Tables(Vec<Shown>),
}

impl Shown {
    /// One that is written as text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Value(toml::Value::String(text.into()))
    }
}

impl Key {
    pub(crate) fn new<T: Value>(name: &'static str, doc: &'static [&'static str]) -> Self {
        Self {
            name,
            doc,
            kind: T::kind(),
            range: None,
            example: None,
            unset: "not set",
            required: false,
            default: Shown::Unset,
            expected: T::expected,
        }
    }

    /// Smallest and largest number.
    pub(crate) fn range(mut self, least: u64, most: u64) -> Self {
        self.range = Some((least, most));
        self
    }

    pub(crate) fn example(mut self, toml: &'static str) -> Self {
        self.example = Some(toml);
        self
    }

    pub(crate) fn unset(mut self, meaning: &'static str) -> Self {
        self.unset = meaning;
        self
    }

    pub(crate) fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(crate) fn default(mut self, default: Shown) -> Self {
        self.default = default;
        self
    }

    /// What this key takes, as a person would say it.
    pub(crate) fn expected(&self) -> String {
        (self.expected)(self)
    }
}

/// A type that a key can have.
pub(crate) trait Value: Sized {
    fn kind() -> Kind;

    /// What is expected in `key`, as a person would say it.
    fn expected(key: &Key) -> String;

    /// Reads it. What is wrong is said to `reader`.
    fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self>;

    fn shown(&self) -> Shown;
}

/// A table with keys of its own. [`section!`] declares them.
pub(crate) trait Section: Default {
    fn keys() -> Vec<Key>;

    /// Reads it; a key that is wrong has its default, and `reader` knows.
    fn read_table(table: &Table, origin: &Origin, reader: &mut Reader) -> Self;

    fn shown_table(&self) -> Vec<(&'static str, Shown)>;
}

impl<S: Section> Value for S {
    fn kind() -> Kind {
        Kind::Table {
            keys: S::keys,
            alone: true,
        }
    }

    fn expected(key: &Key) -> String {
        match key.example {
            Some(example) => format!("a table, such as {example}"),
            None => format!("a table: [{}]", key.name),
        }
    }

    fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
        match &node.data {
            Data::Table(table) => Some(S::read_table(table, &node.origin, reader)),
            // Never the value: there may be secrets in it.
            other => reader.wrong_type(node, other.type_name(), &key.expected()),
        }
    }

    fn shown(&self) -> Shown {
        Shown::Table(self.shown_table())
    }
}

/// Walks the tree, knows where it is, and collects what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) path: KeyPath,
    pub(crate) problems: Vec<Problem>,
}

impl Reader {
    /// Reads what is one step further down.
    pub(crate) fn below<T>(&mut self, path: KeyPath, read: impl FnOnce(&mut Self) -> T) -> T {
        let here = std::mem::replace(&mut self.path, path);
        let done = read(self);
        self.path = here;
        done
    }

    /// Reads one key of a table into `value`.
    pub(crate) fn key<T: Value>(
        &mut self,
        table: &Table,
        origin: &Origin,
        key: &Key,
        value: &mut T,
    ) {
        let path = self.path.key(key.name);
        match table.get(key.name) {
            Some(node) => {
                if let Some(read) = self.below(path, |reader| T::read(node, key, reader)) {
                    *value = read;
                }
            }
            None if key.required => {
                let what = format!("missing; expected {}", key.expected());
                self.problems.push(Problem::new(origin, &path, what));
            }
            None => {}
        }
    }

    /// The keys that a table has and should not.
    pub(crate) fn unknown(&mut self, table: &Table, keys: &[Key]) {
        for (name, node) in table {
            if keys.iter().all(|key| key.name != name) {
                let what = unknown(name, &self.path, keys, &node.origin);
                let problem = Problem::new(&node.origin, &self.path.key(name), what);
                self.problems.push(problem);
            }
        }
    }

    /// Something else was expected than what is there, which may be shown.
    pub(crate) fn wrong<T>(&mut self, node: &Node, expected: &str) -> Option<T> {
        let found = node.data.shown();
        self.wrong_type(node, &found, expected)
    }

    /// Something else was expected than `found`.
    pub(crate) fn wrong_type<T>(&mut self, node: &Node, found: &str, expected: &str) -> Option<T> {
        self.say(node, format!("found {found}, expected {expected}"));
        None
    }

    pub(crate) fn say(&mut self, node: &Node, what: String) {
        let problem = Problem::new(&node.origin, &self.path, what);
        self.problems.push(problem);
    }
}

/// What to say of `name`, which is no key of the table at `here`.
pub(crate) fn unknown(name: &str, here: &KeyPath, keys: &[Key], origin: &Origin) -> String {
    let near = nearest(name, keys.iter().map(|key| key.name));
    let meant = match (near, origin) {
        // In a file one sees where one is.
        (Some(near), Origin::File(..)) => Some(near.to_owned()),
        (near, _) => near
            .map(|near| here.key(near))
            .or_else(|| elsewhere(name))
            .map(|path| match origin {
                Origin::Variable(_) => path.variable(),
                _ => path.to_string(),
            }),
    };
    match meant {
        Some(meant) => format!("unknown key{}", did_you_mean(Some(meant))),
        None => {
            let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
            format!("unknown key, expected one of {}", names.join(", "))
        }
    }
}

/// The one section that has a key of this very name.
fn elsewhere(name: &str) -> Option<KeyPath> {
    let mut found = None;
    for section in Config::keys() {
        let Kind::Table { keys, .. } = section.kind else {
            continue;
        };
        if keys().iter().any(|key| key.name == name) {
            let path = KeyPath::new().key(section.name).key(name);
            if found.replace(path).is_some() {
                return None;
            }
        }
    }
    found
}

/// Declares a section: its type, and with it everything that is said of its keys.
///
/// `key: Type = default => range(1, 9).example("5"),`; without a default the key must be given.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $type:ty $(= $default:expr)? $(=> $($option:ident($($value:expr),*)).+)?,
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct $name {
            $($(#[doc = $doc])+ pub(crate) $key: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $crate::config::key::section!(@default $($default)?),)+ }
            }
        }

        impl $crate::config::key::Section for $name {
            fn keys() -> Vec<$crate::config::key::Key> {
                use $crate::config::key::{Key, Value};
                let default = Self::default();
                vec![$(
                    $crate::config::key::section!(
                        @required
                        Key::new::<$type>(stringify!($key), &[$($doc),+])
                            .default(default.$key.shown())
                            $($(.$option($($value),*))+)?;
                        $($default)?
                    ),
                )+]
            }

            fn read_table(
                table: &$crate::config::tree::Table,
                origin: &$crate::config::problem::Origin,
                reader: &mut $crate::config::key::Reader,
            ) -> Self {
                let keys = Self::keys();
                reader.unknown(table, &keys);
                let mut section = Self::default();
                let mut keys = keys.iter();
                $(if let Some(key) = keys.next() {
                    reader.key(table, origin, key, &mut section.$key);
                })+
                section
            }

            fn shown_table(&self) -> Vec<(&'static str, $crate::config::key::Shown)> {
                use $crate::config::key::Value;
                vec![$((stringify!($key), self.$key.shown()),)+]
            }
        }
    };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
    (@required $key:expr;) => { $key.required() };
    (@required $key:expr; $default:expr) => { $key };
}

pub(crate) use section;
