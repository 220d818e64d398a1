//! What must hold between keys.
//!
//! - [`bus`]: those of the bus. [`store`]: those of the store.

mod bus;
mod store;

use std::collections::BTreeMap;

use clap::ValueEnum;

use super::model::auth::{Algorithm, CertificateUser, JwtConfig};
use super::model::bus::BusKind;
use super::model::listener::{CipherKind, ClientAuthKind, ForwardedBy, KeepAliveConfig, TlsConfig};
use super::model::{BuiltIn, Config};
use super::problem::{KeyPath, Origin, Problem, did_you_mean, nearest};
use super::tree::Node;
use super::value::choice;
use super::value::text::{Address, Name, Network};
use crate::secret::Secret;

/// What both kinds of listeners have, and where it is.
pub(super) struct Listener<'a> {
    pub(super) at: KeyPath,
    pub(super) address: &'a Address,
    name: Option<&'a Name>,
    pub(super) tls: Option<&'a TlsConfig>,
    cipher: CipherKind,
    key: Option<&'a Secret>,
    proxy_protocol: bool,
    forwarded: ForwardedBy,
    proxies: &'a [Network],
    ipv6_only: bool,
    unix_mode: bool,
    keep_alive: Option<&'a KeepAliveConfig>,
}

/// All listeners.
pub(super) fn listeners(config: &Config) -> Vec<Listener<'_>> {
    macro_rules! listener {
        ($kind:literal, $i:ident, $listener:ident, $forwarded:expr) => {
            Listener {
                at: KeyPath::new().key($kind).index($i),
                address: &$listener.address,
                name: $listener.name.as_ref(),
                tls: $listener.tls.as_ref(),
                cipher: $listener.cipher,
                key: $listener.encryption_key.as_ref(),
                proxy_protocol: $listener.proxy_protocol,
                forwarded: $forwarded,
                proxies: $listener
                    .trusted_proxies
                    .as_deref()
                    .unwrap_or(&config.trusted_proxies),
                ipv6_only: $listener.ipv6_only.is_some(),
                unix_mode: $listener.unix_mode.is_some(),
                keep_alive: $listener.keep_alive.on(),
            }
        };
    }
    let tcp = config.tcp.iter().enumerate();
    let tcp = tcp.map(|(i, tcp)| listener!("tcp", i, tcp, ForwardedBy::Off));
    let ws = config.websocket.iter().enumerate();
    let ws = ws.map(|(i, ws)| listener!("websocket", i, ws, ws.forwarded));
    tcp.chain(ws).collect()
}

/// Collects problems at keys.
pub(super) struct Problems<'a> {
    pub(super) tree: &'a Node,
    pub(super) found: Vec<Problem>,
}

impl Problems<'_> {
    /// Unless `holds`, `what` is wrong at `key`.
    pub(super) fn must(&mut self, holds: bool, key: &KeyPath, what: &str) {
        if !holds {
            let problem = Problem::new(self.tree.origin_of(key), key, what);
            self.found.push(problem);
        }
    }
}

/// Everything that contradicts something else.
pub(crate) fn check(config: &Config, tree: &Node) -> Vec<Problem> {
    let mut problems = Problems {
        tree,
        found: Vec::new(),
    };
    let top = KeyPath::new();
    let listeners = listeners(config);
    for listener in &listeners {
        check_listener(listener, &mut problems);
    }
    for (i, ws) in config.websocket.iter().enumerate() {
        let origins = ws.origins.as_deref().unwrap_or(&[]);
        let all = origins.iter().any(|origin| origin.as_str() == "*");
        problems.must(
            !all || origins.len() == 1,
            &top.key("websocket").index(i).key("origins"),
            "found \"*\" beside others, expected it alone: it is all of them",
        );
    }
    no_address_twice(config, &listeners, &mut problems);
    no_name_twice(&listeners, &mut problems);
    check_expose(config, &mut problems);
    bus::check(config, &mut problems);
    store::check(&config.store, &mut problems);
    let auth = top.key("auth");
    let asks = |listener: &Listener<'_>| {
        let client_auth = listener.tls.map(|tls| tls.client_auth);
        client_auth.is_some_and(|asked| asked != ClientAuthKind::Off)
    };
    let by_certificate = config.auth.client_certificate != CertificateUser::Off;
    problems.must(
        !by_certificate || listeners.iter().any(asks),
        &auth.key("client_certificate"),
        "no listener asks for certificates: expected tls.client_auth of one to be \"optional\" or \"required\"",
    );
    problems.must(
        config.auth.guests != Some(false) || config.auth.jwt.is_some() || by_certificate,
        &auth.key("guests"),
        "nobody could connect: without guests there must be auth.jwt or auth.client_certificate",
    );
    problems.must(
        config.auth.jwt.is_some() || !config.services.contains(&BuiltIn::Auth),
        &top.key("services"),
        "\"auth\" has no tokens to look at: expected auth.jwt",
    );
    if let Some(jwt) = &config.auth.jwt {
        check_jwt(jwt, &auth.key("jwt"), &mut problems);
    }
    problems.found
}

