//! Changes of a session: binding, settings, groups, instance bindings; and its end.
//!
//! Changes that the store hears of take turns, per session: each computes what will
//! be, saves it, and only then makes it true. An error means that nothing changed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate_protocol::extended::ResumeRefusal;
use tidegate_protocol::{
    CloseReason, DeviceId, GroupName, InstanceId, Name, SessionId, Settings, Snapshot, UserId,
};

use super::LocalSession;
use super::flow::Phase;
use crate::bus::{Ended, Event, EventTarget, GateError};
use crate::dispatch::{Binding, fail_held};
use crate::hooks::guarded;
use crate::metrics::calls::Outcome;

impl LocalSession {
    /// Binds the session to a user: takes the user's stored settings in (its own keys
    /// win) and saves what results. Being bound to the same user already is no error.
    ///
    /// Where logins are limited ([`Logins`](crate::Logins)) this is one, on the session's
    /// device. It may take the place of another session, which is closed then; nobody finds
    /// both bound.
    ///
    /// Errors: [`GateError::BoundToAnother`], [`SessionGone`](GateError::SessionGone),
    /// [`TooManyLogins`](GateError::TooManyLogins),
    /// [`Settings`](GateError::Settings) if both together exceed the bound,
    /// [`Store`](GateError::Store). Where the bus keeps the logins for many gates, also
    /// [`Unavailable`](GateError::Unavailable). After an error the session is as it was.
    pub async fn bind(&self, user: UserId) -> Result<Arc<Snapshot>, GateError> {
        self.log_in(user, None, false).await
    }

    /// The same on a device that is better known now. The session keeps it; one that is
    /// bound to the user already keeps the one it has.
    pub async fn bind_device(
        &self,
        user: UserId,
        device: DeviceId,
    ) -> Result<Arc<Snapshot>, GateError> {
        self.log_in(user, Some(device), false).await
    }

    /// Binds; one that `yields` takes no place of another that has a client.
    pub(crate) async fn log_in(
        &self,
        user: UserId,
        device: Option<DeviceId>,
        yields: bool,
    ) -> Result<Arc<Snapshot>, GateError> {
        let turn = self.turn();
        let _turn = turn.lock().await;
        self.check_alive()?;
        let core = self.core();
        let now = self.snapshot();
        match &now.user {
            Some(bound) if *bound == user => return Ok(now),
            Some(_) => return Err(GateError::BoundToAnother),
            None => {}
        }
        let device = device.or_else(|| now.device.clone());
        let no_place = |error| match error {
            GateError::TooManyLogins => self.log_in_refused(),
            error => error,
        };
        let users = &core.gate.users;
        let begun = users.begin(self, &user, device.as_ref(), yields);
        let (mut joining, replaced) = begun.await.map_err(no_place)?;
        self.has_replaced(&replaced);
        let mut settings = now.settings.clone();
        if let Some(stored) = core.gate.store.query(&user).await? {
            settings.import(&stored)?;
        }
        core.gate.store.save(&user, &settings).await?;
        self.check_alive()?;
        let replaced = joining.join().await.map_err(no_place)?;
        let ((), info) = self.change_info(|info| {
            info.user = Some(user);
            info.device = device;
            info.settings = settings;
        });
        joining.finish();
        self.has_replaced(&replaced);
        Ok(info)
    }

    fn log_in_refused(&self) -> GateError {
        let core = self.core();
        core.counters().logins_refused.add(1);
        if let Some(unlogged) = core.gate.end_log.admit() {
            let (session, ip) = (self.id(), self.ip());
            tracing::info!(%session, %ip, unlogged, "login refused: the user has as many as there may be");
        }
        GateError::TooManyLogins
    }

    pub(super) fn has_replaced(&self, replaced: &[SessionId]) {
        let core = self.core();
        for other in replaced {
            core.counters().logins_replaced.add(1);
            if let Some(unlogged) = core.gate.end_log.admit() {
                let (session, by) = (other, self.id());
                tracing::info!(%session, %by, unlogged, "login replaced by a newer one");
            }
        }
    }

