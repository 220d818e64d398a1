//! What is never shown.

use crate::config::key::{Key, Kind, Reader, Shown, Value};
use crate::config::tree::{Data, Node};
use crate::secret::{REDACTED, Secret};

impl Value for Secret {
    fn kind() -> Kind {
        Kind::Secret
    }

    fn expected(key: &Key) -> String {
        match key.range {
            Some((least, most)) => format!("a secret of {least} to {most} bytes"),
            None => "a secret".to_owned(),
        }
    }

    fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
        let Data::Text(text) = &node.data else {
            return reader.wrong_type(node, node.data.type_name(), &key.expected());
        };
        match fault(text, key.range) {
            None => Some(Self::new(text)),
            Some(found) => reader.wrong_type(node, &found, &key.expected()),
        }
    }

    fn shown(&self) -> Shown {
        Shown::text(REDACTED)
    }
}

/// What is wrong with a secret, if anything is.
pub(crate) fn fault(text: &str, range: Option<(u64, u64)>) -> Option<String> {
    let (least, most) = range.unwrap_or((1, u64::MAX));
    if text == REDACTED {
        return Some(format!(
            "{REDACTED}, which `config print` writes in place of one"
        ));
    }
    match text.len() as u64 {
        0 => Some("nothing".to_owned()),
        length if length < least || length > most => Some(format!("{length} bytes")),
        _ => None,
    }
}
