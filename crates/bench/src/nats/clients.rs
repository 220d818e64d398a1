//! The clients: who asks, and how long that takes.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use tidegate_protocol::{Codec, Packet, V1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::processes::Child;

const BODY: &[u8] = &[b'x'; 64];

/// What many at a time gave.
pub(crate) struct Many {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Microseconds of the gate's CPU for each.
    pub(crate) cpu: f64,
}

/// Whom a TCP client talks to.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Answers bytes with the same.
    Tcp,
    /// Answers a call.
    Gate,
}

impl Kind {
    /// What is sent, and comes back.
    fn message(self) -> Result<Vec<u8>, Box<dyn Error>> {
        match self {
            Self::Tcp => Ok(BODY.to_vec()),
            Self::Gate => {
                let mut frame = Vec::new();
                V1.encode(&Packet::try_new("echo/echo/1", BODY)?, &mut frame);
                Ok(frame)
            }
        }
    }
}

/// The median of the times that `ask` takes, in microseconds.
fn median(
    requests: usize,
    mut ask: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let mut times = Vec::with_capacity(requests);
    for _ in 0..requests {
        let began = Instant::now();
        ask()?;
        times.push(began.elapsed());
    }
    times.sort();
    let median = times.get(requests / 2).ok_or("no requests")?;
    Ok(median.as_nanos() as f64 / 1e3)
}

pub(crate) fn one_tcp(address: &str, kind: Kind, requests: usize) -> Result<f64, Box<dyn Error>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let message = kind.message()?;
    let mut answer = vec![0; message.len()];
    median(requests, || {
        socket.write_all(&message)?;
        socket.read_exact(&mut answer)?;
        match answer == message {
            true => Ok(()),
            false => Err("a wrong answer".into()),
        }
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, std::io::Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

pub(crate) fn one_nats(url: &str, requests: usize) -> Result<f64, Box<dyn Error>> {
    let runtime = runtime()?;
    let client = runtime.block_on(async_nats::connect(url))?;
    median(requests, || {
        let asked = client.request("bench.echo", Bytes::from_static(BODY));
        match runtime.block_on(asked)?.payload == BODY {
            true => Ok(()),
            false => Err("a wrong answer".into()),
        }
    })
}

/// Requests a second of `count` askers; each is given the time at which it is to stop, and
/// answers how many it made.
async fn rate<F>(
    count: usize,
    time: Duration,
    asker: impl Fn(Instant) -> F,
) -> Result<f64, Box<dyn Error>>
where
    F: Future<Output = Result<u64, Box<dyn Error>>>,
{
    let began = Instant::now();
    let until = began + time;
    let askers = (0..count).map(|_| asker(until));
    let requests: u64 = try_join_all(askers).await?.iter().sum();
    Ok(requests as f64 / began.elapsed().as_secs_f64())
}

/// Requests a second over this many connections.
pub(crate) fn many_nats(
    url: &str,
    count: usize,
    connections: usize,
    time: Duration,
) -> Result<f64, Box<dyn Error>> {
    runtime()?.block_on(async {
        let clients = try_join_all((0..connections).map(|_| async_nats::connect(url))).await?;
        let next = std::cell::RefCell::new(clients.iter().cycle());
        let rate = rate(count, time, |until| {
            let client = next.borrow_mut().next().cloned();
            async move {
                let client = client.ok_or("no connections")?;
                let mut requests = 0;
                while Instant::now() < until {
                    let asked = client.request("bench.echo", Bytes::from_static(BODY));
                    asked.await?;
                    requests += 1;
                }
                Ok(requests)
            }
        });
        rate.await
    })
}

pub(crate) fn many_gate(
    gate: &Child,
    count: usize,
    time: Duration,
) -> Result<Many, Box<dyn Error>> {
    let message = Kind::Gate.message()?;
    runtime()?.block_on(async {
        let connect = || async {
            let socket = tokio::net::TcpStream::connect(&gate.address).await?;
            socket.set_nodelay(true)?;
            Ok::<_, std::io::Error>(socket)
        };
        let sockets = try_join_all((0..count).map(|_| connect())).await?;
        let sockets = std::cell::RefCell::new(sockets);
        let before = gate.cpu()?;
        let began = Instant::now();
        let rate = rate(count, time, |until| {
            let socket = sockets.borrow_mut().pop();
            let message = &message;
            async move {
                let mut socket = socket.ok_or("too few sockets")?;
                let mut answer = vec![0; message.len()];
                let mut requests = 0;
                while Instant::now() < until {
                    socket.write_all(message).await?;
                    socket.read_exact(&mut answer).await?;
                    if answer != *message {
                        return Err("a wrong answer".into());
                    }
                    requests += 1;
                }
                Ok(requests)
            }
        })
        .await?;
        let requests = rate * began.elapsed().as_secs_f64();
        let cpu = gate.cpu()? - before;
        Ok(Many {
            rate,
            cpu: cpu.as_nanos() as f64 / 1e3 / requests,
        })
    })
}
