//! A key-value bucket of JetStream, as far as leases and users need one: read where it is
//! written, changed by compare-and-set only.
//!
//! The client's own key-value store reads from whichever replica is near and may answer what
//! has been; here every read is the leader's.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_TTL};
use async_nats::jetstream::Error as JetStreamError;
use async_nats::jetstream::context::{
    ContextBuilder, GetStreamErrorKind, PublishError, PublishErrorKind,
};
use async_nats::jetstream::kv;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, LastRawMessageErrorKind, StorageType, Stream,
};
use async_nats::jetstream::{Context, ErrorCode};
use bytes::Bytes;
use parking_lot::Mutex;
use thiserror::Error;
use tidegate::bus::BusError;

use crate::subject::Prefix;

/// For one answer of JetStream. It answers at once where it has no leader.
const ANSWER: Duration = Duration::from_secs(3);
/// Most changes that wait for their answers.
const IN_FLIGHT: usize = 4096;
/// How long the mark of a key that was taken out stays. Longer than any change waits.
const MARK: Duration = Duration::from_secs(60);
/// Whose bucket it is, in its stream's metadata: two prefixes can make one name.
pub(crate) const PREFIX: &str = "tidegate-prefix";
const OPERATION: &str = "KV-Operation";
const ROLLUP: &str = "Nats-Rollup";

/// What a bucket is to be like.
#[derive(Debug, Clone)]
pub(crate) struct BucketOptions<'a> {
    pub(crate) prefix: &'a Prefix,
    /// Behind the prefix in its name.
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// After which a value is no more, unless it was written again.
    pub(crate) max_age: Option<Duration>,
    pub(crate) max_value: i32,
    pub(crate) replicas: usize,
}

/// The client, and which one it is: one that died is replaced.
pub(crate) type CurrentClient = Arc<dyn Fn() -> (u64, Client) + Send + Sync>;

/// See the module.
pub(crate) struct Bucket {
    client: CurrentClient,
    now: Mutex<Option<(u64, Context, Stream<()>)>>,
    name: String,
    config: Config,
}

/// What is there under a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// What the next change has to expect.
    pub(crate) revision: u64,
    /// `None`: nothing, or nothing any more.
    pub(crate) value: Option<Bytes>,
}

/// A read that failed.
#[derive(Debug, Clone, Error)]
#[error("the bucket {bucket} cannot be read: {why}")]
pub(crate) struct NotRead {
    bucket: String,
    why: String,
}

/// A change that was not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum NotWritten {
    /// Somebody else changed the key meanwhile. It was not made.
    #[error("the key was changed meanwhile")]
    Changed,
    /// It was not made.
    #[error("{0}")]
    Refused(String),
    /// It may have been made, or may yet be.
    #[error("it is not known whether it was written: {0}")]
    Unknown(String),
}

impl Bucket {
    /// Opens the bucket; makes it if it is not there and that is permitted.
    pub(crate) async fn open(
        client: CurrentClient,
        options: BucketOptions<'_>,
    ) -> Result<Self, BusError> {
        let name = format!(
            "{}-{}",
            options.prefix.as_str().replace('.', "-"),
            options.name
        );
        let config = options.config(&name);
        let bucket = Self {
            client,
            now: Mutex::default(),
            name,
            config,
        };
        bucket.make_sure().await?;
        Ok(bucket)
    }

    /// JetStream, by the client that there is now.
    async fn now(&self) -> Result<(Context, Stream<()>), String> {
        let (epoch, client) = (self.client)();
        if let Some((of, context, stream)) = &*self.now.lock()
            && *of == epoch
        {
            return Ok((context.clone(), stream.clone()));
        }
        let context = ContextBuilder::new()
            .timeout(ANSWER)
            .ack_timeout(ANSWER)
            .max_ack_inflight(IN_FLIGHT)
            .build(client);
        let stream = context.get_stream_no_info(&self.config.name).await;
        let stream = stream.map_err(|e| e.to_string())?;
        *self.now.lock() = Some((epoch, context.clone(), stream.clone()));
        Ok((context, stream))
    }

