//! The rules of [`Store`] as a suite that runs on any store.
//!
//! In a test of a store of your own, here `MyStore`:
//!
//! ```
//! use std::time::Duration;
//! use tidegate::store::conformance;
//! # use tidegate::store::MemoryStore;
//! # struct MyStore;
//! # impl MyStore {
//! #     async fn connect(_: &str) -> Result<MemoryStore, tidegate::store::StoreError> {
//! #         Ok(MemoryStore::new())
//! #     }
//! # }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread()
//! #     .enable_time().start_paused(true).build().unwrap();
//! # runtime.block_on(async {
//! conformance::run(
//!     async || MyStore::connect("127.0.0.1:6379").await,
//!     Duration::from_secs(2),
//! )
//! .await
//! .unwrap(); // or it names the rule that was broken, and what was seen
//! # });
//! ```
//!
//! A store with a clock that tests can set is quicker with [`run_timed`], and one that
//! can be full has [`run_full`].

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use thiserror::Error;
use tidegate_protocol::name::MAX_USER_ID;
use tidegate_protocol::session::MAX_SETTINGS;
use tidegate_protocol::{Settings, UserId};

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
/// fifteen times as long in all. Needs a tokio runtime with time.
///
/// # Errors
/// The first rule broken. A [`StoreError`] where none is due breaks the rule at hand.
pub async fn run<S: Store>(
    open: impl AsyncFn() -> Result<S, StoreError>,
    ttl: Duration,
) -> Result<(), Broken> {
    run_timed(open, ttl, tokio::time::sleep).await
}

