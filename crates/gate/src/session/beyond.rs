//! Logins where the bus keeps them for many gates: how one more is judged there, and what
//! becomes of those it replaces.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{FutureExt, join_all};
use futures_util::stream;
use smallvec::SmallVec;
use tidegate_protocol::{CloseReason, DeviceId, SessionId, UserId};
use tokio::time::{Instant, sleep, timeout};

use super::LocalSession;
use super::logins::{Held, Logins, LoginsOver, LoginsPer, Replaced, Standing, Verdict, judge};
use crate::bus::{
    Connected, GateError, GiveWay, JudgeLogins, KeptLogin, KeptLogins, MAX_KEPT_LOGINS, SessionOp,
    SessionReply,
};
use crate::gate::GateInner;

/// How long another gate is waited for that is asked about a login.
const ASK: Duration = Duration::from_secs(2);
/// How long a bind waits until those it replaced are closed. They are told until [`TELL`].
const CLOSED: Duration = Duration::from_secs(1);
/// How long a gate is told again that a login of it was replaced.
const TELL: Duration = Duration::from_secs(30);
const TELL_AGAIN: Duration = Duration::from_millis(250);
/// Logins entered again at a time.
const AT_A_TIME: usize = 32;
/// How often a gate that has lost its id looks for sessions.
const LOOK: Duration = Duration::from_millis(50);

/// One more login.
#[derive(Clone)]
pub(crate) struct OneMore {
    gate: Arc<GateInner>,
    session: SessionId,
    user: UserId,
    device: Option<DeviceId>,
    logins: Logins,
}

/// The session is bound now, or is not going to be.
pub(crate) fn has_entered(session: &LocalSession) {
    session.if_extra(|extra| extra.entering = None);
}

impl OneMore {
    pub(crate) fn new(
        session: &LocalSession,
        user: &UserId,
        device: Option<&DeviceId>,
        logins: Logins,
    ) -> Self {
        Self {
            gate: session.core().gate.clone(),
            session: session.id(),
            user: user.clone(),
            device: device.cloned(),
            logins,
        }
    }

    /// Enters it. Answers those that are closed for it, and which of them were here.
    pub(crate) async fn enter(
        self,
        kept: &Arc<dyn KeptLogins>,
    ) -> Result<(Replaced<SessionId>, Vec<LocalSession>), GateError> {
        let this = self.clone();
        let judge: JudgeLogins = Arc::new(move |held| this.clone().judge(held).boxed());
        let (user, device) = (self.user.clone(), self.device.clone());
        let entered = kept.enter(user, self.session, device, judge).await;
        if entered == Err(GateError::SessionGone)
            && let Some(session) = self.gate.sessions.get(self.session)
        {
            session.close(CloseReason::Replaced);
        }
        let gone = entered?;
        let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
        let replaced = gone.iter().map(|login| login.session).collect();
        for login in gone {
            if login.gate == self.gate.id {
                let session = self.gate.sessions.get(login.session);
                here.extend(session.inspect(|s| _ = s.yields(&self.user, GiveWay::Yes)));
            } else {
                elsewhere.push(tokio::spawn(self.clone().tell(login)));
            }
        }
        // Whoever finds the new one bound finds the others closed, as far as they can be told.
        let _ = timeout(CLOSED, join_all(elsewhere)).await;
        Ok((replaced, here))
    }

    /// Whether there is a place, and whose it is, by how the logins stand now: each is asked on
    /// its gate, but only where there are as many as there may be.
    async fn judge(self, held: Arc<[KeptLogin]>) -> Result<Vec<usize>, GateError> {
        let counts = |login: &KeptLogin| match self.logins.per {
            LoginsPer::User => true,
            LoginsPer::UserAndDevice => login.device == self.device,
        };
        let mut gone = Vec::new();
        if let Some(limit) = self.logins.limit {
            let account: Vec<_> = (0..held.len()).filter(|i| counts(&held[*i])).collect();
            if account.len() >= limit.get() as usize {
                let mut stands = self.standings(&held, &account).await;
                loop {
                    let i = match judge(limit, self.logins.over, &of(&stands)) {
                        Verdict::Free => break,
                        Verdict::Refuse => return Err(GateError::TooManyLogins),
                        Verdict::Replace(i) => i,
                    };
                    let (index, ref mut login) = stands[i];
                    if login.standing == Standing::Dormant {
                        // It counts as gone only once it is: its client may be back.
                        login.standing = self.ask(&held[index], GiveWay::IfDormant).await;
                        if login.standing != Standing::Over {
                            continue;
                        }
                    }
                    gone.push(index);
                    stands.remove(i);
                }
            }
        }
        if held.len() - gone.len() >= MAX_KEPT_LOGINS {
            let all: Vec<_> = (0..held.len()).filter(|i| !gone.contains(i)).collect();
            let stands = self.standings(&held, &all).await;
            let over = |(i, login): (usize, Held)| (login.standing == Standing::Over).then_some(i);
            gone.extend(stands.into_iter().filter_map(over));
            if held.len() - gone.len() >= MAX_KEPT_LOGINS {
                return Err(GateError::TooManyLogins);
            }
        }
        Ok(gone)
    }

