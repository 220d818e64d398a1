//! The task of a client of the extended protocol: it connects, and connects again, and it
//! alone reads and writes.
//!
//! - This file: the task, from one connection to the next.
//! - `connect`: from nothing to a `$welcome`.
//! - `serve`: an open connection, to its end.
//! - `take`: what comes on it.
//! - `ending`: what a connection's end means for the next.
//! - `backoff`: how long to wait before that.

use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::Packet;
use tidegate_protocol::extended::ClientSession;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

use crate::dial::Dialer;
use crate::error::{Closed, Error};
use crate::options::Options;
use crate::shared::Shared;
use crate::states::{Event, State};

mod backoff;
mod connect;
mod ending;
mod serve;
mod take;

pub use backoff::Backoff;

use ending::{Ending, Next};

/// Where the outcome of the first attempt is told.
pub(crate) type First = oneshot::Sender<Result<(), Error>>;

/// See the module.
pub(crate) struct Task {
    dialer: Dialer,
    options: Options,
    session: ClientSession,
    shared: Arc<Shared>,
    closed: watch::Sender<Option<Closed>>,
}

impl Task {
    pub(crate) fn new(
        dialer: Dialer,
        options: Options,
        shared: Arc<Shared>,
        closed: watch::Sender<Option<Closed>>,
    ) -> Self {
        Self {
            dialer,
            options,
            session: ClientSession::default(),
            shared,
            closed,
        }
    }

    /// Runs until the client has ended.
    pub(crate) async fn run(mut self, mut first: Option<First>) {
        let shared = self.shared.clone();
        let mut attempt = 1;
        let closed = loop {
            shared.happenings.set(State::Connecting { attempt });
            let connected = tokio::select! {
                biased;
                () = shared.close.notified() => break self.unfinished(Closed::by_client()),
                connected = self.connect() => connected,
            };
            let ending = match connected {
                Ok(open) => {
                    if let Some(first) = first.take() {
                        let _ = first.send(Ok(()));
                    }
                    let opened = Instant::now();
                    let ending = self.serve(open).await;
                    // One that held for longer than it may have been waited for is a new
                    // beginning; a gate that lets in and closes at once is not.
                    if opened.elapsed() >= self.options.backoff.ceiling(attempt) {
                        attempt = 0;
                    }
                    ending
                }
                Err(failure) => {
                    let closed = Closed::unreachable(&failure.error);
                    if let Some(first) = first.take() {
                        let _ = first.send(Err(failure.error));
                        break closed;
                    }
                    Ending {
                        closed: self.unfinished(closed),
                        next: failure.next,
                    }
                }
            };
            let asked = match ending.next {
                Next::Stop => break ending.closed,
                Next::Now => {
                    attempt = 1;
                    continue;
                }
                Next::Later(asked) => asked,
            };
            let delay = self.options.backoff.delay(attempt.max(1), asked);
            attempt += 1;
            shared.happenings.set(State::Waiting {
                delay,
                why: ending.closed,
            });
            tokio::select! {
                biased;
                () = shared.close.notified() => break self.unfinished(Closed::by_client()),
                () = sleep(delay) => {}
            }
        };
        self.end(closed);
    }

    /// Counts what was written and may have been lost with the connection.
    fn unfinished(&self, mut closed: Closed) -> Closed {
        closed.unsent += self.session.unacknowledged().0 as u64;
        closed
    }

    fn end(self, mut closed: Closed) {
        let shared = self.shared;
        shared.outbox.close();
        while shared.outbox.pop().is_some() {
            closed.unsent += 1;
        }
        // The reason stands before anybody is woken to ask for it.
        self.closed.send_replace(Some(closed.clone()));
        shared.end(closed);
    }

    /// The session in which these packets were written is gone.
    fn lose(&self, unknown: Vec<(u64, Packet)>) {
        let requests = self.shared.calls.lose_written();
        for (count, packet) in unknown {
            if !requests.contains(&count) {
                let event = Event::OutcomeUnknown(packet);
                self.shared.happenings.event(event);
            }
        }
    }
}

/// A time that the gate has named. It is not to be believed without bounds.
fn named(ms: u64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    Duration::from_millis(ms).min(LONGEST)
}
