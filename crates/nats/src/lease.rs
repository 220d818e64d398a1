//! A gate's claim to its id, and the leases of all gates.
//!
//! A gate that starts asks whether its id is in use; where nobody answers it writes its
//! incarnation under the id, and renews that. Both are compare-and-set: of two gates with one
//! id the later has it, and the other finds its renewal refused and serves nobody any more. A
//! gate that cannot renew counts itself as cut off before the others take it for dead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::kv::Operation;
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidegate::bus::{BusError, GateInfo, GateStanding};
use tidegate_protocol::GateId;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::bucket::{Bucket, Found, NotRead, NotWritten};
use crate::membership::Use;
use crate::record::Incarnation;
use crate::view::{Gone, Life, View};
use crate::wire::gate::LiveGate;

/// How often it is looked which gates have died.
const LOOK: Duration = Duration::from_millis(250);
/// Between two attempts at something that failed.
const AGAIN: Duration = Duration::from_millis(250);
/// How often a gate that starts looks whether it sees itself.
const SEE: Duration = Duration::from_millis(5);
/// Attempts at a claim of which it is not known what came.
const CLAIMS: usize = 4;
/// Longest value.
pub(crate) const MAX_LEASE: i32 = 16 * 1024;

/// What stands under a gate's id.
#[derive(Debug, Serialize, Deserialize)]
struct Value {
    v: u32,
    incarnation: Incarnation,
    #[serde(default)]
    version: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// See the module.
pub(crate) struct Lease {
    bucket: Bucket,
    gate: GateId,
    incarnation: Incarnation,
    value: Bytes,
    lease: Duration,
    state: Mutex<State>,
    view: Mutex<View>,
    /// The watch has shown all that was there.
    caught_up: AtomicBool,
    standing: watch::Sender<GateStanding>,
}

struct State {
    /// Of the last renewal.
    revision: u64,
    /// When the renewal was sent that is known to have been taken.
    renewed: Instant,
}

impl Lease {
    /// Claims the id. `is_used` finds out whether a gate with this id answers.
    pub(crate) async fn claim(
        bucket: Bucket,
        gate: GateInfo,
        lease: Duration,
        is_used: impl Future<Output = Result<Use, BusError>>,
    ) -> Result<(Arc<Self>, Option<Gone>), BusError> {
        let incarnation = Incarnation::new();
        let value = Value {
            v: 1,
            incarnation,
            version: gate.version.clone(),
            metadata: gate.metadata.clone(),
        };
        let value: Bytes = serde_json::to_vec(&value).unwrap_or_default().into();
        if value.len() > MAX_LEASE as usize {
            return Err(BusError::Unavailable(
                "the gate's metadata is too long".into(),
            ));
        }
        let taken = || BusError::Taken(format!("gate {}", gate.id));
        let unavailable = |e: NotRead| BusError::Unavailable(e.to_string());
        // In this order: one that claimed the id before this is read answers, or has not
        // confirmed its claim yet, and will not be able to.
        let mut attempt = 1;
        let mut found = loop {
            match bucket.get(&gate.id).await {
                Ok(found) => break found,
                Err(error) if attempt == CLAIMS => return Err(unavailable(error)),
                Err(_) => sleep(AGAIN).await,
            }
            attempt += 1;
        };
        let before = found.clone();
        match is_used.await? {
            Use::Free => {}
            Use::Used => return Err(taken()),
            // One that lives renews its lease meanwhile.
            Use::Silent if found.value.is_some() => sleep(lease / 2).await,
            Use::Silent => {}
        }
        for attempt in 1.. {
            let sent = Instant::now();
            let revision = match bucket
                .put(&gate.id, value.clone(), found.revision, None)
                .await
            {
                Ok(revision) => revision,
                Err(error) if attempt == CLAIMS => {
                    return Err(BusError::Unavailable(error.to_string()));
                }
                Err(_) => {
                    sleep(AGAIN).await;
                    found = bucket.get(&gate.id).await.map_err(unavailable)?;
                    match found.incarnation() {
                        Some(there) if there == incarnation => found.revision,
                        // Its lease is over.
                        None => continue,
                        Some(_) if found == before => continue,
                        // Another claimed it, or the one that has it renewed it.
                        Some(_) => return Err(taken()),
                    }
                }
            };
            let view = View::new(lease, (gate.id.clone(), incarnation), sent);
            let had_it = before.incarnation().map(|incarnation| Gone {
                gate: gate.id.clone(),
                incarnation,
                revision: before.revision,
            });
            let lease = Self {
                bucket,
                gate: gate.id,
                incarnation,
                value,
                lease,
                state: Mutex::new(State {
                    revision,
                    renewed: sent,
                }),
                view: Mutex::new(view),
                caught_up: AtomicBool::new(false),
                standing: watch::Sender::default(),
            };
            return Ok((Arc::new(lease), had_it));
        }
        Err(taken())
    }

    /// Renews the claim for the first time, once the gate can be reached: of two that started
    /// at the same time and could not ask each other, one fails here.
    pub(crate) async fn confirm(&self) -> Result<(), BusError> {
        for _ in 0..CLAIMS {
            match self.renew(Instant::now()).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(BusError::Taken(format!("gate {}", self.gate))),
                Err(error) => {
                    tracing::debug!(%error, "the gate's claim was not confirmed");
                    sleep(AGAIN).await;
                }
            }
        }
        let why = "the gate's claim to its id could not be confirmed";
        Err(BusError::Unavailable(why.into()))
    }

