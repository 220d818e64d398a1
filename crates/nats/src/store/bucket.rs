//! The bucket: a stream that keeps one message for each user, as NATS' key-value buckets
//! are. Reads go to the stream's leader, which others than `nats kv` need not: a query
//! sees what was saved before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_TTL};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use async_nats::{HeaderMap, Subject};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidegate::store::StoreError;
use tokio::time::Instant;

use super::entry::{Key, MAX_MESSAGE};
use super::options::{KvStoreError, KvStoreOptions};
use crate::bucket::PREFIX;
use crate::counters::Counters;
use crate::link::Link;
use crate::mux::{AskError, Lane};
use crate::options::NatsOptions;

/// Longest life of a message: NATS counts nanoseconds in an `i64`.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
pub(super) struct Bucket {
    lane: Arc<Lane>,
    prefix: String,
    name: String,
    /// What keys' subjects begin with.
    subjects: String,
    options: KvStoreOptions,
}

/// A message of the bucket.
pub(super) struct Found {
    pub(super) revision: u64,
    /// Empty: the mark of a delete, or of an expiry.
    pub(super) body: Bytes,
    /// When it was written, by NATS' clock, since 1970.
    pub(super) at: Option<Duration>,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another revision is there.
    Conflict,
    /// There is no bucket any more.
    Gone,
    /// It may work later, or have worked.
    Passes(String),
    Stays(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Stays(error)
    }
}

/// What JetStream answers where it refuses.
#[derive(Debug, Deserialize)]
struct Refusal {
    code: u16,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Refused { error: Refusal },
    Given(T),
}

#[derive(Deserialize)]
struct Written {
    seq: u64,
}

#[derive(Deserialize)]
struct Stored {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    seq: u64,
    #[serde(default)]
    data: String,
    #[serde(default)]
    time: String,
}

#[derive(Deserialize)]
struct Info {
    config: Config,
    state: State,
    #[serde(default)]
    ts: String,
}

#[derive(Deserialize)]
struct State {
    bytes: u64,
}

impl Bucket {
    pub(super) async fn open(
        nats: &NatsOptions,
        options: KvStoreOptions,
    ) -> Result<Self, KvStoreError> {
        let counters = Arc::new(Counters::default());
        let link = Link::connect(nats, counters.clone()).await?;
        let lane = Lane::new(link, nats, counters).await;
        let lane = lane.map_err(|error| KvStoreError::Connect(error.into()))?;
        let prefix = nats.prefix.to_string();
        let name = format!("{}-settings", prefix.replace('.', "-"));
        let bucket = Self {
            lane,
            prefix,
            subjects: format!("$KV.{name}."),
            name,
            options,
        };
        bucket.ready().await?;
        Ok(bucket)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until NATS can be reached.
    pub(super) async fn up(&self) {
        let mut changes = self.lane.link.changes();
        // It does not end before the link does.
        let _ = changes.wait_for(|state| state.up).await;
    }

    /// The last message of `key`.
    pub(super) async fn read(&self, key: &Key, until: Instant) -> Result<Option<Found>, Fault> {
        let subject = format!("$JS.API.STREAM.MSG.GET.KV_{}", self.name);
        let body = serde_json::json!({ "last_by_subj": self.subject(key) });
        let asked = self.ask(subject.into(), None, body.to_string().into(), until);
        let message = match asked.await? {
            Answer::Given(Stored { message }) => message,
            Answer::Refused { error } if error.is(ErrorCode::NO_MESSAGE_FOUND) => return Ok(None),
            Answer::Refused { error } => return Err(error.fault()),
        };
        let body = BASE64_STANDARD.decode(message.data);
        let body = body.map_err(|_| StoreError::Corrupt("NATS' answer is not base64".into()))?;
        Ok(Some(Found {
            revision: message.seq,
            body: body.into(),
            at: since_1970(&message.time),
        }))
    }

    /// Writes in place of `revision`, 0 for none; no body marks a delete. The new
    /// revision.
    pub(super) async fn write(
        &self,
        key: &Key,
        revision: u64,
        body: Bytes,
        ttl: Duration,
        until: Instant,
    ) -> Result<u64, Fault> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
        headers.insert(NATS_MESSAGE_TTL, format!("{}s", seconds(ttl)));
        if body.is_empty() {
            headers.insert("KV-Operation", "DEL");
        }
        let length = body.len();
        let asked = self.ask(self.subject(key).into(), Some(headers), body, until);
        match asked.await? {
            Answer::Given(Written { seq }) => Ok(seq),
            Answer::Refused { error } if error.is(ErrorCode::STREAM_STORE_FAILED) => {
                // What it says of it is text only.
                let info = self.info(until).await?;
                let most = u64::try_from(info.config.max_bytes).ok().filter(|&m| m > 0);
                let most = most.unwrap_or(u64::MAX);
                // A message takes more than its body.
                if info.state.bytes.saturating_add(length as u64 + 1024) >= most {
                    return Err(StoreError::Full.into());
                }
                Err(error.fault())
            }
            Answer::Refused { error } => Err(error.fault()),
        }
    }

