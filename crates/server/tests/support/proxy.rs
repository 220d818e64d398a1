//! A network between client and gate, that fails when it is told to.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Forwards TCP connections. They end with the test.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    network: Arc<Mutex<Network>>,
}

struct Network {
    /// Where connections go; none: they are closed at once.
    gate: Option<SocketAddr>,
    /// Both ends of each.
    open: Vec<[TcpStream; 2]>,
}

impl Proxy {
    /// In front of this gate.
    pub(crate) fn before(gate: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let network = Arc::new(Mutex::new(Network {
            gate: Some(gate),
            open: Vec::new(),
        }));
        let shared = network.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                // Under the lock: who is cut off stays so.
                let mut network = shared.lock().unwrap();
                let Some(gate) = network.gate else { continue };
                let (Ok(client), Ok(gate)) = (client, TcpStream::connect(gate)) else {
                    continue;
                };
                let copies = [client.try_clone().unwrap(), gate.try_clone().unwrap()];
                network.open.push(copies);
                forward(client.try_clone().unwrap(), gate.try_clone().unwrap());
                forward(gate, client);
            }
        });
        Self { address, network }
    }

    /// `tcp://…`
    pub(crate) fn tcp_url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Cuts every connection, and lets none through.
    pub(crate) fn down(&self) {
        let mut network = self.network.lock().unwrap();
        network.gate = None;
        for [client, gate] in network.open.drain(..) {
            client.shutdown(Shutdown::Both).ok();
            gate.shutdown(Shutdown::Both).ok();
        }
    }

    /// Lets connections through, to this gate.
    pub(crate) fn up(&self, gate: SocketAddr) {
        self.network.lock().unwrap().gate = Some(gate);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
}
