//! What the gate counts: one set of counters for each shard, added up when somebody asks.
//! Counting is one relaxed addition to the own shard's counter.
//!
//! Under which names they are published stands in [`metrics`](crate::metrics).

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_protocol::{CloseReason, ErrorCode};

use crate::metrics::calls::Calls;

macro_rules! counters {
    (
        { $($(#[$doc:meta])* $name:ident,)* }
        { $($(#[$sum_doc:meta])* $sum:ident = $by:ident [$($of:path),*],)* }
    ) => {
        /// Counters since the gate began.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            $($(#[$sum_doc])* pub $sum: u64,)*
        }

        /// One shard's counters.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
            pub(crate) turned_away: By<TurnedAway>,
            pub(crate) handshakes: By<Handshake>,
            pub(crate) refused: By<Refusal>,
            pub(crate) closed: By<CloseReason>,
            pub(crate) errors: ByCode,
            pub(crate) calls: Calls,
        }

        impl Counters {
            pub(crate) fn add_to(&self, stats: &mut Stats) {
                $(stats.$name += self.$name.get();)*
                $($(stats.$sum += self.$by.get($of);)*)*
            }
        }
    };
}

counters! {
    {
        /// Connections accepted.
        accepted,
        /// Failed accepts, the gate being out of descriptors or memory.
        accept_errors,
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
        /// Logins refused because the user had as many as there may be.
        logins_refused,
        /// Sessions closed because a newer login has their place.
        logins_replaced,
        /// Answers that came when nobody waited for them any more.
        late_answers,
        /// Panics caught in hooks.
        hook_panics,
        /// WebSocket pings from clients.
        pings,
        /// Failed operations of the store.
        store_errors,
        /// Times that connections were closed to get below the byte budget.
        sheds,
    }
    {
        /// Connections turned away because a limit was reached.
        turned_away = turned_away [TurnedAway::Connections, TurnedAway::Address],
        /// TLS handshakes, WebSocket upgrades and PROXY headers that failed.
        handshake_failures = handshakes [
            Handshake::Tls,
            Handshake::Upgrade,
            Handshake::Proxy,
            Handshake::Lost
        ],
        /// Sends refused: queue full, or the gate's byte budget spent.
        refused_full = refused [Refusal::QueueFull, Refusal::Memory],
        /// Sends refused: outbound hook.
        refused_hook = refused [Refusal::Hook],
        /// Sends refused: too large.
        refused_too_large = refused [Refusal::TooLarge],
    }
}

/// A closed set of things that are counted apart.
pub(crate) trait Label: Copy + PartialEq + 'static {
    const ALL: &'static [Self];
    /// As the metrics' label has it.
    fn label(self) -> &'static str;
}

/// Makes a [`Label`].
macro_rules! labels {
    ($(#[$doc:meta])* $kind:ident { $($(#[$of:meta])* $name:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $kind {
            $($(#[$of])* $name,)*
        }

        impl $crate::stats::Label for $kind {
            const ALL: &'static [Self] = &[$(Self::$name,)*];

            fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

pub(crate) use labels;

labels! {
    /// Why a connection was turned away.
    TurnedAway {
        /// The gate has as many as it may have.
        Connections = "connections",
        /// Its address has as many as one may have.
        Address = "address",
    }
}

labels! {
    /// What failed before there was a session.
    Handshake {
        Tls = "tls",
        Upgrade = "upgrade",
        /// A trusted proxy sent no PROXY header that can be read.
        Proxy = "proxy",
        /// The connection broke meanwhile.
        Lost = "lost",
    }
}

labels! {
    /// Why a send was refused.
    Refusal {
        /// The session's queue has no room.
        QueueFull = "queue_full",
        /// The gate's byte budget is spent.
        Memory = "memory",
        /// The outbound hook said no.
        Hook = "hook",
        /// It does not fit a frame of the listener.
        TooLarge = "too_large",
    }
}

impl Label for CloseReason {
    const ALL: &'static [Self] = CloseReason::ALL;

    fn label(self) -> &'static str {
        self.name()
    }
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

/// A counter for each of a closed set.
#[derive(Debug)]
pub(crate) struct By<L>(Box<[Counter]>, PhantomData<L>);

impl<L: Label> Default for By<L> {
    fn default() -> Self {
        let counters = L::ALL.iter().map(|_| Counter::default());
        Self(counters.collect(), PhantomData)
    }
}

impl<L: Label> By<L> {
    fn of(&self, label: L) -> Option<&Counter> {
        let i = L::ALL.iter().position(|l| *l == label)?;
        self.0.get(i)
    }

    pub(crate) fn add(&self, label: L) {
        if let Some(counter) = self.of(label) {
            counter.add(1);
        }
    }

    pub(crate) fn get(&self, label: L) -> u64 {
        self.of(label).map_or(0, Counter::get)
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
    /// The place of a code: that of [`ErrorCode::ALL`], or the one after the last.
    pub(crate) fn index(code: ErrorCode) -> usize {
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
