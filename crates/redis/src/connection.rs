//! One connection to Redis: made, checked, and found to be lost.
//!
//! What was handed to a connection that was lost may still be on its way: in Redis'
//! receive buffer while Redis is stopped, or in the network. It must not take effect
//! after what is done on the next connection. So the next one is used only after Redis
//! was told on it to end the one before: from then on nothing of that is read.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisError, Value, cmd};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::address::{Address, Stream};
use crate::error::{ConnectError, is_full};

/// Between two questions whether Redis is still there.
const PING_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Connection {
    redis: MultiplexedConnection,
    driver: AbortHandle,
    pub(crate) identity: Identity,
    /// Somebody has seen that it is of no use any more.
    useless: Notify,
    /// Its driver has come to its end.
    ended: Arc<Notify>,
}

/// A connection as Redis knows it. Numbers begin anew when Redis starts, so a number
/// alone might be somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    id: String,
    address: String,
}

/// Why a connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It was closed.
    Ended,
    /// Redis does not answer.
    Silent,
    /// Redis refuses what it took before: it is a replica now, or the user is gone.
    Useless,
}

impl Lost {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Ended => "the connection to Redis ended",
            Self::Silent => "Redis does not answer",
            Self::Useless => "Redis refuses what it took before",
        }
    }
}

/// How connections are made.
pub(crate) struct Dialer {
    pub(crate) addresses: Vec<Address>,
    /// A key of the store that no user has.
    pub(crate) probe: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) answer_timeout: Duration,
    pub(crate) in_flight: usize,
}

impl Dialer {
    /// A connection to the first Redis that takes writes. `before` is the one that was
    /// used before: it has ended when this answers.
    pub(crate) async fn connect(
        &self,
        before: Option<&Identity>,
    ) -> Result<Connection, ConnectError> {
        let mut first_error = None;
        for address in &self.addresses {
            let attempt = timeout(self.connect_timeout, self.connect_to(address, before)).await;
            let error = match attempt {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                Err(_) => ConnectError::Unreachable {
                    address: address.name.clone(),
                    detail: "no answer in time".into(),
                },
            };
            first_error.get_or_insert(error);
        }
        Err(first_error.unwrap_or(ConnectError::NoUrl))
    }

    async fn connect_to(
        &self,
        address: &Address,
        before: Option<&Identity>,
    ) -> Result<Connection, ConnectError> {
        let login = address.login().await?;
        let stream: Box<dyn Stream> = address.open().await?;
        // Whoever waits has the gate's deadline, and the driver ends with the connection.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(self.in_flight)
            .set_concurrency_limit(self.in_flight);
        let of = |error: RedisError| ConnectError::of(&address.name, &error);
        let made = MultiplexedConnection::new_with_config(&login, stream, config).await;
        let (redis, driver) = made.map_err(of)?;
        let ended = Arc::new(Notify::new());
        let end = ended.clone();
        let driver = tokio::spawn(async move {
            driver.await;
            end.notify_one();
        });
        let mut connection = Connection {
            redis,
            driver: driver.abort_handle(),
            identity: Identity {
                id: String::new(),
                address: String::new(),
            },
            useless: Notify::new(),
            ended,
        };
        connection.identity = connection.who_am_i(address).await?;
        let other = before.unwrap_or(&connection.identity);
        // Oneself is spared: then this only shows that it may be done.
        let mut kill = Pipeline::new();
        kill.cmd("CLIENT").arg("KILL").arg("SKIPME").arg("yes");
        kill.arg("ID")
            .arg(&other.id)
            .arg("ADDR")
            .arg(&other.address);
        connection.ask(&kill).await.map_err(of)?;
        self.check(&connection, address).await?;
        Ok(connection)
    }

