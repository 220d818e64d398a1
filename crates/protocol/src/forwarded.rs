//! Whose request it is, as proxies note in HTTP headers: `Forwarded` (RFC 7239) and the
//! older `X-Forwarded-For`.
//!
//! Each proxy adds at the right, and anyone can send a list to begin with. So the list is read
//! from the right, and only as far as the one who wrote it is trusted: the client is the first
//! address from the right that is not a trusted proxy's. What stands to the left of it is not
//! even looked at, so that nothing written there makes a difference.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::ws::upgrade::is_token;

/// Which header tells a WebSocket's client, where a trusted proxy sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum ForwardedHeader {
    /// None.
    #[default]
    Off,
    /// `X-Forwarded-For`: addresses, with or without a port, separated by commas.
    XForwardedFor,
    /// `Forwarded`, its `for` parameters (RFC 7239).
    Forwarded,
}

impl ForwardedHeader {
    /// The header's name.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::XForwardedFor => Some("x-forwarded-for"),
            Self::Forwarded => Some("forwarded"),
        }
    }

    /// The client's address: `peer` is who sent the header, and trusted; `lines` are the values
    /// of the header's lines, in order. The port is 0 where it is not told.
    ///
    /// An entry that names nobody (`unknown`, an obfuscated name, no `for`) is as far as can be
    /// known: the client is then the one that came after it. An entry that cannot be read, with
    /// only trusted ones to its right, makes the whole worthless: the client is then `peer`.
    pub fn client<'a>(
        self,
        lines: impl IntoIterator<Item = &'a [u8]>,
        peer: SocketAddr,
        is_trusted: impl Fn(IpAddr) -> bool,
    ) -> SocketAddr {
        let lines: Vec<&[u8]> = lines.into_iter().collect();
        let mut list = lines.join(&b", "[..]);
        let mut client = peer;
        while let Some(entry) = self.take_last(&mut list) {
            let node = match self {
                Self::Off => return peer,
                Self::XForwardedFor => parse_node(&entry),
                Self::Forwarded => parse_element(&entry),
            };
            match node {
                Some(Node::Address(address)) => client = address,
                Some(Node::Unnamed) => return client,
                None => return peer,
            }
            if !is_trusted(client.ip()) {
                return client;
            }
        }
        client
    }

    /// Takes the last entry that is not empty off the list (RFC 9110 section 5.6.1).
    fn take_last(self, list: &mut Vec<u8>) -> Option<Vec<u8>> {
        loop {
            if list.trim_ascii().is_empty() {
                return None;
            }
            let comma = match self {
                Self::Forwarded => last_comma(list),
                _ => list.iter().rposition(|b| *b == b','),
            };
            let entry = match comma {
                Some(at) => {
                    let entry = list.split_off(at + 1);
                    list.pop();
                    entry
                }
                None => std::mem::take(list),
            };
            let entry = entry.trim_ascii();
            if !entry.is_empty() {
                return Some(entry.to_vec());
            }
        }
    }
}

/// The last comma that is not inside a quoted string. Read from the right: what is wrong with
/// the part that a client wrote cannot reach those that proxies added.
fn last_comma(list: &[u8]) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in list.iter().enumerate().rev() {
        match byte {
            b',' if !quoted => return Some(at),
            b'"' => {
                let escapes = list[..at].iter().rev().take_while(|b| **b == b'\\').count();
                // The first quote from the right ends a string, and its value may end with
                // escaped backslashes; from there on an escaped quote is part of the value.
                if !quoted || escapes % 2 == 0 {
                    quoted = !quoted;
                }
            }
            _ => {}
        }
    }
    None
}

/// What an entry says.
enum Node {
    Address(SocketAddr),
    /// `unknown`, an obfuscated name, or nothing.
    Unnamed,
}

/// One element of `Forwarded`: `name=value` pairs between semicolons (RFC 7239 section 4).
fn parse_element(element: &[u8]) -> Option<Node> {
    let mut rest = element;
    let mut node = None;
    loop {
        rest = rest.trim_ascii_start();
        let name_len = rest.iter().position(|b| *b == b'=')?;
        let name = &rest[..name_len];
        if !is_token(name) {
            return None;
        }
        let value;
        (value, rest) = take_value(&rest[name_len + 1..])?;
        if name.eq_ignore_ascii_case(b"for") {
            // A parameter may come once in an element.
            if node.is_some() {
                return None;
            }
            node = Some(parse_node(&value)?);
        }
        rest = rest.trim_ascii_start();
        match rest.split_first() {
            None => return Some(node.unwrap_or(Node::Unnamed)),
            Some((b';', behind)) if behind.trim_ascii().is_empty() => {
                return Some(node.unwrap_or(Node::Unnamed));
            }
            Some((b';', behind)) => rest = behind,
            Some(_) => return None,
        }
    }
}

