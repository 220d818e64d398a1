//! The header that a proxy puts before a connection to say whose it is: the PROXY protocol,
//! versions 1 and 2, as HAProxy's `doc/proxy-protocol.txt` (revision of 2020/03/05) has it.
//!
//! Written here because the reader must stop at the header's end (TLS follows): of the crates
//! there are (`ppp`, `proxy-header`) none says how many bytes are still the header's, and none
//! checks its checksum.
//!
//! What the specification leaves to the receiver: a version 2 header is at most [`MAX_V2`]
//! bytes; datagram families and Unix addresses say nothing about a client; a CRC32c, where there
//! is one beside addresses, must be right; all other additions (TLVs) must be well formed and are
//! skipped. Behind `LOCAL` and `UNSPEC` everything is skipped, as the specification demands.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crc::{CRC_32_ISCSI, Crc, Table};
use thiserror::Error;

/// The longest version 1 header, its line end included (section 2.1).
pub const MAX_V1: usize = 107;
/// The longest version 2 header that is taken: room for a host name, a certificate's name and
/// a proxy's own notes several times over.
pub const MAX_V2: usize = 4096;

/// The shortest version 1 header.
const SHORTEST_V1: &[u8] = b"PROXY UNKNOWN\r\n";
const START_V1: &[u8] = b"PROXY ";
/// Spaces in a version 1 header with addresses.
const SPACES_V1: usize = 5;

const START_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Start, version and command, family, length.
const FIXED_V2: usize = 16;
const TYPE_CRC32C: u8 = 0x03;
/// Two Unix socket paths of 108 bytes.
const UNIX_ADDRESSES: usize = 216;

const CRC32C: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// What the bytes so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header; at least so many more bytes belong to it.
    More(usize),
    /// A whole header.
    Header {
        /// The client's address, where the header tells one. The proxy may speak for itself
        /// (version 2 `LOCAL`), or not know (version 1 `UNKNOWN`, version 2 `UNSPEC`), or have
        /// its client from a Unix socket.
        client: Option<SocketAddr>,
    },
}

/// Why bytes are not a header. The text never repeats them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Neither version begins like this.
    #[error("no PROXY header")]
    Absent,
    /// A line of version 1 that is not one.
    #[error("a malformed PROXY header, version 1")]
    Line,
    /// Longer than [`MAX_V1`] or [`MAX_V2`].
    #[error("a PROXY header that is too long")]
    TooLong,
    /// A version that is not 2, or a command that is neither `LOCAL` nor `PROXY`.
    #[error("a PROXY header of an unknown version or command")]
    Command,
    /// A family and transport that the specification does not have.
    #[error("a PROXY header of an unknown address family")]
    Family,
    /// Shorter than its addresses.
    #[error("a PROXY header too short for its addresses")]
    TooShort,
    /// An addition (TLV) that does not end where the header does.
    #[error("a malformed addition to a PROXY header")]
    Addition,
    /// The CRC32c is not the header's.
    #[error("a PROXY header with a wrong checksum")]
    Checksum,
}

/// Parses the header that begins with `bytes`, none of which may be behind it: read as many
/// as [`Parsed::More`] says, and call again with all of them.
///
/// # Errors
/// The first thing wrong, as soon as it shows.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let begins = |start: &[u8]| {
        let len = bytes.len().min(start.len());
        bytes[..len] == start[..len]
    };
    if begins(START_V2) && !bytes.is_empty() {
        parse_v2(bytes)
    } else if begins(START_V1) {
        parse_v1(bytes)
    } else {
        Err(ProxyError::Absent)
    }
}

// --- version 1: a line of text

fn parse_v1(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let family = bytes.get(START_V1.len()..).unwrap_or_default();
    let is_known = |name: &[u8]| family.iter().zip(name).all(|(a, b)| a == b);
    if ![&b"TCP4 "[..], b"TCP6 ", b"UNKNOWN"]
        .into_iter()
        .any(is_known)
    {
        return Err(ProxyError::Line);
    }
    let more = |n: usize| match MAX_V1.checked_sub(bytes.len()) {
        None | Some(0) => Err(ProxyError::TooLong),
        Some(room) => Ok(Parsed::More(n.min(room))),
    };
    if bytes.len() < SHORTEST_V1.len() && !bytes.contains(&b'\r') {
        return more(SHORTEST_V1.len() - bytes.len());
    }
    let Some(end) = bytes.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
        let spaces = bytes.iter().filter(|b| **b == b' ').count();
        let missing = match bytes.starts_with(b"PROXY UNKNOWN") {
            true => 0,
            // Before each further field there is a space, and a field is not empty.
            false => 2 * SPACES_V1.saturating_sub(spaces),
        };
        return more(missing + 2);
    };
    match &bytes[end..] {
        b"\r" => more(1),
        b"\r\n" => read_line(&bytes[START_V1.len()..end]),
        _ => Err(ProxyError::Line),
    }
}

