//! An open connection, to its end.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tidegate_protocol::Packet;
use tidegate_protocol::extended::{ACK_DELAY, ClientControl, Drain};
use tokio::time::{Instant, timeout};

use super::connect::Open;
use super::ending::{Ending, Next};
use super::{Task, named};
use crate::error::{Cause, Closed};
use crate::outbox::Outgoing;
use crate::states::Event;
use crate::task::{HIGH_WATER, Happened, Link, at};
use crate::transport::{Incoming, Transport};

/// How long the end of a connection that goes in order is waited for.
const LINGER: Duration = Duration::from_secs(1);

pub(super) type OpenLink = Link<Box<dyn Transport>>;

/// What an open connection is about.
pub(super) struct Course {
    pub(super) phase: Phase,
    /// When packets that came are acknowledged at the latest.
    ack_at: Option<Instant>,
    /// The gate is going to close.
    leaving: Option<Leaving>,
    pings: u64,
}

/// How far a connection is on its way out.
pub(super) enum Phase {
    Open,
    /// Closing was asked for: what is queued is sent, then `$bye`.
    Closing {
        deadline: Instant,
        said: bool,
    },
    /// Nothing is written any more. What the gate still says is read: it may tell why.
    Over {
        deadline: Instant,
        ending: Ending,
    },
}

/// When to go from a gate that drains.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    /// If nothing is under way.
    from: Instant,
    /// Whatever is.
    latest: Instant,
}

impl Course {
    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open => None,
            Phase::Closing { deadline, .. } | Phase::Over { deadline, .. } => Some(deadline),
        }
    }

    pub(super) fn over(&mut self, ending: Ending) {
        let deadline = match &self.phase {
            // What the gate says tells more than that nothing could be written.
            Phase::Over { deadline, ending } if ending.closed.cause == Cause::Lost => *deadline,
            Phase::Over { .. } => return,
            Phase::Open | Phase::Closing { .. } => Instant::now() + LINGER,
        };
        self.phase = Phase::Over { deadline, ending };
    }

    fn broken(&mut self, error: &io::Error) {
        self.over(match self.phase {
            Phase::Closing { .. } => Ending::by_client(),
            _ => Ending::transport(Closed::lost(error)),
        });
    }

    /// The gate has said that it is going to close.
    pub(super) fn drain(&mut self, drain: &Drain) {
        let (after, by) = (named(drain.retry_after_ms), named(drain.deadline_ms));
        // Half of what is left until then is for the spreading, half for what is under way.
        let spread = by
            .saturating_sub(after)
            .mul_f64(rand::random::<f64>() / 2.0);
        let now = Instant::now();
        let from = now + after + spread;
        self.leaving = Some(Leaving {
            from,
            latest: from.max(now + by),
        });
    }
}

impl Task {
    /// Serves a connection until it has ended.
    pub(super) async fn serve(&mut self, mut open: Open) -> Ending {
        self.shared.outbox.set_drained(true);
        let mut ending = self.until_over(&mut open).await;
        self.shared.outbox.set_drained(false);
        if !self.dialer.can_again() {
            ending.next = Next::Stop;
        }
        if ending.next == Next::Stop {
            // What was written to a connection that went in order has left.
            if ending.closed.cause != Cause::Client || open.link.queued > 0 {
                ending.closed = self.unfinished(ending.closed);
            }
        } else if !self.session.is_resumable() {
            let unknown = self.session.give_up();
            self.lose(unknown);
        }
        if open.link.lingers {
            // The goodbye is answered; the gate closes the socket first.
            let _ = timeout(LINGER, open.link.linger()).await;
        }
        ending
    }

    async fn until_over(&mut self, open: &mut Open) -> Ending {
        let shared = self.shared.clone();
        let Open {
            link,
            heard,
            speak,
            silence,
        } = open;
        let mut course = Course {
            phase: Phase::Open,
            ack_at: None,
            leaving: None,
            pings: 0,
        };
        loop {
            self.write_queued(&mut course, link);
            let unacknowledged = self.session.unacknowledged().0 as u64;
            shared
                .counters
                .unacknowledged
                .store(unacknowledged, Relaxed);
            let is_open = matches!(course.phase, Phase::Open);
            let room = is_open && self.has_room(link);
            let (ack_at, speak_at, silent_at) = match is_open && link.queued < HIGH_WATER {
                true => (
                    course.ack_at,
                    Some(link.last_sent + *speak),
                    Some(heard.at + *silence),
                ),
                // It is not read by the gate: what is sent more tells nothing.
                false if is_open => (None, None, Some(heard.at + *silence)),
                false => (None, None, None),
            };
            tokio::select! {
                happened = poll_fn(|cx| {
                    let happened = link.poll(cx);
                    heard.look();
                    happened
                }) => match happened {
                    Happened::Flushed => {}
                    Happened::Read(Incoming::Packet(packet)) => {
                        if let Err(broken) = self.take(packet, &mut course, link) {
                            return broken;
                        }
                    }
                    Happened::Read(Incoming::Goodbye(closed)) => {
                        link.lingers = true;
                        return ended(course.phase, closed);
                    }
                    Happened::Read(Incoming::Ended(closed)) => return ended(course.phase, closed),
                    Happened::CannotWrite(error) => course.broken(&error),
                },
                () = shared.outbox.filled(), if room => {}
                () = shared.close.notified(), if is_open => {
                    shared.outbox.close();
                    let deadline = Instant::now() + self.dialer.plan.settings.close_timeout;
                    course.phase = Phase::Closing { deadline, said: false };
                }
                () = shared.cut.notified(), if is_open => {
                    return Ending::transport(Closed::new(Cause::Lost, "cut by this client"));
                }
                () = at(ack_at) => self.acknowledge(&mut course, link),
                () = at(speak_at) => {
                    course.pings += 1;
                    let ping = ClientControl::Ping(course.pings).packet();
                    self.control(&ping, &mut course, link);
                }
                () = at(silent_at) => {
                    if heard.at + *silence <= Instant::now() {
                        let silent = format!("nothing was heard for {silence:?}");
                        return Ending::transport(Closed::new(Cause::Lost, silent));
                    }
                }
                () = at(self.leave_at(&course)) => {
                    self.acknowledge(&mut course, link);
                    if let Err(error) = link.close() {
                        course.broken(&error);
                    }
                    let closed = Closed::new(Cause::Gate, "the gate drains");
                    course.over(Ending { closed, next: Next::Now });
                }
                () = at(course.deadline()) => return match course.phase {
                    Phase::Over { ending, .. } => ending,
                    Phase::Open | Phase::Closing { .. } => Ending::by_client(),
                },
            }
        }
    }

