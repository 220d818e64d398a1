//! Writes the logins of one gate into the users' records.
//!
//! A login is entered by compare-and-set: the record is read, judged and written, and read
//! again where somebody else was faster. What is asked for one user is done in the order it
//! was asked for. Who leaves does not wait: it is written as soon as it can be, and until then
//! the gate itself says of the login that it is none any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tidegate::bus::{GateError, GateStanding, JudgeLogins, KeptLogin, KeptLogins};
use tidegate_protocol::{DeviceId, GateId, SessionId, UserId};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::bucket::{Bucket, NotWritten};
use crate::counters::LogLimit;
use crate::lease::Lease;
use crate::line::{Lines, Place};
use crate::record::{Entry, Full, Incarnation, Record};

/// For one login to be entered.
const DEADLINE: Duration = Duration::from_secs(8);
/// Users whose records are cleaned at a time.
const AT_A_TIME: usize = 64;
/// Most logins that wait to be taken out. More are left where they are: their gate says of
/// them what is true.
const MAX_LEAVING: usize = 100_000;
/// Between two attempts: from, to.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(1));

/// See the module.
pub(crate) struct Registrar {
    pub(crate) users: Arc<Bucket>,
    lease: Arc<Lease>,
    lines: Arc<Lines<UserId, Vec<SessionId>>>,
    leaving: AtomicUsize,
    left_behind: LogLimit,
    slots: Semaphore,
    idle: Notify,
    runtime: Handle,
}

/// Why a record was not changed.
enum Failed {
    /// Nothing of it was done.
    With(GateError),
    /// It may have been done, or may yet be: it is to be undone.
    Perhaps(GateError),
}

impl Registrar {
    pub(crate) fn new(users: Arc<Bucket>, lease: Arc<Lease>) -> Arc<Self> {
        Arc::new(Self {
            users,
            lease,
            lines: Lines::new(),
            leaving: AtomicUsize::new(0),
            left_behind: LogLimit::new(1),
            slots: Semaphore::new(AT_A_TIME),
            idle: Notify::new(),
            runtime: Handle::current(),
        })
    }