    /// Makes the session a guest. Its settings stay; the store keeps the user's until
    /// they expire.
    pub async fn unbind(&self) -> Result<Arc<Snapshot>, GateError> {
        let turn = self.turn();
        let _turn = turn.lock().await;
        self.check_alive()?;
        let (user, info) = self.change_info(|info| info.user.take());
        if let Some(user) = user {
            let users = &self.core().gate.users;
            users.remove(&user, info.device.as_ref(), self);
            let mut flow = self.core().flow.lock();
            // Who comes back with the token would be somebody else.
            flow.end_resume(ResumeRefusal::Ended);
            // The listener's bind deadline begins to run.
            flow.wake_unless_awake();
        }
        Ok(info)
    }

    /// Overwrites the settings given and leaves the others.
    pub async fn set(&self, pairs: Settings) -> Result<Arc<Snapshot>, GateError> {
        self.change_settings(|settings| Ok(settings.merge(pairs.iter())?))
            .await
    }

    /// Removes a setting; one that is not there is no error.
    pub async fn del(&self, key: &str) -> Result<Arc<Snapshot>, GateError> {
        self.change_settings(|settings| {
            settings.remove(key);
            Ok(())
        })
        .await
    }

    /// Replaces all settings.
    pub async fn replace(&self, with: Settings) -> Result<Arc<Snapshot>, GateError> {
        self.change_settings(|settings| {
            *settings = with;
            Ok(())
        })
        .await
    }

    async fn change_settings(
        &self,
        f: impl FnOnce(&mut Settings) -> Result<(), GateError>,
    ) -> Result<Arc<Snapshot>, GateError> {
        let turn = self.turn();
        let _turn = turn.lock().await;
        self.check_alive()?;
        let now = self.snapshot();
        let mut settings = now.settings.clone();
        f(&mut settings)?;
        if let Some(user) = &now.user {
            self.core().gate.store.save(user, &settings).await?;
        }
        let ((), info) = self.change_info(|info| info.settings = settings);
        Ok(info)
    }

    /// Joins a group; being in it already is no error.
    pub fn join(&self, group: GroupName) -> Result<(), GateError> {
        let core = self.core();
        self.with_extra(|extra| {
            // Under this lock: `end` takes the groups out after the phase has changed.
            self.check_alive()?;
            if extra.groups.contains(&group) {
                return Ok(());
            }
            if extra.groups.len() >= core.gate.limits.max_groups_per_session {
                return Err(GateError::TooMany("groups"));
            }
            core.gate.groups.insert(&group, self);
            extra.groups.push(group);
            Ok(())
        })
    }

    /// Leaves a group; not being in it is no error.
    pub fn leave(&self, group: &GroupName) -> Result<(), GateError> {
        self.check_alive()?;
        self.if_extra(|extra| {
            if let Some(i) = extra.groups.iter().position(|g| g == group) {
                extra.groups.swap_remove(i);
                self.core().gate.groups.remove(group, self);
            }
        });
        Ok(())
    }

    /// Binds the session to one instance of a service: its packets for that service
    /// go there only, those too that wait for an instance that is gone.
    pub fn bind_instance(&self, service: Name, instance: InstanceId) -> Result<(), GateError> {
        self.check_alive()?;
        let limit = self.core().gate.limits.max_instance_bindings;
        self.with_extra(|extra| {
            let full = extra.bindings.len() >= limit;
            match extra.bindings.iter_mut().find(|b| b.service == service) {
                Some(binding) => binding.change(instance),
                None if full => return Err(GateError::TooMany("instance bindings")),
                None => extra.bindings.push(Binding::new(service, instance)),
            }
            self.set_has_bindings(true);
            Ok(())
        })
    }

    /// Ends the binding to an instance of `service`; none is no error. Packets that wait
    /// for that instance are errors. The next answer of a sticky service binds anew.
    pub fn unbind_instance(&self, service: &str) -> Result<(), GateError> {
        self.check_alive()?;
        let released = self.if_extra(|extra| {
            let at = extra.bindings.iter().position(|b| b.service == *service)?;
            let mut binding = extra.bindings.swap_remove(at);
            self.set_has_bindings(!extra.bindings.is_empty());
            Some(binding.release())
        });
        fail_held(self, released.flatten().unwrap_or_default());
        Ok(())
    }

    fn set_has_bindings(&self, has: bool) {
        self.core().has_bindings.store(has, Ordering::Relaxed);
    }

