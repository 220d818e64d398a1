//! Which protocol a client speaks: its first packet tells.

use std::future::poll_fn;
use std::io;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::extended::{
    GateControl, HELLO, Hello, MAX_HELLO, Offer, RESUME, Refused, ResumeRefusal, Resumption, Terms,
    Welcome, hello_too_long,
};
use tidegate_protocol::ws::encode_pong;
use tidegate_protocol::{CloseReason, DeviceId, Packet, SessionId, UserId};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout_at};

use super::Setup;
use crate::conn::scratch;
use crate::conn::wire::{Item, Wire};
use crate::gate::GateInner;
use crate::hooks::{Identity, guarded_now};
use crate::listener::{Endpoint, Protocol};
use crate::session::LocalSession;
use crate::session::extended::{Extended, Retention};
use crate::session::resume::Claim;
use crate::token::{self, NewToken};
use crate::transport::Transport;

/// What a client turned out to speak.
pub(super) enum First {
    /// Version 1, and the bytes that came so far.
    V1(Vec<u8>),
    /// The extended protocol, and the bytes behind its `$hello`.
    Extended(Box<Hello>, Terms, Vec<u8>),
}

impl First {
    /// What an authenticate hook is shown of a `$hello`.
    pub(super) fn auth(&self) -> Option<Bytes> {
        match self {
            Self::V1(_) => None,
            Self::Extended(hello, ..) => {
                let auth = hello.auth.as_ref()?;
                Some(Bytes::copy_from_slice(auth.get().as_bytes()))
            }
        }
    }

    /// The device that a `$hello` tells.
    pub(super) fn device(&self) -> Option<DeviceId> {
        match self {
            Self::V1(_) => None,
            // It has been read: what it tells is one.
            Self::Extended(hello, ..) => hello.device().ok().flatten(),
        }
    }

    /// Bytes that came and are not served yet.
    pub(super) fn into_early(self) -> Vec<u8> {
        match self {
            Self::V1(early) | Self::Extended(_, _, early) => early,
        }
    }
}

/// How a session of the extended protocol begins.
pub(super) struct Opening {
    terms: Terms,
    /// The session for which the client presented a spent token.
    accuses: Option<SessionId>,
    /// The client came for a session that a newer login has replaced. It may not have heard
    /// of that, and nobody has asked it to log in again.
    pub(super) was_replaced: bool,
}

impl Setup {
    /// Finds out what the client speaks. On a listener for both kinds it waits for the
    /// first packet, for a while.
    pub(super) async fn first(
        &mut self,
        io: &mut Transport,
        early: Vec<u8>,
    ) -> Result<First, (CloseReason, String)> {
        let at = self.at.clone();
        let endpoint = &at.endpoint;
        let wait = match endpoint.protocol {
            Protocol::V1 => return Ok(First::V1(early)),
            Protocol::Any => (Instant::now() + endpoint.limits.hello_wait).min(self.deadline),
            Protocol::Extended => self.deadline,
        };
        let mut seen = Seen::new(self.gate.clone(), Wire::new(endpoint), early);
        let found = tokio::select! {
            biased;
            found = timeout_at(wait, seen.first_packet(endpoint, io)) => found,
            () = self.gate.stopping.notified() => {
                return Err((CloseReason::Shutdown, "before its first packet".to_owned()));
            }
        };
        let found = match found {
            Ok(found) => found?,
            Err(late) if Instant::now() >= self.deadline => {
                return Err((CloseReason::SetupTimeout, late.to_string()));
            }
            Err(_) => None,
        };
        let hello = found.filter(|packet| packet.topic.as_str() == HELLO);
        self.said_hello = hello.is_some();
        let hello = match hello {
            Some(_) if seen.done > MAX_HELLO => {
                return Err((CloseReason::ExtendedProtocol, hello_too_long()));
            }
            Some(packet) => Hello::read(&packet.body)
                .map_err(|error| (CloseReason::ExtendedProtocol, error.to_string()))?,
            // Whatever came, version 1 has an answer to it.
            None if endpoint.protocol == Protocol::Any => {
                return Ok(First::V1(take(&mut seen.bytes)));
            }
            None => {
                let why = "the first packet is not $hello, or too long".to_owned();
                return Err((CloseReason::ExtendedProtocol, why));
            }
        };
        let offer = Offer {
            heartbeat_timeout: endpoint.limits.heartbeat_timeout,
            resume: self.retention().is_some(),
        };
        let no_version = || {
            (
                CloseReason::NoCommonVersion,
                format!("{:?}", hello.versions),
            )
        };
        let terms = offer.answer(&hello).ok_or_else(no_version)?;
        if !seen.pings.is_empty() {
            self.at.shard.counters.pings.add(seen.pings.len() as u64);
            let pongs = io.write_all(&seen.pongs()).await;
            pongs.map_err(|error| (CloseReason::ConnectionLost, error.to_string()))?;
        }
        let behind = seen.bytes.split_off(seen.done);
        Ok(First::Extended(Box::new(hello), terms, behind))
    }

