//! Addresses of servers that the gate connects to.

use crate::config::key::{Key, Kind, Reader, Shown, Value};
use crate::config::tree::{Data, Node};
use crate::config::value::text::HttpAddress;

/// Declares types of addresses: the default, what is expected, and whether a text is one.
/// Credentials have keys of their own, where they are kept out of what is printed.
macro_rules! servers {
    ($($(#[doc = $doc:literal])+ $name:ident, $default:literal, $expected:literal, $is:expr;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) struct $name(String);

        impl $name {
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }

            fn new(text: &str) -> Option<Self> {
                let is: fn(&str) -> bool = $is;
                is(text).then(|| Self(text.to_owned()))
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self($default.to_owned())
            }
        }

        impl Value for $name {
            fn kind() -> Kind {
                Kind::Text
            }

            fn expected(_: &Key) -> String {
                $expected.to_owned()
            }

            fn read(node: &Node, key: &Key, reader: &mut Reader) -> Option<Self> {
                let Data::Text(text) = &node.data else {
                    return reader.wrong(node, &key.expected());
                };
                // What stands before an @ is not shown.
                if text.contains('@') {
                    let expected = key.expected() + "; credentials have keys of their own";
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
    )+};
}

servers! {
    /// A NATS server.
    NatsServer, "nats://127.0.0.1:4222",
        "a server such as \"nats://127.0.0.1:4222\" or \"tls://nats.example:4222\"",
        |text| {
            let after = |scheme| text.strip_prefix(scheme);
            after("nats://").or(after("tls://")).is_some_and(is_host)
        };

    /// A Redis.
    RedisServer, "redis://127.0.0.1:6379",
        "a server such as \"redis://127.0.0.1:6379\", \"rediss://redis.example:6379\" (TLS) or \"unix:///run/redis.sock\"",
        |text| {
            let after = |scheme| text.strip_prefix(scheme);
            match after("unix://") {
                Some(path) => path.starts_with('/') && !path.contains(char::is_control),
                None => after("redis://").or(after("rediss://")).is_some_and(is_host),
            }
        };
}

impl RedisServer {
    pub(crate) fn has_tls(&self) -> bool {
        self.0.starts_with("rediss://")
    }
}

/// A host, with a port or without.
fn is_host(text: &str) -> bool {
    let has_port = |text: &str| HttpAddress::new(text).is_ok();
    has_port(text) || has_port(&format!("{text}:1"))
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
            assert!(NatsServer::new(right).is_some(), "{right}");
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
            assert!(NatsServer::new(wrong).is_none(), "{wrong}");
        }
        for right in ["redis://a:1", "rediss://a", "unix:///run/redis.sock"] {
            assert!(RedisServer::new(right).is_some(), "{right}");
        }
        for wrong in [
            "redis://a/1",
            "redis://a?x",
            "unix://run",
            "nats://a",
            "a:1",
        ] {
            assert!(RedisServer::new(wrong).is_none(), "{wrong}");
        }
    }
}
