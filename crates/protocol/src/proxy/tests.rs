//! Tables and properties of PROXY headers.

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
