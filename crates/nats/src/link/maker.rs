//! How a client is made: credentials, TLS, and what is done with its news.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectErrorKind, Event, ServerAddr, ServerError};
use parking_lot::Mutex;
use thiserror::Error;
use tidegate::bus::BusError;
use tokio::sync::Notify;
use tokio::task;

use super::{PING, pause};
use crate::counters::{Counters, LogLimit};
use crate::options::{Credentials, NatsOptions, OptionsError, read_auth};

/// Makes clients.
pub(super) struct Maker {
    options: NatsOptions,
    addresses: Vec<ServerAddr>,
    pub(super) counters: Arc<Counters>,
    /// Of what happens to the connection.
    pub(super) news: Arc<Notify>,
}

impl Maker {
    pub(super) fn new(options: NatsOptions, counters: Arc<Counters>) -> Result<Self, ConnectError> {
        Ok(Self {
            addresses: options.addresses()?,
            options,
            counters,
            news: Arc::new(Notify::new()),
        })
    }

    pub(super) async fn connect(&self) -> Result<Client, ConnectError> {
        let client = client_options(&self.options, self.counters.clone(), self.news.clone());
        let client = client.connect(self.addresses.clone()).await;
        let client = client.map_err(|error| ConnectError::of(&error))?;
        match client.server_info().headers {
            true => Ok(client),
            false => Err(ConnectError::Server("it has no headers")),
        }
    }
}

/// Lines a second about what the server refuses.
const LINES: u32 = 1;
/// The same failure, such as that of each attempt to connect again, is logged once in this time.
const SAME: Duration = Duration::from_secs(60);

/// The failure that was logged last, and when.
type LastFailure = Mutex<Option<(String, Instant)>>;

/// Whether a failure is to be logged: another than the last one, or the same after a while.
fn is_news(last: &LastFailure, failure: &str) -> bool {
    let mut last = last.lock();
    let told = last
        .as_ref()
        .is_some_and(|(text, at)| text == failure && at.elapsed() < SAME);
    if !told {
        *last = Some((failure.to_owned(), Instant::now()));
    }
    !told
}

fn client_options(
    options: &NatsOptions,
    counters: Arc<Counters>,
    news: Arc<Notify>,
) -> async_nats::ConnectOptions {
    let auth = options.auth.clone();
    let client = async_nats::ConnectOptions::with_auth_callback(move |nonce| {
        let auth = auth.clone();
        async move {
            // Files are read: not on a thread that serves connections.
            task::spawn_blocking(move || sign(&auth, &nonce))
                .await
                .map_err(async_nats::AuthError::new)?
        }
    });
    let lines = LogLimit::new(LINES);
    let failure = LastFailure::default();
    let events = move |event: Event| {
        match event {
            Event::Connected | Event::Disconnected | Event::Closed => news.notify_one(),
            Event::SlowConsumer(subscription) => {
                counters.overflowed.fetch_add(1, Ordering::Relaxed);
                if let Some(unlogged) = lines.admit() {
                    tracing::warn!(
                        subscription,
                        unlogged,
                        "a message from NATS was dropped: too many wait to be read"
                    );
                }
            }
            Event::ServerError(error) => {
                if is_violation(&error) {
                    counters.forbidden.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(unlogged) = lines.admit() {
                    tracing::warn!(%error, unlogged, "NATS refused something");
                }
            }
            Event::LameDuckMode => tracing::info!("a server of NATS is about to stop"),
            Event::ClientError(error) => {
                if is_news(&failure, &error.to_string()) {
                    tracing::warn!(%error, "NATS client failed");
                }
            }
            Event::Draining => {}
        }
        std::future::ready(())
    };
    let tls = &options.tls;
    let mut client = client
        .name(options.name.clone())
        .connection_timeout(options.connect_timeout)
        .request_timeout(Some(options.ask_timeout))
        .ping_interval(PING)
        .client_capacity(options.outbound)
        .subscription_capacity(options.inbound)
        .custom_inbox_prefix(options.inbox())
        .reconnect_delay_callback(|attempts| match attempts {
            // The first attempt after a loss.
            0 | 1 => Duration::from_millis(rand::random_range(0..=50)),
            more => pause(more),
        })
        .require_tls(tls.required || tls.first)
        .event_callback(events);
    if tls.first {
        client = client.tls_first();
    }
    if let Some(ca) = &tls.ca {
        client = client.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        client = client.add_client_certificate(cert.clone(), key.clone());
    }
    client
}

/// The server tells it only as text; a miscount is no worse than a wrong line in a log.
fn is_violation(error: &ServerError) -> bool {
    matches!(error, ServerError::Other(text) if text.starts_with("Permissions Violation"))
        || *error == ServerError::AuthorizationViolation
}

fn sign(
    auth: &crate::options::Auth,
    nonce: &[u8],
) -> Result<async_nats::Auth, async_nats::AuthError> {
    let mut told = async_nats::Auth::new();
    match read_auth(auth).map_err(async_nats::AuthError::new)? {
        Credentials::None => {}
        Credentials::UserPassword(user, password) => {
            told.username = Some(user);
            told.password = Some(password);
        }
        Credentials::Token(token) => told.token = Some(token),
        Credentials::Key { key, jwt } => {
            told.signature = Some(key.sign(nonce).map_err(async_nats::AuthError::new)?);
            match jwt {
                Some(jwt) => told.jwt = Some(jwt),
                None => told.nkey = Some(key.public_key()),
            }
        }
    }
    Ok(told)
}

/// Why there is no connection to NATS.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The options cannot be used.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// No server can be reached, or none answered in time.
    #[error("no NATS server can be reached: {0}")]
    Unreachable(String),
    /// The credentials are refused.
    #[error("NATS refuses the credentials")]
    Refused,
    /// TLS failed.
    #[error("TLS to NATS failed: {0}")]
    Tls(String),
    /// A server that cannot be used.
    #[error("the NATS server cannot be used: {0}")]
    Server(&'static str),
    /// NATS was reached and does not do what is needed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl ConnectError {
    pub(super) fn of(error: &async_nats::ConnectError) -> Self {
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                Self::Refused
            }
            ConnectErrorKind::Tls => Self::Tls(error.to_string()),
            _ => Self::Unreachable(error.to_string()),
        }
    }

    /// Whether it may be another time: options do not change by themselves.
    pub(super) fn is_worth_waiting(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}
