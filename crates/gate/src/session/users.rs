//! Whom the sessions of a gate are bound to, and how often.

use std::sync::{Arc, OnceLock};

use tidegate_protocol::{CloseReason, DeviceId, SessionId, UserId};

use super::LocalSession;
use super::beyond::{self, OneMore};
use super::flow::Phase;
use super::logins::{Login, Logins, LoginsOver, Places, Replaced, Standing};
use super::table::Directory;
use crate::bus::{GateError, KeptLogins};

/// Sessions by the user they are bound to.
pub(crate) struct Users {
    all: Directory<UserId>,
    logins: Logins,
    /// None: there may be any number. Not used where the bus keeps the logins.
    places: Option<Places<LocalSession>>,
    kept: OnceLock<Arc<dyn KeptLogins>>,
}

/// A session that is being bound. Gives its place up unless the bind comes to its end.
pub(crate) struct Joining<'a> {
    users: &'a Users,
    session: &'a LocalSession,
    user: UserId,
    device: Option<DeviceId>,
    has_place: bool,
    /// Has, or may have, its place beyond the gate.
    entered: Option<&'a Arc<dyn KeptLogins>>,
}

impl Users {
    pub(crate) fn new(logins: Logins) -> Self {
        Self {
            all: Directory::new(),
            logins,
            places: Places::new(logins),
            kept: OnceLock::new(),
        }
    }

    /// From now on the bus keeps the logins. Before the first session.
    pub(crate) fn keep_beyond(&self, kept: Arc<dyn KeptLogins>) {
        // Set once: a gate starts once.
        let _ = self.kept.set(kept);
    }

    pub(crate) fn logins(&self) -> Logins {
        self.logins
    }

    /// The user's sessions.
    pub(crate) fn get(&self, user: &UserId) -> Vec<LocalSession> {
        self.all.get(user)
    }

    /// Users who have sessions.
    pub(crate) fn keys(&self) -> Vec<UserId> {
        self.all.keys()
    }

    /// Takes every session out.
    pub(crate) fn clear(&self) {
        self.all.clear();
        if let Some(places) = &self.places {
            places.clear();
        }
    }

    /// Begins to bind a session. Where logins are refused, it has its place from here on, or
    /// none: who is refused leaves no trace. Where they are replaced, nobody has to go before
    /// the bind cannot fail any more, unless for want of a place. A session that `yields`
    /// replaces nobody.
    pub(crate) async fn begin<'a>(
        &'a self,
        session: &'a LocalSession,
        user: &UserId,
        device: Option<&DeviceId>,
        yields: bool,
    ) -> Result<(Joining<'a>, Replaced<SessionId>), GateError> {
        let mut joining = Joining {
            users: self,
            session,
            user: user.clone(),
            device: device.cloned(),
            has_place: false,
            entered: None,
        };
        let mut replaced = Replaced::new();
        if yields || self.logins.over == LoginsOver::Refuse {
            replaced = joining.take_place(LoginsOver::Refuse).await?;
        }
        Ok((joining, replaced))
    }

    /// Takes a session out. Another of the same user stays.
    pub(crate) fn remove(&self, user: &UserId, device: Option<&DeviceId>, session: &LocalSession) {
        match (self.kept.get(), &self.places) {
            (Some(kept), _) => {
                self.all.remove(user, session);
                kept.leave(user, session.id());
            }
            (None, places) => {
                if let Some(places) = places {
                    places.leave(user, device, session);
                }
                self.all.remove(user, session);
            }
        }
    }

    /// The user does not have the session any more, though it has not ended.
    pub(crate) fn hide(&self, user: &UserId, session: &LocalSession) {
        self.all.remove(user, session);
    }

    /// Users who have places.
    #[cfg(test)]
    pub(crate) fn accounts(&self) -> usize {
        self.places.as_ref().map_or(0, Places::accounts)
    }
}

fn ids(sessions: &[LocalSession]) -> Replaced<SessionId> {
    sessions.iter().map(LocalSession::id).collect()
}

impl<'a> Joining<'a> {
    async fn take_place(&mut self, over: LoginsOver) -> Result<Replaced<SessionId>, GateError> {
        let (users, user) = (self.users, &self.user);
        if let Some(kept) = users.kept.get() {
            self.session
                .with_extra(|extra| extra.entering = Some(user.clone()));
            self.entered = Some(kept);
            let logins = Logins {
                over,
                ..users.logins
            };
            let more = OneMore::new(self.session, user, self.device.as_ref(), logins);
            let (replaced, here) = more.enter(kept).await?;
            self.has_place = true;
            for session in here {
                users.all.remove(user, &session);
            }
            return Ok(replaced);
        }
        let Some(places) = &users.places else {
            return Ok(Replaced::new());
        };
        let whose = (user, self.device.as_ref());
        let replaced = places.take(whose, self.session, over, |gone| {
            for session in gone {
                users.all.remove(user, session);
            }
        });
        self.has_place = true;
        Ok(ids(&replaced.map_err(|_| GateError::TooManyLogins)?))
    }

