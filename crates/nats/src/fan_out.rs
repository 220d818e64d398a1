//! Requests to all gates: who is asked, and what the replies come to.
//!
//! Every gate that matters is asked by itself and answers for itself; a sum is true because
//! each part of it is somebody's answer. For what concerns users those matter that have
//! sessions of them, by the records; where these cannot be read all gates are asked, which
//! is as true and costs more.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use futures_util::future::{BoxFuture, join, join_all};
use futures_util::{FutureExt as _, StreamExt as _};
use tidegate::bus::{Bus as _, GateError, GateReply, GateRequest, SessionOp, SessionReply};
use tidegate_protocol::{GateId, TooLarge, UserId};
use tokio::time::timeout;

use crate::bus::Inner;
use crate::header::Headers;
use crate::mux::AskError;
use crate::subject::GateVerb;
use crate::wire::gate::{self, Located, MAX_USERS, Parts};

/// A gate, and what it is asked.
struct Question {
    gate: GateId,
    request: GateRequest,
    /// For [`GateRequest::Presence`] of some: the places of their users in the list.
    places: Option<Vec<usize>>,
}

impl Inner {
    /// Puts a request to every gate that it concerns. Those of this process are asked before
    /// this returns. A process without a gate has one of the others do it all.
    pub(crate) fn every_gate(
        self: &Arc<Self>,
        request: GateRequest,
    ) -> BoxFuture<'static, Result<GateReply, GateError>> {
        let bus = self.clone();
        let near = self.near.gates().now_or_never();
        let near: Vec<GateId> = match near {
            Some(Ok(gates)) => gates.into_iter().map(|gate| gate.id).collect(),
            _ => Vec::new(),
        };
        if near.is_empty() {
            return async move { bus.any_gate(request).await }.boxed();
        }
        let here = timeout(
            self.options.ask_timeout,
            self.near.every_gate(request.clone()),
        );
        let here = here.map(|reply| reply.unwrap_or(Err(GateError::OutcomeUnknown)));
        let there = async move {
            let others = bus.others(request, &near).await?;
            let asked = others.into_iter().map(|question| bus.ask_gate(question));
            Ok::<_, GateError>(join_all(asked).await)
        };
        join(here, there)
            .map(|(here, there)| match there {
                Ok(there) => sum(std::iter::once(here).chain(there)),
                // Who the others are is not known: what is true of this gate is not the sum.
                Err(error) => sum([here, Err(error)].into_iter()),
            })
            .boxed()
    }

    /// Has any gate do it for all.
    async fn any_gate(&self, request: GateRequest) -> Result<GateReply, GateError> {
        // The gate that does it waits for others, each for the time of a question.
        let deadline = self.options.ask_timeout * 2;
        let mut all = None;
        for request in in_messages(request) {
            let reply = self
                .ask_over(|verb| self.prefix.any(verb), request, deadline)
                .await?;
            all = Some(match (all, reply) {
                (Some(GateReply::Presence(mut users)), GateReply::Presence(more)) => {
                    users.extend(more);
                    GateReply::Presence(users)
                }
                (_, reply) => reply,
            });
        }
        all.ok_or(GateError::Unavailable)
    }

    /// Whom of the gates beyond this process to ask what.
    async fn others(
        self: &Arc<Self>,
        request: GateRequest,
        near: &[GateId],
    ) -> Result<Vec<Question>, GateError> {
        let users: &[UserId] = match &request {
            GateRequest::SendToUser(user, ..) | GateRequest::CloseUser(user) => {
                std::slice::from_ref(user)
            }
            GateRequest::Presence(users) => users,
            _ => &[],
        };
        let by_record = match users.is_empty() {
            true => None,
            false => self.members.gates_of(users).await,
        };
        if let Some(gates) = by_record {
            let gates = gates.into_iter().filter(|(gate, _)| !near.contains(gate));
            let questions = gates.map(|(gate, places)| match &request {
                GateRequest::Presence(users) => Question {
                    gate,
                    request: GateRequest::Presence(
                        places
                            .iter()
                            .filter_map(|i| users.get(*i))
                            .cloned()
                            .collect(),
                    ),
                    places: Some(places),
                },
                request => Question {
                    gate,
                    request: request.clone(),
                    places: None,
                },
            });
            return Ok(questions.collect());
        }
        let gates = self.live_gate_ids().await?;
        let gates = gates.into_iter().filter(|gate| !near.contains(gate));
        let questions = gates.map(|gate| Question {
            gate,
            request: request.clone(),
            places: None,
        });
        Ok(questions.collect())
    }

    /// Where a user's sessions are.
    pub(crate) async fn locate(self: &Arc<Self>, user: UserId) -> Result<Vec<Located>, GateError> {
        let gates = match self.members.gates_of(std::slice::from_ref(&user)).await {
            Some(gates) => gates.into_keys().collect(),
            None => self.live_gate_ids().await?,
        };
        let asked = gates
            .into_iter()
            .map(|gate| self.locate_on(gate, user.clone()));
        let found = join_all(asked)
            .await
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn locate_on(&self, gate: GateId, user: UserId) -> Result<Vec<Located>, GateError> {
        let request = GateRequest::Presence(vec![user.clone()]);
        let reply = match self.near.holds(&gate) {
            true => self.near.every_gate(request).await?,
            false => {
                let question = Question {
                    gate: gate.clone(),
                    request,
                    places: None,
                };
                self.ask_gate(question).await?
            }
        };
        let GateReply::Presence(sessions) = reply else {
            return Err(GateError::OutcomeUnknown);
        };
        let loaded = sessions.into_iter().flatten().map(|session| {
            let loaded = self.session(&gate, session, SessionOp::Load);
            let gate = gate.clone();
            let user = &user;
            async move {
                match loaded.await {
                    Ok(SessionReply::Session(snapshot)) if snapshot.user.as_ref() == Some(user) => {
                        Ok(Some(Located {
                            session,
                            gate,
                            device: snapshot.device.clone(),
                        }))
                    }
                    // It left meanwhile.
                    Ok(_) | Err(GateError::SessionGone) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        });
        let found = join_all(loaded).await.into_iter();
        Ok(found
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .collect())
    }

    async fn live_gate_ids(&self) -> Result<Vec<GateId>, GateError> {
        let gates = self.live_gates().await;
        let gates = gates.map_err(|_| GateError::Unavailable)?;
        Ok(gates.into_iter().map(|live| live.gate).collect())
    }

    /// Asks one gate, in as many messages as it takes.
    async fn ask_gate(&self, question: Question) -> Result<GateReply, GateError> {
        let Question {
            gate,
            request,
            places,
        } = question;
        let all = match &request {
            GateRequest::Presence(users) => Some(users.len()),
            _ => None,
        };
        let mut presence = Vec::new();
        for request in in_messages(request) {
            let deadline = self.options.ask_timeout;
            let reply = self
                .ask_over(|verb| self.prefix.node(&gate, verb), request, deadline)
                .await?;
            match reply {
                GateReply::Presence(users) => presence.extend(users),
                reply => return Ok(reply),
            }
        }
        // An answer about others than those asked about is none.
        if all != Some(presence.len()) {
            return Err(GateError::OutcomeUnknown);
        }
        Ok(GateReply::Presence(match places {
            None => presence,
            Some(places) => {
                let len = places.iter().max().map_or(0, |last| last + 1);
                let mut spread = vec![Vec::new(); len];
                for (place, sessions) in places.into_iter().zip(presence) {
                    spread[place] = sessions;
                }
                spread
            }
        }))
    }

    /// One question, and its reply in as many parts as come.
    async fn ask_over(
        &self,
        subject: impl Fn(GateVerb) -> Subject,
        request: GateRequest,
        deadline: Duration,
    ) -> Result<GateReply, GateError> {
        let (verb, envelope) = gate::encode(request)?;
        let size = envelope.body.len();
        let lane = &self.home;
        let mut replies = lane.gather(subject(verb), envelope.headers, envelope.body, deadline);
        let mut parts = Parts::default();
        while let Some(reply) = replies.next().await {
            let reply = reply.map_err(|error| match error {
                AskError::Unavailable | AskError::NoResponders => GateError::Unavailable,
                AskError::OutcomeUnknown => GateError::OutcomeUnknown,
                AskError::Overloaded => GateError::Overloaded,
                AskError::TooLarge => GateError::TooLarge(TooLarge {
                    len: size,
                    max: lane.link.max_payload(),
                }),
            })?;
            let headers = Headers(reply.headers.as_ref());
            if let Some(whole) = parts.take(verb, headers, &reply.payload) {
                return whole;
            }
        }
        Err(GateError::OutcomeUnknown)
    }
}

/// A request as it fits into messages: a question about many users is several.
fn in_messages(request: GateRequest) -> Vec<GateRequest> {
    match request {
        GateRequest::Presence(users) if users.len() > MAX_USERS => {
            let some = users.chunks(MAX_USERS).map(<[UserId]>::to_vec);
            some.map(GateRequest::Presence).collect()
        }
        request => vec![request],
    }
}

/// What the gates' replies come to.
///
/// A send that some gates did, and others did not or not for certain, is counted as far as it
/// is known. Of anything else a part is not the answer.
fn sum(
    replies: impl Iterator<Item = Result<GateReply, GateError>>,
) -> Result<GateReply, GateError> {
    let (mut total, mut failed, mut first) = (None::<GateReply>, 0, None);
    for reply in replies {
        match reply {
            Ok(reply) => {
                total = Some(match total {
                    Some(total) => add(total, reply)?,
                    None => reply,
                });
            }
            Err(error) => {
                failed += 1;
                first.get_or_insert(error);
            }
        }
    }
    match (total, first) {
        (Some(total), None) => Ok(total),
        (Some(GateReply::Sent(mut sent)), Some(_)) => {
            sent.unknown += failed;
            Ok(GateReply::Sent(sent))
        }
        (Some(_), Some(_)) => Err(GateError::OutcomeUnknown),
        (None, Some(error)) => Err(error),
        (None, None) => Err(GateError::Unavailable),
    }
}

/// Adds two replies. Of presence one may speak of the first users only.
fn add(a: GateReply, b: GateReply) -> Result<GateReply, GateError> {
    match (a, b) {
        (GateReply::Presence(mut a), GateReply::Presence(mut b)) => {
            let len = a.len().max(b.len());
            a.resize(len, Vec::new());
            b.resize(len, Vec::new());
            GateReply::Presence(a).sum(GateReply::Presence(b))
        }
        (a, b) => a.sum(b),
    }
}
