//! How many connections there may be: in all, and from one client address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::gate::GateInner;
use crate::session::Attachment;
use crate::stats::TurnedAway;

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

    fn enter(&self) -> bool {
        let entered = self.connections.fetch_add(1, Ordering::Relaxed) < self.max;
        if !entered {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
        entered
    }

    fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn enter_from(&self, ip: IpAddr) -> bool {
        // A limit that can never be reached is not counted for.
        if self.max_per_address >= self.max {
            return true;
        }
        let mut by_address = self.by_address.lock();
        let count = by_address.entry(network_of(ip)).or_insert(0);
        let entered = (*count as usize) < self.max_per_address;
        if entered {
            *count += 1;
        }
        entered
    }

    fn leave_from(&self, ip: IpAddr) {
        if self.max_per_address >= self.max {
            return;
        }
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

/// One client commands a whole IPv6 /64.
pub(crate) fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        v4 => v4,
    }
}

/// A connection's place; dropping it gives the place back.
pub(crate) struct Place {
    gate: Arc<GateInner>,
    /// The client's address, once it counts for one.
    ip: Option<IpAddr>,
    at: Option<Arc<Attachment>>,
}

impl Place {
    /// A place for one more connection, if there is one. Whose it is may show later.
    pub(crate) fn take(gate: &Arc<GateInner>) -> Result<Self, TurnedAway> {
        match gate.admission.enter() {
            true => Ok(Self {
                gate: gate.clone(),
                ip: None,
                at: None,
            }),
            false => Err(TurnedAway::Connections),
        }
    }

    /// Counts for the client at `ip` from now on, if one more may be there. Once only.
    #[must_use]
    pub(crate) fn count_for(&mut self, ip: IpAddr) -> bool {
        if self.ip.is_none() && self.gate.admission.enter_from(ip) {
            self.ip = Some(ip);
        }
        self.ip == Some(ip)
    }

    /// Counts for a shard and a listener from now on: in a burst, those in set-up count
    /// too.
    pub(crate) fn on(mut self, at: Arc<Attachment>) -> Self {
        at.shard.load.fetch_add(1, Ordering::Relaxed);
        at.open.begin();
        self.at = Some(at);
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.admission.leave();
        if let Some(ip) = self.ip {
            self.gate.admission.leave_from(ip);
        }
        if let Some(at) = &self.at {
            at.shard.load.fetch_sub(1, Ordering::Relaxed);
            at.open.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_a_mapped_one_its_ipv4_address() {
        let admission = Admission::new(100, 2);
        let enter = |text| admission.enter_from(ip(text));
        assert!(enter("2001:db8:0:1::1"));
        assert!(enter("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert!(!enter("2001:db8:0:1::2"));
        assert!(enter("2001:db8:0:2::1"), "another /64");
        assert!(enter("192.0.2.1"));
        assert!(enter("::ffff:192.0.2.1"));
        assert!(!enter("192.0.2.1"));
        assert!(enter("192.0.2.2"));
        admission.leave_from(ip("2001:db8:0:1::1"));
        assert!(enter("2001:db8:0:1::3"), "a place given back");
    }

    #[test]
    fn nothing_is_remembered_of_those_who_left() {
        let admission = Admission::new(3, 2);
        for _ in 0..2 {
            for i in 1..=3 {
                assert!(admission.enter() && admission.enter_from(IpAddr::from([127, 0, 0, i])));
            }
            assert!(!admission.enter(), "full");
            for i in 1..=3 {
                admission.leave();
                admission.leave_from(IpAddr::from([127, 0, 0, i]));
            }
            assert_eq!(admission.connections(), 0);
            assert!(admission.by_address.lock().is_empty());
        }
    }
}
