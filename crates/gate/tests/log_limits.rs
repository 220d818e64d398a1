//! Lines that clients can have the log write, by coming again and again, are limited in
//! number.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::time::Duration;

use tidegate::{GateBuilder, Identity, MemoryStore, Refused, UserId};

mod support;

use support::{Rig, log, read_all};

/// Clients that come at once, and are refused all.
const CLIENTS: usize = 50;

/// How many lines say this when the clients have come and gone.
async fn lines(setup: impl FnOnce(GateBuilder) -> GateBuilder, says: &str) -> usize {
    log::keep();
    let rig = Rig::with(setup).await;
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| rig.tcp(Default::default())).collect();
    for client in &mut clients {
        assert_eq!(read_all(client).await, b"");
    }
    log::lines_with(&[says]).len()
}

#[tokio::test(start_paused = true)]
async fn refusals_by_hooks_and_failing_stores() {
    let second = Duration::from_secs(1);
    let started = |gate: GateBuilder| gate.on_started(async |_| Err(Refused::new("no")));
    let late =
        |gate: GateBuilder| gate.on_authenticate(second, async |_| std::future::pending().await);
    let full = |gate: GateBuilder| {
        gate.store(MemoryStore::with_max_users(0))
            .on_authenticate(second, async |who| {
                let user = UserId::new(&who.session.to_string()).unwrap();
                Ok(Identity::user(user))
            })
    };
    for found in [
        lines(started, "refused by the started hook").await,
        lines(late, "the authenticate hook took too long").await,
        lines(full, "an authenticated user could not be bound").await,
    ] {
        assert!((1..=10).contains(&found), "{found} lines");
        tokio::time::advance(second).await;
    }
}