fn read_line(line: &[u8]) -> Result<Parsed, ProxyError> {
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(Parsed::Header { client: None });
    }
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Line)?;
    let mut fields = line.split(' ');
    let mut next = || fields.next().ok_or(ProxyError::Line);
    let family = next()?;
    let address = |text| match family {
        "TCP4" => parse_ip::<Ipv4Addr>(text),
        "TCP6" => parse_ip::<Ipv6Addr>(text),
        _ => Err(ProxyError::Line),
    };
    let (source, _) = (address(next()?)?, address(next()?)?);
    let (port, _) = (parse_port(next()?)?, parse_port(next()?)?);
    match fields.next() {
        None => Ok(header_of(source, port)),
        Some(_) => Err(ProxyError::Line),
    }
}

fn parse_ip<T: FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, ProxyError> {
    let ip = text.parse::<T>().map_err(|_| ProxyError::Line)?;
    Ok(ip.into())
}

/// Digits without a sign or leading zeros.
fn parse_port(text: &str) -> Result<u16, ProxyError> {
    let is_canonical = text == "0" || text.starts_with(|c: char| matches!(c, '1'..='9'));
    match text.parse() {
        Ok(port) if is_canonical => Ok(port),
        _ => Err(ProxyError::Line),
    }
}

fn header_of(ip: IpAddr, port: u16) -> Parsed {
    let client = SocketAddr::new(ip.to_canonical(), port);
    Parsed::Header {
        client: Some(client),
    }
}

// --- version 2: binary

fn parse_v2(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    if let Some(&command) = bytes.get(12)
        && !matches!(command, LOCAL | PROXY)
    {
        return Err(ProxyError::Command);
    }
    let Some(fixed) = bytes.first_chunk::<FIXED_V2>() else {
        return Ok(Parsed::More(FIXED_V2 - bytes.len()));
    };
    let (command, family) = (fixed[12], fixed[13]);
    let len = FIXED_V2 + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if len > MAX_V2 {
        return Err(ProxyError::TooLong);
    }
    let addresses = match (command, family) {
        (LOCAL, _) | (_, 0x00) => Addresses::None,
        (_, 0x11) => Addresses::Ipv4,
        (_, 0x21) => Addresses::Ipv6,
        (_, 0x12) => Addresses::Skipped(12),
        (_, 0x22) => Addresses::Skipped(36),
        (_, 0x31 | 0x32) => Addresses::Skipped(UNIX_ADDRESSES),
        _ => return Err(ProxyError::Family),
    };
    if len < FIXED_V2 + addresses.len() {
        return Err(ProxyError::TooShort);
    }
    match bytes.len().cmp(&len) {
        std::cmp::Ordering::Less => Ok(Parsed::More(len - bytes.len())),
        std::cmp::Ordering::Equal => addresses.read(bytes),
        // More was read than was asked for.
        std::cmp::Ordering::Greater => Err(ProxyError::TooLong),
    }
}

/// Version 2, command `LOCAL`.
const LOCAL: u8 = 0x20;
/// Version 2, command `PROXY`.
const PROXY: u8 = 0x21;

/// What stands behind the fixed part.
#[derive(Clone, Copy)]
enum Addresses {
    /// Nothing that may be looked at.
    None,
    Ipv4,
    Ipv6,
    /// So many bytes that say nothing about a client of a stream.
    Skipped(usize),
}

impl Addresses {
    fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Ipv4 => 12,
            Self::Ipv6 => 36,
            Self::Skipped(len) => len,
        }
    }

    /// Reads a whole header.
    fn read(self, header: &[u8]) -> Result<Parsed, ProxyError> {
        let nobody = Parsed::Header { client: None };
        if matches!(self, Self::None) {
            return Ok(nobody);
        }
        check_additions(header, FIXED_V2 + self.len())?;
        let addresses = &header[FIXED_V2..];
        let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
        let (v4, v6) = (addresses.first_chunk::<4>(), addresses.first_chunk::<16>());
        Ok(match (self, v4, v6) {
            (Self::Ipv4, Some(ip), _) => header_of(IpAddr::from(*ip), port(8)),
            (Self::Ipv6, _, Some(ip)) => header_of(IpAddr::from(*ip), port(32)),
            _ => nobody,
        })
    }
}

