//! What became of every request.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate::ErrorCode;
use tidegate::bus::GateError;
use tidegate_client::{Client, Error};
use tokio::task::JoinSet;

/// What its caller was told of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// It was served, and this is the answer.
    Answered,
    /// It was not served.
    NotServed,
    /// Nobody knows.
    Unknown,
}

pub(crate) fn outcome_of(result: &Result<bytes::Bytes, Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Answered,
        Err(Error::NotSent(_) | Error::QueueFull(_)) => Outcome::NotServed,
        Err(Error::NotServed(error)) if error.code != ErrorCode::OUTCOME_UNKNOWN => {
            let not_served = [ErrorCode::UNAVAILABLE, ErrorCode::OVERLOADED];
            assert!(not_served.contains(&error.code), "{error:?}");
            Outcome::NotServed
        }
        Err(
            Error::NotServed(_)
            | Error::OutcomeUnknown
            | Error::RequestTimeout(_)
            | Error::Closed(_),
        ) => Outcome::Unknown,
        Err(other) => panic!("not an outcome: {other:?}"),
    }
}

pub(crate) fn outcome_of_send(result: &Result<(), GateError>) -> &'static str {
    match result {
        Ok(()) => "queued",
        Err(GateError::OutcomeUnknown) => "unknown",
        Err(GateError::SessionGone | GateError::Unavailable) => "refused",
        Err(other) => panic!("not an outcome: {other:?}"),
    }
}

/// A request that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) number: u64,
    /// Whose it was: its place among the clients of the load.
    pub(crate) client: usize,
    pub(crate) asked: Instant,
    pub(crate) took: Duration,
    pub(crate) outcome: Outcome,
}

/// Requests that follow one another, until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    tasks: JoinSet<Vec<Ended>>,
}

/// No two requests have the same number.
static NUMBER: AtomicU64 = AtomicU64::new(1);

impl Load {
    /// Each client asks `method` with a number in the body, and again when it has the answer,
    /// after a pause.
    pub(crate) fn start(clients: &[Client], method: &'static str, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for (i, client) in clients.iter().enumerate() {
            let (client, stop, asked) = (client.clone(), stop.clone(), asked.clone());
            tasks.spawn(async move {
                let mut ended = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    ended.push(ask(i, &client, method).await);
                    tokio::time::sleep(pause).await;
                }
                ended
            });
        }
        Self { stop, asked, tasks }
    }

    pub(crate) async fn stop(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.tasks.join_all().await.concat();
        let unaccounted = self.asked.load(Ordering::Relaxed) - ended.len() as u64;
        println!(
            "{} requests have ended, {unaccounted} are unaccounted for",
            ended.len()
        );
        assert_eq!(unaccounted, 0);
        Account(ended)
    }
}

/// One request.
pub(crate) async fn ask(i: usize, client: &Client, method: &str) -> Ended {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let asked = Instant::now();
    let result = client.request(method, number.to_string()).await;
    if let Ok(answer) = &result {
        assert_eq!(*answer, number.to_string(), "the answer is another's");
    }
    Ended {
        number,
        client: i,
        asked,
        took: asked.elapsed(),
        outcome: outcome_of(&result),
    }
}

/// All requests, and what became of each.
#[derive(Clone)]
pub(crate) struct Account(pub(crate) Vec<Ended>);

impl Account {
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Self {
        let asked = |e: &&Ended| e.asked >= from && e.asked < to;
        Self(self.0.iter().filter(asked).copied().collect())
    }

    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.0.iter().filter(|e| e.outcome == outcome).count()
    }

    /// The longest that a caller waited for this outcome.
    pub(crate) fn longest(&self, outcome: Outcome) -> Duration {
        let these = self.0.iter().filter(|e| e.outcome == outcome);
        these.map(|e| e.took).max().unwrap_or_default()
    }

    /// What callers were told, beside what services did: an answer for what was done once, "not
    /// served" for what was not done; for what nobody knows either, but never twice.
    pub(crate) fn check(&self, done: &HashMap<u64, usize>) {
        for ended in &self.0 {
            let times = done.get(&ended.number).copied().unwrap_or_default();
            let true_to_it = match ended.outcome {
                Outcome::Answered => times == 1,
                Outcome::NotServed => times == 0,
                Outcome::Unknown => times <= 1,
            };
            assert!(true_to_it, "{ended:?} was done {times} times");
        }
    }

    /// For the test's output.
    pub(crate) fn print(&self, what: &str, done: &HashMap<u64, usize>) {
        println!("{what}: {} requests", self.0.len());
        let mut rows: BTreeMap<Outcome, (usize, usize)> = BTreeMap::new();
        for ended in &self.0 {
            let row = rows.entry(ended.outcome).or_default();
            row.0 += 1;
            row.1 += usize::from(done.contains_key(&ended.number));
        }
        for (outcome, (count, served)) in &rows {
            let longest = self.longest(*outcome);
            println!(
                "  {outcome:<12} {count:>7}, of them done by a service {served:>7}, longest wait {longest:?}"
            );
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Answered => "answered",
            Self::NotServed => "not served",
            Self::Unknown => "unknown",
        })
    }
}

/// How often each number stands behind `word` in what services printed.
pub(crate) fn numbers<'a>(
    outputs: impl IntoIterator<Item = &'a str>,
    word: &str,
) -> HashMap<u64, usize> {
    let mut numbers = HashMap::new();
    for line in outputs.into_iter().flat_map(str::lines) {
        // The first line of all stands behind the test's own name.
        let mut words = line.split(' ').skip_while(|w| *w != word).skip(1);
        if let Some(number) = words.next().and_then(|n| n.parse().ok()) {
            *numbers.entry(number).or_default() += 1;
        }
    }
    numbers
}