/// A token or a quoted string, and what follows it.
fn take_value(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text
            .iter()
            .position(|b| matches!(b, b';' | b' ' | b'\t'))
            .unwrap_or(text.len());
        return is_token(&text[..end]).then(|| (text[..end].to_vec(), &text[end..]));
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b'"' => return Some((value, &quoted[at + 1..])),
            b'\\' => value.push(*bytes.next()?.1),
            _ => value.push(byte),
        }
    }
    None
}

/// A node of RFC 7239 section 6; of `X-Forwarded-For`, which has no grammar, the same and an
/// IPv6 address without brackets.
fn parse_node(text: &[u8]) -> Option<Node> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(v6) = text.parse::<Ipv6Addr>() {
        return Some(address(v6, 0));
    }
    let (name, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (v6, behind) = bracketed.split_once(']')?;
            let port = match behind {
                "" => 0,
                _ => parse_port(behind.strip_prefix(':')?)?,
            };
            return Some(address(v6.parse::<Ipv6Addr>().ok()?, port));
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, parse_port(port)?),
            None => (text, 0),
        },
    };
    if let Ok(v4) = name.parse::<Ipv4Addr>() {
        return Some(address(v4, port));
    }
    let is_obfuscated = |name: &str| name.len() > 1 && name.bytes().all(is_obfuscated_byte);
    let unnamed = name.eq_ignore_ascii_case("unknown")
        || name.strip_prefix('_').is_some_and(|_| is_obfuscated(name));
    unnamed.then_some(Node::Unnamed)
}

fn address(ip: impl Into<IpAddr>, port: u16) -> Node {
    Node::Address(SocketAddr::new(ip.into().to_canonical(), port))
}