    /// How much is kept of sessions of this connection; `None` if none is resumed.
    fn retention(&self) -> Option<Retention> {
        let endpoint = &self.at.endpoint;
        let limits = &endpoint.limits;
        let secret = endpoint.tls.is_some() || endpoint.resume_over_plaintext;
        // Nobody is promised what can never be kept.
        let room = self.gate.limits.max_dormant > 0;
        Some(Retention {
            window: limits.resume_window.filter(|_| secret && room)?,
            packets: limits.resume_packets,
            bytes: limits.resume_bytes,
        })
    }

    /// Goes on with the session that the client came back for, or begins one, and tells
    /// the client which.
    pub(super) async fn welcome(
        &self,
        io: &mut Transport,
        hello: &Hello,
        terms: Terms,
        id: SessionId,
        identity: Identity,
    ) -> Result<(LocalSession, u32), CloseReason> {
        let mut refused = None;
        if let Some(request) = &hello.resume {
            let claim = Claim {
                request,
                user: identity.user.as_ref(),
                heartbeat: terms.heartbeat,
            };
            match self.claim(&claim) {
                Ok(back) => {
                    if let Some(hook) = &self.gate.hooks.resumed {
                        guarded_now("resumed", &self.gate, || hook(&back.session, id));
                    }
                    return self.welcome_back(io, back, terms).await;
                }
                Err(why) => refused = Some(why),
            }
        }
        if let Some(why) = refused {
            self.at.shard.counters.not_resumed.add(1);
            tracing::debug!(ip = %self.client.address().ip(), why = why.name(), "not resumed");
        }
        let accuses = match (refused, &hello.resume) {
            (Some(ResumeRefusal::Spent), Some(request)) => token::parse(&request.token),
            _ => None,
        };
        let accuses = accuses.map(|(session, _)| session);
        let mut asked = hello.resume.iter();
        let opening = Opening {
            terms,
            accuses,
            was_replaced: asked.any(|request| self.gate.was_replaced(&request.token)),
        };
        let (unready, resume) = self.begin(id, identity, Some(opening)).await?;
        let welcome = Welcome {
            resume,
            refused: refused.map(Refused::from),
            ..self.describe(&unready.session(), terms)
        };
        self.tell(io, welcome).await?;
        let session = unready.ready();
        let epoch = session.attach(&self.at, 0);
        Ok((session, epoch.ok_or(CloseReason::ConnectionLost)?))
    }