    /// Waits until everything that was asked for is written.
    pub(crate) async fn written(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.lines.len() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Drops the entries of gates that are dead. Answers whether there were any.
    pub(crate) async fn prune(&self, record: &mut Record) -> Result<bool, GateError> {
        let mut dead: Vec<(GateId, Incarnation)> = Vec::new();
        for entry in &record.logins {
            let known = dead.iter().any(|(g, i)| entry.is_of(g, *i));
            let live = self.lease.is_live(&entry.gate, entry.incarnation);
            if !known && !live.await.map_err(|_| GateError::Unavailable)? {
                dead.push((entry.gate.clone(), entry.incarnation));
            }
        }
        let before = record.logins.len();
        let is_dead = |e: &Entry| dead.iter().any(|(g, i)| e.is_of(g, *i));
        record.logins.retain(|entry| !is_dead(entry));
        Ok(record.logins.len() != before)
    }

    /// Reads a user's record, and its revision.
    pub(crate) async fn read(&self, user: &UserId) -> Result<(Record, u64), GateError> {
        let found = self.users.get(&Record::key(user)).await;
        let found = found.map_err(|error| {
            tracing::debug!(%error, "a user's record was not read");
            GateError::Unavailable
        })?;
        match Record::of(user, found.value.as_ref()) {
            Ok(record) => Ok((record, found.revision)),
            Err(error) => {
                tracing::warn!(key = Record::key(user), %error, "a record of a user is left as it is");
                Err(GateError::Unavailable)
            }
        }
    }

    /// Writes a record that has become shorter.
    pub(crate) async fn write(&self, record: &Record, revision: u64) -> Result<u64, NotWritten> {
        let key = Record::key(record.user());
        match record.encode() {
            _ if record.logins.is_empty() => self.users.remove(&key, revision).await,
            Some(value) => self.users.put(&key, value, revision, None).await,
            None => Err(NotWritten::Refused("it is too long".into())),
        }
    }

    fn entry(&self, session: SessionId, device: Option<DeviceId>) -> Entry {
        Entry {
            session,
            device,
            gate: self.lease.gate().clone(),
            incarnation: self.lease.incarnation(),
            replaced: false,
        }
    }

    /// Enters a login once it is its turn; takes it out again if it is not known whether it
    /// was entered.
    async fn enter_in_turn(
        self: Arc<Self>,
        mut place: Place<UserId, Vec<SessionId>>,
        user: UserId,
        entry: Entry,
        judge: JudgeLogins,
        mut answer: oneshot::Sender<Result<Vec<KeptLogin>, GateError>>,
    ) {
        place.turn().await;
        let session = entry.session;
        let entered = tokio::select! {
            entered = self.enter_now(&user, entry, &judge) => entered,
            // Nobody waits for it any more.
            () = answer.closed() => Err(Failed::Perhaps(GateError::Unavailable)),
        };
        match entered {
            // Who does not listen any more takes it out, behind this.
            Ok(replaced) => _ = answer.send(Ok(replaced)),
            Err(Failed::With(error)) => _ = answer.send(Err(error)),
            Err(Failed::Perhaps(error)) => {
                let _ = answer.send(Err(error));
                self.take_out(&user, &[session], true).await;
            }
        }
        drop(place);
        self.done();
    }

    async fn enter_now(
        &self,
        user: &UserId,
        mine: Entry,
        judge: &JudgeLogins,
    ) -> Result<Vec<KeptLogin>, Failed> {
        let key = Record::key(user);
        let mut in_doubt = false;
        let mut pause = Pause::new();
        let give_up = |in_doubt, error| match in_doubt {
            true => Failed::Perhaps(error),
            false => Failed::With(error),
        };
        loop {
            if !self.lease.is_held() {
                return Err(give_up(in_doubt, GateError::Unavailable));
            }
            let Ok((mut record, revision)) = self.read(user).await else {
                pause.wait().await;
                continue;
            };
            if let Some(there) = record.logins.iter().find(|e| e.is(&mine)) {
                return match there.replaced {
                    true => Err(Failed::With(GateError::SessionGone)),
                    // Of those marked some may have been for others. To be told twice is harmless.
                    false if in_doubt => Ok(replaced(&record)),
                    false => Ok(Vec::new()),
                };
            }
            if self.prune(&mut record).await.is_err() {
                pause.wait().await;
                continue;
            }
            let held: Vec<usize> = {
                let all = record.logins.iter().enumerate();
                all.filter(|(_, e)| !e.replaced).map(|(i, _)| i).collect()
            };
            let logins = held.iter().map(|i| record.logins[*i].kept()).collect();
            let gone = judge(logins).await.map_err(|e| give_up(in_doubt, e))?;
            let mut replaced = Vec::with_capacity(gone.len());
            for i in gone.into_iter().filter_map(|i| held.get(i)) {
                record.logins[*i].replaced = true;
                replaced.push(record.logins[*i].kept());
            }
            let value = record.add(mine.clone());
            let value = value.map_err(|Full| give_up(in_doubt, GateError::TooManyLogins))?;
            if !self.lease.is_held() {
                continue;
            }
            match self.users.put(&key, value, revision, None).await {
                Ok(_) => return Ok(replaced),
                Err(NotWritten::Changed) => pause.wait_little().await,
                Err(error) => {
                    tracing::debug!(%error, "a login was not entered");
                    in_doubt |= matches!(error, NotWritten::Unknown(_));
                    pause.wait().await;
                }
            }
        }
    }

    /// Takes logins out, for as long as it takes. `in_doubt`: they may be on their way into the
    /// record; a change keeps them out.
    async fn take_out(&self, user: &UserId, sessions: &[SessionId], in_doubt: bool) {
        let (gate, incarnation) = (self.lease.gate(), self.lease.incarnation());
        let mut pause = Pause::new();
        while !self.lease.standing().borrow().superseded {
            let Ok((mut record, revision)) = self.read(user).await else {
                pause.wait().await;
                continue;
            };
            let before = record.logins.len();
            let goes = |e: &Entry| e.is_of(gate, incarnation) && sessions.contains(&e.session);
            record.logins.retain(|e| !goes(e));
            if record.logins.len() == before && !in_doubt {
                return;
            }
            // Who is dead may go too, if that is known.
            let _ = self.prune(&mut record).await;
            match self.write(&record, revision).await {
                Ok(_) => return,
                Err(NotWritten::Changed) => pause.wait_little().await,
                Err(_) => pause.wait().await,
            }
        }
    }

    async fn leave_in_turn(
        self: Arc<Self>,
        mut place: Place<UserId, Vec<SessionId>>,
        user: UserId,
        batch: Arc<Mutex<Vec<SessionId>>>,
    ) {
        place.turn().await;
        let sessions = std::mem::take(&mut *batch.lock());
        if let Ok(_slot) = self.slots.acquire().await {
            self.take_out(&user, &sessions, false).await;
        }
        self.leaving.fetch_sub(sessions.len(), Ordering::Relaxed);
        drop(place);
        self.done();
    }

    fn done(&self) {
        if self.lines.len() == 0 {
            self.idle.notify_waiters();
        }
    }
}

/// Those whose places others have.
pub(crate) fn replaced(record: &Record) -> Vec<KeptLogin> {
    let replaced = record.logins.iter().filter(|e| e.replaced);
    replaced.map(Entry::kept).collect()
}

/// Wrapped, for the trait is implemented for what is shared.
pub(crate) struct Kept(pub(crate) Arc<Registrar>);

impl KeptLogins for Kept {
    fn enter(
        &self,
        user: UserId,
        session: SessionId,
        device: Option<DeviceId>,
        judge: JudgeLogins,
    ) -> BoxFuture<'static, Result<Vec<KeptLogin>, GateError>> {
        let registrar = &self.0;
        if !registrar.lease.is_held() {
            return ready(Err(GateError::Unavailable)).boxed();
        }
        let until = Instant::now() + DEADLINE;
        let (answer, answered) = oneshot::channel();
        let place = registrar.lines.join(&user);
        let entry = registrar.entry(session, device);
        let entering = registrar
            .clone()
            .enter_in_turn(place, user, entry, judge, answer);
        registrar.runtime.spawn(entering);
        async move {
            match timeout_at(until, answered).await {
                Ok(Ok(entered)) => entered,
                _ => Err(GateError::Unavailable),
            }
        }
        .boxed()
    }

