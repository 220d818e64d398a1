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
mod tests;