    /// Looks whether the client may have the session back that it asks for.
    fn claim(&self, claim: &Claim<'_>) -> Result<Back, ResumeRefusal> {
        let retention = self.retention().ok_or(ResumeRefusal::NotHere)?;
        let request = claim.request;
        let ip = self.client.address().ip();
        if !self.gate.wrong_tokens.may_try(ip, self.gate.clock.now()) {
            return Err(ResumeRefusal::TooMany);
        }
        let taken = self.gate.resume(claim, &self.at);
        // A spent token was not guessed; it may come from a `$hello` that was given up. Nor is
        // one a guess whose session is not here: it is of a gate that was, and so are those
        // of all who shared that gate, and share an address.
        if matches!(taken, Err(ResumeRefusal::Unknown)) && self.gate.is_here(&request.token) {
            self.gate.wrong_tokens.failed(ip, self.gate.clock.now());
        }
        let taken = taken?;
        let here = (ip, self.at.endpoint.network());
        taken
            .session
            .change_info(|info| (info.ip, info.network) = here);
        Ok(Back {
            epoch: Some(taken.resumed.epoch),
            received: taken.resumed.received,
            session: taken.session,
            resumption: resumption(taken.token, retention.window),
        })
    }

    async fn welcome_back(
        &self,
        io: &mut Transport,
        mut back: Back,
        terms: Terms,
    ) -> Result<(LocalSession, u32), CloseReason> {
        let welcome = Welcome {
            resumed: true,
            received: back.received,
            resume: Some(back.resumption.clone()),
            ..self.describe(&back.session, terms)
        };
        self.tell(io, welcome).await?;
        let epoch = back.epoch.take().unwrap_or_default();
        Ok((back.session.clone(), epoch))
    }

    /// What the client is told of a session, but for how to resume it.
    fn describe(&self, session: &LocalSession, terms: Terms) -> Welcome {
        let info = session.snapshot();
        let endpoint = &self.at.endpoint;
        Welcome {
            version: terms.version,
            gate: info.gate.to_string(),
            session: info.id.to_string(),
            user: info.user.as_ref().map(|user| user.as_str().to_owned()),
            capabilities: match terms.resume {
                true => vec![RESUME.to_owned()],
                false => Vec::new(),
            },
            heartbeat: terms.heartbeat,
            max_packet: u32::try_from(endpoint.limits.max_packet_size).unwrap_or(u32::MAX),
            resume: None,
            resumed: false,
            refused: None,
            received: 0,
        }
    }

    /// Lets a session speak the extended protocol, from before its first packet on.
    pub(super) fn extend(
        &self,
        session: &LocalSession,
        opening: Opening,
        user: Option<&UserId>,
    ) -> Option<Resumption> {
        let terms = opening.terms;
        let mut extended = Extended::new(terms.heartbeat).accusing(opening.accuses);
        let mut told = None;
        if let Some(retention) = self.retention().filter(|_| terms.resume) {
            let token = NewToken::new(session.id());
            extended = extended.resumable(token.hash, user.cloned(), retention);
            told = Some(resumption(token, retention.window));
        }
        session.core().flow.lock().set_extended(extended);
        told
    }

    /// Writes the `$welcome`.
    async fn tell(&self, io: &mut Transport, welcome: Welcome) -> Result<(), CloseReason> {
        let endpoint = &self.at.endpoint;
        let packet = GateControl::Welcome(Box::new(welcome)).packet();
        let mut out = Vec::new();
        Wire::new(endpoint).encode(&*endpoint.codec, &packet, &mut out);
        let written = async {
            io.write_all(&out).await?;
            io.flush().await
        };
        written.await.map_err(|_| CloseReason::ConnectionLost)
    }
}

fn resumption(token: NewToken, window: Duration) -> Resumption {
    Resumption {
        token: token.text,
        window_ms: window.as_millis() as u64,
    }
}

/// A session that its client has come back for. If it is not told so, the session waits
/// again.
struct Back {
    session: LocalSession,
    /// None: the connection has it.
    epoch: Option<u32>,
    received: u64,
    resumption: Resumption,
}

