//! The address of a listener, and the socket that is bound to it.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};

use super::ListenErrorKind;
use super::socket::{NOT_IPV6, SocketOptions};
use super::unix::{self, SocketFile};

/// Connections allowed to wait in the kernel to be accepted.
pub(super) const BACKLOG: i32 = 4096;

/// A socket that listens.
pub(crate) struct Bound {
    pub(crate) socket: Socket,
    pub(crate) local: Local,
    /// Removed when this is dropped.
    pub(crate) file: Option<SocketFile>,
}

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Local {
    Ip(SocketAddr),
    Unix(PathBuf),
}

impl Local {
    /// The address, where it is one.
    pub(crate) fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Binds to `unix:/path`, `host:port`, or `[v6]:port`.
pub(super) fn bind(address: &str, options: &SocketOptions) -> Result<Bound, ListenErrorKind> {
    if let Some(path) = address.strip_prefix("unix:") {
        return unix::bind(Path::new(path), options);
    }
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no such address").into();
    for address in resolve(address)? {
        match bind_one(address, options) {
            Ok(socket) => {
                let local = socket.local_addr()?.as_socket().unwrap_or(address);
                return Ok(Bound {
                    socket,
                    local: Local::Ip(local),
                    file: None,
                });
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn resolve(address: &str) -> Result<Vec<SocketAddr>, ListenErrorKind> {
    Ok(match with_interface(address)? {
        Some(address) => vec![address.into()],
        None => address.to_socket_addrs()?.collect(),
    })
}

/// `[v6%interface]:port`, the interface by its name. The standard library takes numbers only.
fn with_interface(address: &str) -> Result<Option<SocketAddrV6>, ListenErrorKind> {
    let parts = address.strip_prefix('[').and_then(|rest| {
        let (ip, rest) = rest.split_once('%')?;
        let (interface, port) = rest.split_once("]:")?;
        let (ip, port) = (ip.parse::<Ipv6Addr>().ok()?, port.parse().ok()?);
        let is_number = interface.bytes().all(|b| b.is_ascii_digit());
        (!is_number).then_some((ip, interface, port))
    });
    let Some((ip, interface, port)) = parts else {
        return Ok(None);
    };
    let any = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    let index = rustix::net::netdevice::name_to_index(any, interface)
        .map_err(|_| ListenErrorKind::NoInterface(interface.to_owned()))?;
    Ok(Some(SocketAddrV6::new(ip, port, 0, index)))
}

fn bind_one(address: SocketAddr, options: &SocketOptions) -> Result<Socket, ListenErrorKind> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    match options.ipv6_only {
        // By what its name stands for.
        Some(_) if address.is_ipv4() => return Err(NOT_IPV6),
        Some(only) => socket.set_only_v6(only)?,
        None => {}
    }
    // A restart need not wait for the last one's connections; a second gate on the
    // same port still fails.
    socket.set_reuse_address(true)?;
    options.set_on(&socket)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::listener::KeepAlive;

    /// A socket that a listener with these options accepted, and its client.
    fn accepted(address: &str, options: &SocketOptions) -> (Socket, Socket) {
        options.check(address).unwrap();
        let bound = bind(address, options).unwrap();
        bound.socket.set_nonblocking(false).unwrap();
        let client = Socket::new(Domain::for_address(local(&bound)), Type::STREAM, None).unwrap();
        client.connect(&local(&bound).into()).unwrap();
        (bound.socket.accept().unwrap().0, client)
    }

    fn local(bound: &Bound) -> SocketAddr {
        bound.local.ip().unwrap()
    }

    #[test]
    fn accepted_sockets_have_the_options() {
        let seconds = Duration::from_secs;
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (socket, _client) = accepted(address, &SocketOptions::default());
            assert!(socket.tcp_nodelay().unwrap());
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), 16 * 1024);
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(60));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(10));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
            let keep_alive = KeepAlive {
                idle: seconds(7),
                interval: seconds(2),
                retries: 9,
            };
            let options = SocketOptions {
                keep_alive: Some(keep_alive),
                notsent_lowat: 4096,
                ..SocketOptions::default()
            };
            let (socket, _client) = accepted(address, &options);
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), 4096);
            assert_eq!(socket.tcp_keepalive_time().unwrap(), keep_alive.idle);
            assert_eq!(
                socket.tcp_keepalive_interval().unwrap(),
                keep_alive.interval
            );
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 9);
            let options = SocketOptions {
                keep_alive: None,
                ..SocketOptions::default()
            };
            assert!(!accepted(address, &options).0.keepalive().unwrap());
        }
    }

    #[test]
    fn options_that_cannot_be_are_refused() {
        let good = KeepAlive::default();
        let zero = Duration::ZERO;
        for keep_alive in [
            KeepAlive { idle: zero, ..good },
            KeepAlive {
                interval: zero,
                ..good
            },
            KeepAlive {
                idle: Duration::from_secs(32768),
                ..good
            },
            KeepAlive {
                interval: Duration::from_millis(999),
                ..good
            },
            KeepAlive { retries: 0, ..good },
            KeepAlive {
                retries: 128,
                ..good
            },
        ] {
            let options = SocketOptions {
                keep_alive: Some(keep_alive),
                ..SocketOptions::default()
            };
            assert!(matches!(
                options.check("[::]:0"),
                Err(ListenErrorKind::KeepAlive)
            ));
        }
        let options = SocketOptions {
            notsent_lowat: 0,
            ..SocketOptions::default()
        };
        assert!(matches!(
            options.check("[::]:0"),
            Err(ListenErrorKind::Limit(_))
        ));
    }

    #[test]
    fn scopes_are_numbers_or_names_of_interfaces() {
        let options = SocketOptions::default();
        // The loopback is interface 1 everywhere on Linux.
        for address in ["[::1%lo]:0", "[::1%1]:0"] {
            let local = local(&bind(address, &options).unwrap());
            assert_eq!(local.ip(), Ipv6Addr::LOCALHOST);
        }
        let addresses = resolve("[fe80::7%lo]:3653").unwrap();
        assert_eq!(addresses[0].to_string(), "[fe80::7%1]:3653");
        let error = resolve("[fe80::7%absent0]:3653").unwrap_err();
        assert!(matches!(&error, ListenErrorKind::NoInterface(name) if name == "absent0"));
    }
}
