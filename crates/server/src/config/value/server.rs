//! The address of a NATS server.

use crate::config::key::{Key, Kind, Reader, Shown, Value};
use crate::config::tree::{Data, Node};
use crate::config::value::text::HttpAddress;

/// `nats://host[:port]` or `tls://host[:port]`. Credentials have keys of their own, where
/// they are kept out of what is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BusServer(String);

impl BusServer {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn new(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_scheme = matches!(scheme, "nats" | "tls");
        let has_port = |host: &str| HttpAddress::new(host).is_ok();
        let is = has_port(rest) || has_port(&format!("{rest}:4222"));
        (is_scheme && is).then(|| Self(text.to_owned()))
    }
}

impl Default for BusServer {
    fn default() -> Self {
        Self("nats://127.0.0.1:4222".to_owned())
    }
}

impl Value for BusServer {
    fn kind() -> Kind {
        Kind::Text
    }

    fn expected(_: &Key) -> String {
        "a server such as \"nats://127.0.0.1:4222\" or \"tls://nats.example:4222\"".to_owned()
    }

    fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
        let Data::Text(text) = &node.data else {
            return reader.wrong(node, &key.expected());
        };
        // What stands before an @ is not shown.
        if text.contains('@') {
            let expected = format!(
                "{}; user, password and token have keys of their own",
                key.expected()
            );
            return reader.wrong_type(node, "a URL with credentials", &expected);
        }
        match Self::new(text) {
            Some(server) => Some(server),
            None => reader.wrong(node, &key.expected()),
        }
    }

    fn shown(&self) -> Shown {
        Shown::text(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for right in [
            "nats://127.0.0.1:4222",
            "nats://nats-1",
            "tls://nats.example:443",
            "nats://[::1]:4222",
            "tls://[::1]",
        ] {
            assert!(BusServer::new(right).is_some(), "{right}");
        }
        for wrong in [
            "",
            "127.0.0.1:4222",
            "http://a:1",
            "nats://",
            "nats://:4222",
            "nats://a:65536",
            "nats://a:1/path",
            "nats://a b:1",
            "nats://::1:4222",
            "NATS://a",
        ] {
            assert!(BusServer::new(wrong).is_none(), "{wrong}");
        }
    }
}
