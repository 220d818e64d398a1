//! Where the settings of bound users are kept.

use clap::ValueEnum;

use super::limits::{LONGEST, SHORTEST};
use crate::config::key::section;
use crate::config::value::OneOrMore;
use crate::config::value::choice::choices;
use crate::config::value::file::FilePath;
use crate::config::value::server::RedisServer;
use crate::config::value::text::{KeyPrefix, Text};
use crate::config::value::time::Time;
use crate::secret::Secret;

section! {
    /// Where the settings of bound users are kept.
    StoreConfig {
        /// In memory, gone with the process; embedded, in the file `path`, of one gate; or, for
        /// all gates that use the same, on Redis or on NATS.
        kind: StoreKind = StoreKind::Memory,

        /// The file of the embedded store. Made where it is missing; its directory must exist.
        path: Option<FilePath> = None => example("\"/var/lib/tidegate/settings.db\""),

        /// How long settings outlive their user's connection.
        ttl: Time = Time::secs(24 * 3600) => range(2_000, LONGEST),

        /// Of how many users settings are kept, in memory or embedded. Each has at most 16 KiB.
        max_users: usize = 1_000_000 => range(1, u32::MAX.into()),

        /// Redis, where `kind` is "redis".
        redis: Option<RedisConfig> = None => unset("one on this machine, without credentials"),

        /// The bucket on NATS, where `kind` is "nats". How NATS is reached is in `[nats]`.
        nats: Option<BucketConfig> = None => unset("one that is kept on one server"),
    }
}

section! {
    /// Redis, where `kind` is "redis".
    RedisConfig {
        /// Servers of one replicated Redis: the first that takes writes is used.
        servers: OneOrMore<RedisServer> = OneOrMore(vec![RedisServer::default()])
            => example("[\"rediss://redis-1:6379\", \"rediss://redis-2:6379\"]"),

        /// The user; without one, and with a password, it is the default user.
        user: Option<Text> = None => example("\"tidegate\""),

        /// The password.
        password: Option<Secret> = None => range(1, 1024),

        /// A file that holds the password. Read at each connect.
        password_file: Option<FilePath> = None => example("\"redis-password\""),

        /// The number of the database.
        database: u32 = 0 => range(0, i32::MAX as u64),

        /// What keys begin with. Installations that share one Redis have one each.
        prefix: KeyPrefix = KeyPrefix::tidegate(),

        /// How long connecting to one server may take.
        connect_timeout: Time = Time::secs(2) => range(SHORTEST, 60_000),

        /// A connection on which Redis has not answered for so long is made anew.
        answer_timeout: Time = Time::secs(3) => range(SHORTEST, 60_000),

        /// Operations that may be under way at once; more wait.
        in_flight: usize = 1024 => range(1, 65_536),

        /// Certificates of TLS, which is spoken with servers whose URL begins with rediss://.
        tls: Option<RedisTlsConfig> = None => unset("those of public authorities are trusted"),
    }
}

section! {
    /// Certificates of TLS with Redis. All files are PEM, and read at each connect.
    RedisTlsConfig {
        /// Certificate authorities that the server's certificate comes from.
        ca: Option<FilePath> = None => unset("public ones").example("\"redis-ca.pem\""),

        /// The certificate that is shown to the server.
        cert: Option<FilePath> = None => unset("none is shown").example("\"redis-cert.pem\""),

        /// Its private key.
        key: Option<FilePath> = None => example("\"redis-key.pem\""),
    }
}

section! {
    /// The bucket on NATS, where `kind` is "nats": `PREFIX-settings`, with `nats.prefix`.
    BucketConfig {
        /// On how many servers of a cluster it is kept: 1, 3 or 5. The same on all gates.
        replicas: usize = 1 => range(1, 5),

        /// Whether it is kept in memory only, and lost when its servers stop.
        in_memory: bool = false,

        /// How large it may become. Beyond it users' changes are refused.
        max_bytes: Option<u64> = None
            => range(64 * 1024, i64::MAX as u64).unset("as large as the account allows").example("1073741824"),

        /// Whether the gate makes it where there is none. If not, it must be there.
        create: bool = true,

        /// How long one operation may take, within `gate.store_timeout`.
        timeout: Time = Time::secs(4) => range(SHORTEST, 60_000),
    }
}

/// What keeps settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum StoreKind {
    /// In memory
    Memory,
    /// In a file
    Embedded,
    /// On Redis
    Redis,
    /// On NATS, in a key-value bucket
    Nats,
}

choices!(StoreKind);
