//! The rules of [`Store`] as a suite that runs on any store.
//!
//! ```
//! # use std::time::Duration;
//! # use tidegate::store::{MemoryStore, conformance};
//! # let runtime = tokio::runtime::Builder::new_current_thread()
//! #     .enable_time().start_paused(true).build().unwrap();
//! # runtime.block_on(async {
//! conformance::run(async || Ok(MemoryStore::new()), Duration::from_secs(2))
//!     .await
//!     .unwrap();
//! # });
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use thiserror::Error;
use tidegate_protocol::session::MAX_SETTINGS;
use tidegate_protocol::{Settings, UserId};
use tokio::time::sleep;

use super::{Store, StoreError};

/// The first rule that a store broke.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("rule broken: {rule}: {detail}")]
pub struct Broken {
    /// The rule.
    pub rule: &'static str,
    /// What was seen.
    pub detail: String,
}

/// Runs every rule on a store from `open`, which is called once per rule and may
/// open the same database each time: users are random.
///
/// `ttl` is the unit of expiry: entries must still be there after half of it and gone
/// after twice as much. One to two seconds suit most servers; the suite waits about
/// ten times as long in all. Needs a tokio runtime with time.
///
/// # Errors
/// The first rule broken. A [`StoreError`] where none is due breaks the rule at hand.
pub async fn run<S: Store>(
    open: impl AsyncFn() -> Result<S, StoreError>,
    ttl: Duration,
) -> Result<(), Broken> {
    macro_rules! rules {
        ($($rule:ident: $text:literal;)*) => {$(
            let outcome = match open().await {
                Ok(store) => $rule(&store, &Users::new(), ttl).await,
                Err(error) => Err(Fault::from(error)),
            };
            outcome.map_err(|Fault(detail)| Broken { rule: $text, detail })?;
        )*};
    }
    rules! {
        nothing_at_first: "a user never saved is not there, and that is no error";
        what_was_saved: "a query gives exactly what was saved, empty settings too";
        save_replaces: "a save replaces all of what was there";
        users_are_apart: "users do not touch each other, whatever their ids look like";
        delete_forgets: "a delete forgets the user, and may be repeated";
        entries_expire: "an entry is there before its time to live has passed and gone after";
        save_renews: "a save sets the expiry anew";
        query_does_not_renew: "a query does not extend the expiry";
        heartbeat_extends: "a heartbeat extends the expiry of the users named and of no other";
        heartbeat_makes_nothing: "a heartbeat does not bring back what is not there";
        many_at_once: "operations of many users at once all take effect";
    }
    Ok(())
}

/// What went wrong within a rule.
struct Fault(String);

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self(format!("unexpected error: {error}"))
    }
}

type Outcome = Result<(), Fault>;

/// User ids that no other run has used.
struct Users(String);

impl Users {
    fn new() -> Self {
        Self(format!("conformance-{:016x}", rand::random::<u64>()))
    }

    fn user(&self, suffix: &str) -> Result<UserId, Fault> {
        let text = format!("{}{suffix}", self.0);
        UserId::new(&text).map_err(|e| Fault(e.to_string()))
    }
}

fn settings(pairs: &[(&str, &str)]) -> Result<Settings, Fault> {
    let mut settings = Settings::new();
    settings
        .merge(pairs.iter().copied())
        .map_err(|e| Fault(e.to_string()))?;
    Ok(settings)
}

async fn expect(
    store: &impl Store,
    user: &UserId,
    wanted: Option<&Settings>,
    when: &str,
) -> Outcome {
    let got = store.query(user).await?;
    if got.as_ref() == wanted {
        return Ok(());
    }
    let show = |settings: Option<&Settings>| match settings {
        None => "nothing".to_owned(),
        Some(s) if s.size() > 200 => format!("{} bytes of settings", s.size()),
        Some(s) => format!("{s:?}"),
    };
    Err(Fault(format!(
        "{when}, {user:?} has {} and should have {}",
        show(got.as_ref()),
        show(wanted),
    )))
}

