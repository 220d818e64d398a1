//! Options of a listener's sockets.
//!
//! They are set on the listening socket: those it accepts inherit them, and accepting costs
//! nothing more.

use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};

use super::ListenErrorKind;
use crate::limits::LimitError;

/// TCP keep-alive: how a peer that vanished is found while nothing is sent.
///
/// The gate's heartbeat finds it too, and with its default first: these probes begin when a
/// heartbeat timeout longer than `idle` leaves a connection silent, or stands still because the
/// gate itself does not read. So by default they cost nothing, and a peer that is gone is not
/// kept for the two hours that systems have by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first probe, whole seconds. 60 s.
    pub idle: Duration,
    /// Time between probes, whole seconds. 10 s.
    pub interval: Duration,
    /// Probes without an answer after which the connection is lost. 3.
    pub retries: u32,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            retries: 3,
        }
    }
}

pub(super) const NOT_IPV6: ListenErrorKind = ListenErrorKind::WrongKind {
    option: "ipv6_only",
    kind: "IPv6 addresses",
};

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct SocketOptions {
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) notsent_lowat: u32,
    pub(super) ipv6_only: Option<bool>,
    pub(super) unix_mode: Option<u32>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            keep_alive: Some(KeepAlive::default()),
            notsent_lowat: 16 * 1024,
            ipv6_only: None,
            unix_mode: None,
        }
    }
}

impl SocketOptions {
    /// Checks what can be known of these options, and whether they suit the address.
    pub(super) fn check(&self, address: &str) -> Result<(), ListenErrorKind> {
        let is_ipv4 = address.parse::<SocketAddrV4>().is_ok();
        let path = address.strip_prefix("unix:");
        if self.ipv6_only.is_some() && (is_ipv4 || path.is_some()) {
            return Err(NOT_IPV6);
        }
        match path {
            Some(path) if !path.starts_with('/') => return Err(ListenErrorKind::RelativePath),
            None if self.unix_mode.is_some() => {
                return Err(ListenErrorKind::WrongKind {
                    option: "unix_mode",
                    kind: "Unix-domain listeners",
                });
            }
            _ => {}
        }
        if let Some(KeepAlive {
            idle,
            interval,
            retries,
        }) = self.keep_alive
        {
            let times = [idle, interval];
            let possible = times.iter().all(|t| (1..=32767).contains(&t.as_secs()));
            if !possible || !(1..=127).contains(&retries) {
                return Err(ListenErrorKind::KeepAlive);
            }
        }
        if self.notsent_lowat == 0 {
            // Zero would be the system's default, which is none.
            return Err(ListenErrorKind::Limit(LimitError::TooSmall {
                name: "notsent_lowat",
                value: 0,
                least: 1,
            }));
        }
        Ok(())
    }

    /// For the sockets that this one will accept: no delay for small packets, little unsent
    /// data in the kernel, keep-alive.
    pub(super) fn set_on(&self, socket: &Socket) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_notsent_lowat(self.notsent_lowat)?;
        match self.keep_alive {
            None => socket.set_keepalive(false),
            Some(keep_alive) => socket.set_tcp_keepalive(
                &TcpKeepalive::new()
                    .with_time(keep_alive.idle)
                    .with_interval(keep_alive.interval)
                    .with_retries(keep_alive.retries),
            ),
        }
    }
}
