//! Texts of a certain form: addresses, names, topics and the like.

use std::net::Ipv6Addr;

use tidegate::protocol::ws::policy::{Origins, Policy};
use tidegate::{Exposure, GateId, Topic, TrustedNetwork};

/// Declares types of texts: what is expected, and whether a text is one.
macro_rules! texts {
    ($($(#[doc = $doc:literal])+ $name:ident, $expected:literal, $is:expr;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub(crate) struct $name(String);

        impl $name {
            /// This text, if it is one.
            pub(crate) fn new(text: impl Into<String>) -> Result<Self, &'static str> {
                let text = text.into();
                let is: fn(&str) -> bool = $is;
                match is(&text) {
                    true => Ok(Self(text)),
                    false => Err($expected),
                }
            }

            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl $crate::config::key::Value for $name {
            fn kind() -> $crate::config::key::Kind {
                $crate::config::key::Kind::Text
            }

            fn expected(_: &$crate::config::key::Key) -> String {
                $expected.to_owned()
            }

            fn read(
                node: &$crate::config::tree::Node,
                key: &$crate::config::key::Key,
                reader: &mut $crate::config::key::Reader,
            ) -> Option<Self> {
                let text = match &node.data {
                    $crate::config::tree::Data::Text(text) => Self::new(text).ok(),
                    _ => None,
                };
                match text {
                    Some(text) => Some(text),
                    None => reader.wrong(node, &key.expected()),
                }
            }

            fn shown(&self) -> $crate::config::key::Shown {
                $crate::config::key::Shown::text(&self.0)
            }
        }
    )+};
}

texts! {
    /// A gate's id.
    Id, "1 to 64 of A-Z a-z 0-9 _ -", |text| GateId::new(text).is_ok();

    /// Where clients connect.
    Address, "host:port, [IPv6]:port or unix:/path, such as \"127.0.0.1:3653\"",
        |text| is_host_port(text) || is_unix(text);

    /// Where HTTP is served.
    HttpAddress, "host:port or [IPv6]:port, such as \"127.0.0.1:3656\"", is_host_port;

    /// What people call something.
    Name, "a name of 1 to 64 characters, without control characters",
        |text| (1..=64).contains(&text.chars().count()) && is_plain(text);

    /// A topic that the gate may send.
    FreeTopic, "a topic: text without control characters that does not begin with $",
        |text| Topic::new(text).is_ok_and(|topic| !topic.is_reserved());

    /// The path of a WebSocket.
    UrlPath, "a path that begins with /, without ? and #, such as \"/gate\"",
        |text| Policy { path: text.to_owned(), ..Policy::default() }.validate().is_ok();

    /// Pages that may connect.
    PageOrigin, "an origin such as \"https://example.com\", \"null\" or \"*\"",
        |text| text == "*" || Policy {
            origins: Origins::List(vec![text.to_owned()]), ..Policy::default()
        }.validate().is_ok();

    /// A WebSocket sub-protocol.
    Subprotocol, "a name of letters, digits and !#$%&'*+-.^_`|~",
        |text| Policy {
            subprotocols: vec![text.to_owned()], ..Policy::default()
        }.validate().is_ok();

    /// Whom to believe.
    Network, "a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", an IP address, or \"unix\"",
        |text| text.parse::<TrustedNetwork>().is_ok();

    /// A host that an HTTP request may name.
    Host, "a host name without a port, such as \"gate.example\"", is_host;

    /// What clients may call.
    Exposed, "\"service\" or \"service/method\", each of A-Z a-z 0-9 _ -",
        |text| Exposure::only([text]).is_ok();

    /// Where a client's token is looked for.
    TokenSource, "\"authorization\", \"hello\", \"query:NAME\", \"cookie:NAME\" or \"subprotocol\"",
        |text| text.parse::<crate::auth::settings::TokenSource>().is_ok();

    /// What the subjects of the bus begin with.
    SubjectPrefix, "1 to 3 parts of A-Z a-z 0-9 _ -, each at most 32 long, with a dot between, such as \"prod.games\"",
        |text| text.split('.').count() <= 3 && text.split('.').all(is_subject_token);

    /// What keys in a shared store begin with.
    KeyPrefix, "1 to 64 of A-Z a-z 0-9 . _ -",
        |text| (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));

    /// A text that says something.
    Text, "text that is not empty, without control characters",
        |text| !text.is_empty() && is_plain(text);
}

