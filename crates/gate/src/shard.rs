//! Shards: the gate's own single-threaded runtimes, one per core, each with its
//! timers, its counters and an index of the connections it serves.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use slab::Slab;
use tidegate_protocol::{Packet, SessionId};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::bus::gate::Sent;
use crate::bus::{Connected, GateError};
use crate::clock::{Clock, Tick, Wheel};
use crate::session::{Delivery, LocalSession};
use crate::shared_packet::SharedPacket;
use crate::stats::Counters;

/// Broadcasts that may wait for a shard.
const MAILBOX: usize = 256;
/// Sessions that a broadcast serves before it lets others run.
const STRIDE: usize = 512;

/// See the module.
pub(crate) struct Shard {
    /// Its place among the gate's shards. From the 256th on they share what goes by it.
    pub(crate) number: u8,
    handle: Handle,
    pub(crate) clock: Arc<Clock>,
    pub(crate) counters: Counters,
    /// When its own task last advanced the clock, as a tick.
    turned: AtomicU32,
    wheel: Mutex<Wheel>,
    /// Connections given to this shard, those in set-up too.
    pub(crate) load: AtomicUsize,
    /// Sessions whose connection is served here.
    index: Mutex<Slab<LocalSession>>,
    mailbox: mpsc::Sender<Parcel>,
    /// On a runtime that goes on without the gate, what is to be ended with it.
    tasks: Option<Arc<Tasks>>,
}

/// The tasks of a shard, as long as they run.
#[derive(Default)]
struct Tasks {
    next: AtomicU64,
    running: Mutex<HashMap<u64, Option<AbortHandle>>>,
}

/// Takes a task out of the list when it is dropped.
struct Listed {
    tasks: Arc<Tasks>,
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.tasks.running.lock().remove(&self.number);
    }
}

/// A packet for many sessions.
#[derive(Clone)]
pub(crate) struct ForMany {
    shared: Arc<SharedPacket>,
    delivery: Delivery,
    /// An outbound hook sees it, for each session.
    hooked: bool,
}

impl ForMany {
    pub(crate) fn new(packet: Packet, delivery: Delivery, hooked: bool) -> Self {
        Self {
            shared: SharedPacket::new(packet),
            delivery,
            hooked,
        }
    }
}

/// A packet for many sessions of a shard.
struct Parcel {
    packet: ForMany,
    to: To,
    reply: oneshot::Sender<Sent>,
}

enum To {
    Some(Vec<LocalSession>),
    /// To all but these, which have it already.
    AllBut(Arc<HashSet<SessionId>>),
}

impl Shard {
    /// A shard whose tasks run on `handle`, a runtime of its own.
    pub(crate) fn new(number: usize, handle: Handle, clock: Arc<Clock>) -> Arc<Self> {
        Self::on(number as u8, handle, clock, None)
    }

    /// A shard on the caller's runtime.
    pub(crate) fn guest(handle: Handle, clock: Arc<Clock>) -> Arc<Self> {
        Self::on(0, handle, clock, Some(Arc::default()))
    }

    fn on(number: u8, handle: Handle, clock: Arc<Clock>, tasks: Option<Arc<Tasks>>) -> Arc<Self> {
        let (mailbox, deliveries) = mpsc::channel(MAILBOX);
        let shard = Arc::new(Self {
            number,
            handle,
            turned: AtomicU32::new(clock.now().0),
            clock,
            counters: Counters::default(),
            wheel: Mutex::new(Wheel::new()),
            load: AtomicUsize::new(0),
            index: Mutex::new(Slab::new()),
            mailbox,
            tasks,
        });
        shard.spawn(tick(Arc::downgrade(&shard)));
        shard.spawn(deliver(Arc::downgrade(&shard), deliveries));
        shard
    }

    /// Runs `task` on this shard.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Some(tasks) = &self.tasks else {
            self.handle.spawn(task);
            return;
        };
        let number = tasks.next.fetch_add(1, Ordering::Relaxed);
        let listed = Listed {
            tasks: tasks.clone(),
            number,
        };
        // Before the task can end, which takes it out.
        tasks.running.lock().insert(number, None);
        let task = self.handle.spawn(async move {
            let _listed = listed;
            task.await;
        });
        if let Some(place) = tasks.running.lock().get_mut(&number) {
            *place = Some(task.abort_handle());
        }
    }

    /// Ends what runs on the caller's runtime, and forgets the sessions.
    pub(crate) fn cut_off(&self) {
        if let Some(tasks) = &self.tasks {
            let running = std::mem::take(&mut *tasks.running.lock());
            for task in running.into_values().flatten() {
                task.abort();
            }
        }
        let sessions = std::mem::take(&mut *self.index.lock());
        drop(sessions);
    }

    /// The runtime its tasks run on.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub(crate) fn attach(&self, session: LocalSession) -> u32 {
        self.index.lock().insert(session) as u32
    }

    pub(crate) fn detach(&self, slot: u32) {
        let mut index = self.index.lock();
        index.try_remove(slot as usize);
        if index.is_empty() {
            index.shrink_to_fit();
        }
    }

    /// Connections given to this shard, those in set-up too.
    pub(crate) fn len(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// How long it has not come round to its tasks; within a step or two: not at all.
    pub(crate) fn lag(&self) -> Duration {
        self.clock.since(Tick(self.turned.load(Ordering::Relaxed)))
    }

    /// Wakes the connection in `slot` at `at`.
    pub(crate) fn wake_at(&self, at: Tick, slot: u32) {
        self.wheel.lock().insert(at, slot);
    }

    /// Hands a packet over to sessions of this shard.
    async fn deliver(&self, packet: ForMany, to: To) -> Sent {
        let (reply, sent) = oneshot::channel();
        let parcel = Parcel { packet, to, reply };
        if self.mailbox.send(parcel).await.is_err() {
            return Sent::default();
        }
        sent.await.unwrap_or_default()
    }
}