    // --- writing

    fn has_room(&self, link: &OpenLink) -> bool {
        let (packets, bytes) = self.session.unacknowledged();
        link.queued < HIGH_WATER && self.options.bounds.allow(packets, bytes, 0)
    }

    /// Writes what waits, as far as there is room, and `$bye` behind the last.
    fn write_queued(&mut self, course: &mut Course, link: &mut OpenLink) {
        if matches!(
            course.phase,
            Phase::Over { .. } | Phase::Closing { said: true, .. }
        ) {
            return;
        }
        while self.has_room(link) {
            let Some(outgoing) = self.shared.outbox.pop() else {
                if let Phase::Closing { said, .. } = &mut course.phase {
                    *said = true;
                    // What came is not to count as lost with the session.
                    let mut last = self.session.ack().into_iter().collect::<Vec<_>>();
                    last.push(ClientControl::Bye.packet());
                    let mut last = last.iter();
                    let written = last.try_for_each(|packet| link.queue(packet, &self.shared));
                    if let Err(error) = written.and_then(|()| link.close()) {
                        course.broken(&error);
                    }
                }
                return;
            };
            if let Err(error) = self.write(outgoing, link) {
                return course.broken(&error);
            }
        }
    }

    fn write(&mut self, outgoing: Outgoing, link: &mut OpenLink) -> io::Result<()> {
        let Outgoing { packet, call } = outgoing;
        let Task {
            shared, session, ..
        } = self;
        let mut written = Ok(());
        let mut write = || {
            let count = session.write(&packet);
            written = link.queue(&packet, shared);
            count
        };
        // The gate may take smaller frames than the one before.
        match (shared.fits(&packet), call) {
            (Ok(()), Some(id)) => shared.calls.write(&packet.topic, id, write),
            (Ok(()), None) => {
                write();
            }
            (Err(error), Some(id)) => shared.calls.fail(&packet.topic, id, error.into()),
            (Err(error), None) => {
                let event = Event::TooLarge(packet, error);
                shared.happenings.event(event);
            }
        }
        written
    }

    /// Writes a control packet.
    pub(super) fn control(&self, packet: &Packet, course: &mut Course, link: &mut OpenLink) {
        if !matches!(course.phase, Phase::Open) {
            return;
        }
        if let Err(error) = link.queue(packet, &self.shared) {
            course.broken(&error);
        }
    }

    fn acknowledge(&mut self, course: &mut Course, link: &mut OpenLink) {
        course.ack_at = None;
        if let Some(ack) = self.session.ack() {
            self.control(&ack, course, link);
        }
    }

    /// Acknowledges what came, now or in a while.
    pub(super) fn owe_ack(&mut self, course: &mut Course, link: &mut OpenLink) {
        if self.session.is_ack_due() && link.queued < HIGH_WATER {
            self.acknowledge(course, link);
        } else if self.session.owes_ack() {
            let latest = Instant::now() + ACK_DELAY;
            course.ack_at.get_or_insert(latest);
        }
    }

    /// When to go from a gate that drains.
    fn leave_at(&self, course: &Course) -> Option<Instant> {
        let leaving = course.leaving?;
        if !matches!(course.phase, Phase::Open) {
            return None;
        }
        let idle = !self.shared.calls.any_written() && self.session.unacknowledged().0 == 0;
        Some(match idle {
            true => leaving.from,
            false => leaving.latest,
        })
    }
}

/// What it means that the transport has ended.
fn ended(phase: Phase, closed: Closed) -> Ending {
    match phase {
        Phase::Open => Ending::transport(closed),
        // The answer to our own goodbye, unless it says otherwise.
        Phase::Closing { .. } if closed.code.is_none_or(|code| code == 1000) => Ending::by_client(),
        Phase::Closing { .. } => Ending {
            closed,
            next: Next::Stop,
        },
        // A close frame tells more than that nothing could be written.
        Phase::Over { ending, .. }
            if ending.closed.cause == Cause::Lost && closed.code.is_some() =>
        {
            Ending::transport(closed)
        }
        Phase::Over { ending, .. } => ending,
    }
}