    /// Looks whether the bucket is there and can be used; makes it if it is not there.
    pub(crate) async fn make_sure(&self) -> Result<(), BusError> {
        let unavailable = |what: &str, why: &dyn std::fmt::Display| {
            let name = &self.name;
            BusError::Unavailable(format!(
                "the bucket {name} {what}: {why}; does the server have JetStream, and may this user reach it? (docs/nats.md, \"Permissions\")"
            ))
        };
        let (context, _) = self.now().await.map_err(BusError::Unavailable)?;
        match context.get_stream(&self.config.name).await {
            Ok(stream) => return self.fits(stream.cached_info()),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(e)
                    if e.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
                _ => return Err(unavailable("cannot be looked at", &error)),
            },
        }
        match context.create_stream(self.config.clone()).await {
            Ok(_) => Ok(()),
            // Another gate may have been faster, with options that differ in what may differ.
            Err(error) => match context.get_stream(&self.config.name).await {
                Ok(stream) => self.fits(stream.cached_info()),
                Err(_) => Err(unavailable("is not there and cannot be made", &error)),
            },
        }
    }

    /// Whether a bucket that somebody made can be used.
    fn fits(&self, info: &Info) -> Result<(), BusError> {
        let (config, wished) = (&info.config, &self.config);
        let prefix = |config: &Config| config.metadata.get(PREFIX).cloned();
        let wrong = if prefix(config).is_some() && prefix(config) != prefix(wished) {
            "belongs to another prefix"
        } else if config.subjects != wished.subjects {
            "has other subjects"
        } else if config.max_messages_per_subject != 1 {
            "keeps a history: it must keep one value of each key"
        } else if config.max_age != wished.max_age {
            "keeps its values for another time: the lease of all gates must be the same"
        } else if !config.allow_rollup || !config.allow_message_ttl {
            "does not allow rollup, or a message's own TTL"
        } else {
            return Ok(());
        };
        let name = &self.name;
        Err(BusError::Unavailable(format!(
            "the bucket {name} cannot be used, it {wrong}; correct it or remove it (docs/nats.md, \"Buckets\")"
        )))
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    /// What is there now.
    pub(crate) async fn get(&self, key: &str) -> Result<Found, NotRead> {
        let subject = self.subject(key);
        let not_read = |why: String| NotRead {
            bucket: self.name.clone(),
            why,
        };
        let (_, stream) = self.now().await.map_err(not_read)?;
        let found = stream.get_last_raw_message_by_subject(&subject);
        // The client waits for ever for room to send while there is no connection.
        let found = tokio::time::timeout(2 * ANSWER, found).await;
        match found.map_err(|_| not_read("no answer".into()))? {
            Ok(message) => Ok(Found {
                revision: message.sequence,
                value: match message.headers.get(OPERATION) {
                    None => Some(message.payload),
                    Some(_) => None,
                },
            }),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(Found::default()),
                LastRawMessageErrorKind::JetStream(e)
                    if e.error_code() == ErrorCode::NO_MESSAGE_FOUND =>
                {
                    Ok(Found::default())
                }
                _ => Err(not_read(error.to_string())),
            },
        }
    }

    /// Writes a value if the key's last revision is still `expected`. Answers the new one.
    pub(crate) async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: u64,
        ttl: Option<Duration>,
    ) -> Result<u64, NotWritten> {
        let mut message = PublishMessage::build().payload(value);
        if let Some(ttl) = ttl {
            message = message.header(NATS_MESSAGE_TTL, ttl.as_secs().to_string().as_str());
        }
        self.send(key, message, expected).await
    }

    /// Takes a key out, if its last revision is still `expected`.
    pub(crate) async fn remove(&self, key: &str, expected: u64) -> Result<u64, NotWritten> {
        let message = PublishMessage::build()
            .header(OPERATION, "PURGE")
            .header(ROLLUP, "sub")
            .header(NATS_MESSAGE_TTL, MARK.as_secs().to_string().as_str());
        self.send(key, message, expected).await
    }

    async fn send(
        &self,
        key: &str,
        message: PublishMessage,
        expected: u64,
    ) -> Result<u64, NotWritten> {
        let (context, _) = self.now().await.map_err(NotWritten::Refused)?;
        let expected = expected.to_string();
        let message = message.header(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.as_str());
        let sent = async {
            let sent = context.send_publish(self.subject(key), message).await?;
            sent.await
        };
        let unknown = |why: String| NotWritten::Unknown(why);
        let sent = tokio::time::timeout(2 * ANSWER, sent).await;
        match sent.map_err(|_| unknown("no answer".into()))? {
            Ok(ack) => Ok(ack.sequence),
            Err(error) => Err(match error.kind() {
                PublishErrorKind::WrongLastSequence => NotWritten::Changed,
                // In a cluster, while another change is on its way.
                PublishErrorKind::Other if is_behind_another(&error) => NotWritten::Changed,
                PublishErrorKind::StreamNotFound
                | PublishErrorKind::MaxAckPending
                | PublishErrorKind::MaxPayloadExceeded => NotWritten::Refused(error.to_string()),
                // A leader that is being replaced says so too of what it has taken.
                _ => unknown(error.to_string()),
            }),
        }
    }

    /// What is there, and every change from now on.
    pub(crate) async fn watch(&self, keys: &str) -> Result<kv::Watch, NotRead> {
        let not_read = |why: String| NotRead {
            bucket: self.name.clone(),
            why,
        };
        let watch = async {
            let (context, _) = self.now().await?;
            let store = context.get_key_value(&self.name).await;
            let store = store.map_err(|e| e.to_string())?;
            let watch = store.watch_with_history(keys).await;
            watch.map_err(|e| e.to_string())
        };
        let watch = tokio::time::timeout(3 * ANSWER, watch).await;
        let watch = watch.map_err(|_| not_read("no answer".into()))?;
        watch.map_err(not_read)
    }
}

fn is_behind_another(error: &PublishError) -> bool {
    let code = error
        .source()
        .and_then(|e| e.downcast_ref::<JetStreamError>());
    code.is_some_and(|e| e.error_code() == ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT)
}

impl BucketOptions<'_> {
    fn config(&self, name: &str) -> Config {
        Config {
            name: format!("KV_{name}"),
            description: Some(self.about.to_owned()),
            subjects: vec![format!("$KV.{name}.>")],
            max_messages_per_subject: 1,
            max_age: self.max_age.unwrap_or_default(),
            max_message_size: self.max_value,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: self.replicas,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: false,
            allow_message_ttl: true,
            metadata: HashMap::from([(PREFIX.to_owned(), self.prefix.to_string())]),
            ..Config::default()
        }
    }
}