async fn nothing_at_first(store: &impl Store, users: &Users, _: Duration) -> Outcome {
    expect(store, &users.user("")?, None, "at first").await
}

async fn what_was_saved(store: &impl Store, users: &Users, ttl: Duration) -> Outcome {
    let big = "x".repeat(MAX_SETTINGS - 3);
    let many: BTreeMap<String, String> = (0..500)
        .map(|i| (format!("key {i}"), i.to_string()))
        .collect();
    let many = Settings::try_from(many).map_err(|e| Fault(e.to_string()))?;
    let cases = [
        settings(&[("name", "ada")])?,
        Settings::new(),
        settings(&[("", "empty key"), ("empty value", "")])?,
        settings(&[("喵", "\u{1f431}"), ("quote\"\\", "\r\n\0\u{1b}[31m\u{7f}")])?,
        settings(&[("big", &big)])?,
        many,
    ];
    // Long enough that no case expires while the others are tried.
    let ttl = ttl * 100;
    for (i, case) in cases.iter().enumerate() {
        let user = users.user(&format!("-{i}"))?;
        store.save(&user, case, ttl).await?;
        expect(store, &user, Some(case), "after a save").await?;
    }
    Ok(())
}

async fn save_replaces(store: &impl Store, users: &Users, ttl: Duration) -> Outcome {
    let user = users.user("")?;
    let ttl = ttl * 100;
    store
        .save(&user, &settings(&[("a", "1"), ("b", "2")])?, ttl)
        .await?;
    let second = settings(&[("b", "3"), ("c", "4")])?;
    store.save(&user, &second, ttl).await?;
    expect(store, &user, Some(&second), "after a second save").await?;
    store.save(&user, &Settings::new(), ttl).await?;
    expect(
        store,
        &user,
        Some(&Settings::new()),
        "after a save of no settings",
    )
    .await
}

async fn users_are_apart(store: &impl Store, users: &Users, ttl: Duration) -> Outcome {
    let suffixes = [
        "", "a", "A", "a ", " a", "a/b", "a.b", "a:b", "a*", "a>", "a%20", "a=", "a\\", "a'\"",
        "a$", "../a", "ä", "a\u{308}", "喵", "a?", "a#", "{a}", "[a]",
    ];
    let mut all = Vec::new();
    for suffix in suffixes {
        let user = users.user(suffix)?;
        let own = settings(&[("i am", suffix)])?;
        store.save(&user, &own, ttl * 100).await?;
        all.push((user, own));
    }
    // As long as an id may be.
    let base = users.0.len();
    for last in ["x", "y"] {
        let user = users.user(&format!("{}{last}", "z".repeat(255 - base)))?;
        let own = settings(&[("i am", last)])?;
        store.save(&user, &own, ttl * 100).await?;
        all.push((user, own));
    }
    for (user, own) in &all {
        expect(store, user, Some(own), "beside other users").await?;
    }
    for i in 0..all.len() {
        store.delete(&all[i].0).await?;
        expect(store, &all[i].0, None, "after its delete").await?;
        if let Some((user, own)) = all.get(i + 1) {
            expect(store, user, Some(own), "after another user's delete").await?;
        }
    }
    Ok(())
}

async fn delete_forgets(store: &impl Store, users: &Users, ttl: Duration) -> Outcome {
    let user = users.user("")?;
    store.delete(&user).await?;
    let own = settings(&[("a", "1")])?;
    store.save(&user, &own, ttl * 100).await?;
    store.delete(&user).await?;
    expect(store, &user, None, "after a delete").await?;
    store.delete(&user).await?;
    store.save(&user, &own, ttl * 100).await?;
    expect(store, &user, Some(&own), "saved again after a delete").await
}