impl SubjectPrefix {
    /// The one that is used unless another is given.
    pub(crate) fn tidegate() -> Self {
        Self("tidegate".to_owned())
    }
}

impl KeyPrefix {
    /// The one that is used unless another is given.
    pub(crate) fn tidegate() -> Self {
        Self("tidegate".to_owned())
    }
}

fn is_subject_token(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    (1..=32).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// A name of an interface.
fn is_word(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    !text.is_empty() && text.bytes().all(allowed)
}

/// A name or an address of a host; an IPv6 address stands in brackets.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(v6) => v6
            .strip_suffix(']')
            // Behind % is the network interface of an address that needs one.
            .map(|v6| v6.split_once('%').unwrap_or((v6, "-")))
            .is_some_and(|(v6, scope)| v6.parse::<Ipv6Addr>().is_ok() && is_word(scope)),
        None => {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            !text.is_empty() && text.bytes().all(allowed)
        }
    }
}

fn is_host_port(text: &str) -> bool {
    let is_port =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    text.rsplit_once(':')
        .is_some_and(|(host, port)| is_host(host) && is_port(port))
}

/// The length of a socket's path ends where the kernel's structure does.
fn is_unix(text: &str) -> bool {
    const LONGEST: usize = 107;
    text.strip_prefix("unix:").is_some_and(|path| {
        path.starts_with('/') && (2..=LONGEST).contains(&path.len()) && is_plain(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let address = |text: &str| Address::new(text).is_ok();
        let network = |text: &str| Network::new(text).is_ok();
        let source = |text: &str| TokenSource::new(text).is_ok();
        let exposed = |text: &str| Exposed::new(text).is_ok();
        type Rows<'a> = (&'a dyn Fn(&str) -> bool, &'a [&'a str], &'a [&'a str]);
        let rows: [Rows<'_>; 4] = [
            (
                &address,
                &[
                    "127.0.0.1:0",
                    "[::1]:3653",
                    "[::]:1",
                    "gate.example:65535",
                    "localhost:1",
                    "[fe80::1%eth0]:3653",
                    "unix:/run/tidegate/gate.sock",
                ],
                &[
                    "",
                    ":1",
                    "127.0.0.1",
                    "::1:3653",
                    "[1.2.3.4]:1",
                    "a:65536",
                    "a:-1",
                    "a:+1",
                    "a b:1",
                    "tcp://a:1",
                    "unix:relative",
                    "unix:/",
                    "unix:",
                ],
            ),
            (
                &network,
                &["10.0.0.0/8", "::/0", "2001:db8::/32", "192.0.2.1", "unix"],
                &[
                    "",
                    "10.0.0.0/33",
                    "::/129",
                    "10.0.0/8",
                    "a",
                    "10.0.0.0/",
                    "10.0.0.0/+8",
                    "Unix",
                ],
            ),
            (
                &source,
                &["authorization", "query:token", "cookie:id", "subprotocol"],
                &[
                    "",
                    "query",
                    "query:",
                    "cookie:a b",
                    "header:x",
                    "Authorization",
                ],
            ),
            (
                &exposed,
                &["chat", "echo/echo", "a-b_1/C"],
                &["", "/", "a/", "/b", "a/b/c", "a b", "$bye"],
            ),
        ];
        for (is, right, wrong) in rows {
            for text in right {
                assert!(is(text), "{text}");
            }
            for text in wrong {
                assert!(!is(text), "{text}");
            }
        }
    }
}
