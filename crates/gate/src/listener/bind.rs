//! The sockets of listeners.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// Connections allowed to wait in the kernel to be accepted.
const BACKLOG: i32 = 4096;

pub(super) fn bind(address: &str) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no such address");
    for address in address.to_socket_addrs()? {
        match bind_one(address) {
            Ok(socket) => {
                let local = socket.local_addr()?;
                return Ok((socket, local));
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart need not wait for the last one's connections; a second gate on the
    // same port still fails.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