/// [`run`] on a store whose time the test keeps: `pass` lets that much time go by.
///
/// # Errors
/// Those of [`run`].
pub async fn run_timed<S: Store>(
    open: impl AsyncFn() -> Result<S, StoreError>,
    ttl: Duration,
    pass: impl AsyncFn(Duration),
) -> Result<(), Broken> {
    let time = Time { ttl, pass };
    macro_rules! rules {
        ($($rule:ident: $text:literal;)*) => {$(
            let outcome = match open().await {
                Ok(store) => $rule(&store, &Users::new(), &time).await,
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
        in_order: "operations on a user that follow each other take effect in that order";
        given_up: "an operation that was given up does not undo later ones";
        entries_expire: "an entry is there before its time to live has passed and gone after";
        save_renews: "a save sets the expiry anew";
        query_does_not_renew: "a query does not extend the expiry";
        heartbeat_extends: "a heartbeat extends the expiry of the users named and of no other";
        heartbeat_makes_nothing: "a heartbeat does not bring back what is not there";
        heartbeat_of_many: "a heartbeat reaches all of its users, among unknown ones too";
        many_at_once: "operations of many users at once all take effect";
        one_user_at_once: "saves of one user at once leave one of them whole";
    }
    Ok(())
}

/// Runs the rules of a store that is full. `open` answers an empty store with room for
/// `users` users, two at least.
///
/// # Errors
/// The first rule broken.
pub async fn run_full<S: Store>(
    open: impl AsyncFn() -> Result<S, StoreError>,
    users: usize,
) -> Result<(), Broken> {
    let outcome = match open().await {
        Ok(store) => full(&store, &Users::new(), users).await,
        Err(error) => Err(Fault::from(error)),
    };
    outcome.map_err(|Fault(detail)| Broken {
        rule: "a full store refuses another user, keeps what it has, and has room after a delete",
        detail,
    })
}

/// The unit of expiry, and how time goes by.
struct Time<P> {
    ttl: Duration,
    pass: P,
}

impl<P: AsyncFn(Duration)> Time<P> {
    async fn pass(&self, time: Duration) {
        (self.pass)(time).await;
    }

    /// So long that nothing expires while a rule is tried.
    fn long(&self) -> Duration {
        self.ttl * 100
    }
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

async fn nothing_at_first(
    store: &impl Store,
    users: &Users,
    _: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    expect(store, &users.user("")?, None, "at first").await
}

async fn what_was_saved(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
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
    for (i, case) in cases.iter().enumerate() {
        let user = users.user(&format!("-{i}"))?;
        store.save(&user, case, time.long()).await?;
        expect(store, &user, Some(case), "after a save").await?;
    }
    Ok(())
}

async fn save_replaces(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let user = users.user("")?;
    store
        .save(&user, &settings(&[("a", "1"), ("b", "2")])?, time.long())
        .await?;
    let second = settings(&[("b", "3"), ("c", "4")])?;
    store.save(&user, &second, time.long()).await?;
    expect(store, &user, Some(&second), "after a second save").await?;
    store.save(&user, &Settings::new(), time.long()).await?;
    expect(
        store,
        &user,
        Some(&Settings::new()),
        "after a save of no settings",
    )
    .await
}

async fn users_are_apart(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let suffixes = [
        "",
        "a",
        "A",
        "a ",
        " a",
        "a/b",
        "a.b",
        "a:b",
        "a*",
        "a>",
        "a%20",
        "a=",
        "a\\",
        "a'\"",
        "a$",
        "../a",
        "ä",
        "a\u{308}",
        "喵",
        "a?",
        "a#",
        "{a}",
        "[a]",
        "a\u{200b}",
        "a\u{202e}b",
        "a\u{feff}",
        "\u{10ffff}",
        "a\u{e000}",
        "a,b",
        "a;b",
        "a|b",
        "a\"b",
        "a--",
        "a%",
        "a_",
        "-1",
        "a\u{a0}",
    ];
    let mut all = Vec::new();
    for suffix in suffixes {
        let user = users.user(suffix)?;
        let own = settings(&[("i am", suffix)])?;
        store.save(&user, &own, time.long()).await?;
        all.push((user, own));
    }
    // As long as an id may be, of one and of several bytes a character.
    let room = MAX_USER_ID - users.0.len();
    let long = ["z".repeat(room - 1), "\u{1f431}".repeat(room / 4 - 1)];
    let long = long
        .iter()
        .flat_map(|long| ["x", "y"].map(|last| (long, last)));
    for (long, last) in long {
        let user = users.user(&format!("{long}{last}"))?;
        let own = settings(&[("i am", last)])?;
        store.save(&user, &own, time.long()).await?;
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

async fn delete_forgets(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let user = users.user("")?;
    store.delete(&user).await?;
    let own = settings(&[("a", "1")])?;
    store.save(&user, &own, time.long()).await?;
    store.delete(&user).await?;
    expect(store, &user, None, "after a delete").await?;
    store.delete(&user).await?;
    store.save(&user, &own, time.long()).await?;
    expect(store, &user, Some(&own), "saved again after a delete").await
}

async fn entries_expire(
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

async fn save_renews(
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

async fn query_does_not_renew(
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

async fn heartbeat_extends(
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

async fn heartbeat_makes_nothing(
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

async fn many_at_once(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let rounds = (0..50).map(async |i: u32| -> Outcome {
        let user = users.user(&format!("-{i}"))?;
        for round in 0..3 {
            let own = settings(&[("round", &format!("{i} {round}"))])?;
            store.save(&user, &own, time.long()).await?;
            store
                .heartbeat(std::slice::from_ref(&user), time.long())
                .await?;
            expect(store, &user, Some(&own), "beside many others").await?;
        }
        store.delete(&user).await?;
        expect(store, &user, None, "deleted beside many others").await
    });
    join_all(rounds).await.into_iter().collect()
}

async fn in_order(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let user = users.user("")?;
    let changes = async {
        for round in 0..40 {
            let own = settings(&[("round", &round.to_string())])?;
            store.save(&user, &own, time.long()).await?;
            expect(store, &user, Some(&own), "after a save").await?;
            if round % 3 == 0 {
                store.delete(&user).await?;
                expect(store, &user, None, "after a delete").await?;
            }
            if round % 5 == 0 {
                store.delete(&user).await?;
                store.save(&user, &own, time.long()).await?;
                store.save(&user, &Settings::new(), time.long()).await?;
                expect(store, &user, Some(&Settings::new()), "after two saves").await?;
            }
        }
        Outcome::Ok(())
    };
    // The gate's heartbeats come in between.
    let heartbeats = async {
        for _ in 0..40 {
            store
                .heartbeat(std::slice::from_ref(&user), time.long())
                .await?;
        }
        Outcome::Ok(())
    };
    let (changes, heartbeats) = join(changes, heartbeats).await;
    changes.and(heartbeats)
}

async fn given_up(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let user = users.user("")?;
    for round in 0..20 {
        let first = settings(&[("first", &round.to_string())])?;
        let second = settings(&[("second", &round.to_string())])?;
        // As a deadline does it: polled, and dropped.
        let _ = store.save(&user, &first, time.long()).now_or_never();
        store.save(&user, &second, time.long()).await?;
        expect(
            store,
            &user,
            Some(&second),
            "after a save that was waited for",
        )
        .await?;
        let _ = store.delete(&user).now_or_never();
        let _ = store.query(&user).now_or_never();
        store.save(&user, &first, time.long()).await?;
        expect(
            store,
            &user,
            Some(&first),
            "after a delete that was given up",
        )
        .await?;
    }
    Ok(())
}

async fn heartbeat_of_many(
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

async fn one_user_at_once(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let user = users.user("")?;
    let big = "x".repeat(MAX_SETTINGS - 100);
    let all = (0..20).map(|i| {
        let text = i.to_string();
        settings(&[("a", &text), ("m", &big[i..]), ("z", &text)])
    });
    let all = all.collect::<Result<Vec<_>, _>>()?;
    let saves = all.iter().map(|own| store.save(&user, own, time.long()));
    for saved in join_all(saves).await {
        saved?;
    }
    match store.query(&user).await? {
        Some(found) if all.contains(&found) => Ok(()),
        Some(found) => Err(Fault(format!(
            "it has {} bytes of settings that nobody saved",
            found.size()
        ))),
        None => Err(Fault("it has nothing".into())),
    }
}

async fn full(store: &impl Store, users: &Users, room: usize) -> Outcome {
    let long = Duration::from_secs(3600);
    let own = settings(&[("a", "1")])?;
    let all = (0..room).map(|i| users.user(&format!("-{i}")));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    let [first, .., last] = all.as_slice() else {
        return Err(Fault("the rule needs room for two users".into()));
    };
    for user in &all {
        store.save(user, &own, long).await?;
    }
    let another = users.user("-another")?;
    let refused = store.save(&another, &own, long).await;
    if refused != Err(StoreError::Full) {
        return Err(Fault(format!(
            "one user more than {room} was answered {refused:?}"
        )));
    }
    expect(store, &another, None, "refused").await?;
    expect(store, first, Some(&own), "in a full store").await?;
    let second = settings(&[("b", "2")])?;
    store.save(first, &second, long).await?;
    expect(store, first, Some(&second), "saved again in a full store").await?;
    store.delete(last).await?;
    store.save(&another, &own, long).await?;
    expect(store, &another, Some(&own), "saved after another's delete").await
}
