//! Limits and their defaults: the one place where they stand.

use std::time::Duration;

use thiserror::Error;
use tidegate_protocol::V1;

/// What one listener allows each of its connections. A gate has a default for all
/// its listeners; a listener may have its own.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Calls under way plus answers queued, per session; the gate stops reading at
    /// this number. 20.
    pub concurrent_tasks: u16,
    /// Bytes taken from a socket in one read. 2048.
    pub read_buffer: usize,
    /// Largest frame, in bytes, both ways. 65535, which is also the ceiling of the
    /// version 1 frame.
    pub max_packet_size: usize,
    /// Packets that wait for a client, answers not counted. 100.
    pub send_queue_packets: u32,
    /// Bytes of topic and body that wait for a client. 1 MiB.
    pub send_queue_bytes: u32,
    /// From accept to a session: PROXY header, TLS, upgrade, authentication and started
    /// hook together. 10 s.
    pub setup_timeout: Duration,
    /// Without a byte from the client for this long the connection is closed. While
    /// it is the gate that does not read, this clock stands still. 60 s.
    pub heartbeat_timeout: Duration,
    /// From the first byte of a frame to its last. 30 s.
    pub partial_frame_timeout: Duration,
    /// With something to write, the client's socket must take a byte within this
    /// time. 10 s.
    pub write_timeout: Duration,
    /// How long closing may take: writing what is queued, the close frame, and
    /// waiting for the client's side. 5 s.
    pub close_timeout: Duration,
    /// How long a client's call may take before its outcome counts as unknown. 10 s.
    pub call_timeout: Duration,
    /// A session that is a guest for this long is closed. Off.
    pub bind_deadline: Option<Duration>,
    /// Packets per second and connection. Off.
    pub packet_rate: Option<Rate>,
    /// Bytes read per second and connection. Off.
    pub byte_rate: Option<Rate>,
    /// How long a listener for both protocols waits for a client's first packet before
    /// it takes the client for one of version 1. 1 s.
    pub hello_wait: Duration,
    /// How long a session whose connection is lost waits for its client. `None`: it ends
    /// with its connection. 2 minutes.
    pub resume_window: Option<Duration>,
    /// Packets that are kept for a client until it acknowledges them, or comes back.
    /// 1,000.
    pub resume_packets: u32,
    /// Bytes of topic and body in them. 1 MiB.
    pub resume_bytes: u32,
    /// Bytes of a WebSocket upgrade request. 8 KiB.
    pub max_upgrade_size: usize,
    /// Frames that one WebSocket message may be split into. 64.
    pub max_fragments: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_tasks: 20,
            read_buffer: 2048,
            max_packet_size: V1::MAX_FRAME,
            send_queue_packets: 100,
            send_queue_bytes: 1024 * 1024,
            setup_timeout: Duration::from_secs(10),
            heartbeat_timeout: Duration::from_secs(60),
            partial_frame_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(10),
            bind_deadline: None,
            packet_rate: None,
            byte_rate: None,
            hello_wait: Duration::from_secs(1),
            resume_window: Some(Duration::from_secs(120)),
            resume_packets: 1000,
            resume_bytes: 1024 * 1024,
            max_upgrade_size: 8 * 1024,
            max_fragments: 64,
        }
    }
}

impl Limits {
    /// Checks that the limits can be kept.
    pub fn check(&self) -> Result<(), LimitError> {
        let at_least = |name, value: u64, least: u64| {
            if value < least {
                Err(LimitError::TooSmall { name, value, least })
            } else {
                Ok(())
            }
        };
        let at_most = |name, value: u64, most: u64| {
            if value > most {
                Err(LimitError::TooLarge { name, value, most })
            } else {
                Ok(())
            }
        };
        at_least("concurrent_tasks", self.concurrent_tasks.into(), 1)?;
        at_least("read_buffer", self.read_buffer as u64, 64)?;
        at_most("read_buffer", self.read_buffer as u64, 1024 * 1024)?;
        at_least("max_packet_size", self.max_packet_size as u64, 5)?;
        at_most(
            "max_packet_size",
            self.max_packet_size as u64,
            V1::MAX_FRAME as u64,
        )?;
        at_least("send_queue_packets", self.send_queue_packets.into(), 1)?;
        at_least("send_queue_bytes", self.send_queue_bytes.into(), 1024)?;
        at_least("max_upgrade_size", self.max_upgrade_size as u64, 256)?;
        at_least("max_fragments", self.max_fragments.into(), 1)?;
        at_least("resume_packets", self.resume_packets.into(), 32)?;
        at_least("resume_bytes", self.resume_bytes.into(), 1024)?;
        for (name, value) in [
            ("setup_timeout", self.setup_timeout),
            ("heartbeat_timeout", self.heartbeat_timeout),
            ("partial_frame_timeout", self.partial_frame_timeout),
            ("write_timeout", self.write_timeout),
            ("close_timeout", self.close_timeout),
            ("call_timeout", self.call_timeout),
            ("bind_deadline", self.bind_deadline.unwrap_or(MAX_TIME)),
            ("hello_wait", self.hello_wait),
            ("resume_window", self.resume_window.unwrap_or(MAX_TIME)),
        ] {
            if value < MIN_TIME || value > MAX_TIME {
                return Err(LimitError::Time { name, value });
            }
        }
        for (name, rate) in [
            ("packet_rate", self.packet_rate),
            ("byte_rate", self.byte_rate),
        ] {
            if let Some(rate) = rate {
                at_least(name, rate.per_second.into(), 1)?;
                at_least(name, rate.burst.into(), 1)?;
            }
        }
        Ok(())
    }
}

