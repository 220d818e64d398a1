//! Lists of proxies in front of a client: any bytes, and what a trusted proxy adds to them.

#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use tidegate_protocol::ForwardedHeader;

fuzz_target!(|data: &[u8]| {
    let peer = SocketAddr::from(([10, 0, 0, 1], 1));
    let client = IpAddr::from([192, 0, 2, 7]);
    let is_trusted = |ip| matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 10);
    let lines = || data.split(|byte| *byte == b'\n');
    for (header, own) in [
        (ForwardedHeader::XForwardedFor, "192.0.2.7, 10.0.0.2"),
        (ForwardedHeader::Forwarded, r#"for=192.0.2.7;host="\", for=1.1.1.1", for=10.0.0.2"#),
    ] {
        header.client(lines(), peer, is_trusted);
        // What comes to the left of a trusted proxy's words makes no difference.
        let found = header.client(lines().chain([own.as_bytes()]), peer, is_trusted);
        assert_eq!(found, SocketAddr::new(client, 0));
    }
});