    async fn standings(&self, held: &[KeptLogin], which: &[usize]) -> Vec<(usize, Held)> {
        let standing = |i: &usize| {
            let i = *i;
            async move {
                let held = &held[i];
                let same_device = held.device == self.device;
                let standing = self.ask(held, GiveWay::No).await;
                let held = Held {
                    standing,
                    same_device,
                };
                (i, held)
            }
        };
        join_all(which.iter().map(standing)).await
    }

    /// How a login stands. One that its gate says nothing of stands: the gate may be back.
    async fn ask(&self, login: &KeptLogin, way: GiveWay) -> Standing {
        let op = SessionOp::GiveWay(self.user.clone(), way);
        let asked = self.gate.bus.session(&login.gate, login.session, op);
        match timeout(ASK, asked).await {
            Ok(Ok(SessionReply::Connected(Connected::Gone)) | Err(GateError::SessionGone)) => {
                Standing::Over
            }
            Ok(Ok(SessionReply::Connected(Connected::Dormant))) => Standing::Dormant,
            _ => Standing::Attached,
        }
    }

    /// Tells another gate that a login of it was replaced, until it has heard.
    async fn tell(self, login: KeptLogin) {
        let until = Instant::now() + TELL;
        while Instant::now() < until {
            let op = SessionOp::GiveWay(self.user.clone(), GiveWay::Yes);
            let asked = self.gate.bus.session(&login.gate, login.session, op);
            match asked.await {
                Ok(_) | Err(GateError::SessionGone) => return,
                Err(_) => sleep(TELL_AGAIN).await,
            }
        }
        let (session, gate) = (login.session, &login.gate);
        tracing::debug!(%session, %gate, "the gate of a replaced login could not be told");
    }
}

fn of(stands: &[(usize, Held)]) -> SmallVec<[Held; 4]> {
    stands.iter().map(|(_, held)| *held).collect()
}

impl LocalSession {
    /// Gives way to another login of `user`, if that is asked. Answers how it stands then.
    pub(crate) fn yields(&self, user: &UserId, way: GiveWay) -> Connected {
        // In this order: one that is being bound stops entering after it has its user.
        let entering = self.if_extra(|extra| extra.entering.as_ref() == Some(user));
        if entering != Some(true) && self.user().as_ref() != Some(user) {
            return Connected::Gone;
        }
        let closed = match way {
            GiveWay::No => false,
            GiveWay::IfDormant => self.close_dormant(CloseReason::Replaced),
            GiveWay::Yes => self.close(CloseReason::Replaced),
        };
        if closed {
            // At once: nobody finds both bound.
            self.core().gate.users.hide(user, self);
        }
        self.connected()
    }

    /// Enters the login again, after the others may have taken the gate for dead. It makes
    /// nobody go: where its place was taken the session is closed.
    async fn enter_again(&self, user: &UserId, kept: &Arc<dyn KeptLogins>) {
        let turn = self.turn();
        loop {
            let entered = {
                let _turn = turn.lock().await;
                let now = self.snapshot();
                if now.user.as_ref() != Some(user) || self.check_alive().is_err() {
                    return;
                }
                let gate = &self.core().gate;
                let mut logins = gate.users.logins();
                logins.over = LoginsOver::Refuse;
                let more = OneMore::new(self, user, now.device.as_ref(), logins);
                more.enter(kept).await
            };
            match entered {
                Ok((replaced, _)) => return self.has_replaced(&replaced),
                Err(GateError::SessionGone) => return,
                Err(GateError::TooManyLogins) => {
                    tracing::debug!(session = %self.id(), "the login was replaced while the gate was cut off");
                    self.close(CloseReason::Replaced);
                    return;
                }
                Err(_) => sleep(TELL_AGAIN).await,
            }
        }
    }
}

/// Does what becomes necessary when the gate stands differently with the others.
pub(crate) async fn keep_standing(gate: Arc<GateInner>, kept: Arc<dyn KeptLogins>) {
    let mut standing = kept.standing();
    let mut lapses = standing.borrow_and_update().lapses;
    while standing.changed().await.is_ok() {
        let now = *standing.borrow_and_update();
        if now.superseded {
            tracing::error!(gate = %gate.id, "another gate has this gate's id now: it serves nobody any more; give each gate an id of its own");
            gate.not_ready();
            loop {
                for session in gate.sessions.all() {
                    session.close(CloseReason::Shutdown);
                }
                sleep(LOOK).await;
            }
        }
        if now.lapses != lapses {
            lapses = now.lapses;
            let users = gate.users.keys();
            tracing::info!(
                users = users.len(),
                "the gate was cut off; its logins are entered again"
            );
            let logins = users.into_iter().flat_map(|user| {
                let sessions = gate.users.get(&user);
                sessions.into_iter().map(move |s| (s, user.clone()))
            });
            let entering = stream::iter(logins).for_each_concurrent(AT_A_TIME, |(s, user)| {
                let kept = &kept;
                async move { s.enter_again(&user, kept).await }
            });
            entering.await;
        }
    }
}
