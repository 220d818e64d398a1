//! What the gate tells Prometheus.
//!
//! - [`catalogue`]: every metric, with its type, labels and meaning: the one place where
//!   the names stand. `docs/metrics.md` is written from it.
//! - This file: collects the values. `page` writes them down.
//! - `calls`, `histogram`, `listeners`: what is counted here beside
//!   [`Stats`](crate::Stats). `process`: what the system knows of this process.
//!
//! Every label has a fixed set of values, or one that only the gate's owner adds to:
//! nothing that a client sends makes a series.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tidegate_protocol::{CloseReason, ErrorCode};

use crate::gate::Gate;
use crate::session::LocalSession;
use crate::stats::{By, Counters, Label};

pub(crate) mod calls;
pub mod catalogue;
pub(crate) mod histogram;
pub(crate) mod listeners;
mod page;
mod process;

use calls::{OfService, Outcome};
use catalogue as the;
use catalogue::Metric;
use page::Page;

/// The content type of what [`render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything there is to tell of `gate` and its process, in Prometheus' text format.
///
/// Looks at each session for a moment: with 100,000 of them it takes some 10 ms. Call it
/// where that holds nobody up, and no more often than it is looked at.
pub fn render(gate: &Gate) -> String {
    let mut page = Page::new();
    build(&mut page);
    counters(&mut page, gate);
    calls(&mut page, gate);
    sessions(&mut page, gate);
    certificates(&mut page, gate);
    limits(&mut page, gate);
    store(&mut page, gate);
    bus(&mut page, gate);
    process::write(&mut page);
    page.into_text()
}

/// Once for each name: listeners may share one.
fn certificates(page: &mut Page, gate: &Gate) {
    let mut first = BTreeMap::new();
    for expiry in gate.tls_expiry() {
        let at = expiry.expires.duration_since(SystemTime::UNIX_EPOCH);
        let at = at.unwrap_or_default().as_secs();
        let soonest = first.entry(expiry.listener).or_insert(at);
        *soonest = at.min(*soonest);
    }
    for (listener, at) in first {
        page.number(&the::TLS_EXPIRY, &[&listener], at as f64);
    }
}

fn build(page: &mut Page) {
    let version = env!("CARGO_PKG_VERSION");
    page.number(&the::BUILD_INFO, &[version], 1.0);
}

/// What is added up from the shards.
fn counters(page: &mut Page, gate: &Gate) {
    let stats = gate.stats();
    for (metric, value) in [
        (&the::ACCEPTED, stats.accepted),
        (&the::ACCEPT_ERRORS, stats.accept_errors),
        (&the::SESSIONS_STARTED, stats.sessions_started),
        (&the::SESSIONS_ENDED, stats.sessions_ended),
        (&the::PACKETS_IN, stats.packets_in),
        (&the::BYTES_IN, stats.bytes_in),
        (&the::PACKETS_OUT, stats.packets_out),
        (&the::BYTES_OUT, stats.bytes_out),
        (&the::UNDELIVERED, stats.undelivered),
        (&the::DROPPED, stats.dropped),
        (&the::LOST, stats.dormant),
        (&the::RESUMED, stats.resumed),
        (&the::NOT_RESUMED, stats.not_resumed),
        (&the::LOGINS_REFUSED, stats.logins_refused),
        (&the::LOGINS_REPLACED, stats.logins_replaced),
        (&the::LATE_ANSWERS, stats.late_answers),
        (&the::PINGS, stats.pings),
        (&the::HOOK_PANICS, stats.hook_panics),
        (&the::MEMORY_SHEDS, stats.sheds),
    ] {
        page.number(metric, &[], value as f64);
    }
    by(page, gate, &the::TURNED_AWAY, |c| &c.turned_away);
    by(page, gate, &the::HANDSHAKE_FAILURES, |c| &c.handshakes);
    by(page, gate, &the::SENDS_REFUSED, |c| &c.refused);
    for reason in CloseReason::ALL {
        let labels = [&*reason.code().to_string(), reason.name()];
        page.number(&the::CLOSED, &labels, gate.closed(*reason) as f64);
    }
    for code in ErrorCode::ALL {
        let labels = [&*code.0.to_string(), &*code.name().to_ascii_lowercase()];
        let errors = gate.packet_errors(*code);
        page.number(&the::PACKET_ERRORS, &labels, errors as f64);
    }
    let of_services = gate.packet_errors(ErrorCode(ErrorCode::FIRST_OF_SERVICES));
    page.number(
        &the::PACKET_ERRORS,
        &["1000+", "service"],
        of_services as f64,
    );
}

