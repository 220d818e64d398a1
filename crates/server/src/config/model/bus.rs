//! How gates and services reach each other.

use clap::ValueEnum;

use super::limits::SHORTEST;
use crate::config::key::section;
use crate::config::value::OneOrMore;
use crate::config::value::choice::choices;
use crate::config::value::file::FilePath;
use crate::config::value::server::NatsServer;
use crate::config::value::text::{Id, SubjectPrefix, Text};
use crate::config::value::time::{OrOff, Time};
use crate::secret::Secret;

/// Longest time, in milliseconds.
const HOUR: u64 = 3_600_000;

/// What can be counted in a subject.
const MOST: u64 = 1 << 24;

section! {
    /// NATS: how it is reached, and who this gate or service is there. At most one kind of
    /// credentials: user and password, token, NKey seed or credentials file.
    NatsConfig {
        /// Servers of one cluster; any of them will do, and they tell of the others.
        servers: OneOrMore<NatsServer> = OneOrMore(vec![NatsServer::default()])
            => example("[\"nats://nats-1:4222\", \"nats://nats-2:4222\"]"),

        /// The name of an account's user.
        user: Option<Text> = None => example("\"gate-1\""),

        /// The user's password.
        password: Option<Secret> = None => range(1, 1024),

        /// A file that holds the user's password. Read at each connect.
        password_file: Option<FilePath> = None => example("\"nats-password\""),

        /// A token.
        token: Option<Secret> = None => range(1, 1024),

        /// A file that holds the token. Read at each connect.
        token_file: Option<FilePath> = None => example("\"nats-token\""),

        /// A file that holds the seed of an NKey user. Read at each connect.
        nkey_seed_file: Option<FilePath> = None => example("\"gate-1.nk\""),

        /// A file of credentials, as `nsc` writes them: a JWT and its seed. Read at each connect.
        creds_file: Option<FilePath> = None => example("\"gate-1.creds\""),

        /// What all subjects, and the names of the buckets, begin with. Gates and services with
        /// another prefix are another system.
        prefix: SubjectPrefix = SubjectPrefix::tidegate(),

        /// Who this process is to NATS and its tools. Answers arrive under
        /// `PREFIX.inbox.NAME`, which is what its permissions must let it subscribe to.
        name: Option<Id> = None => unset("the gate's id, or the service's name").example("\"gate-1\""),

        /// How long the start waits for NATS. Where it is off, what cannot reach NATS does not
        /// start.
        wait: OrOff<Time> = OrOff::Off => range(SHORTEST, HOUR).example("\"30s\""),

        /// How long connecting to one server may take.
        connect_timeout: Time = Time::secs(2) => range(SHORTEST, HOUR),

        /// How long another gate, or NATS itself, may take to answer.
        ask_timeout: Time = Time::secs(5) => range(SHORTEST, HOUR),

        /// How long the answer of a service is waited for at the most; what clients see is the
        /// `call_timeout` of their listener.
        call_timeout: Time = Time::secs(30) => range(SHORTEST, HOUR),

        /// After how long a gate that is no longer heard of counts as dead, in whole seconds.
        /// The same on all gates.
        lease: Time = Time::secs(10) => range(2_000, HOUR),

        /// On how many servers of a cluster the records of gates and users are kept: 1, 3 or 5.
        /// The same on all gates.
        replicas: usize = 1 => range(1, 5),

        /// Calls that wait for an answer, for each shard. More are refused.
        in_flight: usize = 65_536 => range(1, MOST),

        /// Messages that wait to be written, for each shard. More are refused.
        outbound: usize = 8_192 => range(1, MOST),

        /// Messages that wait to be read, for each subscription. More are lost, which is
        /// counted, and whoever sent one is not told that it arrived.
        inbound: usize = 262_144 => range(1, MOST),

        /// Events for services that are kept while NATS cannot be reached.
        events: usize = 10_000 => range(1, MOST),

        /// TLS, which is spoken always then. Without this table it is with a server whose URL
        /// begins with tls://, or that demands it.
        tls: Option<NatsTlsConfig> = None => unset("TLS where a server demands it"),
    }
}

section! {
    /// TLS with NATS servers. All files are PEM, and read at each connect.
    NatsTlsConfig {
        /// Certificate authorities that servers' certificates come from.
        ca: Option<FilePath> = None => unset("those of the system").example("\"nats-ca.pem\""),

        /// The certificate that is shown to servers.
        cert: Option<FilePath> = None => unset("none is shown").example("\"nats-cert.pem\""),

        /// Its private key.
        key: Option<FilePath> = None => example("\"nats-key.pem\""),

        /// Whether TLS comes before the server's first word (`handshake_first` of its
        /// configuration).
        first: bool = false,
    }
}

/// How gates and services reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum BusKind {
    /// Within this process
    Local,
    /// Over NATS
    Nats,
}

choices!(BusKind);
