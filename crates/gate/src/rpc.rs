//! The RPC surface that the gate serves to services: what they may do to sessions.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tidegate_protocol::{CloseReason, Packet, SessionId, UserId};

use crate::bus::gate::{Connected, GateEndpoint, GateError, GateReply, GateRequest, Sent};
use crate::bus::{SessionOp, SessionReply};
use crate::gate::GateInner;
use crate::session::{Delivery, LocalSession};
use crate::shard::{ForMany, send_to, send_to_all};

type SessionResult = Result<SessionReply, GateError>;

impl GateEndpoint for GateInner {
    /// Sends, closes, groups and instance bindings are done before this returns, and
    /// changes that may wait for the store have taken their turn, so that calls take
    /// effect in the order they were made: "send, then close" closes after the send.
    /// A close or a send does not wait for a change that waits for the store.
    fn session(&self, id: SessionId, op: SessionOp) -> BoxFuture<'static, SessionResult> {
        let Some(session) = self.sessions.get(id) else {
            return ready(match op {
                SessionOp::Connected | SessionOp::GiveWay(..) => {
                    Ok(SessionReply::Connected(Connected::Gone))
                }
                _ => Err(GateError::SessionGone),
            })
            .boxed();
        };
        match op {
            SessionOp::Bind(user, device) => begun(async move {
                let bound = session.log_in(user, device, false).await;
                bound.map(SessionReply::Session)
            }),
            SessionOp::Unbind => {
                begun(async move { session.unbind().await.map(SessionReply::Session) })
            }
            SessionOp::Set(pairs) => {
                begun(async move { session.set(pairs).await.map(SessionReply::Session) })
            }
            SessionOp::Del(key) => {
                begun(async move { session.del(&key).await.map(SessionReply::Session) })
            }
            SessionOp::Replace(with) => {
                begun(async move { session.replace(with).await.map(SessionReply::Session) })
            }
            SessionOp::SendWait(packet, deadline) => begun(async move {
                let sent = session.send_wait(packet, deadline).await;
                sent.map(|()| SessionReply::Done)
            }),
            op => ready(at_once(&session, op)).boxed(),
        }
    }

    fn gate(&self, request: GateRequest) -> BoxFuture<'static, Result<GateReply, GateError>> {
        let shards = self.shards.clone();
        let to_some = |packet: Packet, delivery, to: Vec<LocalSession>| {
            let packet = match self.for_many(packet, delivery) {
                Ok(packet) => packet,
                Err(error) => return ready(Err(error)).boxed(),
            };
            async move { Ok(GateReply::Sent(send_to(&shards, packet, to).await)) }.boxed()
        };
        match request {
            GateRequest::Broadcast(packet, delivery) => {
                let packet = match self.for_many(packet, delivery) {
                    Ok(packet) => packet,
                    Err(error) => return ready(Err(error)).boxed(),
                };
                let shards = self.shards.clone();
                let dormant = self.dormant.sessions(&self.sessions);
                async move { Ok(GateReply::Sent(send_to_all(&shards, packet, dormant).await)) }
                    .boxed()
            }
            GateRequest::SendToUser(user, packet, delivery) => {
                to_some(packet, delivery, self.users.get(&user))
            }
            GateRequest::SendToGroup(group, packet, delivery) => {
                to_some(packet, delivery, self.groups.get(&group))
            }
            GateRequest::CloseUser(user) => {
                let sessions = self.users.get(&user);
                let closed = sessions.iter().filter(|s| s.close(CloseReason::Kicked));
                ready(Ok(GateReply::Number(closed.count() as u64))).boxed()
            }
            GateRequest::Presence(users) => {
                let of =
                    |user: &UserId| self.users.get(user).iter().map(LocalSession::id).collect();
                ready(Ok(GateReply::Presence(users.iter().map(of).collect()))).boxed()
            }
            GateRequest::GroupCount(group) => {
                ready(Ok(GateReply::Number(self.groups.count(&group) as u64))).boxed()
            }
            GateRequest::GroupMembers(group) => {
                let members = self.groups.get(&group);
                let members = members.iter().map(LocalSession::snapshot).collect();
                ready(Ok(GateReply::Members(members))).boxed()
            }
            GateRequest::Count => ready(Ok(GateReply::Count {
                sessions: self.sessions.len() as u64,
                connections: self.admission.connections() as u64,
            }))
            .boxed(),
        }
    }
}

impl GateInner {
    fn for_many(&self, packet: Packet, delivery: Delivery) -> Result<ForMany, GateError> {
        match packet.topic.is_reserved() {
            true => Err(GateError::Refused),
            false => Ok(ForMany::new(
                packet,
                delivery,
                self.hooks.outbound.is_some(),
            )),
        }
    }
}

/// Polls an operation once, here: then it is done or has its place in line.
fn begun(
    operation: impl Future<Output = SessionResult> + Send + 'static,
) -> BoxFuture<'static, SessionResult> {
    let mut operation = operation.boxed();
    match operation.poll_unpin(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => ready(result).boxed(),
        Poll::Pending => operation,
    }
}

/// Operations that need nobody else.
fn at_once(session: &LocalSession, op: SessionOp) -> SessionResult {
    match op {
        SessionOp::Load => {
            session.check_alive()?;
            return Ok(SessionReply::Session(session.snapshot()));
        }
        SessionOp::Send(packet, delivery) => session.send_as(packet, delivery)?,
        SessionOp::Connected => return Ok(SessionReply::Connected(session.connected())),
        SessionOp::GiveWay(user, way) => {
            return Ok(SessionReply::Connected(session.yields(&user, way)));
        }
        SessionOp::Close => {
            if !session.close(CloseReason::Kicked) {
                return Err(GateError::SessionGone);
            }
        }
        SessionOp::Join(group) => session.join(group)?,
        SessionOp::Leave(group) => session.leave(&group)?,
        SessionOp::BindInstance(service, instance) => session.bind_instance(service, instance)?,
        SessionOp::UnbindInstance(service) => session.unbind_instance(&service)?,
        // Served above: they may wait.
        SessionOp::Bind(..)
        | SessionOp::Unbind
        | SessionOp::Set(_)
        | SessionOp::Del(_)
        | SessionOp::Replace(_)
        | SessionOp::SendWait(..) => {}
    }
    Ok(SessionReply::Done)
}

/// What a send to many came to.
pub(crate) fn sent(reply: Result<GateReply, GateError>) -> Result<Sent, GateError> {
    match reply? {
        GateReply::Sent(sent) => Ok(sent),
        _ => Err(GateError::OutcomeUnknown),
    }
}

/// The sessions' side of a gate that is shared.
pub(crate) fn endpoint(gate: &Arc<GateInner>) -> Arc<dyn GateEndpoint> {
    gate.clone()
}
