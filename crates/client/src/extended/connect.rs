//! From nothing to a `$welcome`.

use std::future::poll_fn;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::FutureExt;
use tidegate_protocol::extended::{GateControl, Heartbeat, MAX_HELLO, Welcome, Welcomed};
use tidegate_protocol::{Packet, TooLarge, V1};
use tokio::time::{Instant, timeout};

use super::ending::{Ending, Failure};
use super::{Task, named};
use crate::dial::BytesRead;
use crate::error::{Closed, Error};
use crate::states::{NotResumed, Opened, State};
use crate::task::{Happened, Link};
use crate::transport::{Incoming, Transport};

/// Shortest heartbeat interval that is kept to, whatever the gate says.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);

/// A connection that is open.
pub(super) struct Open {
    pub(super) link: Link<Box<dyn Transport>>,
    pub(super) heard: Heard,
    /// Within which time something is to be sent.
    pub(super) speak: Duration,
    /// How long the gate may be silent.
    pub(super) silence: Duration,
}

/// When the gate was last heard.
pub(super) struct Heard {
    bytes: BytesRead,
    seen: u64,
    pub(super) at: Instant,
}

impl Heard {
    fn new(bytes: BytesRead) -> Self {
        Self {
            seen: bytes.get(),
            bytes,
            at: Instant::now(),
        }
    }

    /// To be asked whenever something may have come.
    pub(super) fn look(&mut self) {
        let bytes = self.bytes.get();
        if bytes != self.seen {
            self.seen = bytes;
            self.at = Instant::now();
        }
    }
}

impl Task {
    /// One attempt, under one deadline.
    pub(super) async fn connect(&mut self) -> Result<Open, Failure> {
        let limit = self.dialer.plan.settings.connect_timeout;
        let mut asked = false;
        let connected = timeout(limit, self.open(&mut asked)).await;
        match connected {
            Ok(connected) => connected,
            Err(_) if asked => Err(Error::NoWelcome(limit).into()),
            Err(_) => Err(Error::ConnectTimeout(limit).into()),
        }
    }

    async fn open(&mut self, asked: &mut bool) -> Result<Open, Failure> {
        // It may take its time, which the gate need not wait for.
        let hello = self.options.hello().await?;
        let hello = self.session.hello(&hello);
        self.shared.max_frame.store(V1::MAX_FRAME, Relaxed);
        let (len, max) = (
            self.dialer.plan.frames.codec().encoded_len(&hello),
            MAX_HELLO,
        );
        if len > max {
            return Err(Error::from(TooLarge { len, max }).into());
        }
        let dialed = self.dialer.dial().await?;
        let mut link = Link::new(dialed.transport, self.dialer.plan.frames.clone());
        let lost = |error| Ending::transport(Closed::lost(&error));
        link.queue(&hello, &self.shared).map_err(lost)?;
        *asked = true;
        let ended = loop {
            match poll_fn(|cx| link.poll(cx)).await {
                Happened::Flushed => {}
                // Why it cannot be written may be told yet.
                Happened::CannotWrite(_) => {}
                Happened::Read(Incoming::Packet(packet)) => {
                    let welcome = read_welcome(&packet)?;
                    return self.welcome(&welcome, link, Heard::new(dialed.bytes));
                }
                Happened::Read(Incoming::Goodbye(closed) | Incoming::Ended(closed)) => {
                    break closed;
                }
            }
        };
        Err(Ending::transport(ended).into())
    }

    fn welcome(
        &mut self,
        welcome: &Welcome,
        mut link: Link<Box<dyn Transport>>,
        heard: Heard,
    ) -> Result<Open, Failure> {
        let welcomed = self.session.welcome(welcome).map_err(|error| {
            // What cannot be gone on with must not be asked for again.
            let unknown = self.session.give_up();
            self.lose(unknown);
            Ending::protocol(&error)
        })?;
        // The first packet: it tells the gate that the new token has arrived.
        let mut written = link.queue(&self.session.confirm(), &self.shared);
        let mut written_again = 0;
        let refused = match welcomed {
            Welcomed::Resumed { again } => {
                written_again = again.len();
                for packet in again {
                    // All of them are noted, even if the connection is lost again by now.
                    self.session.write(&packet);
                    written = written.and_then(|()| link.queue(&packet, &self.shared));
                }
                None
            }
            Welcomed::Fresh { unknown, refused } => {
                self.lose(unknown);
                refused
            }
        };
        if let Err(error) = written {
            return Err(Ending::transport(Closed::lost(&error)).into());
        }
        let max_frame = usize::try_from(welcome.max_packet).unwrap_or(usize::MAX);
        let max_frame = max_frame.min(V1::MAX_FRAME);
        self.shared.max_frame.store(max_frame, Relaxed);
        // Cutting was meant for the connection before.
        let _ = self.shared.cut.notified().now_or_never();
        self.shared.happenings.set(State::Open(Opened {
            gate: welcome.gate.clone(),
            session: welcome.session.clone(),
            user: welcome.user.clone(),
            version: welcome.version,
            heartbeat: named(welcome.heartbeat.client_ms),
            gate_heartbeat: named(welcome.heartbeat.gate_ms),
            resumed: welcome.resumed,
            written_again,
            refused: refused.map(NotResumed::from),
            resumable: welcome.resume.as_ref().map(|r| named(r.window_ms)),
        }));
        let Heartbeat { client_ms, gate_ms } = welcome.heartbeat;
        Ok(Open {
            link,
            heard,
            speak: named(client_ms).max(LEAST_INTERVAL),
            silence: named(gate_ms).max(LEAST_INTERVAL) * 2,
        })
    }
}

/// Reads the gate's first packet.
fn read_welcome(packet: &Packet) -> Result<Box<Welcome>, Failure> {
    match GateControl::read(packet) {
        Ok(GateControl::Welcome(welcome)) => Ok(welcome),
        Ok(GateControl::Close(close)) => Err(Ending::said(close).into()),
        _ => Err(Error::NotExtended.into()),
    }
}
