//! When entries go: times to live, and heartbeats.

use std::time::Duration;

use tidegate_protocol::Settings;

use super::super::Store;
use super::{Outcome, Time, Users, expect, settings};

pub(super) async fn entries_expire(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let ttl = time.ttl;
    let (user, other) = (users.user("-short")?, users.user("-long")?);
    let own = settings(&[("a", "1")])?;
    store.save(&user, &own, ttl).await?;
    store.save(&other, &own, time.long()).await?;
    time.pass(ttl / 2).await;
    expect(store, &user, Some(&own), "after half its time").await?;
    time.pass(ttl * 3 / 2).await;
    expect(store, &user, None, "after twice its time").await?;
    expect(store, &other, Some(&own), "long before its time").await?;
    store.save(&user, &own, time.long()).await?;
    expect(store, &user, Some(&own), "saved again after its expiry").await
}

pub(super) async fn save_renews(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let ttl = time.ttl;
    let (longer, shorter) = (users.user("-longer")?, users.user("-shorter")?);
    let own = settings(&[("a", "1")])?;
    store.save(&longer, &own, ttl).await?;
    store.save(&shorter, &own, time.long()).await?;
    store.save(&longer, &own, time.long()).await?;
    store.save(&shorter, &own, ttl).await?;
    time.pass(ttl * 2).await;
    expect(store, &longer, Some(&own), "saved again with a longer time").await?;
    expect(store, &shorter, None, "saved again with a shorter time").await
}

pub(super) async fn query_does_not_renew(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let ttl = time.ttl;
    let user = users.user("")?;
    let own = settings(&[("a", "1")])?;
    store.save(&user, &own, ttl).await?;
    for _ in 0..3 {
        time.pass(ttl / 2).await;
        // What it gives at its very time is the store's affair.
        store.query(&user).await?;
    }
    time.pass(ttl / 2).await;
    expect(store, &user, None, "queried, but past its time").await
}

pub(super) async fn heartbeat_extends(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let ttl = time.ttl;
    let own = settings(&[("a", "1")])?;
    let (a, b, left_out) = (users.user("-a")?, users.user("-b")?, users.user("-c")?);
    for user in [&a, &b, &left_out] {
        store.save(user, &own, ttl).await?;
    }
    time.pass(ttl / 2).await;
    store
        .heartbeat(&[a.clone(), b.clone(), a.clone()], ttl * 2)
        .await?;
    store.heartbeat(&[], ttl).await?;
    time.pass(ttl).await;
    expect(store, &a, Some(&own), "after a heartbeat").await?;
    expect(store, &b, Some(&own), "after a heartbeat").await?;
    expect(
        store,
        &left_out,
        None,
        "left out of a heartbeat and past its time",
    )
    .await?;
    time.pass(ttl * 2).await;
    expect(store, &a, None, "past the heartbeat's time").await
}

pub(super) async fn heartbeat_makes_nothing(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let ttl = time.ttl;
    let own = settings(&[("a", "1")])?;
    let (never, deleted, expired) = (users.user("-n")?, users.user("-d")?, users.user("-e")?);
    store.save(&deleted, &own, ttl).await?;
    store.save(&expired, &own, ttl).await?;
    store.delete(&deleted).await?;
    time.pass(ttl * 2).await;
    let all = [never, deleted, expired];
    store.heartbeat(&all, time.long()).await?;
    for user in &all {
        expect(store, user, None, "after a heartbeat").await?;
    }
    Ok(())
}

pub(super) async fn heartbeat_of_many(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let known = [
        users.user("-first")?,
        users.user("-middle")?,
        users.user("-last")?,
    ];
    for user in &known {
        store.save(user, &Settings::new(), time.ttl).await?;
    }
    let unknown = (0..1000).map(|i| users.user(&format!("-unknown-{i}")));
    let mut all = unknown.collect::<Result<Vec<_>, _>>()?;
    all.insert(0, known[0].clone());
    all.insert(500, known[1].clone());
    all.push(known[2].clone());
    store.heartbeat(&all, time.long()).await?;
    time.pass(time.ttl * 2).await;
    for user in &known {
        expect(
            store,
            user,
            Some(&Settings::new()),
            "after a heartbeat of 1003 users",
        )
        .await?;
    }
    expect(store, &all[1], None, "unknown, after a heartbeat").await
}
