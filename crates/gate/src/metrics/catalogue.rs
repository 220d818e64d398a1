//! Every metric of the gate: the one place where names, types, labels and meanings stand.

use std::fmt::Write;

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name. A histogram's series are this with `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The labels of each of its series.
    pub labels: &'static [&'static str],
    /// What it means, without a full stop at the end.
    pub help: &'static str,
}

/// A metric's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows, and begins anew with the process.
    Counter,
    /// What there is now.
    Gauge,
    /// Times, in seconds, by how long they were.
    Histogram,
}

impl Kind {
    /// The type as Prometheus calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            pub(crate) const $id: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// Every metric, in the order of the page.
        pub const METRICS: &[Metric] = &[$($id),*];
    };
}

metrics! {
    BUILD_INFO = Gauge "tidegate_build_info" ["version"]
        "1; the label tells the gate's version";
    READY = Gauge "tidegate_ready" []
        "1 while the gate takes clients, else 0";

    TLS_EXPIRY = Gauge "tidegate_tls_certificate_expiry_timestamp_seconds" ["listener"]
        "When the first of the certificates that a listener serves expires, in Unix time";
    CONNECTIONS = Gauge "tidegate_connections" ["listener", "network"]
        "Connections open, those in set-up too";
    CONNECTIONS_LIMIT = Gauge "tidegate_connections_limit" []
        "Connections that there may be at a time (gate.max_connections)";
    ACCEPTED = Counter "tidegate_connections_accepted_total" []
        "Connections accepted, those turned away too";
    TURNED_AWAY = Counter "tidegate_connections_turned_away_total" ["limit"]
        "Connections turned away at once because a limit was reached: of all connections, or of those of one address";
    ACCEPT_ERRORS = Counter "tidegate_accept_errors_total" []
        "Failed accepts: the system is out of file descriptors or memory";
    HANDSHAKE_FAILURES = Counter "tidegate_handshake_failures_total" ["stage"]
        "Connections whose set-up failed before there was a session, by what failed";
    CLOSED = Counter "tidegate_closed_total" ["code", "reason"]
        "Connections and sessions that ended, by the reason's number, as on the wire and in the log, and its name";

    SESSIONS = Gauge "tidegate_sessions" ["identity"]
        "Sessions, by whether they are bound to a user";
    SESSIONS_STARTED = Counter "tidegate_sessions_started_total" []
        "Sessions that began";
    SESSIONS_ENDED = Counter "tidegate_sessions_ended_total" []
        "Sessions that ended";

    LOGINS_REFUSED = Counter "tidegate_logins_refused_total" []
        "Logins refused because the user, or the device, had as many as there may be (logins.limit)";
    LOGINS_REPLACED = Counter "tidegate_logins_replaced_total" []
        "Sessions closed because a newer login took their place (logins.limit)";

    PACKETS_IN = Counter "tidegate_packets_received_total" []
        "Packets from clients";
    PACKETS_OUT = Counter "tidegate_packets_sent_total" []
        "Packets written to clients' sockets";
    BYTES_IN = Counter "tidegate_received_bytes_total" []
        "Bytes of connections that are set up, as read: after TLS, without WebSocket upgrade";
    BYTES_OUT = Counter "tidegate_sent_bytes_total" []
        "Bytes written to connections that are set up: before TLS, without WebSocket upgrade";
    PINGS = Counter "tidegate_websocket_pings_total" []
        "WebSocket pings from clients";

    CALLS = Counter "tidegate_calls_total" ["service", "outcome"]
        "Clients' packets that were handed to a service and are done with";
    CALL_SECONDS = Histogram "tidegate_call_duration_seconds" ["service"]
        "From routing a client's packet to having its answer. Of calls that are answered in place one in 16 is timed, by chance, and counts 16 times; use tidegate_calls_total to count calls";
    CALLS_IN_FLIGHT = Gauge "tidegate_calls_in_flight" []
        "Calls whose answer has not come";
    LATE_ANSWERS = Counter "tidegate_late_answers_total" []
        "Answers that came when nobody waited for them any more";
    PACKET_ERRORS = Counter "tidegate_packet_errors_total" ["code", "error"]
        "Packets from clients that were not served, by the error's number and name; services' own numbers share one series";

    QUEUED_PACKETS = Gauge "tidegate_queued_packets" []
        "Packets that wait for their clients, answers too";
    QUEUED_BYTES = Gauge "tidegate_queued_bytes" []
        "Bytes of topic and body in packets that wait for their clients";
    SENDS_REFUSED = Counter "tidegate_sends_refused_total" ["why"]
        "Packets that a session's queue did not take; their senders were told";
    UNDELIVERED = Counter "tidegate_undelivered_packets_total" []
        "Packets that a queue took and that were not written before their session ended; where it could be resumed, also those written and not acknowledged";
    DROPPED = Counter "tidegate_dropped_packets_total" []
        "Packets that gave way to others, or did not fit the connection that resumed their session";
    DORMANT = Gauge "tidegate_dormant_sessions" []
        "Sessions without a connection that wait for their clients";
    LOST = Counter "tidegate_sessions_dormant_total" []
        "Sessions that lost their connection and waited for their clients";
    RESUMED = Counter "tidegate_sessions_resumed_total" []
        "Sessions that their clients came back for";
    NOT_RESUMED = Counter "tidegate_resumes_refused_total" []
        "Clients that came back for a session that they did not get";

    MEMORY_USED = Gauge "tidegate_memory_used_bytes" []
        "Bytes of the byte budget in use: outbound queues, packets kept for clients to come back, partial frames; within 4 KiB for each session";
    MEMORY_LIMIT = Gauge "tidegate_memory_limit_bytes" []
        "The byte budget (gate.memory_budget)";
    MEMORY_SHEDS = Counter "tidegate_memory_sheds_total" []
        "Times that connections were closed to get below the byte budget";

    STORE_OPERATIONS = Counter "tidegate_store_operations_total" ["operation", "outcome"]
        "Operations of the store";
    STORE_SECONDS = Histogram "tidegate_store_operation_duration_seconds" ["operation"]
        "How long operations of the store took";
    BUS_UP = Gauge "tidegate_bus_up" []
        "1 while the bus reaches the other gates and services, else 0";
    BUS_DISCONNECTS = Counter "tidegate_bus_disconnects_total" []
        "Times that a connection to the bus was lost";
    BUS_CALLS = Gauge "tidegate_bus_calls_in_flight" []
        "Calls, events and questions handed to the bus by this process whose answers have not come";
    BUS_LATE = Counter "tidegate_bus_late_answers_total" []
        "Answers from the bus that came late, twice or to no question, and were discarded";
    BUS_OVERFLOWED = Counter "tidegate_bus_overflowed_messages_total" []
        "Messages from the bus that were dropped for want of room (a slow consumer); who sent one gets no answer";
    BUS_OVERLOADED = Counter "tidegate_bus_overloaded_requests_total" []
        "Requests from the bus that were refused because too many were under way";
    BUS_MALFORMED = Counter "tidegate_bus_malformed_messages_total" []
        "Messages from the bus that were refused because of what they hold";
    BUS_FORBIDDEN = Counter "tidegate_bus_forbidden_total" []
        "Things that the bus's permissions did not allow";
    BUS_UNDELIVERED_EVENTS = Counter "tidegate_bus_undelivered_events_total" []
        "Events about sessions that no instance took";
    BUS_LOST_EVENTS = Counter "tidegate_bus_lost_events_total" []
        "Events about sessions that were given up because the bus was down for too long";
    HOOK_PANICS = Counter "tidegate_hook_panics_total" []
        "Panics caught in hooks";

    PROCESS_CPU = Counter "process_cpu_seconds_total" []
        "CPU time used, in user and system mode";
    PROCESS_MEMORY = Gauge "process_resident_memory_bytes" []
        "Memory resident";
    PROCESS_FDS = Gauge "process_open_fds" []
        "File descriptors open";
    PROCESS_MAX_FDS = Gauge "process_max_fds" []
        "File descriptors that may be open";
    PROCESS_START = Gauge "process_start_time_seconds" []
        "When the process began, in seconds since 1970";
}

/// The table of `docs/metrics.md`.
pub fn reference() -> String {
    let mut table =
        String::from("| Metric | Type | Labels | Meaning |\n| --- | --- | --- | --- |\n");
    for metric in METRICS {
        let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind.as_str(),
            labels.join(", "),
            metric.help,
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_say_their_type() {
        for (i, metric) in METRICS.iter().enumerate() {
            let is_counter = metric.kind == Kind::Counter;
            assert_eq!(metric.name.ends_with("_total"), is_counter, "{metric:?}");
            assert!(!metric.help.ends_with('.'), "{metric:?}");
            let others = &METRICS[i + 1..];
            assert!(others.iter().all(|m| m.name != metric.name), "{metric:?}");
        }
    }
}