/// Advances the clock and wakes connections whose timers are due.
async fn tick(shard: std::sync::Weak<Shard>) {
    let mut due = Vec::new();
    loop {
        let Some(next) = shard.upgrade().map(|s| s.clock.next()) else {
            return;
        };
        tokio::time::sleep_until(next).await;
        let Some(shard) = shard.upgrade() else {
            return;
        };
        let now = shard.clock.advance();
        shard.turned.store(now.0, Ordering::Relaxed);
        shard.wheel.lock().expire(now, &mut due);
        for slot in due.drain(..) {
            let session = shard.index.lock().get(slot as usize).cloned();
            if let Some(session) = session {
                session.core().flow.lock().wake_unless_awake();
            }
        }
    }
}

/// Hands broadcasts over, one after the other. Sessions drain their queues later, so
/// that broadcasts in a row leave in one write.
async fn deliver(shard: std::sync::Weak<Shard>, mut parcels: mpsc::Receiver<Parcel>) {
    let mut some = Vec::with_capacity(STRIDE);
    while let Some(parcel) = parcels.recv().await {
        let mut sent = Sent::default();
        match &parcel.to {
            To::Some(sessions) => {
                for chunk in sessions.chunks(STRIDE) {
                    hand_over(&parcel.packet, chunk, &mut sent);
                    tokio::task::yield_now().await;
                }
            }
            To::AllBut(others) => {
                let mut from = 0;
                loop {
                    let Some(shard) = shard.upgrade() else { return };
                    some.clear();
                    let end = {
                        let index = shard.index.lock();
                        let end = (from + STRIDE).min(index.capacity());
                        some.extend((from..end).filter_map(|i| index.get(i).cloned()));
                        end
                    };
                    if !others.is_empty() {
                        some.retain(|session| !others.contains(&session.id()));
                    }
                    hand_over(&parcel.packet, &some, &mut sent);
                    if end == from || end < from + STRIDE {
                        break;
                    }
                    from = end;
                    drop(shard);
                    tokio::task::yield_now().await;
                }
                some.clear();
            }
        }
        // Whoever asked may have stopped waiting; the packets are queued all the same.
        let _ = parcel.reply.send(sent);
    }
}

fn hand_over(packet: &ForMany, sessions: &[LocalSession], sent: &mut Sent) {
    for session in sessions {
        let result = match packet.hooked {
            true => session.send_as(packet.shared.packet().clone(), packet.delivery.clone()),
            false => session.send_shared(&packet.shared, &packet.delivery),
        };
        count(sent, session, result);
    }
}

fn count(sent: &mut Sent, session: &LocalSession, result: Result<(), GateError>) {
    match result {
        Ok(()) if session.connected() == Connected::Dormant => sent.dormant += 1,
        Ok(()) => sent.attached += 1,
        Err(GateError::Dormant) => sent.missed += 1,
        Err(GateError::QueueFull) => sent.full += 1,
        Err(GateError::Refused) => sent.refused += 1,
        Err(GateError::TooLarge(_)) => sent.too_large += 1,
        // It ended while we were at it.
        Err(_) => {}
    }
}

/// Sends one packet to these sessions, on all shards side by side.
pub(crate) async fn send_to(shards: &[Arc<Shard>], packet: ForMany, to: Vec<LocalSession>) -> Sent {
    let mut by_shard: Vec<Vec<LocalSession>> = shards.iter().map(|_| Vec::new()).collect();
    for session in to {
        let at = session.core().at();
        let shard = shards.iter().position(|s| Arc::ptr_eq(s, &at.shard));
        by_shard[shard.unwrap_or(0)].push(session);
    }
    let parts = shards.iter().zip(by_shard);
    let parts = parts.filter(|(_, part)| !part.is_empty());
    sum(parts.map(|(shard, part)| shard.deliver(packet.clone(), To::Some(part)))).await
}

/// Sends one packet to every session: on all shards side by side to those that are
/// attached, and to these, which no shard has.
pub(crate) async fn send_to_all(
    shards: &[Arc<Shard>],
    packet: ForMany,
    dormant: Vec<LocalSession>,
) -> Sent {
    let mut sent = Sent::default();
    for chunk in dormant.chunks(STRIDE) {
        hand_over(&packet, chunk, &mut sent);
        tokio::task::yield_now().await;
    }
    // One of them may have been resumed since.
    let others = Arc::new(dormant.iter().map(|session| session.id()).collect());
    let deliver = |shard: &Arc<Shard>| {
        let (shard, packet, to) = (
            shard.clone(),
            packet.clone(),
            To::AllBut(Arc::clone(&others)),
        );
        async move { shard.deliver(packet, to).await }
    };
    let attached = shards.iter().map(deliver);
    sent.add(sum(attached).await);
    sent
}

async fn sum(parts: impl Iterator<Item = impl Future<Output = Sent>>) -> Sent {
    let mut sum = Sent::default();
    for sent in futures_util::future::join_all(parts).await {
        sum.add(sent);
    }
    sum
}

/// A thread that runs a shard's tasks until `stop` is dropped or sent.
pub(crate) fn spawn_thread(
    number: usize,
) -> io::Result<(Handle, oneshot::Sender<()>, JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new()
        .name(format!("tidegate-{number}"))
        .spawn(move || {
            // Sent or dropped: both mean stop.
            let _ = runtime.block_on(stopped);
        })?;
    Ok((handle, stop, thread))
}