fn check_listener(listener: &Listener<'_>, problems: &mut Problems<'_>) {
    let at = &listener.at;
    let has_cipher = listener.cipher != CipherKind::None;
    problems.must(
        !has_cipher || listener.key.is_some(),
        &at.key("cipher"),
        "a cipher needs encryption_key or encryption_key_file",
    );
    let given = match problems.tree.find(&at.key("encryption_key")) {
        Some(_) => at.key("encryption_key"),
        None => at.key("encryption_key_file"),
    };
    problems.must(
        has_cipher || listener.key.is_none(),
        &given,
        "a key without cipher encrypts nothing: expected cipher to be \"aes-ecb\" or \"aes-cbc\"",
    );
    if let (CipherKind::AesCbc, Some(key)) = (listener.cipher, listener.key) {
        let length = key.expose().len();
        problems.must(
            matches!(length, 16 | 24 | 32),
            &given,
            &format!("found {length} bytes, expected 16, 24 or 32 for \"aes-cbc\""),
        );
    }
    problems.must(
        !listener.proxy_protocol || !listener.proxies.is_empty(),
        &at.key("proxy_protocol"),
        "nobody is believed: expected trusted_proxies, here or for the whole gate",
    );
    problems.must(
        listener.forwarded == ForwardedBy::Off || !listener.proxies.is_empty(),
        &at.key("forwarded"),
        "nobody is believed: expected trusted_proxies, here or for the whole gate",
    );
    problems.must(
        !listener.ipv6_only || listener.address.as_str().starts_with('['),
        &at.key("ipv6_only"),
        "the address is not an IPv6 one in brackets, such as \"[::]:3653\"",
    );
    problems.must(
        !listener.unix_mode || listener.address.as_str().starts_with("unix:"),
        &at.key("unix_mode"),
        "the address is not that of a Unix-domain socket, such as \"unix:/run/tidegate.sock\"",
    );
    if let Some(keep_alive) = listener.keep_alive {
        for (key, time) in [("idle", keep_alive.idle), ("interval", keep_alive.interval)] {
            problems.must(
                time.0.subsec_nanos() == 0,
                &at.key("keep_alive").key(key),
                &format!("found \"{time}\", expected whole seconds"),
            );
        }
    }
    if let Some(tls) = listener.tls {
        let asked = tls.client_auth != ClientAuthKind::Off;
        problems.must(
            !asked || tls.client_ca.is_some(),
            &at.key("tls").key("client_auth"),
            "nothing to check certificates with: expected client_ca",
        );
        problems.must(
            asked || tls.client_ca.is_none(),
            &at.key("tls").key("client_ca"),
            "nobody is asked for a certificate: expected client_auth to be \"optional\" or \"required\"",
        );
    }
}