    pub(crate) fn gate(&self) -> &GateId {
        &self.gate
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(crate) fn standing(&self) -> watch::Receiver<GateStanding> {
        self.standing.subscribe()
    }

    /// Whether the others take the gate for alive, for certain.
    pub(crate) fn is_held(&self) -> bool {
        !self.standing.borrow().superseded && !self.is_over(Instant::now())
    }

    /// Ends before the others can see that it does.
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.state.lock().renewed) > self.lease * 4 / 5
    }

    /// The gates that live.
    pub(crate) fn live_gates(&self) -> Vec<LiveGate> {
        let view = self.view.lock();
        let live = view.gates().map(|(gate, incarnation)| LiveGate {
            gate: gate.id.clone(),
            incarnation: incarnation.0,
            version: gate.version.clone(),
            metadata: gate.metadata.clone(),
        });
        live.collect()
    }

    /// Waits until the watch has shown the gate itself, and all that was there.
    pub(crate) async fn seen(&self) {
        let is_there = |gates: Vec<LiveGate>| gates.iter().any(|live| live.gate == self.gate);
        while !(self.caught_up.load(Ordering::Acquire) && is_there(self.live_gates())) {
            sleep(SEE).await;
        }
    }

    /// Whether this life of a gate lasts. Where it is not known, looks where leases are kept:
    /// a gate has its lease before it enters a login.
    pub(crate) async fn is_live(
        &self,
        gate: &GateId,
        incarnation: Incarnation,
    ) -> Result<bool, NotRead> {
        match self.view.lock().life(gate, incarnation) {
            Life::Live => return Ok(true),
            Life::Dead => return Ok(false),
            Life::Unknown => {}
        }
        let found = self.bucket.get(gate).await?;
        let live = found.incarnation() == Some(incarnation);
        if !live {
            self.view.lock().is_dead(gate, incarnation);
        }
        Ok(live)
    }

    /// Renews the lease, until another gate has the id.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut at = Instant::now() + self.lease / 4;
        loop {
            sleep_until(at).await;
            at = Instant::now();
            match self.renew(at).await {
                Ok(true) => at += self.lease / 4,
                Ok(false) => {
                    self.standing
                        .send_modify(|standing| standing.superseded = true);
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "the gate's lease was not renewed");
                    at += AGAIN.max(self.lease / 20);
                }
            }
        }
    }

    /// Answers whether the gate still has its id.
    async fn renew(&self, now: Instant) -> Result<bool, NotWritten> {
        let unknown = |e: NotRead| NotWritten::Unknown(e.to_string());
        let expected = self.state.lock().revision;
        let mut put = self.put(expected).await;
        if put == Err(NotWritten::Changed) {
            // Its own change, of which it did not hear; or the lease is over and nothing is
            // there; or another's.
            let found = self.bucket.get(&self.gate).await.map_err(unknown)?;
            if found.incarnation().is_some_and(|i| i != self.incarnation) {
                return Ok(false);
            }
            put = self.put(found.revision).await;
        }
        if let Err(NotWritten::Refused(_)) = put {
            // The bucket may be gone.
            let _ = self.bucket.make_sure().await;
        }
        let revision = put?;
        let was_over = self.is_over(now);
        *self.state.lock() = State {
            revision,
            renewed: now,
        };
        if was_over {
            self.standing.send_modify(|standing| standing.lapses += 1);
        }
        Ok(true)
    }

    async fn put(&self, expected: u64) -> Result<u64, NotWritten> {
        let value = self.value.clone();
        self.bucket.put(&self.gate, value, expected, None).await
    }

    /// Gives the id up: the others need not wait.
    pub(crate) async fn release(&self) {
        let expected = self.state.lock().revision;
        // What is left ends with the lease.
        let _ = self.bucket.remove(&self.gate, expected).await;
    }

    /// Watches the leases of all gates, and tells which have died.
    pub(crate) async fn watch(self: Arc<Self>, died: mpsc::Sender<Gone>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let watched = self.bucket.watch(">").await;
            let Ok(mut changes) = watched.inspect_err(|error| {
                tracing::debug!(%error, "the gates' leases cannot be watched");
            }) else {
                sleep(AGAIN).await;
                self.view.lock().look(Instant::now());
                continue;
            };
            let began = Instant::now();
            loop {
                tokio::select! {
                    change = changes.next() => match change {
                        Some(Ok(change)) => {
                            let gone = self.changed(&change);
                            if change.delta == 0 {
                                self.caught_up.store(true, Ordering::Release);
                            }
                            if let Some(gone) = gone {
                                let _ = died.send(gone).await;
                            }
                        }
                        Some(Err(_)) | None => break,
                    },
                    _ = look.tick() => {
                        let (gone, blind) = {
                            let mut view = self.view.lock();
                            (view.look(Instant::now()), view.is_blind())
                        };
                        for gone in gone {
                            let _ = died.send(gone).await;
                        }
                        if blind && began.elapsed() > self.lease / 2 {
                            break;
                        }
                    }
                }
            }
            drop(changes);
            sleep(AGAIN).await;
        }
    }

    fn changed(&self, change: &async_nats::jetstream::kv::Entry) -> Option<Gone> {
        let gate = GateId::new(&change.key).ok()?;
        let mut view = self.view.lock();
        match change.operation {
            Operation::Put => {
                let value: Value = serde_json::from_slice(&change.value).ok()?;
                let info = GateInfo {
                    id: gate,
                    version: value.version,
                    metadata: value.metadata,
                };
                view.renewed(info, value.incarnation, change.revision, Instant::now())
            }
            Operation::Delete | Operation::Purge => {
                view.left(&gate, change.revision);
                None
            }
        }
    }
}

impl Found {
    fn incarnation(&self) -> Option<Incarnation> {
        let value: Value = serde_json::from_slice(self.value.as_ref()?).ok()?;
        Some(value.incarnation)
    }
}
