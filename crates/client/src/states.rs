//! What happens to a client that connects again and again, for whoever wants to know.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_protocol::extended::{Drain, Gap, Refused, ResumeRefusal};
use tidegate_protocol::{Packet, TooLarge};
use tokio::sync::broadcast;

use crate::error::{Closed, PacketError};

/// Changes that are kept for a slow reader.
const KEPT_STATES: usize = 64;
/// Events that are kept for a slow reader.
const KEPT_EVENTS: usize = 256;

/// How a client of the extended protocol stands with its gate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// A connection is being made.
    Connecting {
        /// Counts from 1 since there last was one that held.
        attempt: u32,
    },
    /// There is a connection, and a session.
    Open(Opened),
    /// There is none, and the next attempt waits.
    Waiting {
        /// For how long.
        delay: Duration,
        /// What became of the connection, or of the attempt.
        why: Closed,
    },
    /// It is over; nothing follows.
    Closed(Closed),
}

/// A connection that is open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Opened {
    /// The gate's id.
    pub gate: String,
    /// The session's id.
    pub session: String,
    /// The user it is bound to; none for a guest.
    pub user: Option<String>,
    /// The version of the extended protocol that is spoken; 0 with version 1 of the plain one.
    pub version: u16,
    /// Within which time this client sends something.
    pub heartbeat: Duration,
    /// Within which time the gate does.
    pub gate_heartbeat: Duration,
    /// Whether it is the session of the connection before: nothing was lost.
    pub resumed: bool,
    /// Where it is: packets that were written again, because the gate had not taken them.
    pub written_again: usize,
    /// Where that session was asked for and this is another: why.
    pub refused: Option<NotResumed>,
    /// Whether, and for how long, it can be resumed in its turn.
    pub resumable: Option<Duration>,
}

/// Why a session does not go on, or not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotResumed {
    /// See [`ResumeRefusal`].
    pub code: u16,
    /// The gate's words, not escaped.
    pub text: String,
}

impl NotResumed {
    /// The reason, where the gate named a known one.
    pub fn refusal(&self) -> Option<ResumeRefusal> {
        let all = ResumeRefusal::ALL.iter().copied();
        all.into_iter().find(|refusal| refusal.code() == self.code)
    }
}

impl From<Refused> for NotResumed {
    fn from(refused: Refused) -> Self {
        Self {
            code: refused.code,
            text: refused.text,
        }
    }
}

impl fmt::Display for NotResumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}

/// Something that concerns no request, and that a client should not miss.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Pushes that will not come.
    Gap(Gap),
    /// A one-way packet that was not served.
    NotServed {
        /// Its topic.
        topic: String,
        /// Why not.
        error: PacketError,
    },
    /// A one-way packet of a session that does not go on: the gate may have taken it.
    OutcomeUnknown(Packet),
    /// A one-way packet that does not fit a frame of this gate. It was not sent.
    TooLarge(Packet, TooLarge),
    /// The session goes on, and can not be resumed any more: it ends with its connection.
    NotResumable(Option<NotResumed>),
    /// The gate is going to close. The client connects again in time.
    Draining(Drain),
}

/// Reader of a client's states. Get one from [`Client::states`](crate::Client::states).
#[derive(Debug)]
pub struct States {
    /// The state when this reader began.
    first: Option<State>,
    receiver: broadcast::Receiver<State>,
}

impl States {
    /// The next state; the first is the one there is. `None` behind [`State::Closed`]. A
    /// reader that falls behind by more than 64 changes goes on with the oldest that is
    /// left. Cancel-safe.
    pub async fn recv(&mut self) -> Option<State> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            match self.receiver.recv().await {
                Ok(state) => return Some(state),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Reader of a client's events. Get one from [`Client::events`](crate::Client::events).
#[derive(Debug)]
pub struct Events {
    receiver: Option<broadcast::Receiver<Event>>,
}

impl Events {
    /// The next event; `None` once the client has ended and all is read. A reader that
    /// falls behind by more than 256 is told how many it missed. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Result<Event, crate::Missed>> {
        match self.receiver.as_mut()?.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(n)) => Some(Err(crate::Missed(n))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// The writing side of both.
#[derive(Debug)]
pub(crate) struct Happenings(Mutex<Told>);

#[derive(Debug)]
struct Told {
    now: State,
    /// None once the client has ended.
    out: Option<Out>,
}

#[derive(Debug)]
struct Out {
    states: broadcast::Sender<State>,
    events: broadcast::Sender<Event>,
}

impl Default for Happenings {
    fn default() -> Self {
        Self(Mutex::new(Told {
            now: State::Connecting { attempt: 1 },
            out: Some(Out {
                states: broadcast::Sender::new(KEPT_STATES),
                events: broadcast::Sender::new(KEPT_EVENTS),
            }),
        }))
    }
}

impl Happenings {
    pub(crate) fn state(&self) -> State {
        self.0.lock().now.clone()
    }

    pub(crate) fn states(&self) -> States {
        let told = self.0.lock();
        let receiver = match &told.out {
            Some(out) => out.states.subscribe(),
            // Its sender is gone: the reader finds the last state, then the end.
            None => broadcast::channel(1).1,
        };
        States {
            first: Some(told.now.clone()),
            receiver,
        }
    }

    pub(crate) fn events(&self) -> Events {
        let told = self.0.lock();
        Events {
            receiver: told.out.as_ref().map(|out| out.events.subscribe()),
        }
    }

    /// Tells the state, unless it is the one already told.
    pub(crate) fn set(&self, state: State) {
        let mut told = self.0.lock();
        if told.now == state {
            return;
        }
        let last = matches!(state, State::Closed(_));
        if let Some(out) = &told.out {
            let _ = out.states.send(state.clone());
        }
        told.now = state;
        if last {
            told.out = None;
        }
    }

    pub(crate) fn event(&self, event: Event) {
        if let Some(out) = &self.0.lock().out {
            let _ = out.events.send(event);
        }
    }
}
