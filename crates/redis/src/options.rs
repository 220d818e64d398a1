//! How to reach Redis, as whom, and under which name to keep what.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The options of a [`RedisStore`](crate::RedisStore).
///
/// ```
/// use tidegate_redis::RedisOptions;
///
/// let options = RedisOptions::new(["rediss://redis.example:6379/0"])
///     .user("tidegate")
///     .password_file("/run/credentials/redis-password")
///     .ca("/etc/tidegate/redis-ca.pem")
///     .prefix("shop");
/// assert!(format!("{options:?}").contains("shop"));
/// ```
#[derive(Clone)]
pub struct RedisOptions {
    pub(crate) urls: Vec<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Password>,
    pub(crate) database: Option<i64>,
    pub(crate) tls: TlsFiles,
    pub(crate) prefix: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) answer_timeout: Duration,
    pub(crate) in_flight: usize,
}

#[derive(Clone)]
pub(crate) enum Password {
    Text(String),
    /// Read at each connect.
    File(PathBuf),
}

/// PEM files, read at each connect, so that they can be replaced.
#[derive(Clone, Default)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

impl RedisOptions {
    /// A store at `redis://host:port/database`, at `rediss://…` (TLS), or at
    /// `unix:///path`. Of several, which must be one replicated Redis, the first that
    /// takes writes is used.
    pub fn new(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            user: None,
            password: None,
            database: None,
            tls: TlsFiles::default(),
            prefix: "tidegate".into(),
            connect_timeout: Duration::from_secs(2),
            answer_timeout: Duration::from_secs(3),
            in_flight: 1024,
        }
    }

    /// The user of Redis' access control lists, in place of the URL's.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The password, in place of the URL's.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Password::Text(password.into()));
        self
    }

    /// A file with the password in its first line, read at each connect.
    #[must_use]
    pub fn password_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.password = Some(Password::File(path.into()));
        self
    }

    /// The database's number, in place of the URL's.
    #[must_use]
    pub fn database(mut self, number: u32) -> Self {
        self.database = Some(number.into());
        self
    }

    /// A PEM file with the certificates to trust, in place of the public roots.
    #[must_use]
    pub fn ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(path.into());
        self
    }

    /// The client's certificate chain and key, PEM files.
    #[must_use]
    pub fn client_certificate(
        mut self,
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.tls.identity = Some((chain.into(), key.into()));
        self
    }

    /// What the keys begin with: 1 to 64 of `A-Z a-z 0-9 . _ -`. Installations that
    /// share one Redis have one each. Default `tidegate`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long one attempt to connect may take, with TLS and authentication. Default
    /// 2 s.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// A connection on which Redis has not answered for so long is given up and made
    /// anew. Default 3 s: below the gate's deadline for its store.
    #[must_use]
    pub fn answer_timeout(mut self, time: Duration) -> Self {
        self.answer_timeout = time;
        self
    }

    /// How many operations may be under way at once; more wait. Default 1024.
    #[must_use]
    pub fn in_flight(mut self, operations: usize) -> Self {
        self.in_flight = operations.max(1);
        self
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs may hold passwords.
        f.debug_struct("RedisOptions")
            .field("urls", &format_args!("{} of them", self.urls.len()))
            .field("user", &self.user)
            .field("password", &self.password)
            .field("database", &self.database)
            .field("ca", &self.tls.ca)
            .field("client_certificate", &self.tls.identity)
            .field("prefix", &self.prefix)
            .field("connect_timeout", &self.connect_timeout)
            .field("answer_timeout", &self.answer_timeout)
            .field("in_flight", &self.in_flight)
            .finish()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("[redacted]"),
            Self::File(path) => write!(f, "in {path:?}"),
        }
    }
}