    /// The user has the session now; of those that lost their place for it nobody hears any
    /// more. What is left is to tell the session, and to [`finish`](Self::finish).
    pub(crate) async fn join(&mut self) -> Result<Replaced<SessionId>, GateError> {
        let (users, session) = (self.users, self.session);
        let mut replaced = Replaced::new();
        match &users.places {
            _ if self.has_place => {}
            _ if users.kept.get().is_some() => {
                replaced = self.take_place(users.logins.over).await?;
                // It may have been replaced in turn.
                session.check_alive()?;
            }
            Some(places) => {
                let user = &self.user;
                let whose = (user, self.device.as_ref());
                let taken = places.take(whose, session, users.logins.over, |gone| {
                    users.all.exchange(user, gone, session);
                });
                replaced = ids(&taken.map_err(|_| GateError::TooManyLogins)?);
                self.has_place = true;
                return Ok(replaced);
            }
            None => {}
        }
        users.all.exchange(&self.user, &[], session);
        Ok(replaced)
    }

    /// It is bound: the session's end frees its place.
    pub(crate) fn finish(mut self) {
        self.has_place = false;
        if self.entered.take().is_some() {
            beyond::has_entered(self.session);
        }
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        if let Some(kept) = self.entered {
            kept.leave(&self.user, self.session.id());
            beyond::has_entered(self.session);
        } else if let Some(places) = &self.users.places
            && self.has_place
        {
            places.leave(&self.user, self.device.as_ref(), self.session);
        }
    }
}

impl Login for LocalSession {
    fn is(&self, other: &Self) -> bool {
        self.ptr_eq(other)
    }

    fn standing(&self) -> Standing {
        let flow = self.core().flow.lock();
        match flow.phase {
            Phase::Open if flow.is_dormant() => Standing::Dormant,
            Phase::Open => Standing::Attached,
            Phase::Closing(_) | Phase::Ended => Standing::Over,
        }
    }

    fn give_way(&self, standing: Standing) -> bool {
        match standing {
            Standing::Dormant => self.close_dormant(CloseReason::Replaced),
            Standing::Attached => self.close(CloseReason::Replaced),
            Standing::Over => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use std::time::Duration;

    use tokio::io::{DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;
    use crate::bus::Connected;
    use crate::{Gate, Protocol, RunningGate, Tcp};

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let wait = async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        };
        assert!(
            timeout(Duration::from_secs(60), wait).await.is_ok(),
            "{what}"
        );
    }

    async fn clients(gate: &RunningGate, n: usize) -> Vec<DuplexStream> {
        let clients = (0..n).map(|_| {
            let (client, server) = duplex(4096);
            let v1 = Tcp::bind("pipe:0").protocol(Protocol::V1);
            gate.serve(server, v1, ([127, 0, 0, 1], 1).into()).unwrap();
            client
        });
        let clients = clients.collect();
        until("all have sessions", || gate.gate().session_count() == n).await;
        clients
    }

    /// A dormant session was found to give its place up, and is none any more.
    #[tokio::test]
    async fn a_client_that_comes_back_meanwhile_keeps_its_session() {
        let gate = Gate::builder().shards(0).start().await.unwrap();
        let _clients = clients(&gate, 1).await;
        let session = gate.gate().sessions().next().unwrap();
        assert!(!session.give_way(Standing::Dormant));
        assert_eq!(session.connected(), Connected::Attached);
        assert!(session.give_way(Standing::Attached));
        assert!(!session.give_way(Standing::Attached), "once");
        assert_eq!(session.standing(), Standing::Over);
        gate.stop().await;
    }

    /// Sessions bind, unbind and close at the same time: what remains is nothing.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nothing_is_left_of_users_who_have_gone() {
        for logins in [
            Logins::limit(NonZeroU32::MIN),
            Logins::limit(NonZeroU32::MIN).refuse(),
            Logins::limit(NonZeroU32::MIN).per_device(),
        ] {
            let gate = Gate::builder().shards(2).logins(logins).start();
            let gate = gate.await.unwrap();
            let clients = clients(&gate, 32).await;
            let tasks = gate.gate().sessions().enumerate().map(|(i, session)| {
                tokio::spawn(async move {
                    for round in 0..50 {
                        let user = UserId::from(round % 3);
                        let device = DeviceId::new(["a", "b"][i % 2]).unwrap();
                        // Refused, or replaced and closed, as may be.
                        let _ = session.bind_device(user, device).await;
                        tokio::task::yield_now().await;
                        if round as usize == 10 + i {
                            session.close(CloseReason::Kicked);
                        }
                        let _ = session.unbind().await;
                    }
                    let _ = session.bind(UserId::from(7)).await;
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
            drop(clients);
            until("all end", || gate.gate().session_count() == 0).await;
            let users = &gate.gate().0.users;
            until("no user is left", || users.keys().is_empty()).await;
            until("no place is taken", || users.accounts() == 0).await;
            gate.stop().await;
        }
    }
}