    fn leave(&self, user: &UserId, session: SessionId) {
        let registrar = &self.0;
        if registrar.leaving.fetch_add(1, Ordering::Relaxed) >= MAX_LEAVING {
            registrar.leaving.fetch_sub(1, Ordering::Relaxed);
            if let Some(unlogged) = registrar.left_behind.admit() {
                tracing::warn!(%session, unlogged, "too many logins end at a time: one is left in its user's record, where it counts as ended");
            }
            return;
        }
        if let Some((place, batch)) = registrar.lines.add(user, |batch| batch.push(session)) {
            let leaving = registrar.clone().leave_in_turn(place, user.clone(), batch);
            registrar.runtime.spawn(leaving);
        }
    }

    fn standing(&self) -> watch::Receiver<GateStanding> {
        self.0.lease.standing()
    }
}

/// Between attempts: longer each time, and never the same for two.
struct Pause(Duration);

impl Pause {
    fn new() -> Self {
        Self(PAUSE.0)
    }

    /// After somebody else was faster.
    async fn wait_little(&mut self) {
        sleep(rand::random_range(Duration::ZERO..PAUSE.0 * 4)).await;
    }

    /// After something failed.
    async fn wait(&mut self) {
        self.0 = (self.0 * 2).min(PAUSE.1);
        sleep(rand::random_range(self.0 / 2..self.0)).await;
    }
}