    /// NATS' clock, since 1970.
    pub(super) async fn time(&self, until: Instant) -> Result<Option<Duration>, Fault> {
        Ok(since_1970(&self.info(until).await?.ts))
    }

    /// Makes the bucket that was there before.
    pub(super) async fn make_again(&self) -> Result<(), StoreError> {
        tracing::warn!(bucket = self.name, "the bucket of settings is gone");
        let made = self.ready().await;
        made.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Checks the bucket; makes it where there is none.
    async fn ready(&self) -> Result<(), KvStoreError> {
        let bucket = || self.name.clone();
        let until = Instant::now() + self.options.timeout;
        let info = match self.info(until).await {
            Err(Fault::Gone) if self.options.create => self.create(until).await,
            info => info,
        };
        match info {
            Ok(info) => match self.unfit(&info.config) {
                None => Ok(()),
                Some(why) => Err(KvStoreError::Unfit {
                    bucket: bucket(),
                    why,
                }),
            },
            Err(Fault::Gone) => Err(KvStoreError::NoBucket { bucket: bucket() }),
            Err(Fault::Passes(why)) => Err(KvStoreError::NoAnswer {
                bucket: bucket(),
                why,
            }),
            Err(Fault::Stays(error)) => Err(KvStoreError::Refused {
                bucket: bucket(),
                why: error.to_string(),
            }),
            Err(Fault::Conflict) => Err(KvStoreError::Refused {
                bucket: bucket(),
                why: "it changes".into(),
            }),
        }
    }

    /// What is amiss with a bucket that somebody made.
    fn unfit(&self, config: &Config) -> Option<&'static str> {
        let prefix = config.metadata.get(PREFIX);
        if prefix.is_some_and(|prefix| *prefix != self.prefix) {
            Some("it belongs to another prefix")
        } else if config.subjects != [self.all()] {
            Some("it has other subjects")
        } else if !config.allow_message_ttl {
            Some("its messages have no times to live (allow_msg_ttl, from NATS server 2.11)")
        } else if config.max_messages_per_subject != 1 {
            Some("it keeps more than one message for each user (max_msgs_per_subject)")
        } else if config.discard != DiscardPolicy::New {
            Some("it throws settings away when it is full (discard must be new)")
        } else if !config.max_age.is_zero() {
            Some("everything in it expires (max_age)")
        } else if config.max_message_size > 0 && config.max_message_size < MAX_MESSAGE {
            Some("its messages are too small for settings (max_msg_size)")
        } else {
            None
        }
    }

    async fn create(&self, until: Instant) -> Result<Info, Fault> {
        let config = Config {
            name: format!("KV_{}", self.name),
            description: Some("Settings of users of Tidegate".into()),
            metadata: HashMap::from([(PREFIX.to_owned(), self.prefix.clone())]),
            subjects: vec![self.all()],
            max_messages_per_subject: 1,
            max_messages: -1,
            max_consumers: -1,
            max_bytes: self
                .options
                .max_bytes
                .map_or(-1, |most| i64::try_from(most).unwrap_or(i64::MAX)),
            max_message_size: MAX_MESSAGE,
            discard: DiscardPolicy::New,
            storage: self.options.storage(),
            num_replicas: self.options.replicas,
            allow_rollup: true,
            deny_delete: true,
            allow_message_ttl: true,
            ..Config::default()
        };
        let subject = format!("$JS.API.STREAM.CREATE.KV_{}", self.name);
        let body = serde_json::to_vec(&config).map_err(StoreError::other)?;
        match self.ask(subject.into(), None, body.into(), until).await? {
            Answer::Given(info) => Ok(info),
            // Another gate was quicker, and has other options.
            Answer::Refused { error } if error.is(ErrorCode::STREAM_NAME_EXIST) => {
                self.info(until).await
            }
            Answer::Refused { error } => Err(error.fault()),
        }
    }

