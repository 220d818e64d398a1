//! A proxy between client and gate that cuts connections at random bytes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::meddle::{self, Meddling};

/// See the module.
pub struct Proxy {
    pub address: SocketAddr,
    left: Arc<AtomicI64>,
}

/// What is done with the sides of a connection that is cut.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// Both are closed.
    Both,
    /// The gate goes on for a while with a connection that is half dead.
    HalfDead,
    /// What the client had written, be it a `$hello`, reaches the gate when the client may
    /// have come back.
    Late,
}

impl Proxy {
    /// Cuts so many connections to the gate, then none any more.
    pub async fn start(gate: SocketAddr, seed: u64, cuts: u32, meddling: Option<Meddling>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(AtomicI64::new(cuts.into()));
        let cuts = left.clone();
        tokio::spawn(async move {
            let mut seeds = StdRng::seed_from_u64(seed);
            while let Ok((mut client, _)) = listener.accept().await {
                let rng = StdRng::seed_from_u64(seeds.random());
                let last = cuts.fetch_sub(1, Relaxed) <= 0;
                tokio::spawn(async move {
                    client.set_nodelay(true)?;
                    let mut gate = TcpStream::connect(gate).await?;
                    gate.set_nodelay(true)?;
                    match meddling {
                        _ if last => copy_bidirectional(&mut client, &mut gate).await.map(drop),
                        None => serve(client, gate, rng).await,
                        Some(meddling) => meddle::serve(client, gate, rng, meddling).await,
                    }
                });
            }
        });
        Self { address, left }
    }

    /// Whether it has cut as often as it should.
    pub fn is_done(&self) -> bool {
        self.left.load(Relaxed) < 0
    }
}

async fn serve(mut client: TcpStream, mut gate: TcpStream, mut rng: StdRng) -> io::Result<()> {
    // Short ones as often as long ones: the beginning is cut at each byte.
    let mut bytes = || {
        let most = 1usize << rng.random_range(0..=13);
        rng.random_range(0..=most)
    };
    let (up, down) = (bytes(), bytes());
    let cut = match rng.random_range(0..4) {
        0 | 1 => Cut::Both,
        2 => Cut::HalfDead,
        _ => Cut::Late,
    };
    let wait = Duration::from_millis(rng.random_range(0..20));
    let step = rng.random_range(1..=400);
    // Read from the client, and not written yet: it must not be missing in what comes late.
    let (mut between, mut other) = (Vec::new(), Vec::new());
    {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_gate, mut to_gate) = gate.split();
        tokio::select! {
            _ = forward(&mut from_client, &mut to_gate, up, step, &mut between) => {}
            _ = forward(&mut from_gate, &mut to_client, down, step, &mut other) => {}
        }
    }
    match cut {
        Cut::Both => {}
        Cut::HalfDead => {
            drop(client);
            tokio::time::sleep(wait).await;
        }
        Cut::Late => {
            let mut rest = vec![0; 4096];
            let len = client.try_read(&mut rest).unwrap_or(0);
            drop(client);
            tokio::time::sleep(wait).await;
            gate.write_all(&between).await?;
            gate.write_all(&rest[..len]).await?;
        }
    }
    Ok(())
}

/// Forwards so many bytes, in steps. What it has read and not written when it is dropped is
/// in `between`.
async fn forward(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    bytes: usize,
    step: usize,
    between: &mut Vec<u8>,
) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let mut limited = (&mut *from).take(left.min(step) as u64);
        let n = limited.read_buf(between).await?;
        if n == 0 {
            return Ok(());
        }
        left -= n;
        while !between.is_empty() {
            let written = to.write(between).await?;
            between.drain(..written);
        }
    }
    Ok(())
}