    /// Whether this Redis takes what the store does, by commands that change nothing.
    async fn check(&self, connection: &Connection, address: &Address) -> Result<(), ConnectError> {
        let mut commands = Pipeline::new();
        let key = self.probe.as_str();
        commands.cmd("GET").arg(key);
        commands
            .cmd("SET")
            .arg(key)
            .arg("")
            .arg("XX")
            .arg("PX")
            .arg(1);
        commands.cmd("PEXPIRE").arg(key).arg(1);
        commands.cmd("DEL").arg(key);
        commands.cmd("PING");
        let answers = connection.ask_each(&commands).await;
        let answers = answers.map_err(|error| ConnectError::of(&address.name, &error))?;
        for answer in answers {
            match answer.extract_error() {
                // It can still answer, delete and renew.
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(ConnectError::of(&address.name, &error)),
                Ok(_) => {}
            }
        }
        self.warn_of_eviction(connection, address).await;
        Ok(())
    }

    /// Settings that Redis throws away when its memory is full are lost unnoticed.
    async fn warn_of_eviction(&self, connection: &Connection, address: &Address) {
        let mut info = cmd("INFO");
        info.arg("memory");
        // The user need not be allowed to see it.
        let Ok(info) = connection.text(info).await else {
            return;
        };
        let policy = info
            .lines()
            .find_map(|line| line.strip_prefix("maxmemory_policy:"));
        if let Some(policy) = policy.map(str::trim)
            && policy != "noeviction"
        {
            tracing::warn!(
                redis = address.name,
                maxmemory_policy = ?policy,
                "Redis is set to throw settings away when its memory is full: set maxmemory-policy noeviction"
            );
        }
    }
}

impl Connection {
    /// The answers to `commands`, sent in one go, or the first error among them.
    pub(crate) async fn ask(&self, commands: &Pipeline) -> Result<Vec<Value>, RedisError> {
        let answers = self.ask_each(commands).await?;
        answers.into_iter().map(Value::extract_error).collect()
    }

    /// The answers to `commands`, sent in one go; an error among them is an answer.
    async fn ask_each(&self, commands: &Pipeline) -> Result<Vec<Value>, RedisError> {
        let mut redis = self.redis.clone();
        redis
            .send_packed_commands(commands, 0, commands.len())
            .await
    }

    /// The text that answers `command`.
    async fn text(&self, command: Cmd) -> Result<String, RedisError> {
        let answer = self.redis.clone().send_packed_command(&command).await?;
        Ok(redis::from_redis_value(answer.extract_error()?).unwrap_or_default())
    }

    /// Has the connection replaced.
    pub(crate) fn is_useless(&self) {
        self.useless.notify_one();
    }

    /// Waits until the connection is lost, and ends it; why it was.
    pub(crate) async fn watch(&self, answer_timeout: Duration) -> Lost {
        let why = tokio::select! {
            () = self.ping(answer_timeout) => Lost::Silent,
            () = self.ended.notified() => Lost::Ended,
            () = self.useless.notified() => Lost::Useless,
        };
        self.end();
        why
    }

    /// Asks Redis whether it is there, until it is not.
    async fn ping(&self, answer_timeout: Duration) {
        let mut ping = Pipeline::new();
        ping.cmd("PING");
        loop {
            // An error is an answer; where the connection has ended, that is told too.
            if timeout(answer_timeout, self.ask(&ping)).await.is_err() {
                return;
            }
            sleep(PING_EVERY).await;
        }
    }

    fn end(&self) {
        self.driver.abort();
    }

    async fn who_am_i(&self, address: &Address) -> Result<Identity, ConnectError> {
        let mut info = cmd("CLIENT");
        info.arg("INFO");
        let of = |error: RedisError| ConnectError::of(&address.name, &error);
        let info = self.text(info).await.map_err(of)?;
        let field = |name: &str| {
            let mut fields = info.split_ascii_whitespace();
            fields.find_map(|field| field.strip_prefix(name).map(str::to_owned))
        };
        match (field("id="), field("addr=")) {
            (Some(id), Some(address)) => Ok(Identity { id, address }),
            _ => Err(ConnectError::Unusable {
                address: address.name.clone(),
                detail: "CLIENT INFO has no id and addr".into(),
            }),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end();
    }
}