impl Drop for Back {
    fn drop(&mut self) {
        if let Some(epoch) = self.epoch
            && !self.session.wait_for_client(epoch)
            // Else another connection has it by now.
            && self.session.core().flow.lock().is_attached(epoch)
        {
            let shard = self.session.core().at().shard.clone();
            shard.spawn(
                self.session
                    .clone()
                    .end(CloseReason::ConnectionLost, (0, 0)),
            );
        }
    }
}

/// What has come of a client so far. It counts against the gate's byte budget.
struct Seen {
    gate: Arc<GateInner>,
    wire: Wire,
    /// All of it.
    bytes: Vec<u8>,
    /// A copy of what is not decoded yet: the decoder may change it.
    input: Vec<u8>,
    /// How much of `bytes` has been decoded.
    done: usize,
    /// Payloads of the pings among it.
    pings: Vec<Vec<u8>>,
    /// What the budget has been told.
    published: u32,
}

impl Seen {
    fn new(gate: Arc<GateInner>, wire: Wire, early: Vec<u8>) -> Self {
        Self {
            gate,
            wire,
            input: early.clone(),
            bytes: early,
            done: 0,
            pings: Vec::new(),
            published: 0,
        }
    }

    /// Reads up to the first packet. `None` if what comes is no `$hello`, or cannot be read:
    /// whoever serves the client then finds out again why.
    async fn first_packet(
        &mut self,
        endpoint: &Endpoint,
        io: &mut Transport,
    ) -> Result<Option<Packet>, (CloseReason, String)> {
        loop {
            while !self.input.is_empty() {
                let next = || self.wire.next(endpoint, &mut self.input);
                let Ok(next) = catch_unwind(AssertUnwindSafe(next)) else {
                    return Err((CloseReason::Internal, "the codec panicked".to_owned()));
                };
                let Ok((used, item)) = next else {
                    return Ok(None);
                };
                self.input.drain(..used);
                self.done += used;
                match item {
                    Item::Packet(packet) => return Ok(Some(packet)),
                    Item::Ping(payload) => self.pings.push(payload),
                    Item::Quiet => {}
                    Item::Close(_) => return Ok(None),
                    Item::Partial if used == 0 => break,
                    Item::Partial => {}
                }
            }
            if self.bytes.len() > MAX_HELLO {
                return Ok(None);
            }
            self.account()?;
            let n = poll_fn(|cx| self.poll_read(cx, endpoint, io)).await;
            let n = n.map_err(|error| (CloseReason::ConnectionLost, error.to_string()))?;
            if n == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads once, without a buffer of its own: many wait for a while and say nothing.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        endpoint: &Endpoint,
        io: &mut Transport,
    ) -> Poll<io::Result<usize>> {
        // No more at a time than is looked at.
        let most = endpoint.limits.read_buffer.min(MAX_HELLO);
        scratch::with_read(most, |buffer| {
            let mut target = ReadBuf::new(buffer);
            ready!(Pin::new(io).poll_read(cx, &mut target))?;
            let read = target.filled();
            self.bytes.extend_from_slice(read);
            self.input.extend_from_slice(read);
            Poll::Ready(Ok(read.len()))
        })
    }

    /// Tells the budget what is held. Memory that is short is for those who have a session.
    fn account(&mut self) -> Result<(), (CloseReason, String)> {
        let held = self.bytes.len() + self.input.len() + self.wire.buffered();
        let budget = &self.gate.budget;
        budget.publish(&mut self.published, held as u32);
        if self.published > 0 && budget.is_overrun() {
            let why = "memory is short, and the first packet long".to_owned();
            return Err((CloseReason::MemoryPressure, why));
        }
        Ok(())
    }

    /// The pongs to the pings that came before the first packet.
    fn pongs(&self) -> Vec<u8> {
        let mut pongs = Vec::new();
        for payload in &self.pings {
            encode_pong(&mut pongs, payload);
        }
        pongs
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.gate.budget.publish(&mut self.published, 0);
    }
}
