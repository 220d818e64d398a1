//! Calls of clients over NATS.
//!
//! Everything is measured in turn, round after round, so that what disturbs the machine
//! disturbs all of it: a bare NATS request, a bare TCP echo, and a call through a gate over
//! NATS, one at a time; then many at a time bare NATS requests, calls through the gate, and
//! calls through a gate with the service in its own process. The service, the gates, the TCP
//! echo and the NATS server are processes of their own.

use std::error::Error;
use std::time::Duration;

mod clients;
mod processes;
pub(crate) mod role;

use clients::{Kind, Many};
use processes::{Child, Nats};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds; the medians of their figures count.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Requests, one after the other, of each kind and round.
    #[arg(long, default_value_t = 3_000)]
    requests: usize,
    /// Clients, or requests, at a time.
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Seconds for each kind and round with many at a time.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Shards of a gate.
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// The NATS server's program. [default: $TIDEGATE_NATS_SERVER, or nats-server]
    #[arg(long)]
    nats_server: Option<String>,
}

/// What a round gave.
struct Round {
    /// Medians, in microseconds.
    bare_nats: f64,
    bare_tcp: f64,
    gate: f64,
    /// With many at a time: requests a second over one connection, and over one for each.
    many_nats: f64,
    apart_nats: f64,
    many_gate: Many,
    many_local: Many,
}

impl Round {
    fn latency(&self) -> f64 {
        self.gate / (self.bare_nats + self.bare_tcp)
    }

    fn rate(&self) -> f64 {
        self.many_gate.rate / self.many_nats
    }

    /// As the gate's clients have one connection each.
    fn rate_apart(&self) -> f64 {
        self.many_gate.rate / self.apart_nats
    }

    fn cpu(&self) -> f64 {
        self.many_gate.cpu / self.many_local.cpu
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let nats = Nats::start(args.nats_server.as_deref())?;
    let shards = args.shards.to_string();
    let _service = Child::start(&["service", "--nats", &nats.url])?;
    let tcp = Child::start(&["tcp-echo"])?;
    let gate = Child::start(&["gate", "--shards", &shards, "--nats", &nats.url])?;
    let local = Child::start(&["gate", "--shards", &shards])?;
    let time = Duration::from_secs(args.seconds);

    println!(
        "64 B; medians of {} requests one at a time, in µs; then {} at a time for {} s, in 1000/s \
         and µs of the gate's CPU",
        args.requests, args.clients, args.seconds
    );
    println!(
        "round   NATS    TCP   gate  ratio │   NATS  apart   gate  local  ratio  apart │ \
         CPU over NATS, in process, ratio"
    );
    let mut rounds = Vec::new();
    for number in 0..=args.rounds {
        let round = Round {
            bare_nats: clients::one_nats(&nats.url, args.requests)?,
            bare_tcp: clients::one_tcp(&tcp.address, Kind::Tcp, args.requests)?,
            gate: clients::one_tcp(&gate.address, Kind::Gate, args.requests)?,
            many_nats: clients::many_nats(&nats.url, args.clients, 1, time)?,
            apart_nats: clients::many_nats(&nats.url, args.clients, args.clients, time)?,
            many_gate: clients::many_gate(&gate, args.clients, time)?,
            many_local: clients::many_gate(&local, args.clients, time)?,
        };
        // The first one warms up.
        if number > 0 {
            println!(
                "{number:>5} {:>6.1} {:>6.1} {:>6.1} {:>6.2} │ {:>6.1} {:>6.1} {:>6.1} {:>6.1} \
                 {:>6.2} {:>6.2} │ {:>8.1} {:>12.1} {:>8.2}",
                round.bare_nats,
                round.bare_tcp,
                round.gate,
                round.latency(),
                round.many_nats / 1e3,
                round.apart_nats / 1e3,
                round.many_gate.rate / 1e3,
                round.many_local.rate / 1e3,
                round.rate(),
                round.rate_apart(),
                round.many_gate.cpu,
                round.many_local.cpu,
                round.cpu(),
            );
            rounds.push(round);
        }
    }
    let median = |figure: fn(&Round) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    };
    println!();
    println!(
        "one client: p50 {:.2} × (bare NATS request + bare TCP echo); the goal is at most 1.15",
        median(Round::latency)
    );
    println!(
        "{} clients: {:.2} × the rate of bare NATS requests over one connection, {:.2} × over one \
         for each; the goal is at least 0.5",
        args.clients,
        median(Round::rate),
        median(Round::rate_apart)
    );
    println!(
        "the gate's CPU for each message: {:.2} × that of the in-process echo; the goal is at \
         most 2",
        median(Round::cpu)
    );
    Ok(())
}