fn by<L: Label>(page: &mut Page, gate: &Gate, metric: &Metric, of: fn(&Counters) -> &By<L>) {
    for label in L::ALL {
        let shards = gate.0.shards.iter();
        let sum: u64 = shards.map(|shard| of(&shard.counters).get(*label)).sum();
        page.number(metric, &[label.label()], sum as f64);
    }
}

fn calls(page: &mut Page, gate: &Gate) {
    for (place, service) in gate.0.services.all() {
        let sum = OfService::default();
        for shard in gate.0.shards.iter() {
            shard.counters.calls.add_to(place, &sum);
        }
        for (outcome, count) in Outcome::labels().zip(sum.outcomes()) {
            page.number(&the::CALLS, &[service, &outcome], count as f64);
        }
        page.times(&the::CALL_SECONDS, &[service], sum.times());
    }
}

/// What is there now.
fn sessions(page: &mut Page, gate: &Gate) {
    page.number(&the::DORMANT, &[], gate.0.dormant.count() as f64);
    let (mut guests, mut bound) = (0, 0);
    let (mut calls, mut packets, mut bytes) = (0, 0, 0);
    for session in gate.sessions() {
        match LocalSession::is_guest(&session) {
            true => guests += 1,
            false => bound += 1,
        }
        let flow = session.core().flow.lock();
        calls += flow.calls();
        packets += flow.queued_packets();
        bytes += u64::from(flow.queued_bytes());
    }
    page.number(&the::SESSIONS, &["guest"], f64::from(guests));
    page.number(&the::SESSIONS, &["bound"], f64::from(bound));
    page.number(&the::CALLS_IN_FLIGHT, &[], calls as f64);
    page.number(&the::QUEUED_PACKETS, &[], packets as f64);
    page.number(&the::QUEUED_BYTES, &[], bytes as f64);
    for open in gate.0.listeners.all() {
        let labels = [&*open.listener, open.network.as_str()];
        page.number(&the::CONNECTIONS, &labels, open.count() as f64);
    }
    page.number(&the::READY, &[], f64::from(u8::from(gate.is_ready())));
}

fn limits(page: &mut Page, gate: &Gate) {
    let limits = gate.limits();
    for (metric, value) in [
        (&the::MEMORY_USED, gate.memory_used() as f64),
        (&the::MEMORY_LIMIT, limits.memory_budget as f64),
        (&the::CONNECTIONS_LIMIT, limits.max_connections as f64),
    ] {
        page.number(metric, &[], value);
    }
}

fn store(page: &mut Page, gate: &Gate) {
    for (operation, counts) in gate.0.store.counts() {
        for (outcome, count) in counts.outcomes() {
            let labels = [operation.label(), outcome];
            page.number(&the::STORE_OPERATIONS, &labels, count as f64);
        }
        page.times(&the::STORE_SECONDS, &[operation.label()], &counts.times);
    }
}

fn bus(page: &mut Page, gate: &Gate) {
    let stats = gate.bus_stats();
    for (metric, value) in [
        (&the::BUS_UP, u64::from(!stats.down)),
        (&the::BUS_DISCONNECTS, stats.disconnects),
        (&the::BUS_CALLS, stats.calls_in_flight),
        (&the::BUS_LATE, stats.late_answers),
        (&the::BUS_OVERFLOWED, stats.overflowed),
        (&the::BUS_OVERLOADED, stats.overloaded),
        (&the::BUS_MALFORMED, stats.malformed),
        (&the::BUS_FORBIDDEN, stats.forbidden),
        (&the::BUS_UNDELIVERED_EVENTS, stats.undelivered_events),
        (&the::BUS_LOST_EVENTS, stats.lost_events),
    ] {
        page.number(metric, &[], value as f64);
    }
}
