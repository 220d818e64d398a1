//! Ports that stay ours.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that the system gives to outgoing connections, so that none of those is on it
/// while the server that it belongs to is down.
const RANGE: std::ops::Range<u16> = 15_000..31_000;

/// A free port of `127.0.0.1`, reserved among the tests of all processes while this exists.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves one.
    pub fn free() -> Self {
        static TRIED: AtomicU32 = AtomicU32::new(0);
        let locks = std::env::temp_dir().join("tidegate-test-ports");
        std::fs::create_dir_all(&locks).unwrap();
        let span = u32::from(RANGE.end - RANGE.start);
        // Processes start at different places, and all come round to every port.
        let start = std::process::id().wrapping_mul(7919);
        for _ in 0..span {
            let next = start.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
            let number = RANGE.start + (next % span) as u16;
            let lock = File::create(locks.join(number.to_string())).unwrap();
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!("no free port in {RANGE:?}");
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Where to listen: `127.0.0.1`, or in namespaces of a test's own everywhere.
    pub fn listen(&self) -> SocketAddr {
        match crate::site::inside() {
            true => (Ipv4Addr::UNSPECIFIED, self.number).into(),
            false => self.address(),
        }
    }

    /// `127.0.0.1` and its number.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
