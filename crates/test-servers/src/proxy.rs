//! A network that fails.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// A TCP proxy in front of a server. It can hold all bytes without closing anything, as a
/// partition of the network does, delay them, and cut its connections.
///
/// It runs on a thread of its own: a test that blocks or pauses its clock does not stop it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    connections: std::sync::Arc<AtomicU64>,
    _end: oneshot::Sender<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    hold_to_server: bool,
    hold_to_client: bool,
    refuse: bool,
    delay: Duration,
    cuts: u64,
}

impl Proxy {
    /// Starts one in front of `server`.
    pub fn start(server: SocketAddr) -> Self {
        let (state, changes) = watch::channel(State::default());
        let (end, ended) = oneshot::channel();
        let connections = std::sync::Arc::new(AtomicU64::new(0));
        let counter = connections.clone();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, server, changes, counter) => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            address,
            state,
            connections,
            _end: end,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted in all.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Holds all bytes from now on, both ways. New connections are accepted, and get nothing.
    pub fn hold(&self) {
        self.state.send_modify(|state| {
            state.hold_to_server = true;
            state.hold_to_client = true;
        });
    }

    /// Holds what the server sends only: requests arrive, answers do not.
    pub fn hold_answers(&self) {
        self.state.send_modify(|state| state.hold_to_client = true);
    }

    /// Lets everything through again, beginning with what was held.
    pub fn release(&self) {
        self.state.send_modify(|state| {
            state.hold_to_server = false;
            state.hold_to_client = false;
        });
    }

    /// Delays all bytes by this much, both ways.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Closes all connections; what was held is lost. New ones work.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Closes all connections, and new ones as soon as they come, until `false` is given.
    pub fn refuse(&self, refuse: bool) {
        self.state.send_modify(|state| {
            state.refuse = refuse;
            state.cuts += u64::from(refuse);
        });
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    changes: watch::Receiver<State>,
    connections: std::sync::Arc<AtomicU64>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        connections.fetch_add(1, Ordering::Relaxed);
        if !changes.borrow().refuse {
            tokio::spawn(connection(client, server, changes.clone()));
        }
    }
}

async fn connection(client: TcpStream, server: SocketAddr, mut changes: watch::Receiver<State>) {
    let cuts = changes.borrow().cuts;
    let both = changes.clone();
    let forward = async move {
        let mut ready = both.clone();
        let open = |state: &State| !state.hold_to_server;
        if ready.wait_for(open).await.is_err() {
            return;
        }
        let Ok(server) = TcpStream::connect(server).await else {
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        tokio::join!(
            copy(client_read, server_write, both.clone(), |s| s
                .hold_to_server),
            copy(server_read, client_write, both, |s| s.hold_to_client),
        );
    };
    tokio::select! {
        () = forward => {}
        _ = changes.wait_for(|state| state.cuts != cuts) => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut changes: watch::Receiver<State>,
    held: fn(&State) -> bool,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let delay = changes.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if changes.wait_for(|state| !held(state)).await.is_err()
            || to.write_all(&buffer[..length]).await.is_err()
        {
            return;
        }
    }
}