    async fn info(&self, until: Instant) -> Result<Info, Fault> {
        let subject = format!("$JS.API.STREAM.INFO.KV_{}", self.name);
        match self.ask(subject.into(), None, Bytes::new(), until).await? {
            Answer::Given(info) => Ok(info),
            Answer::Refused { error } => Err(error.fault()),
        }
    }

    fn all(&self) -> String {
        format!("{}>", self.subjects)
    }

    fn subject(&self, key: &Key) -> String {
        format!("{}{}", self.subjects, key.token())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        body: Bytes,
        until: Instant,
    ) -> Result<Answer<T>, Fault> {
        let left = until.saturating_duration_since(Instant::now());
        let answer = self.lane.ask(subject, headers, body, left).await;
        let answer = answer.map_err(|error| match error {
            AskError::TooLarge => Fault::Stays(StoreError::other(
                "NATS' max_payload is too small for the settings",
            )),
            AskError::NoResponders => {
                Fault::Passes("JetStream is not there, or has no leader".into())
            }
            AskError::OutcomeUnknown => Fault::Passes("no answer".into()),
            AskError::Unavailable | AskError::Overloaded => Fault::Passes(error.to_string()),
        })?;
        serde_json::from_slice(&answer.payload)
            .map_err(|_| StoreError::other("JetStream's answer cannot be read").into())
    }
}

impl Refusal {
    fn is(&self, code: ErrorCode) -> bool {
        self.err_code == code.0
    }

    fn fault(self) -> Fault {
        const CONFLICTS: [ErrorCode; 3] = [
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE,
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT,
            ErrorCode::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_NOT_READY,
        ];
        const FULL: [ErrorCode; 5] = [
            ErrorCode::INSUFFICIENT_RESOURCES,
            ErrorCode::STORAGE_RESOURCES_EXCEEDED,
            ErrorCode::MEMORY_RESOURCES_EXCEEDED,
            ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
            ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED,
        ];
        if CONFLICTS.iter().any(|&code| self.is(code)) {
            return Fault::Conflict;
        }
        if FULL.iter().any(|&code| self.is(code)) {
            return Fault::Stays(StoreError::Full);
        }
        if self.is(ErrorCode::STREAM_NOT_FOUND) {
            return Fault::Gone;
        }
        let what = format!("{} ({})", self.description.escape_debug(), self.err_code);
        match self.code {
            503 => Fault::Passes(what),
            _ => Fault::Stays(StoreError::Other(what)),
        }
    }
}

/// NATS takes whole seconds, one at least.
fn seconds(ttl: Duration) -> u64 {
    let ttl = ttl.min(LONGEST);
    (ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)).max(1)
}

/// This machine's clock, since 1970.
pub(super) fn clock_here() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// NATS' times, `2026-01-02T03:04:05.678Z`, since 1970. `None` is something else.
fn since_1970(time: &str) -> Option<Duration> {
    let (date, time) = time.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.splitn(3, ':').map(str::parse::<u64>);
    let (hour, minute, second) = (
        clock.next()?.ok()?,
        clock.next()?.ok()?,
        clock.next()?.ok()?,
    );
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // A year that begins in March has its leap day at its end.
    let (year, month) = match month {
        ..=2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // Days until 1 January 1970, counted like that.
    let days = days.checked_sub(719_468)?;
    let nanos: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Duration::new(seconds, nanos.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_nats_are_read() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some((0, 0))),
            ("2000-02-29T12:00:00.5Z", Some((951_825_600, 500_000_000))),
            ("2000-03-01T00:00:00Z", Some((951_868_800, 0))),
            (
                "2026-11-23T02:19:00.123456789Z",
                Some((1_795_400_340, 123_456_789)),
            ),
            ("2100-02-28T23:59:59Z", Some((4_107_542_399, 0))),
            ("2026-11-23T02:19:00+01:00", None),
            ("0001-01-01T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("", None),
            ("x", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(seconds, nanos)| Duration::new(seconds, nanos));
            assert_eq!(since_1970(text), expected, "{text}");
        }
    }

    #[test]
    fn times_to_live_are_whole_seconds_and_never_shorter() {
        assert_eq!(seconds(Duration::ZERO), 1);
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_millis(1001)), 2);
        assert_eq!(seconds(Duration::from_secs(7)), 7);
        assert_eq!(seconds(Duration::MAX), LONGEST.as_secs());
    }
}
