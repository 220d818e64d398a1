//! What the processes do that the benchmark starts.

use std::error::Error;
use std::io::Write;
use std::net::Ipv4Addr;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::select;
use tidegate::{Gate, Guests, Service, Tcp};
use tidegate_nats::{Nats, NatsOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Which process.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(clap::Subcommand)]
enum Role {
    /// A service that answers what it gets: a client of NATS and nothing else.
    Service {
        #[arg(long)]
        nats: String,
    },
    /// Answers bytes with the same.
    TcpEcho,
    /// A gate; without NATS, with the service in it.
    Gate {
        #[arg(long)]
        nats: Option<String>,
        #[arg(long)]
        shards: usize,
    },
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match &args.role {
        Role::Service { nats } => runtime.block_on(service(nats)),
        Role::TcpEcho => runtime.block_on(tcp_echo()),
        Role::Gate { nats, shards } => runtime.block_on(gate(nats.as_deref(), *shards)),
    }
}

fn ready(address: impl std::fmt::Display) -> Result<(), Box<dyn Error>> {
    println!("ready {address}");
    Ok(std::io::stdout().flush()?)
}

async fn service(url: &str) -> Result<(), Box<dyn Error>> {
    let client = async_nats::connect(url).await?;
    let group = "q".to_owned();
    let bare = client.queue_subscribe("bench.echo", group.clone()).await?;
    let calls = client.queue_subscribe("tidegate.*.echo.*", group).await?;
    // Answered when the server knows of both.
    let mut echo = client.subscribe("bench.ready").await?;
    client.publish("bench.ready", Bytes::new()).await?;
    echo.next().await.ok_or("NATS is gone")?;
    ready("")?;
    let mut requests = select(bare, calls);
    while let Some(request) = requests.next().await {
        if let Some(reply) = request.reply {
            client.publish(reply, request.payload).await?;
        }
    }
    Ok(())
}

async fn tcp_echo() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    ready(listener.local_addr()?)?;
    loop {
        let (mut socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok(1..) = {
                let read = socket.read(&mut buffer).await;
                match read {
                    Ok(n) => socket.write_all(&buffer[..n]).await.map(|()| n),
                    Err(error) => Err(error),
                }
            } {}
        });
    }
}

async fn echo(body: Bytes) -> Bytes {
    body
}

async fn gate(nats: Option<&str>, shards: usize) -> Result<(), Box<dyn Error>> {
    let mut builder = Gate::builder()
        .id("bench")
        .shards(shards)
        .listen(Tcp::bind("127.0.0.1:0"));
    match nats {
        Some(url) => {
            let mut options = NatsOptions::new([url]);
            options.name = "bench".to_owned();
            builder = builder.bus(Nats::connect(options).await?);
        }
        None => {
            let service = Service::new("echo").request("echo", echo).open_to(Guests);
            builder = builder.service(service);
        }
    }
    let gate = builder.start().await?;
    ready(gate.address(0).ok_or("no listener")?)?;
    std::future::pending().await
}