fn no_address_twice(config: &Config, listeners: &[Listener<'_>], problems: &mut Problems<'_>) {
    let admin = config.admin.address.as_ref().map(|address| {
        let at = KeyPath::new().key("admin").key("address");
        (address.as_str(), at)
    });
    let all = listeners
        .iter()
        .map(|listener| (listener.address.as_str(), listener.at.key("address")));
    let mut seen = BTreeMap::new();
    for (address, at) in all.chain(admin) {
        // Port 0 is another one each time.
        if address.is_empty() || address.ends_with(":0") {
            continue;
        }
        if let Some(first) = seen.insert(address, at.clone()) {
            let what = format!("found {address:?}, which {first} has already");
            problems.must(false, &at, &what);
        }
    }
}

fn no_name_twice(listeners: &[Listener<'_>], problems: &mut Problems<'_>) {
    let mut seen = BTreeMap::new();
    for listener in listeners {
        let Some(name) = listener.name else { continue };
        let at = listener.at.key("name");
        if let Some(first) = seen.insert(name.as_str(), at.clone()) {
            let what = format!("found {:?}, which {first} has already", name.as_str());
            problems.must(false, &at, &what);
        }
    }
}

/// Within one process all services are built-in ones: what is exposed of another can never be
/// called.
fn check_expose(config: &Config, problems: &mut Problems<'_>) {
    if config.bus != BusKind::Local {
        return;
    }
    let names: Vec<String> = choice::words::<BuiltIn>();
    let runs = |name: &str| {
        let service = BuiltIn::from_str(name, false);
        service.is_ok_and(|service| config.services.contains(&service))
    };
    for (i, exposed) in config.expose.iter().flatten().enumerate() {
        let name = exposed.as_str().split('/').next().unwrap_or_default();
        if runs(name) {
            continue;
        }
        let what = match names.iter().any(|known| known == name) {
            true => format!("{name:?} does not run here: expected it in services"),
            false => {
                let meant = nearest(name, names.iter().map(String::as_str));
                let meant = did_you_mean(meant.map(|name| format!("{name:?}")));
                format!("found {name:?}, expected a service that runs here{meant}")
            }
        };
        problems.must(false, &KeyPath::new().key("expose").index(i), &what);
    }
}

fn check_jwt(jwt: &JwtConfig, at: &KeyPath, problems: &mut Problems<'_>) {
    let keys = [
        jwt.secret.is_some(),
        jwt.public_key_file.is_some(),
        jwt.jwks_file.is_some(),
    ];
    let given = keys.iter().filter(|given| **given).count();
    problems.must(
        given == 1,
        at,
        &format!(
            "found {given} keys, expected one: secret, secret_file, public_key_file or jwks_file"
        ),
    );
    let algorithms = at.key("algorithms");
    problems.must(
        given != 1 || !jwt.algorithms.is_empty() || jwt.jwks_file.is_none(),
        &algorithms,
        "a set of keys does not tell: expected those that are accepted",
    );
    problems.must(
        !jwt.sources.is_empty(),
        &at.key("sources"),
        "found none, expected at least one",
    );
    let fits = |algorithm: &Algorithm| {
        jwt.jwks_file.is_some() || algorithm.is_hmac() == jwt.secret.is_some()
    };
    problems.must(
        given != 1 || jwt.algorithms.iter().all(fits),
        &algorithms,
        "the key does not fit: HS algorithms take a secret, all others a public key or a JWKS",
    );
    let length = jwt.secret.as_ref().map(|secret| secret.expose().len());
    for algorithm in &jwt.algorithms {
        let least = algorithm.shortest_secret();
        problems.must(
            length.is_none_or(|length| length >= least),
            &algorithms,
            &format!("the secret is too short: at least {least} bytes are needed"),
        );
    }
}

/// Without a listener there is nothing to serve.
pub(crate) fn has_listener(config: &Config) -> Result<(), Problem> {
    match config.tcp.is_empty() && config.websocket.is_empty() {
        true => Err(Problem::new(
            &Origin::Default,
            &KeyPath::new(),
            "no listener: give --tcp or --ws, or [[tcp]] or [[websocket]] in a file with --config",
        )),
        false => Ok(()),
    }
}

/// A service in a process of its own needs a bus that others are on.
pub(crate) fn has_bus(config: &Config) -> Result<(), Problem> {
    match config.bus {
        BusKind::Nats => Ok(()),
        BusKind::Local => Err(Problem::new(
            &Origin::Default,
            &KeyPath::new(),
            "no bus that gates are on: give --nats, or bus = \"nats\" in a file with --config",
        )),
    }
}
