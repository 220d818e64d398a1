//! What a session has whose client speaks the extended protocol: acknowledgements,
//! heartbeats, and what it takes to be resumed.

use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::extended::{
    ACK_DELAY, ACK_PACKETS, BadCount, Gap, GapReason, GateControl, Heartbeat, Presented,
    ResumeRefusal, Retained, TokenHash, TokenUpdate, Tokens,
};
use tidegate_protocol::{Codec, SessionId, UserId};

use super::entry::Entry;
use super::flow::{Flow, Phase};
use crate::clock::Tick;
use crate::dormant::refusal;

/// See the module.
#[derive(Debug)]
pub(crate) struct Extended {
    /// How often each side is heard, in milliseconds.
    client_ms: u32,
    gate_ms: u32,
    /// Packets that the client has been told were taken.
    acknowledged: u64,
    /// Since when there are others.
    owes_ack_since: Tick,
    /// What [`Core::turn`](super::Core) is to other packets, for those that hooks look at.
    hook_turn: Option<Arc<tokio::sync::Mutex<()>>>,
    /// Until when a session without a connection waits, and when it is looked after next.
    dormant_until: Tick,
    look_at: Tick,
    /// None: the session ends with its connection.
    resume: Option<Resume>,
    /// Why it does, where it did not before.
    unresumable: Option<ResumeRefusal>,
    /// The session for which the client presented a spent token. Few do.
    accuses: Option<Box<SessionId>>,
}

/// What it takes to resume a session.
#[derive(Debug)]
struct Resume {
    retained: Retained<Entry>,
    tokens: Tokens,
    /// The client has not shown yet that it has its newest token.
    unconfirmed: bool,
    /// Count of all that was ever written, on whichever connection.
    furthest: u64,
    /// Who the client was when it came, as it authenticated.
    authenticated: Option<UserId>,
    terms: Retention,
}

/// How much is kept of a session that can be resumed, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Without a connection.
    pub(crate) window: Duration,
    /// Packets queued and not acknowledged.
    pub(crate) packets: u32,
    /// Their bytes.
    pub(crate) bytes: u32,
}

/// What a client that resumes goes on with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resumed {
    /// The new connection's.
    pub(crate) epoch: u32,
    /// Packets of the client that were taken.
    pub(crate) received: u64,
    /// When the session was to be looked after next, if it was dormant.
    pub(crate) waited: Option<Tick>,
}

