//! Where clients come in.

use clap::ValueEnum;

use super::limits::LimitsConfig;
use crate::config::key::section;
use crate::config::value::choice::choices;
use crate::config::value::file::{FilePath, Mode};
use crate::config::value::text::{
    Address, FreeTopic, Name, Network, PageOrigin, Subprotocol, UrlPath,
};
use crate::config::value::time::{OrOff, Time};
use crate::secret::Secret;

/// Declares a listener: its own keys, then those that both kinds have.
macro_rules! listener {
    ($(#[doc = $about:literal])+ $name:ident { $($own:tt)* }) => {
        section! {
            $(#[doc = $about])+
            $name {
                /// Where clients connect. Port 0 takes a free one.
                address: Address => example("\"127.0.0.1:3653\""),

                /// Its name in logs and metrics.
                name: Option<Name> = None => unset("the address").example("\"players\""),

                $($own)*

                /// TLS (1.2 and up). Without this table connections are in plain text.
                tls: Option<TlsConfig> = None => unset("no TLS"),

                /// Cipher of old clients. They are unauthenticated and deterministic: whoever
                /// is between client and gate can change, repeat and reorder packets. For
                /// everyone else the answer is TLS.
                cipher: CipherKind = CipherKind::None,

                /// The key of `cipher`: of any length for "aes-ecb", of 16, 24 or 32 bytes for
                /// "aes-cbc".
                encryption_key: Option<Secret> = None => range(1, 1024),

                /// A file that holds the key of `cipher`.
                encryption_key_file: Option<FilePath> = None => example("\"old-clients.key\""),

                /// Which protocol its clients speak. Under "any" their first packet tells.
                protocol: ProtocolKind = ProtocolKind::Any,

                /// Whether sessions are resumed on connections without TLS too. Whoever can read
                /// the traffic can then take a session over. For listeners behind a proxy that
                /// does TLS, where nobody else reads what goes between.
                resume_over_plaintext: bool = false,

                /// Version 1 clients, which know no error packet, are told about errors in
                /// packets of this topic.
                v1_error_topic: Option<FreeTopic> = None => unset("they are not told").example("\"error\""),

                /// Whether each connection of a trusted proxy begins with a PROXY protocol
                /// header (version 1 or 2). Others are served as ever; what they send of the
                /// kind counts for nothing.
                proxy_protocol: bool = false,

                /// Networks whose word on a client's address is believed here.
                trusted_proxies: Option<Vec<Network>> = None
                    => unset("those of the whole gate").example("[\"10.0.0.0/8\"]"),

                /// TCP keep-alive: probes to a client that is silent.
                keep_alive: OrOff<KeepAliveConfig> = OrOff::On(KeepAliveConfig::default())
                    => example("{ idle = \"60s\", interval = \"10s\", retries = 3 }"),

                /// Unsent bytes that the kernel holds for a client; the rest waits in the
                /// gate's queue.
                notsent_lowat: u32 = 16384 => range(1, i32::MAX as u64),

                /// Whether an IPv6 address takes IPv6 clients only.
                ipv6_only: Option<bool> = None => unset("as the system does; [::] commonly takes both").example("true"),

                /// Who may connect to a Unix-domain socket.
                unix_mode: Option<Mode> = None => unset("0660").example("\"0600\""),

                /// What connections of this listener may do.
                limits: LimitsConfig = LimitsConfig::default(),
            }
        }
    };
}

listener! {
    /// A TCP listener: a stream of frames.
    TcpConfig {}
}

listener! {
    /// A WebSocket listener: one frame in each binary message.
    WebSocketConfig {
        /// The one path that is served.
        path: UrlPath = root(),

        /// Pages that may connect, by their origin; ["*"] is all. Clients that are no browsers
        /// send none and always may.
        origins: Option<Vec<PageOrigin>> = None
            => unset("pages of the same host").example("[\"https://example.com\"]"),

        /// Sub-protocols spoken here, the preferred one first.
        subprotocols: Vec<Subprotocol> = Vec::new() => example("[\"tidegate\"]"),

        /// Whether text messages are taken too, as old clients send them.
        allow_text: bool = false,

        /// The HTTP header that tells a client's address, believed from trusted proxies.
        forwarded: ForwardedBy = ForwardedBy::Off,
    }
}

section! {
    /// TLS. All files are PEM.
    TlsConfig {
        /// Certificate chain, the server's own certificate first.
        cert: FilePath => example("\"cert.pem\""),

        /// Its private key.
        key: FilePath => example("\"key.pem\""),

        /// More certificates; the one that has the name a client asks for is served.
        certificates: Vec<CertificateConfig> = Vec::new(),

        /// Whether clients show a certificate.
        client_auth: ClientAuthKind = ClientAuthKind::Off,

        /// Certificate authorities that clients' certificates come from.
        client_ca: Option<FilePath> = None => example("\"clients-ca.pem\""),
    }
}

section! {
    /// One more certificate.
    CertificateConfig {
        /// Certificate chain, the server's own certificate first.
        cert: FilePath => example("\"other-cert.pem\""),

        /// Its private key.
        key: FilePath => example("\"other-key.pem\""),
    }
}

section! {
    /// TCP keep-alive.
    KeepAliveConfig {
        /// Silence before the first probe.
        idle: Time = Time::secs(60) => range(1_000, 32_767_000),

        /// Time between probes.
        interval: Time = Time::secs(10) => range(1_000, 32_767_000),

        /// Probes without an answer before the connection counts as dead.
        retries: u32 = 3 => range(1, 127),
    }
}

/// `/`, which is a path.
fn root() -> UrlPath {
    UrlPath::new("/").unwrap_or_default()
}

/// A cipher of old clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab")]
pub(crate) enum CipherKind {
    /// No cipher
    None,
    /// Of version 1.1
    AesEcb,
    /// Of version 1.2
    AesCbc,
}

/// Which protocol clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab")]
pub(crate) enum ProtocolKind {
    /// Either
    Any,
    /// Version 1
    V1,
    /// The extended one
    Extended,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab")]
pub(crate) enum ClientAuthKind {
    /// They are not asked
    Off,
    /// Those that have one
    Optional,
    /// All of them
    Required,
}

/// The HTTP header that tells a client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab")]
pub(crate) enum ForwardedBy {
    /// None is believed
    Off,
    /// The one that most proxies send
    XForwardedFor,
    /// That of RFC 7239
    Forwarded,
}

choices!(CipherKind, ClientAuthKind, ForwardedBy, ProtocolKind);
