//! How many connections there may be: in all, and from one client address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::gate::GateInner;

/// See the module.
pub(crate) struct Admission {
    connections: AtomicUsize,
    max: usize,
    max_per_address: usize,
    by_address: Mutex<HashMap<IpAddr, u32>>,
}

impl Admission {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Self {
        Self {
            connections: AtomicUsize::new(0),
            max,
            max_per_address,
            by_address: Mutex::default(),
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn enter(&self, ip: IpAddr) -> bool {
        if self.connections.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        // A limit that can never be reached is not counted for.
        if self.max_per_address < self.max {
            let mut by_address = self.by_address.lock();
            let count = by_address.entry(network_of(ip)).or_default();
            if *count as usize >= self.max_per_address {
                self.connections.fetch_sub(1, Ordering::Relaxed);
                return false;
            }
            *count += 1;
        }
        true
    }

    fn leave(&self, ip: IpAddr) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        if self.max_per_address < self.max {
            let mut by_address = self.by_address.lock();
            let ip = network_of(ip);
            if let Some(count) = by_address.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&ip);
                }
            }
        }
    }
}

/// One client commands a whole IPv6 /64.
fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        v4 => v4,
    }
}

/// A connection's place; dropping it gives the place back.
pub(crate) struct Place {
    gate: Arc<GateInner>,
    ip: IpAddr,
}

impl Place {
    /// A place for one more connection from `ip`, if there is one.
    pub(crate) fn take(gate: &Arc<GateInner>, ip: IpAddr) -> Option<Self> {
        gate.admission.enter(ip).then(|| Self {
            gate: gate.clone(),
            ip,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.admission.leave(self.ip);
    }
}
