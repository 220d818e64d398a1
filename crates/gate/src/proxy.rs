//! Who is believed about whose connection it is: the proxies in front of a listener.
//!
//! A connection's peer is who holds the socket's other end. A proxy that is trusted says whose
//! connection it brings, by the PROXY protocol before anything else, by an HTTP header in the
//! upgrade request, or both; then the client that a PROXY header names must be trusted itself
//! for its HTTP header to count. Nobody else is believed.

use std::fmt;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;
use tidegate_protocol::ForwardedHeader;

/// Where proxies are that are believed: a network (`10.0.0.0/8`), one address, or `unix` for
/// peers of Unix-domain listeners.
///
/// IPv4 addresses in IPv6 clothes are taken for what they are: `::ffff:10.0.0.0/104` is
/// `10.0.0.0/8`, and `::/0` has no IPv4 address in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrustedNetwork(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Net(IpNet),
    Unix,
}

/// A text that is no [`TrustedNetwork`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrustedNetworkError {
    /// The address is not an IP address. Host names are not looked up.
    #[error("{text:?} is not an IP address, a network such as 10.0.0.0/8, or unix")]
    Address {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        why: AddrParseError,
    },
    /// The prefix is not a number of bits that such an address has.
    #[error("{text:?} has no valid prefix length: a number up to {most} follows the slash")]
    Prefix {
        /// What was given.
        text: String,
        /// The longest prefix for such an address.
        most: u8,
    },
    /// The address goes on behind the prefix: one address or the network may be meant.
    #[error("{text:?} is an address with a prefix; the network is {network}")]
    HostBits {
        /// What was given.
        text: String,
        /// The network that the address is in.
        network: TrustedNetwork,
    },
}

impl TrustedNetwork {
    /// Peers of Unix-domain listeners.
    pub const UNIX: Self = Self(Kind::Unix);

    /// Whether the address is in this network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match self.0 {
            Kind::Net(net) => net.contains(&ip.to_canonical()),
            Kind::Unix => false,
        }
    }
}

impl From<IpAddr> for TrustedNetwork {
    fn from(ip: IpAddr) -> Self {
        Self(Kind::Net(ip.to_canonical().into()))
    }
}

impl FromStr for TrustedNetwork {
    type Err = TrustedNetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "unix" {
            return Ok(Self::UNIX);
        }
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (text, None),
        };
        let text = || text.to_owned();
        let ip: IpAddr = ip
            .parse()
            .map_err(|why| TrustedNetworkError::Address { text: text(), why })?;
        let Some(prefix) = prefix else {
            return Ok(ip.into());
        };
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let is_number = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
        let net = is_number.then(|| prefix.parse().ok()).flatten();
        let net = net.and_then(|prefix| IpNet::new(ip, prefix).ok());
        let Some(net) = net else {
            return Err(TrustedNetworkError::Prefix { text: text(), most });
        };
        let network = Self(Kind::Net(canonical(net.trunc())));
        match net == net.trunc() {
            true => Ok(network),
            false => Err(TrustedNetworkError::HostBits {
                text: text(),
                network,
            }),
        }
    }
}

/// A network of IPv4-mapped addresses as the IPv4 network that it is.
fn canonical(net: IpNet) -> IpNet {
    let mapped = net.prefix_len().checked_sub(96);
    match (net.addr().to_canonical(), mapped) {
        (IpAddr::V4(v4), Some(prefix)) if net.addr().is_ipv6() => {
            Ipv4Net::new(v4, prefix).map_or(net, IpNet::V4)
        }
        _ => net,
    }
}

impl fmt::Display for TrustedNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Net(net) => net.fmt(f),
            Kind::Unix => f.write_str("unix"),
        }
    }
}

/// Who is at the other end of a connection, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remote {
    /// IPv4 as itself, whatever the socket is.
    Ip(SocketAddr),
    /// A process on this machine, through a Unix-domain socket.
    Unix,
}

impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(match address.ip().to_canonical() {
            IpAddr::V4(v4) => (v4, address.port()).into(),
            // With its scope.
            IpAddr::V6(_) => address,
        })
    }
}