impl Extended {
    pub(crate) fn new(heartbeat: Heartbeat) -> Self {
        let ms = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            client_ms: ms(heartbeat.client_ms),
            gate_ms: ms(heartbeat.gate_ms),
            acknowledged: 0,
            owes_ack_since: Tick::NEVER,
            hook_turn: None,
            dormant_until: Tick::NEVER,
            look_at: Tick::NEVER,
            resume: None,
            unresumable: None,
            accuses: None,
        }
    }

    /// The client came with a spent token of this session. What comes of it is decided when
    /// the client shows that it is there: a `$hello` that was given up, and comes late, is
    /// no theft.
    pub(crate) fn accusing(mut self, session: Option<SessionId>) -> Self {
        self.accuses = session.map(Box::new);
        self
    }

    /// Makes it one that can be resumed.
    pub(crate) fn resumable(
        mut self,
        token: TokenHash,
        authenticated: Option<UserId>,
        terms: Retention,
    ) -> Self {
        self.resume = Some(Resume {
            retained: Retained::default(),
            tokens: Tokens::new(token),
            unconfirmed: true,
            furthest: 0,
            authenticated,
            terms,
        });
        self
    }

    /// A client that is silent for this long is taken for lost.
    pub(crate) fn silence(&self) -> Duration {
        Duration::from_millis(2 * u64::from(self.client_ms))
    }

    /// The gate is heard at least this often.
    pub(crate) fn gate_interval(&self) -> Duration {
        Duration::from_millis(self.gate_ms.into())
    }

    /// When an acknowledgement is due at the latest.
    pub(crate) fn ack_at(&self) -> Tick {
        match self.owes_ack_since {
            Tick::NEVER => Tick::NEVER,
            since => since.plus(ACK_DELAY),
        }
    }

    pub(crate) fn retained_bytes(&self) -> u32 {
        let resume = self.resume.as_ref();
        let bytes = resume.map_or(0, |resume| resume.retained.bytes());
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

impl Flow {
    /// The client's packet is taken. Answers its count; `None` if another connection has
    /// the session now, and the packet is its to take.
    pub(crate) fn take_packet(&mut self, epoch: u32, now: Tick) -> Option<u64> {
        if !self.is_attached(epoch) {
            return None;
        }
        self.received += 1;
        if let Some(extended) = self.extended() {
            extended.owes_ack_since = extended.owes_ack_since.min(now);
        }
        Some(self.received)
    }

    /// Puts the packets that hooks look at in order, where the session may change its
    /// connection meanwhile.
    pub(crate) fn hook_turn(&mut self) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let extended = self.extended()?;
        Some(extended.hook_turn.get_or_insert_default().clone())
    }

    /// The count to acknowledge, if the client has not been told it, however soon.
    pub(crate) fn ack_now(&mut self) -> Option<u64> {
        let received = self.received;
        let extended = self.extended()?;
        (extended.acknowledged < received).then(|| {
            extended.acknowledged = received;
            extended.owes_ack_since = Tick::NEVER;
            received
        })
    }

    /// The count to acknowledge, if it is time to.
    pub(crate) fn ack_due(&mut self, now: Tick) -> Option<u64> {
        let received = self.received;
        let extended = self.extended()?;
        let owed = received - extended.acknowledged;
        let due = owed >= u64::from(ACK_PACKETS) || extended.ack_at() <= now;
        due.then(|| self.ack_now()).flatten()
    }

    /// The client acknowledges, on the connection of `epoch`.
    pub(crate) fn acknowledged(&mut self, epoch: u32, count: u64) -> Result<(), BadCount> {
        if !self.is_attached(epoch) {
            return Ok(());
        }
        match self.resume() {
            Some(resume) => resume.retained.acknowledge(count),
            // Nothing is kept for it.
            None => Ok(()),
        }
    }

    /// A packet of the client came behind its `$welcome`, on the connection of `epoch`.
    /// Answers the session of which it has shown by that that a token was stolen.
    pub(crate) fn confirm(&mut self, epoch: u32) -> Option<SessionId> {
        if !self.is_attached(epoch) {
            return None;
        }
        if let Some(resume) = self.resume()
            && std::mem::take(&mut resume.unconfirmed)
        {
            resume.tokens.confirm();
        }
        self.extended()?.accuses.take().map(|session| *session)
    }

    /// Notes an entry that is being written.
    pub(crate) fn wrote(&mut self, entry: Entry) {
        let (count, size) = (entry.count(), entry.size());
        let Some(resume) = self.resume() else { return };
        if count == 0 {
            return;
        }
        let written = resume.retained.write(entry.written(), count, size);
        resume.furthest = resume.furthest.max(written);
        let (packets, bytes) = (resume.retained.len(), resume.retained.bytes());
        if packets > resume.terms.packets as usize || bytes > resume.terms.bytes as usize {
            self.end_resume(ResumeRefusal::Overflowed);
        }
    }

    /// Whether there is no room for a packet of so many bytes to wait until the session
    /// is resumed.
    pub(crate) fn would_overflow(&mut self, size: u32) -> bool {
        let (packets, bytes) = (self.queued_packets(), self.queued_bytes());
        let Some(resume) = self.resume() else {
            return true;
        };
        let (terms, retained) = (resume.terms, &resume.retained);
        packets + retained.len() >= terms.packets as usize
            || bytes as usize + retained.bytes() + size as usize > terms.bytes as usize
    }

    /// From now on the session ends with its connection; the client is told.
    pub(crate) fn end_resume(&mut self, why: ResumeRefusal) {
        let Some(extended) = self.extended() else {
            return;
        };
        if extended.resume.take().is_some() {
            extended.unresumable = Some(why);
            let update = TokenUpdate {
                token: None,
                refused: Some(why.into()),
            };
            self.control(GateControl::Token(update).packet());
        }
    }

    /// The connection of `epoch` is lost. Answers whether the session waits to be resumed.
    pub(crate) fn detach(&mut self, epoch: u32, now: Tick) -> bool {
        if !self.is_attached(epoch) || self.phase != Phase::Open {
            return false;
        }
        let Some(resume) = self.resume() else {
            return false;
        };
        let until = now.plus(resume.terms.window);
        self.next_epoch();
        self.dormant = true;
        if let Some(extended) = self.extended() {
            extended.dormant_until = until;
        }
        true
    }

    pub(crate) fn is_resumable(&mut self) -> bool {
        self.resume().is_some()
    }

    /// Why the session cannot be resumed any more, if it could once.
    pub(crate) fn unresumable(&mut self) -> Option<ResumeRefusal> {
        self.extended()?.unresumable
    }

    /// Until when the session waits for its client, if it does.
    pub(crate) fn dormant_until(&mut self) -> Option<Tick> {
        match self.dormant && self.phase == Phase::Open {
            true => Some(self.extended()?.dormant_until),
            false => None,
        }
    }

    /// When a session that waits for its client is looked after next: it, or a call of it,
    /// has expired then.
    pub(crate) fn next_look(&mut self) -> Option<Tick> {
        let at = self.dormant_until()?.min(self.first_deadline());
        self.extended()?.look_at = at;
        Some(at)
    }

    /// When it was to be looked after next, if it is dormant.
    pub(crate) fn waited(&mut self) -> Option<Tick> {
        self.dormant.then_some(self.extended()?.look_at)
    }

    /// A client comes back for the session: the token it has, who it authenticated as,
    /// whom the session is bound to, what the client has taken. The connection before it, if there is one, has lost the session then.
    pub(crate) fn resume_with(
        &mut self,
        token: &TokenHash,
        user: Option<&UserId>,
        bound_to: Option<&UserId>,
        received: u64,
        next: TokenHash,
        heartbeat: Heartbeat,
    ) -> Result<Resumed, ResumeRefusal> {
        match self.phase {
            Phase::Open => {}
            // What it is told does not depend on how far the end has come.
            Phase::Closing(closing) => return Err(refusal(closing.reason)),
            Phase::Ended => return Err(ResumeRefusal::Ended),
        }
        let ended = self.unresumable().unwrap_or(ResumeRefusal::Ended);
        let resume = self.resume().ok_or(ended)?;
        // Before anything is believed: who is not the client must not change anything.
        match resume.tokens.present(token) {
            Presented::Good => {}
            Presented::Spent => return Err(ResumeRefusal::Spent),
            Presented::Unknown => return Err(ResumeRefusal::Unknown),
        }
        // A service may have bound one that came as a guest, to whomever.
        let authenticated = resume.authenticated.as_ref();
        if authenticated != user || (user.is_some() && bound_to != user) {
            return Err(ResumeRefusal::WrongUser);
        }
        if received > resume.retained.written() && received <= resume.furthest {
            // It took them on a connection before the last, where they were to be written
            // again and were not.
            self.take_as_written(received);
        }
        let resume = self.resume().ok_or(ResumeRefusal::Ended)?;
        let again = resume.retained.rewind(received);
        let again: Vec<_> = again.map_err(|_| ResumeRefusal::BadCount)?.collect();
        resume.tokens.offer(next);
        resume.unconfirmed = true;
        self.put_back(again.into_iter());
        self.wake_unless_awake();
        let waited = self.waited();
        self.dormant = false;
        let epoch = self.next_epoch();
        let received = self.received;
        if let Some(extended) = self.extended() {
            let ms = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
            extended.client_ms = ms(heartbeat.client_ms);
            extended.gate_ms = ms(heartbeat.gate_ms);
            extended.acknowledged = received;
            extended.owes_ack_since = Tick::NEVER;
        }
        Ok(Resumed {
            epoch,
            received,
            waited,
        })
    }

    /// Takes what is queued for written, up to this count.
    fn take_as_written(&mut self, count: u64) {
        let mut uncounted = Vec::new();
        while self.resume().is_some_and(|r| r.retained.written() < count)
            && let Some(entry) = self.pop()
        {
            let (counts, size) = (entry.count(), entry.size());
            match self.resume() {
                Some(resume) if counts > 0 => {
                    resume.retained.write(entry.written(), counts, size);
                }
                _ => uncounted.push(entry),
            }
        }
        self.put_back(uncounted.into_iter());
    }

    /// Puts gaps where packets are that do not fit a frame of this codec. Answers how many.
    pub(crate) fn refit(&mut self, codec: &dyn Codec, max: usize) -> u64 {
        let fits = |entry: &Entry| entry.count() != 1 || codec.encoded_len(&entry.packet()) <= max;
        if self.queue.iter().all(fits) {
            return 0;
        }
        let mut unfit = 0;
        let refitted = self.take_all().into_iter().map(|entry| match fits(&entry) {
            true => entry,
            false => {
                unfit += 1;
                Entry::Gap(Gap {
                    count: 1,
                    reason: GapReason::TooLarge,
                })
            }
        });
        let refitted: Vec<_> = refitted.collect();
        self.put_back(refitted.into_iter());
        unfit
    }

    /// Packets and bytes that were written and not acknowledged.
    pub(crate) fn unacknowledged(&mut self) -> (u64, u64) {
        match self.resume() {
            Some(resume) => {
                let retained = &resume.retained;
                let packets = retained.written() - retained.acknowledged();
                (packets, retained.bytes() as u64)
            }
            None => (0, 0),
        }
    }

    fn resume(&mut self) -> Option<&mut Resume> {
        self.extended()?.resume.as_mut()
    }
}
