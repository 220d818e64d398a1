//! What happens to the connection and its session besides packets, in one place.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tidegate_client::{Client, Event, Events, Missed, State, States};

/// Reads a client's states and events.
pub(super) struct Happenings {
    states: States,
    /// None once all is read.
    events: Option<Events>,
}

/// One of them.
#[derive(Debug)]
pub(super) enum Happened {
    State(State),
    Event(Event),
    Missed(Missed),
}

impl Happenings {
    /// Of this client: the state there is, and all that follows.
    pub(super) fn of(client: &Client) -> Self {
        Self {
            states: client.states(),
            events: Some(client.events()),
        }
    }

    /// The next one; never, once the client has ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> Happened {
        loop {
            tokio::select! {
                biased;
                event = next_event(&mut self.events) => match event {
                    Some(Ok(event)) => return Happened::Event(event),
                    Some(Err(missed)) => return Happened::Missed(missed),
                    None => self.events = None,
                },
                state = self.states.recv() => match state {
                    Some(state) => return Happened::State(state),
                    None => std::future::pending().await,
                },
            }
        }
    }

    /// The next one, if there is one already.
    pub(super) fn already(&mut self) -> Option<Happened> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(self.next()).poll(&mut context) {
            Poll::Ready(happened) => Some(happened),
            Poll::Pending => None,
        }
    }
}

async fn next_event(events: &mut Option<Events>) -> Option<Result<Event, Missed>> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}