/// Checks that type, length and value follow each other from `at` to the header's end, and
/// the checksum if one is among them.
fn check_additions(header: &[u8], mut at: usize) -> Result<(), ProxyError> {
    while at < header.len() {
        let (kind, len) = match header[at..] {
            [kind, high, low, ..] => (kind, usize::from(u16::from_be_bytes([high, low]))),
            _ => return Err(ProxyError::Addition),
        };
        let value = at + 3;
        at = value + len;
        let value = header.get(value..at).ok_or(ProxyError::Addition)?;
        if kind == TYPE_CRC32C {
            let said: &[u8; 4] = value.try_into().map_err(|_| ProxyError::Addition)?;
            if checksum(header, at) != u32::from_be_bytes(*said) {
                return Err(ProxyError::Checksum);
            }
        }
    }
    Ok(())
}

/// The header's CRC32c, taken with zeros in place of the four bytes that end at `end`.
fn checksum(header: &[u8], end: usize) -> u32 {
    let mut digest = CRC32C.digest();
    digest.update(&header[..end - 4]);
    digest.update(&[0; 4]);
    digest.update(&header[end..]);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes a header from `bytes` as a reader does that gets `step` bytes at a time.
    /// Answers the client and what is left.
    fn read(bytes: &[u8], step: usize) -> Result<(Option<SocketAddr>, &[u8]), ProxyError> {
        let mut len = 0;
        loop {
            match parse(&bytes[..len])? {
                Parsed::More(n) => {
                    assert!(n > 0 && len + n <= MAX_V2);
                    if len == bytes.len() {
                        panic!("{bytes:?} ended before its header did");
                    }
                    len = (len + n.min(step)).min(bytes.len());
                }
                Parsed::Header { client } => return Ok((client, &bytes[len..])),
            }
        }
    }

    /// The same however it is split; nothing behind the header is taken.
    fn client_of(header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
        let more = [header, b"\x16\x03\x01\r\nPROXY "].concat();
        let whole = read(&more, usize::MAX).map(|(client, rest)| {
            assert_eq!(rest.len(), more.len() - header.len(), "{header:?}");
            client
        });
        for step in [1, 2, 3, 7] {
            assert_eq!(read(&more, step).map(|(client, _)| client), whole);
        }
        whole
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = START_V2.to_vec();
        header.extend([command, family]);
        header.extend((rest.len() as u16).to_be_bytes());
        header.extend_from_slice(rest);
        header
    }

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut tlv = vec![kind];
        tlv.extend((value.len() as u16).to_be_bytes());
        tlv.extend_from_slice(value);
        tlv
    }

    const INET: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0x50, 0x0e, 0x45];

    fn address(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn version_1() {
        let good: [(&[u8], _); 9] = [
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 3653\r\n", address("192.0.2.7:50000")),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 0 65535\r\n", address("1.1.1.1:0")),
            (
                b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
                address("255.255.255.255:65535"),
            ),
            (b"PROXY TCP6 2001:db8::7 ::1 50000 3653\r\n", address("[2001:db8::7]:50000")),
            (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 5 6\r\n", address("192.0.2.7:5")),
            (b"PROXY TCP6 :: :: 1 2\r\n", address("[::]:1")),
            (b"PROXY UNKNOWN\r\n", None),
            (b"PROXY UNKNOWN 2001:db8::7 ::1 50000 3653\r\n", None),
            (
                b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535 and so on 1234567890123456789012345678901234567\r\n",
                None,
            ),
        ];
        assert_eq!(good[8].0.len(), MAX_V1);
        for (header, client) in good {
            let text = String::from_utf8_lossy(header);
            assert_eq!(client_of(header), Ok(client), "{text}");
        }
    }

    #[test]
    fn version_1_refused() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\n"].concat();
        assert_eq!(long.len(), MAX_V1 + 1);
        for (bytes, error) in [
            (
                &b"proxy TCP4 1.1.1.1 1.1.1.1 1 2\r\n"[..],
                ProxyError::Absent,
            ),
            (b"PROXYTCP4 1.1.1.1 1.1.1.1 1 2\r\n", ProxyError::Absent),
            (b"GET / HTTP/1.1\r\n", ProxyError::Absent),
            (b"\x14\x00\x0b\x00echo/echo/1", ProxyError::Absent),
            (b"\0", ProxyError::Absent),
            (b"PROXY \r\n", ProxyError::Line),
            (b"PROXY TCP4\r\n         ", ProxyError::Line),
            (b"PROXY TCP5", ProxyError::Line),
            (b"PROXY TCP41", ProxyError::Line),
            (b"PROXY X", ProxyError::Line),
            (b"PROXY tcp4 1.1.1.1 1.1.1.1 1 2\r\n", ProxyError::Line),
            (b"PROXY TCP4  1.1.1.1 1.1.1.1 1 2\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 2 \r\n", ProxyError::Line),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 2 3\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.1.1 1.1.1.1 1 2\r\n", ProxyError::Line),
            (b"PROXY TCP4 01.1.1.1 1.1.1.1 1 2\r\n", ProxyError::Line),
            (b"PROXY TCP4 256.1.1.1 1.1.1.1 1 2\r\n", ProxyError::Line),
            (b"PROXY TCP4 ::1 1.1.1.1 1 2\r\n", ProxyError::Line),
            (b"PROXY TCP6 1.1.1.1 ::1 1 2\r\n", ProxyError::Line),
            (b"PROXY TCP6 ::1 fe80::1%lo 1 2\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 +1 2\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 01 2\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 2\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 2\n", ProxyError::Line),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 2\rX", ProxyError::Line),
            (b"PROXY TCP4 1.1.1.1\r\n 1.1.1.1 1 2\r\n", ProxyError::Line),
            (b"PROXY TCP4 \xff.1.1.1 1.1.1.1 1 2\r\n", ProxyError::Line),
            (b"PROXY UNKNOWNX\r\n", ProxyError::Line),
            (&long, ProxyError::TooLong),
        ] {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(client_of(bytes), Err(error), "{text}");
        }
    }

    #[test]
    fn version_2() {
        let mut inet6 = [0; 36];
        inet6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        inet6[32..34].copy_from_slice(&50_000u16.to_be_bytes());
        let mut mapped = inet6;
        mapped[..16].copy_from_slice(&"::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets());
        let noop = tlv(4, b"");
        let many = [
            INET.to_vec(),
            tlv(1, b"h2"),
            noop.repeat(1300),
            tlv(0xe0, &[7; 100]),
        ]
        .concat();
        for (header, client) in [
            (v2(0x21, 0x11, &INET), address("192.0.2.7:50000")),
            (v2(0x21, 0x21, &inet6), address("[2001:db8::7]:50000")),
            (v2(0x21, 0x21, &mapped), address("192.0.2.7:50000")),
            (v2(0x21, 0x11, &many), address("192.0.2.7:50000")),
            (v2(0x21, 0x31, &[0; 216]), None),
            (v2(0x21, 0x32, &[0; 216]), None),
            (v2(0x21, 0x12, &INET), None),
            (v2(0x21, 0x22, &inet6), None),
            (v2(0x21, 0x00, b""), None),
            (v2(0x21, 0x00, b"whatever it is"), None),
            (v2(0x20, 0x00, b""), None),
            (v2(0x20, 0x11, &INET), None),
            (v2(0x20, 0xff, b"a family that is not one"), None),
            (v2(0x20, 0x00, &[9; MAX_V2 - FIXED_V2]), None),
        ] {
            assert_eq!(client_of(&header), Ok(client), "{header:x?}");
        }
    }

    #[test]
    fn version_2_refused() {
        let with = |tail: &[u8]| v2(0x21, 0x11, &[&INET, tail].concat());
        for (header, error) in [
            (b"\r\n\r\n\0\r\nQUIX".to_vec(), ProxyError::Absent),
            (v2(0x11, 0x11, &INET), ProxyError::Command),
            (v2(0x31, 0x11, &INET), ProxyError::Command),
            (v2(0x22, 0x11, &INET), ProxyError::Command),
            (v2(0x21, 0x01, &INET), ProxyError::Family),
            (v2(0x21, 0x10, &INET), ProxyError::Family),
            (v2(0x21, 0x13, &INET), ProxyError::Family),
            (v2(0x21, 0x41, &INET), ProxyError::Family),
            (v2(0x21, 0x11, &INET[..11]), ProxyError::TooShort),
            (v2(0x21, 0x21, &[0; 35]), ProxyError::TooShort),
            (v2(0x21, 0x31, &[0; 215]), ProxyError::TooShort),
            (v2(0x20, 0, &[0; MAX_V2 - 15]), ProxyError::TooLong),
            (with(&[4]), ProxyError::Addition),
            (with(&[4, 0]), ProxyError::Addition),
            (with(&[4, 0, 1]), ProxyError::Addition),
            (with(&[4, 0xff, 0xff, 0]), ProxyError::Addition),
            (with(&tlv(3, &[0; 3])), ProxyError::Addition),
            (with(&tlv(3, &[0; 4])), ProxyError::Checksum),
        ] {
            assert_eq!(client_of(&header), Err(error), "{header:x?}");
        }
    }

    #[test]
    fn a_checksum_must_be_right() {
        assert_eq!(CRC32C.checksum(b"123456789"), 0xe306_9283);
        for (before, behind) in [(&b""[..], &b""[..]), (b"\x04\0\0", b"\x01\0\x02h2")] {
            let rest = [&INET, before, &tlv(3, &[0; 4]), behind].concat();
            let mut header = v2(0x21, 0x11, &rest);
            let sum = CRC32C.checksum(&header).to_be_bytes();
            let at = FIXED_V2 + INET.len() + before.len() + 3;
            header[at..at + 4].copy_from_slice(&sum);
            assert_eq!(client_of(&header), Ok(address("192.0.2.7:50000")));
            // Any bit of addresses or additions.
            for bit in FIXED_V2 * 8..header.len() * 8 {
                let mut bad = header.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let kind = at - 3;
                // A checksum that is no longer called one is not checked.
                if bit / 8 != kind {
                    assert!(
                        parse(&bad)
                            != Ok(Parsed::Header {
                                client: address("192.0.2.7:50000")
                            }),
                        "{bit}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_wants_more_and_says_the_same_in_pieces(
            start in prop::sample::select(vec![&b""[..], START_V1, START_V2, b"PROXY TCP4 "]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
            step in 1usize..40,
        ) {
            let bytes = [start, &rest, &[b'x'; MAX_V2]].concat();
            let whole = read(&bytes, usize::MAX);
            prop_assert_eq!(read(&bytes, step), whole);
        }

        #[test]
        fn lines_say_the_same_in_pieces(
            line in "PROXY (TCP4|TCP6|UNKNOWN|[A-Z]{0,4})[ .:0-9a]{0,100}[\\r\\n]{0,3}",
            step in 1usize..40,
        ) {
            let bytes = [line.as_bytes(), &[b'x'; MAX_V1]].concat();
            prop_assert_eq!(read(&bytes, step), read(&bytes, usize::MAX));
        }

        #[test]
        fn every_beginning_of_a_header_wants_more(
            ip in any::<IpAddr>(), port in any::<u16>(), text: bool, padding in 0usize..200,
        ) {
            let family = if ip.is_ipv4() { 4 } else { 6 };
            let header = match (text, ip) {
                (true, _) => format!("PROXY TCP{family} {ip} {ip} {port} 1\r\n").into_bytes(),
                (false, IpAddr::V4(v4)) => {
                    let ports = [port.to_be_bytes(), [0, 1]].concat();
                    let tail = tlv(0xe0, &vec![1; padding]);
                    v2(0x21, 0x11, &[&v4.octets()[..], &v4.octets(), &ports, &tail].concat())
                }
                (false, IpAddr::V6(v6)) => {
                    let ports = [port.to_be_bytes(), [0, 1]].concat();
                    let tail = tlv(0xe0, &vec![1; padding]);
                    v2(0x21, 0x21, &[&v6.octets()[..], &v6.octets(), &ports, &tail].concat())
                }
            };
            for len in 0..header.len() {
                let parsed = parse(&header[..len]);
                prop_assert!(
                    matches!(parsed, Ok(Parsed::More(n)) if n <= header.len() - len),
                    "{:?} of {} at {}", parsed, header.len(), len
                );
            }
            let client = SocketAddr::new(ip.to_canonical(), port);
            prop_assert_eq!(client_of(&header), Ok(Some(client)));
        }
    }
}