async fn entries_expire(store: &impl Store, users: &Users, ttl: Duration) -> Outcome {
    let (user, other) = (users.user("-short")?, users.user("-long")?);
    let own = settings(&[("a", "1")])?;
    store.save(&user, &own, ttl).await?;
    store.save(&other, &own, ttl * 100).await?;
    sleep(ttl / 2).await;
    expect(store, &user, Some(&own), "after half its time").await?;
    sleep(ttl * 3 / 2).await;
    expect(store, &user, None, "after twice its time").await?;
    expect(store, &other, Some(&own), "long before its time").await?;
    store.save(&user, &own, ttl * 100).await?;
    expect(store, &user, Some(&own), "saved again after its expiry").await
}

async fn save_renews(store: &impl Store, users: &Users, ttl: Duration) -> Outcome {
    let (longer, shorter) = (users.user("-longer")?, users.user("-shorter")?);
    let own = settings(&[("a", "1")])?;
    store.save(&longer, &own, ttl).await?;
    store.save(&shorter, &own, ttl * 100).await?;
    store.save(&longer, &own, ttl * 100).await?;
    store.save(&shorter, &own, ttl).await?;
    sleep(ttl * 2).await;
    expect(store, &longer, Some(&own), "saved again with a longer time").await?;
    expect(store, &shorter, None, "saved again with a shorter time").await
}

async fn query_does_not_renew(store: &impl Store, users: &Users, ttl: Duration) -> Outcome {
    let user = users.user("")?;
    let own = settings(&[("a", "1")])?;
    store.save(&user, &own, ttl).await?;
    for _ in 0..3 {
        sleep(ttl / 2).await;
        // What it gives at its very time is the store's affair.
        store.query(&user).await?;
    }
    sleep(ttl / 2).await;
    expect(store, &user, None, "queried, but past its time").await
}

async fn heartbeat_extends(store: &impl Store, users: &Users, ttl: Duration) -> Outcome {
    let own = settings(&[("a", "1")])?;
    let (a, b, left_out) = (users.user("-a")?, users.user("-b")?, users.user("-c")?);
    for user in [&a, &b, &left_out] {
        store.save(user, &own, ttl).await?;
    }
    sleep(ttl / 2).await;
    store
        .heartbeat(&[a.clone(), b.clone(), a.clone()], ttl * 2)
        .await?;
    store.heartbeat(&[], ttl).await?;
    sleep(ttl).await;
    expect(store, &a, Some(&own), "after a heartbeat").await?;
    expect(store, &b, Some(&own), "after a heartbeat").await?;
    expect(
        store,
        &left_out,
        None,
        "left out of a heartbeat and past its time",
    )
    .await?;
    sleep(ttl * 2).await;
    expect(store, &a, None, "past the heartbeat's time").await
}

async fn heartbeat_makes_nothing(store: &impl Store, users: &Users, ttl: Duration) -> Outcome {
    let own = settings(&[("a", "1")])?;
    let (never, deleted, expired) = (users.user("-n")?, users.user("-d")?, users.user("-e")?);
    store.save(&deleted, &own, ttl).await?;
    store.save(&expired, &own, ttl).await?;
    store.delete(&deleted).await?;
    sleep(ttl * 2).await;
    let all = [never, deleted, expired];
    store.heartbeat(&all, ttl * 100).await?;
    for user in &all {
        expect(store, user, None, "after a heartbeat").await?;
    }
    Ok(())
}

async fn many_at_once(store: &impl Store, users: &Users, ttl: Duration) -> Outcome {
    let rounds = (0..50).map(async |i: u32| -> Outcome {
        let user = users.user(&format!("-{i}"))?;
        for round in 0..3 {
            let own = settings(&[("round", &format!("{i} {round}"))])?;
            store.save(&user, &own, ttl * 100).await?;
            store
                .heartbeat(std::slice::from_ref(&user), ttl * 100)
                .await?;
            expect(store, &user, Some(&own), "beside many others").await?;
        }
        store.delete(&user).await?;
        expect(store, &user, None, "deleted beside many others").await
    });
    join_all(rounds).await.into_iter().collect()
}