impl Remote {
    /// The address; the loopback's for a process on this machine.
    pub(crate) fn address(self) -> SocketAddr {
        match self {
            Self::Ip(address) => address,
            Self::Unix => (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }

    /// The address that the connection counts for. A Unix-domain peer has none.
    pub(crate) fn counted(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
}

/// What one listener believes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Proxies {
    pub(crate) trusted: Vec<TrustedNetwork>,
    /// Trusted peers begin with a PROXY header.
    pub(crate) protocol: bool,
    /// Trusted clients tell whose upgrade request it is by this header.
    pub(crate) forwarded: ForwardedHeader,
}

impl Proxies {
    pub(crate) fn trusts(&self, who: Remote) -> bool {
        match who {
            Remote::Unix => self.trusted.contains(&TrustedNetwork::UNIX),
            Remote::Ip(address) => self.trusts_ip(address.ip()),
        }
    }

    pub(crate) fn trusts_ip(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(ip))
    }

    /// Whether this peer must begin with a PROXY header.
    pub(crate) fn sends_header(&self, peer: Remote) -> bool {
        self.protocol && self.trusts(peer)
    }

    /// Whether this client's upgrade request may tell that another one is meant.
    pub(crate) fn forwards(&self, client: Remote) -> bool {
        self.forwarded != ForwardedHeader::Off && self.trusts(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> TrustedNetwork {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn networks_and_who_is_in_them() {
        for (text, canonical, inside, outside) in [
            ("10.0.0.0/8", "10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            (
                "10.0.0.0/8",
                "10.0.0.0/8",
                "::ffff:10.255.0.1",
                "::ffff:11.0.0.1",
            ),
            ("192.0.2.7", "192.0.2.7/32", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "0.0.0.0/0", "::ffff:1.2.3.4", "2001:db8::1"),
            (
                "2001:db8::/32",
                "2001:db8::/32",
                "2001:db8::7",
                "2001:db9::7",
            ),
            (
                "2001:db8::7",
                "2001:db8::7/128",
                "2001:db8::7",
                "2001:db8::8",
            ),
            ("::/0", "::/0", "2001:db8::7", "192.0.2.7"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8", "10.1.2.3", "11.1.2.3"),
            ("::ffff:192.0.2.7", "192.0.2.7/32", "192.0.2.7", "192.0.2.8"),
            ("::ffff:0:0/96", "0.0.0.0/0", "192.0.2.7", "2001:db8::1"),
        ] {
            let net = network(text);
            assert_eq!(net.to_string(), canonical);
            assert_eq!(network(canonical), net);
            assert!(net.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!net.contains(outside.parse().unwrap()), "{text} {outside}");
        }
        assert_eq!(network("unix"), TrustedNetwork::UNIX);
        assert_eq!(TrustedNetwork::UNIX.to_string(), "unix");
    }

    #[test]
    fn what_is_no_network_says_why() {
        for text in [
            "",
            "gate.example",
            "10.0.0",
            "10.0.0.0:80",
            "fe80::1%lo",
            "Unix",
            "[::1]",
        ] {
            let error = text.parse::<TrustedNetwork>().unwrap_err();
            assert!(
                matches!(error, TrustedNetworkError::Address { .. }),
                "{error:?}"
            );
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
        for (text, most) in [
            ("10.0.0.0/", 32),
            ("10.0.0.0/33", 32),
            ("10.0.0.0/+8", 32),
            ("10.0.0.0/8/8", 32),
            ("10.0.0.0/255.0.0.0", 32),
            ("::/129", 128),
            ("::/999", 128),
        ] {
            let error = text.parse::<TrustedNetwork>().unwrap_err();
            let text = text.to_owned();
            assert_eq!(error, TrustedNetworkError::Prefix { text, most });
        }
        for (text, meant) in [
            ("10.0.0.1/8", "10.0.0.0/8"),
            ("2001:db8::1/32", "2001:db8::/32"),
        ] {
            let error = text.parse::<TrustedNetwork>().unwrap_err();
            let (text, network) = (text.to_owned(), network(meant));
            assert!(error.to_string().contains(meant), "{error}");
            assert_eq!(error, TrustedNetworkError::HostBits { text, network });
        }
    }

    #[test]
    fn only_named_networks_are_trusted_and_unix_only_by_name() {
        let ip = |text: &str| Remote::from(text.parse::<SocketAddr>().unwrap());
        let mut proxies = Proxies::default();
        assert!(!proxies.trusts(ip("127.0.0.1:1")) && !proxies.trusts(Remote::Unix));
        proxies.trusted = vec![network("127.0.0.0/8"), network("2001:db8::7")];
        assert!(proxies.trusts(ip("[::ffff:127.9.9.9]:1")));
        assert!(proxies.trusts(ip("[2001:db8::7]:1")));
        assert!(!proxies.trusts(ip("[::1]:1")) && !proxies.trusts(Remote::Unix));
        proxies.trusted = vec![TrustedNetwork::UNIX];
        assert!(proxies.trusts(Remote::Unix) && !proxies.trusts(ip("127.0.0.1:1")));
        // Trust alone says nothing: one of the two must be asked for.
        assert!(!proxies.sends_header(Remote::Unix) && !proxies.forwards(Remote::Unix));
    }

    #[test]
    fn an_address_is_shown_as_what_it_is() {
        let shown = |text: &str| {
            Remote::from(text.parse::<SocketAddr>().unwrap())
                .address()
                .to_string()
        };
        assert_eq!(shown("[::ffff:192.0.2.7]:5"), "192.0.2.7:5");
        assert_eq!(shown("[fe80::1%3]:5"), "[fe80::1%3]:5");
        assert_eq!(Remote::Unix.address().to_string(), "127.0.0.1:0");
    }
}
