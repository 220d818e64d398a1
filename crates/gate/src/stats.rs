//! What the gate counts. Names are those of the fields, and stand nowhere else.

use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_protocol::{CloseReason, ErrorCode};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the gate began, and what is there now.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// One shard's counters.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
            pub(crate) closed: ByReason,
            pub(crate) errors: ByCode,
        }

        impl Counters {
            pub(crate) fn add_to(&self, stats: &mut Stats) {
                $(stats.$name += self.$name.get();)*
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Connections turned away because a limit was reached.
    turned_away,
    /// Failed accepts, the gate being out of descriptors or memory.
    accept_errors,
    /// TLS handshakes and WebSocket upgrades that failed.
    handshake_failures,
    /// Sessions that began.
    sessions_started,
    /// Sessions that ended.
    sessions_ended,
    /// Packets from clients.
    packets_in,
    /// Bytes read from clients' sockets.
    bytes_in,
    /// Packets written to clients' sockets.
    packets_out,
    /// Bytes written to clients' sockets.
    bytes_out,
    /// Packets accepted for a client that were not written, or not acknowledged where
    /// clients do, before its session ended.
    undelivered,
    /// Packets that gave way to others, or did not fit the connection of a session that
    /// was resumed.
    dropped,
    /// Sessions that lost their connection and waited for their client.
    dormant,
    /// Sessions that their client came back for.
    resumed,
    /// Clients that came back for a session that they did not get.
    not_resumed,
    /// Sends refused: queue full.
    refused_full,
    /// Sends refused: outbound hook.
    refused_hook,
    /// Sends refused: too large.
    refused_too_large,
    /// Answers that came when nobody waited for them any more.
    late_answers,
    /// Panics caught in hooks.
    hook_panics,
    /// WebSocket pings from clients.
    pings,
    /// Failed operations of the store.
    store_errors,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Connections and sessions by why they ended.
#[derive(Debug)]
pub(crate) struct ByReason(Box<[Counter]>);

impl Default for ByReason {
    fn default() -> Self {
        Self(
            CloseReason::ALL
                .iter()
                .map(|_| Counter::default())
                .collect(),
        )
    }
}

impl ByReason {
    pub(crate) fn add(&self, reason: CloseReason) {
        if let Some(i) = CloseReason::ALL.iter().position(|r| *r == reason) {
            self.0[i].add(1);
        }
    }

    pub(crate) fn get(&self, reason: CloseReason) -> u64 {
        let i = CloseReason::ALL.iter().position(|r| *r == reason);
        i.map_or(0, |i| self.0[i].get())
    }
}

/// Packet errors by code; services' own codes share one counter.
#[derive(Debug)]
pub(crate) struct ByCode(Box<[Counter]>);

impl Default for ByCode {
    fn default() -> Self {
        Self(
            (0..=ErrorCode::ALL.len())
                .map(|_| Counter::default())
                .collect(),
        )
    }
}

impl ByCode {
    fn index(code: ErrorCode) -> usize {
        let all = ErrorCode::ALL;
        all.iter().position(|c| *c == code).unwrap_or(all.len())
    }

    pub(crate) fn add(&self, code: ErrorCode) {
        self.0[Self::index(code)].add(1);
    }

    pub(crate) fn get(&self, code: ErrorCode) -> u64 {
        self.0[Self::index(code)].get()
    }
}
