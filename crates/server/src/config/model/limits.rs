//! Limits. Their defaults stand in the gate; here are their names, ranges and meanings.

use tidegate::{GateLimits, Limits};

use crate::config::key::section;
use crate::config::value::time::{OrOff, RateValue, Time};

/// Shortest and longest time that a limit may be, in milliseconds.
pub(crate) const SHORTEST: u64 = tidegate::limits::MIN_TIME.as_millis() as u64;
pub(crate) const LONGEST: u64 = tidegate::limits::MAX_TIME.as_millis() as u64;

/// As many as there can be of what is counted in 32 bits.
const MANY: u64 = u32::MAX as u64;

/// Declares the configurable form of a set of limits: the same keys, the same defaults.
macro_rules! limits {
    (
        $(#[doc = $about:literal])+
        $name:ident for $target:ty {
            $($(#[doc = $doc:literal])+ $key:ident: $type:ty => $option:ident($($value:expr),*),)+
        }
        $($rest:tt)*
    ) => {
        section! {
            $(#[doc = $about])+
            $name {
                $($(#[doc = $doc])+ $key: $type = <$target>::default().$key.into() => $option($($value),*),)+
                $($rest)*
            }
        }

        impl $name {
            #[cfg(test)]
            const KEYS: &[&str] = &[$(stringify!($key),)+];

            /// The limits themselves.
            pub(crate) fn limits(&self) -> $target {
                let mut limits = <$target>::default();
                $(limits.$key = self.$key.clone().into();)+
                limits
            }
        }
    };
}

limits! {
    /// What each connection may do.
    LimitsConfig for Limits {
        /// Calls under way plus answers queued, per session. The gate stops reading at this
        /// number.
        concurrent_tasks: u16 => range(1, u16::MAX.into()),
        /// Bytes taken from a socket in one read.
        read_buffer: usize => range(64, 1024 * 1024),
        /// Largest frame, in bytes, both ways.
        max_packet_size: usize => range(5, 65535),
        /// Packets that wait for a client, answers not counted.
        send_queue_packets: u32 => range(1, MANY),
        /// Bytes of topic and body that wait for a client.
        send_queue_bytes: u32 => range(1024, MANY),
        /// From accept to a session: TLS, upgrade and authentication together.
        setup_timeout: Time => range(SHORTEST, LONGEST),
        /// Without a byte from the client for this long the connection is closed.
        heartbeat_timeout: Time => range(SHORTEST, LONGEST),
        /// From the first byte of a frame to its last.
        partial_frame_timeout: Time => range(SHORTEST, LONGEST),
        /// With something to write, the client's socket must take a byte within this time.
        write_timeout: Time => range(SHORTEST, LONGEST),
        /// How long closing may take: writing what is queued, and waiting for the client.
        close_timeout: Time => range(SHORTEST, LONGEST),
        /// How long a client's call may take before its outcome counts as unknown.
        call_timeout: Time => range(SHORTEST, LONGEST),
        /// A session that is a guest for this long is closed.
        bind_deadline: OrOff<Time> => range(SHORTEST, LONGEST),
        /// Packets per second and connection. What comes faster is read later.
        packet_rate: OrOff<RateValue> => range(1, MANY),
        /// Bytes read per second and connection. What comes faster is read later.
        byte_rate: OrOff<RateValue> => range(1, MANY),
        /// How long a listener for both protocols waits for a client's first packet before it
        /// takes the client for one of version 1.
        hello_wait: Time => range(SHORTEST, LONGEST),
        /// How long a session whose connection is lost waits for its client to come back.
        /// Where it is off it ends with its connection.
        resume_window: OrOff<Time> => range(SHORTEST, LONGEST),
        /// Packets that are kept for a client until it acknowledges them, or comes back. One
        /// for whom there are more cannot come back any more, and is told so.
        resume_packets: u32 => range(32, MANY),
        /// Bytes of topic and body in those packets, likewise.
        resume_bytes: u32 => range(1024, MANY),
        /// Bytes of a WebSocket upgrade request.
        max_upgrade_size: usize => range(256, 1024 * 1024),
        /// Frames that one WebSocket message may be split into.
        max_fragments: u32 => range(1, MANY),
    }
}

limits! {
    /// What the whole gate may do.
    GateLimitsConfig for GateLimits {
        /// Connections at a time, those in set-up too.
        max_connections: usize => range(1, i64::MAX as u64),
        /// Connections at a time from one client address (IPv6: from one /64).
        max_connections_per_address: usize => range(1, i64::MAX as u64),
        /// Bytes that outbound queues, packets kept for clients to come back, and partial
        /// frames may hold together. Beyond it sends are refused, clients for whom much waits
        /// are not read, and the sessions that hold most are closed.
        memory_budget: u64 => range(64 * 1024, i64::MAX as u64),
        /// How long clients are served on once the gate is told to stop: those of the extended
        /// protocol are told so, and connect elsewhere meanwhile. New ones are not taken.
        drain_wait: OrOff<Time> => range(SHORTEST, LONGEST),
        /// How long stopping may take in all, once what is drained has gone.
        shutdown_timeout: Time => range(SHORTEST, LONGEST),
        /// How long one operation of the store may take.
        store_timeout: Time => range(SHORTEST, LONGEST),
        /// Sessions without a connection that wait for their clients, at a time. Further ones
        /// end with their connection.
        max_dormant: usize => range(0, MANY),
        /// Groups that one session may be in.
        max_groups_per_session: usize => range(0, MANY),
        /// Instance bindings that one session may have.
        max_instance_bindings: usize => range(0, MANY),
        /// New connections per second, on all listeners together. More wait in the kernel.
        accept_rate: OrOff<RateValue> => range(1, MANY),
    }
    /// How often certificate files are looked at for changes. A changed certificate is
    /// served without dropping a connection.
    tls_watch: OrOff<Time> = OrOff::On(Time::secs(10)) => range(SHORTEST, LONGEST),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key::Section;
    use crate::config::{Given, Loaded, Sources};

    /// The names of a struct's fields, as its Debug form tells them.
    fn fields(debug: &str) -> Vec<String> {
        let lines = debug
            .lines()
            .filter(|l| l.starts_with("    ") && !l.starts_with("     "));
        let names = lines.filter_map(|line| Some(line.trim().split_once(": ")?.0.to_owned()));
        names.collect()
    }

    #[test]
    fn every_limit_can_be_configured() {
        let limits = format!("{:#?}", Limits::default());
        assert_eq!(fields(&limits), LimitsConfig::KEYS);
        let gate = format!("{:#?}", GateLimits::default());
        assert_eq!(fields(&gate), GateLimitsConfig::KEYS);
    }

    #[test]
    fn defaults_are_those_of_the_gate() {
        assert_eq!(LimitsConfig::default().limits(), Limits::default());
        assert_eq!(GateLimitsConfig::default().limits(), GateLimits::default());
    }

    /// Both ends of each range pass the check of the gate.
    #[test]
    fn ranges_are_those_of_the_gate() {
        let keys = LimitsConfig::keys().into_iter().map(|key| ("limits", key));
        let gate = GateLimitsConfig::keys().into_iter();
        for (table, key) in keys.chain(gate.map(|key| ("gate", key))) {
            let (least, most) = key.range.unwrap();
            for end in [least, most] {
                let name = key.name;
                let value = match name.ends_with("_timeout")
                    || ["bind_deadline", "hello_wait", "resume_window", "drain_wait"]
                        .contains(&name)
                {
                    true => format!("{end}ms"),
                    false if name == "tls_watch" => continue,
                    false => end.to_string(),
                };
                let setting = Given::new("--set", &format!("{table}.{name}"), &value);
                let loaded = Loaded::load(&Sources {
                    flags: vec![setting],
                    ..Sources::default()
                });
                let config = loaded.unwrap().config;
                config.limits.limits().check().expect(name);
                config.gate.limits().check().expect(name);
            }
        }
    }
}
