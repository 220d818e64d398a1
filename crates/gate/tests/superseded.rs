//! A gate that was cut off from the others, and then lost its id to another.
#![allow(clippy::unwrap_used, reason = "tests")]

#[macro_use]
#[path = "support/forward.rs"]
mod forward;
mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use harness::*;
use tidegate::bus::*;
use tidegate::protocol::{DeviceId, UserId};
use tidegate::{GateId, SessionId};
use tokio::sync::watch;

/// Keeps logins until it cannot be reached.
#[derive(Default)]
struct Kept {
    is_away: AtomicBool,
    refused: AtomicUsize,
    standing: watch::Sender<GateStanding>,
}

struct Shared(Arc<Kept>);

impl KeptLogins for Shared {
    fn enter(
        &self,
        _: UserId,
        _: SessionId,
        _: Option<DeviceId>,
        _: JudgeLogins,
    ) -> BoxFuture<'static, Result<Vec<KeptLogin>, GateError>> {
        ready(match self.0.is_away.load(Ordering::Relaxed) {
            true => {
                self.0.refused.fetch_add(1, Ordering::Relaxed);
                Err(GateError::Unavailable)
            }
            false => Ok(Vec::new()),
        })
        .boxed()
    }
    fn leave(&self, _: &UserId, _: SessionId) {}
    fn standing(&self) -> watch::Receiver<GateStanding> {
        self.0.standing.subscribe()
    }
}

#[derive(Default)]
struct Joined {
    bus: LocalBus,
    kept: Arc<Kept>,
}

impl Bus for Joined {
    as_in_bus! { call register others }
    fn users(&self, _: &GateId) -> Option<Arc<dyn KeptLogins>> {
        Some(Arc::new(Shared(self.kept.clone())))
    }
}

#[tokio::test]
async fn a_gate_that_enters_its_logins_again_notices_that_its_id_is_lost() {
    let bus = Arc::new(Joined::default());
    let gate = builder().bus(bus.clone()).start().await.unwrap();
    let (_client, session) = join(&gate).await;
    session.bind(user("ann")).await.unwrap();
    bus.kept.is_away.store(true, Ordering::Relaxed);
    bus.kept.standing.send_modify(|s| s.lapses += 1);
    // What is entered again now cannot be.
    until("it was tried", || {
        bus.kept.refused.load(Ordering::Relaxed) > 1
    })
    .await;
    bus.kept.standing.send_modify(|s| s.superseded = true);
    until("the session is closed", || {
        gate.gate().sessions().count() == 0
    })
    .await;
    assert!(!gate.gate().is_ready());
}