/// One to five digits, or an obfuscated one, which says nothing.
fn parse_port(text: &str) -> Option<u16> {
    match text.strip_prefix('_') {
        Some(name) => (!name.is_empty() && name.bytes().all(is_obfuscated_byte)).then_some(0),
        None if text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

fn is_obfuscated_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "10.0.0.1:443";

    fn is_trusted(ip: IpAddr) -> bool {
        matches!(ip, IpAddr::V4(v4) if v4.octets()[0] == 10)
            || ip == "2001:db8::10".parse::<IpAddr>().unwrap()
    }

    fn client(header: ForwardedHeader, lines: &[&str]) -> String {
        let lines = lines.iter().map(|line| line.as_bytes());
        let peer = PEER.parse().unwrap();
        header.client(lines, peer, is_trusted).to_string()
    }

    #[test]
    fn x_forwarded_for() {
        for (lines, expected) in [
            (&[][..], PEER),
            (&[""], PEER),
            (&[" , ,"], PEER),
            (&["192.0.2.7"], "192.0.2.7:0"),
            (&["192.0.2.7:5000"], "192.0.2.7:5000"),
            (&["2001:db8::7"], "[2001:db8::7]:0"),
            (&["[2001:db8::7]"], "[2001:db8::7]:0"),
            (&["[2001:db8::7]:5000"], "[2001:db8::7]:5000"),
            (&["::ffff:192.0.2.7"], "192.0.2.7:0"),
            // Forged by the client, to the left of what the proxy added.
            (&["127.0.0.1, 192.0.2.7"], "192.0.2.7:0"),
            (&["10.0.0.9, 192.0.2.7"], "192.0.2.7:0"),
            (&["!!!\u{fffd}, 192.0.2.7"], "192.0.2.7:0"),
            (&["1.1.1.1", "2.2.2.2", "192.0.2.7"], "192.0.2.7:0"),
            (&["1.1.1.1", "192.0.2.7, 10.0.0.2"], "192.0.2.7:0"),
            (&["192.0.2.7,10.0.0.3 ,\t10.0.0.2"], "192.0.2.7:0"),
            (&["192.0.2.7, 2001:db8::10,"], "192.0.2.7:0"),
            (&["192.0.2.7, ::ffff:10.0.0.3"], "192.0.2.7:0"),
            // Proxies only: the farthest.
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3:0"),
            // As far as can be known.
            (&["unknown"], PEER),
            (&["192.0.2.7, unknown, 10.0.0.2"], "10.0.0.2:0"),
            (&["192.0.2.7, _hidden, 10.0.0.2"], "10.0.0.2:0"),
            // Cannot be read.
            (&["192.0.2.7, what, 10.0.0.2"], PEER),
            (&["192.0.2.7, 10.0.0"], PEER),
            (&["192.0.2.256"], PEER),
            (&["192.0.2.7:"], PEER),
            (&["192.0.2.7:70000"], PEER),
            (&["192.0.2.7:+5"], PEER),
            (&["[2001:db8::7"], PEER),
            (&["[2001:db8::7]5"], PEER),
            (&["[192.0.2.7]"], PEER),
            (&["fe80::1%eth0"], PEER),
            (&["\"192.0.2.7\""], PEER),
            (&["gate.example"], PEER),
        ] {
            assert_eq!(
                client(ForwardedHeader::XForwardedFor, lines),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn forwarded() {
        for (lines, expected) in [
            (&[][..], PEER),
            (&["for=192.0.2.7"], "192.0.2.7:0"),
            (&["For=\"192.0.2.7:5000\""], "192.0.2.7:5000"),
            (&["FOR=\"[2001:db8::7]\""], "[2001:db8::7]:0"),
            (
                &["for=\"[2001:db8::7]:5000\";proto=https"],
                "[2001:db8::7]:5000",
            ),
            (&["proto=https; for=192.0.2.7 ;by=_gate;"], "192.0.2.7:0"),
            (&["for=\"192.0.2.7:_port\""], "192.0.2.7:0"),
            (&["for=\"\\192.0\\.2.7\""], "192.0.2.7:0"),
            (&["for=1.1.1.1, for=192.0.2.7, for=10.0.0.2"], "192.0.2.7:0"),
            (&["for=1.1.1.1", "for=192.0.2.7"], "192.0.2.7:0"),
            (&["for=10.0.0.3,for=10.0.0.2"], "10.0.0.3:0"),
            // Forged, to the left of what the proxy added: quotes that do not end, too.
            (&["for=\"1.1.1.1", "for=192.0.2.7"], "192.0.2.7:0"),
            (&["\\\", for=1.1.1.1\\", "for=192.0.2.7"], "192.0.2.7:0"),
            (&["for=\"1.1.1.1, for=192.0.2.7;host=\"a\""], "192.0.2.7:0"),
            // What the proxy quotes of the client's is not read as its own words.
            (&["for=192.0.2.7;host=\"a, for=1.1.1.1\""], "192.0.2.7:0"),
            (
                &["for=192.0.2.7;host=\"a\\\", for=1.1.1.1;x=\\\"y\""],
                "192.0.2.7:0",
            ),
            (&["for=192.0.2.7;host=\"a\\\\\""], "192.0.2.7:0"),
            (
                &["for=192.0.2.7;host=\"\\\\\\\", for=1.1.1.1\""],
                "192.0.2.7:0",
            ),
            // As far as can be known.
            (&["for=192.0.2.7, for=unknown, for=10.0.0.2"], "10.0.0.2:0"),
            (&["for=192.0.2.7, for=_hidden, for=10.0.0.2"], "10.0.0.2:0"),
            (&["for=192.0.2.7, for=\"_hidden:_port\""], PEER),
            (&["for=192.0.2.7, proto=https"], PEER),
            // Cannot be read.
            (&["192.0.2.7"], PEER),
            (&["for=192.0.2.7:5000"], PEER),
            (&["for=[2001:db8::7]"], PEER),
            (&["for=\"192.0.2.7"], PEER),
            (&["for=192.0.2.7\""], PEER),
            (&["for=192.0.2.7;for=1.1.1.1"], PEER),
            (&["for=192.0.2.7 proto=https"], PEER),
            (&["for =192.0.2.7"], PEER),
            (&["for= 192.0.2.7"], PEER),
            (&["for="], PEER),
            (&["=192.0.2.7"], PEER),
            (&["for=\"_\""], PEER),
            (&["for=\"192.0.2.7\\"], PEER),
        ] {
            assert_eq!(
                client(ForwardedHeader::Forwarded, lines),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn off_believes_nothing() {
        assert_eq!(client(ForwardedHeader::Off, &["192.0.2.7"]), PEER);
    }

    proptest! {
        /// Whatever a client sends, it cannot change what the proxy behind it says.
        #[test]
        fn what_a_client_forges_makes_no_difference(
            forged in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
            quotes in "[\"\\\\, ;=for]{0,20}",
            ip in any::<IpAddr>(),
        ) {
            prop_assume!(!is_trusted(ip.to_canonical()));
            let peer = PEER.parse().unwrap();
            let node = if ip.is_ipv4() { format!("{ip}") } else { format!("\"[{ip}]\"") };
            for (header, own) in [
                (ForwardedHeader::XForwardedFor, format!("{ip}, 10.0.0.2")),
                (ForwardedHeader::Forwarded, format!("for={node};host=\"a\\\"b\", for=10.0.0.2")),
            ] {
                let lines = forged.iter().map(Vec::as_slice).chain([quotes.as_bytes(), own.as_bytes()]);
                let client = header.client(lines, peer, is_trusted);
                prop_assert_eq!(client.ip(), ip.to_canonical());
            }
        }
    }
}