/// Shortest time a limit may be: the gate's clock ticks every 50 ms.
pub const MIN_TIME: Duration = Duration::from_millis(100);
/// Longest time a limit may be: a year.
pub const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// A token bucket's size and speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come in a second.
    pub per_second: u32,
    /// Tokens that the bucket holds.
    pub burst: u32,
}

impl Rate {
    /// A rate whose burst is one second's worth.
    pub fn per_second(n: u32) -> Self {
        Self {
            per_second: n,
            burst: n,
        }
    }
}

/// What a whole gate allows.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GateLimits {
    /// Connections at a time, those in set-up too. 100,000.
    pub max_connections: usize,
    /// Connections at a time from one client address (IPv6: from one /64). 1,000.
    ///
    /// The client's: where trusted proxies say whose connection they bring, the address that
    /// they name. Peers of Unix-domain listeners have no address of their own.
    pub max_connections_per_address: usize,
    /// Bytes that outbound queues and partial frames may hold together. Beyond it
    /// sends are refused, clients for whom much waits are not read, and the connections
    /// that hold most are closed. 1 GiB.
    pub memory_budget: u64,
    /// How long clients are served on once the gate is told to stop: those of the extended
    /// protocol are told so (`$drain`), and connect elsewhere meanwhile. New ones are not
    /// taken. `None`: stopping begins at once.
    pub drain_wait: Option<Duration>,
    /// How long stopping may take in all, once what is drained has gone. 10 s.
    pub shutdown_timeout: Duration,
    /// How long one operation of the store may take. 5 s.
    pub store_timeout: Duration,
    /// Sessions without a connection that wait to be resumed, at a time. 100,000.
    pub max_dormant: usize,
    /// Groups that one session may be in. 64.
    pub max_groups_per_session: usize,
    /// Instance bindings that one session may have. 64.
    pub max_instance_bindings: usize,
    /// Connections accepted per second, over all listeners. Those beyond it wait in the
    /// kernel, up to the system's limit (`net.core.somaxconn`), and then for their own next
    /// attempt. The burst should be a hundredth of the rate at least: the gate's clock has
    /// milliseconds. Off.
    pub accept_rate: Option<Rate>,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            max_connections: 100_000,
            max_connections_per_address: 1_000,
            memory_budget: 1024 * 1024 * 1024,
            drain_wait: None,
            shutdown_timeout: Duration::from_secs(10),
            store_timeout: Duration::from_secs(5),
            max_dormant: 100_000,
            max_groups_per_session: 64,
            max_instance_bindings: 64,
            accept_rate: None,
        }
    }
}

impl GateLimits {
    /// Checks that the limits can be kept.
    pub fn check(&self) -> Result<(), LimitError> {
        let counts = [
            ("max_connections", self.max_connections as u64, 1),
            (
                "max_connections_per_address",
                self.max_connections_per_address as u64,
                1,
            ),
            ("memory_budget", self.memory_budget, 64 * 1024),
        ];
        for (name, value, least) in counts {
            if value < least {
                return Err(LimitError::TooSmall { name, value, least });
            }
        }
        if let Some(rate) = self.accept_rate {
            for value in [rate.per_second, rate.burst] {
                if value == 0 {
                    return Err(LimitError::TooSmall {
                        name: "accept_rate",
                        value: 0,
                        least: 1,
                    });
                }
            }
        }
        for (name, value) in [
            ("drain_wait", self.drain_wait.unwrap_or(MAX_TIME)),
            ("shutdown_timeout", self.shutdown_timeout),
            ("store_timeout", self.store_timeout),
        ] {
            if !(MIN_TIME..=MAX_TIME).contains(&value) {
                return Err(LimitError::Time { name, value });
            }
        }
        Ok(())
    }
}

/// A limit that cannot be kept.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum LimitError {
    /// Below the least value.
    #[error("{name} is {value}, at least {least} is needed")]
    TooSmall {
        /// Which limit.
        name: &'static str,
        /// Its value.
        value: u64,
        /// The least one.
        least: u64,
    },
    /// Above the greatest value.
    #[error("{name} is {value}, at most {most} is possible")]
    TooLarge {
        /// Which limit.
        name: &'static str,
        /// Its value.
        value: u64,
        /// The greatest one.
        most: u64,
    },
    /// A time that is not between 100 ms and a year.
    #[error("{name} is {value:?}, it must be between 100 ms and a year")]
    Time {
        /// Which limit.
        name: &'static str,
        /// Its value.
        value: Duration,
    },
}