    pub(super) fn turn(&self) -> Arc<tokio::sync::Mutex<()>> {
        self.with_extra(|extra| extra.turn.get_or_insert_default().clone())
    }

    pub(crate) fn check_alive(&self) -> Result<(), GateError> {
        match self.core().flow.lock().phase {
            Phase::Open => Ok(()),
            Phase::Closing(_) | Phase::Ended => Err(GateError::SessionGone),
        }
    }

    /// Ends the session; the connection calls it, once. `unwritten` are packets and
    /// bytes that left the queue but not the gate.
    pub(crate) async fn end(self, reason: CloseReason, unwritten: (u64, u64)) {
        let core = self.core();
        let _ending = core.gate.ending.begin();
        let held = self.if_extra(|extra| {
            let bindings = extra.bindings.iter_mut();
            bindings.flat_map(Binding::release).collect::<Vec<_>>()
        });
        fail_held(&self, held.unwrap_or_default());
        let (used, calls, (packets, bytes)) = {
            let mut flow = core.flow.lock();
            if let Some(at) = flow.waited() {
                core.gate.dormant.left(at, core.id);
            }
            if flow.is_resumable() {
                // The client may be lost while the session is being closed.
                let reason = match flow.phase {
                    Phase::Closing(closing) => closing.reason,
                    Phase::Open | Phase::Ended => reason,
                };
                core.gate.dormant.remember(core.id, reason);
            } else if let Some(why) = flow.unresumable() {
                // The client may not have got to hear of that.
                let reason = match why {
                    ResumeRefusal::Overflowed => CloseReason::ResumeOverflow,
                    _ => reason,
                };
                core.gate.dormant.remember(core.id, reason);
            }
            let (used, calls) = flow.take_used();
            let left = flow.end();
            flow.publish(&core.gate.budget);
            (used, calls, left)
        };
        for call in calls {
            let outcome = Outcome::SessionEnded;
            core.counters()
                .calls
                .add(call.service, outcome, call.timing);
        }
        let ended = Ended {
            reason,
            undelivered_packets: packets + unwritten.0,
            undelivered_bytes: bytes + unwritten.1,
        };
        core.counters().undelivered.add(ended.undelivered_packets);
        core.counters().sessions_ended.add(1);
        core.counters().closed.add(reason);
        core.gate.sessions.remove(&self);
        self.if_extra(|extra| {
            for group in std::mem::take(&mut extra.groups) {
                core.gate.groups.remove(&group, &self);
            }
        });
        // Only a session that something was changed in has a turn to wait for.
        if let Some(turn) = self.if_extra(|extra| extra.turn.clone()).flatten() {
            let _turn = turn.lock().await;
        }
        let info = self.snapshot();
        if let Some(user) = &info.user {
            let users = &core.gate.users;
            users.remove(user, info.device.as_ref(), &self);
        }
        for service in used {
            let instance = self.bound_instance(&service);
            let to = EventTarget::Service(&service, instance.as_ref());
            core.gate
                .bus
                .event(to, info.clone(), Event::Disconnected(ended));
        }
        if let Some(hook) = &core.gate.hooks.ended
            && core.announced.load(Ordering::Acquire)
        {
            guarded("ended", &core.gate, || hook(self.clone(), ended)).await;
        }
        self.log_end(ended);
    }

    /// Ends that nobody wished for are seen without a debug log.
    fn log_end(&self, ended: Ended) {
        let (session, ip) = (self.id(), self.ip());
        let (reason, code) = (ended.reason.name(), ended.reason.code());
        let undelivered = ended.undelivered_packets;
        if matches!(
            ended.reason,
            CloseReason::ClientLeft
                | CloseReason::ConnectionLost
                | CloseReason::Shutdown
                | CloseReason::Kicked
                | CloseReason::NotResumed
                // Told where it was decided.
                | CloseReason::Replaced
                | CloseReason::TooManyLogins
        ) {
            tracing::debug!(%session, %ip, reason, code, undelivered, "session ended");
        } else if let Some(unlogged) = self.core().gate.end_log.admit() {
            let error = self.last_error();
            let error = error.as_ref().map(tracing::field::debug);
            tracing::info!(%session, %ip, reason, code, error, undelivered, unlogged, "session ended");
        }
    }
}
