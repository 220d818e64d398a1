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

use std::time::Duration;

use thiserror::Error;
use tidegate_protocol::{Settings, UserId};

use super::{Store, StoreError};

mod content;
mod expiry;
mod together;

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
        ($($rule:path: $text:literal;)*) => {$(
            let outcome = match open().await {
                Ok(store) => $rule(&store, &Users::new(), &time).await,
                Err(error) => Err(Fault::from(error)),
            };
            outcome.map_err(|Fault(detail)| Broken { rule: $text, detail })?;
        )*};
    }
    rules! {
        content::nothing_at_first: "a user never saved is not there, and that is no error";
        content::what_was_saved: "a query gives exactly what was saved, empty settings too";
        content::save_replaces: "a save replaces all of what was there";
        content::users_are_apart: "users do not touch each other, whatever their ids look like";
        content::delete_forgets: "a delete forgets the user, and may be repeated";
        content::in_order: "operations on a user that follow each other take effect in that order";
        content::given_up: "an operation that was given up does not undo later ones";
        expiry::entries_expire: "an entry is there before its time to live has passed and gone after";
        expiry::save_renews: "a save sets the expiry anew";
        expiry::query_does_not_renew: "a query does not extend the expiry";
        expiry::heartbeat_extends: "a heartbeat extends the expiry of the users named and of no other";
        expiry::heartbeat_makes_nothing: "a heartbeat does not bring back what is not there";
        expiry::heartbeat_of_many: "a heartbeat reaches all of its users, among unknown ones too";
        together::many_at_once: "operations of many users at once all take effect";
        together::one_user_at_once: "saves of one user at once leave one of them whole";
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
        Ok(store) => content::full(&store, &Users::new(), users).await,
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
