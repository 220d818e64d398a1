//! The admin interface: is it alive, does it take clients, and its metrics.
//!
//! Health is for everybody: it tells nothing that trying to connect would not. Everything
//! else needs the token, on loopback too, where other users and browsers are; and it must
//! be asked for under a host name that is ours, so that no page can have a browser read
//! it under a name of its own (DNS rebinding).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tidegate::{Gate, metrics};

use crate::config::model::AdminConfig;
use crate::http::{Handler, Reply};
use crate::secret::Secret;

/// Refused requests that are logged: one in this time, with how many there were since.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Where the admin interface is, and whom it answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// `host:port`
    pub(crate) address: String,
    /// Without one only health is answered.
    pub(crate) token: Option<Secret>,
    /// Names it may be asked under, beside `localhost` and addresses.
    pub(crate) hosts: Vec<String>,
}

impl Settings {
    /// None where the interface is not to be served.
    pub(crate) fn of(config: &AdminConfig) -> Option<Self> {
        let address = config.address.as_ref()?;
        Some(Self {
            address: address.as_str().to_owned(),
            token: config.token.clone(),
            hosts: config.hosts.iter().map(|h| h.as_str().to_owned()).collect(),
        })
    }
}

/// What the admin interface knows: of the gate nothing before it has started.
#[derive(Debug)]
pub(crate) struct Admin {
    settings: Settings,
    gate: OnceLock<Gate>,
    refusals: Mutex<Refusals>,
}

#[derive(Debug, Default)]
struct Refusals {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Admin {
    pub(crate) fn new(mut settings: Settings) -> Arc<Self> {
        // Everybody knows the empty token.
        settings.token = settings.token.filter(|token| !token.expose().is_empty());
        if settings.token.is_none() {
            tracing::warn!(
                "the admin interface has no token: it answers /healthz and /readyz only, not /metrics; set admin.token or admin.token_file"
            );
        }
        Arc::new(Self {
            settings,
            gate: OnceLock::new(),
            refusals: Mutex::default(),
        })
    }

    /// The gate has started.
    pub(crate) fn watch(&self, gate: Gate) {
        // There is one gate.
        let _ = self.gate.set(gate);
    }

    /// Answers `/healthz` while the process lives, `/readyz` by whether the gate takes
    /// clients and reaches the bus, and `/metrics` to those who may see it.
    pub(crate) fn handler(self: Arc<Self>) -> Handler {
        Arc::new(move |request, peer| self.answer(request, peer))
    }

    fn answer(&self, request: &Parts, peer: SocketAddr) -> Option<Reply> {
        match request.uri.path() {
            "/healthz" => return Some(Reply::text(StatusCode::OK, "alive\n")),
            "/readyz" => return Some(self.readiness()),
            _ => {}
        }
        if let Err(refusal) = self.check(request) {
            self.log(refusal, peer);
            return Some(refusal.reply());
        }
        match request.uri.path() {
            "/metrics" => Some(match self.gate.get().cloned() {
                Some(gate) => Reply::costly(StatusCode::OK, metrics::CONTENT_TYPE, move || {
                    metrics::render(&gate).into()
                }),
                None => Reply::text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            }),
            _ => None,
        }
    }

    /// Clients had better come to a gate that reaches the others: without the bus this one
    /// serves them only what its own process has.
    fn readiness(&self) -> Reply {
        let unready = |why| Reply::text(StatusCode::SERVICE_UNAVAILABLE, why);
        match self.gate.get() {
            Some(gate) if gate.is_ready() => match gate.bus_stats().down {
                true => unready("not ready: the bus is down\n"),
                false => Reply::text(StatusCode::OK, "ready\n"),
            },
            _ => unready("not ready\n"),
        }
    }

    fn check(&self, request: &Parts) -> Result<(), Refusal> {
        if !self.is_ours(request) {
            return Err(Refusal::Host);
        }
        let Some(token) = &self.settings.token else {
            return Err(Refusal::NoToken);
        };
        let given = bearer(&request.headers).ok_or(Refusal::NotGiven)?;
        // Takes as long for a good guess as for a bad one. It tells the length.
        match bool::from(given.ct_eq(token.expose().as_bytes())) {
            true => Ok(()),
            false => Err(Refusal::Wrong),
        }
    }

    /// Whether it is asked under a name of its own; a browser tells which name it used.
    fn is_ours(&self, request: &Parts) -> bool {
        let named = request.uri.authority().map(|a| a.as_str().as_bytes());
        let hosts = request.headers.get_all(HOST).iter();
        let mut hosts = hosts.map(HeaderValue::as_bytes).chain(named).peekable();
        hosts.peek().is_some() && hosts.all(|host| self.is_our_host(host))
    }

    fn is_our_host(&self, host: &[u8]) -> bool {
        let Some(name) = std::str::from_utf8(host).ok().and_then(without_port) else {
            return false;
        };
        let ours = |ours: &str| ours.eq_ignore_ascii_case(name);
        is_address(name) || ours("localhost") || self.settings.hosts.iter().any(|h| ours(h))
    }

    fn log(&self, refusal: Refusal, peer: SocketAddr) {
        let mut refusals = self.refusals.lock();
        let now = Instant::now();
        if refusals.logged.is_some_and(|at| now - at < LOG_EVERY) {
            refusals.unlogged += 1;
            return;
        }
        let unlogged = std::mem::take(&mut refusals.unlogged);
        refusals.logged = Some(now);
        drop(refusals);
        let why = refusal.text().trim_end();
        tracing::warn!(ip = %peer.ip(), why, unlogged, "a request to the admin interface was refused");
    }
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Host,
    NoToken,
    NotGiven,
    Wrong,
}

impl Refusal {
    fn text(self) -> &'static str {
        match self {
            Self::Host => {
                "not served under this host name; use an address, localhost, or a name in admin.hosts\n"
            }
            Self::NoToken => {
                "no token is configured; set admin.token or admin.token_file, and send it as Authorization: Bearer TOKEN\n"
            }
            Self::NotGiven => "send the admin token as Authorization: Bearer TOKEN\n",
            Self::Wrong => "this is not the admin token\n",
        }
    }

    fn reply(self) -> Reply {
        let status = match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::NoToken => StatusCode::FORBIDDEN,
            Self::NotGiven | Self::Wrong => StatusCode::UNAUTHORIZED,
        };
        let mut reply = Reply::text(status, self.text());
        if status == StatusCode::UNAUTHORIZED {
            reply.challenge = Some("Bearer realm=\"tidegate\"");
        }
        reply
    }
}

/// The token of a request (RFC 6750). One that gives two gives none.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (only, None) = (all.next()?, all.next()) else {
        return None;
    };
    let (scheme, token) = only.as_bytes().split_at_checked("Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

/// The host of `host[:port]`.
fn without_port(host: &str) -> Option<&str> {
    let end = match host.starts_with('[') {
        true => host.find(']')? + 1,
        false => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let port_is_port = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    port_is_port.then_some(name)
}

/// Whether a host is an address: no name leads to it.
fn is_address(host: &str) -> bool {
    let v6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    match v6 {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    const TOKEN: &str = "s3cret-0123456789";

    fn admin(token: Option<&str>) -> Arc<Admin> {
        Admin::new(Settings {
            address: String::new(),
            token: token.map(Secret::new),
            hosts: vec!["gate.example".into()],
        })
    }

    fn refusal(admin: &Admin, headers: &[(&str, &str)]) -> Option<Refusal> {
        let mut request = Request::get("/metrics");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        admin.check(&parts).err()
    }

    #[test]
    fn only_our_names_are_served() {
        let admin = admin(Some(TOKEN));
        let bearer = format!("Bearer {TOKEN}");
        let ask = |host: &str| refusal(&admin, &[("host", host), ("authorization", &bearer)]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:3656",
            "192.0.2.7:80",
            "[::1]",
            "[::1]:3656",
            "[2001:db8::1]:1",
            "localhost",
            "LOCALHOST:3656",
            "gate.example",
            "Gate.Example:443",
        ] {
            assert_eq!(ask(host), None, "{host}");
        }
        for host in [
            "",
            ":3656",
            "evil.example",
            "evil.example:3656",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example#127.0.0.1",
            "127.0.0.1:3656.evil.example",
            "127.0.0.1@evil.example",
            "gate.example.",
            "x.gate.example",
            "::1",
            "[::1",
            "[::1]x",
            "[evil.example]",
            "0x7f000001",
            "2130706433",
        ] {
            assert_eq!(ask(host), Some(Refusal::Host), "{host}");
        }
        let none = refusal(&admin, &[("authorization", &bearer)]);
        assert_eq!(none, Some(Refusal::Host), "no host at all");
        let two = [
            ("host", "localhost"),
            ("host", "evil.example"),
            ("authorization", &bearer),
        ];
        assert_eq!(refusal(&admin, &two), Some(Refusal::Host));
        let parts = |uri: &str| {
            let request = Request::get(uri).header("host", "localhost");
            let request = request.header("authorization", &bearer);
            request.body(()).unwrap().into_parts().0
        };
        assert_eq!(
            admin.check(&parts("http://evil.example/metrics")).err(),
            Some(Refusal::Host),
            "the name in the request line counts too"
        );
        assert_eq!(admin.check(&parts("http://127.0.0.1/metrics")), Ok(()));
    }

    #[test]
    fn only_the_token_opens() {
        let with = admin(Some(TOKEN));
        let ask = |value: &str| refusal(&with, &[("host", "::1"), ("authorization", value)]);
        assert_eq!(ask("Bearer x"), Some(Refusal::Host), "the host comes first");
        let ask = |value: &str| refusal(&with, &[("host", "[::1]"), ("authorization", value)]);
        assert_eq!(ask(&format!("Bearer {TOKEN}")), None);
        assert_eq!(ask(&format!("bearer   {TOKEN} ")), None);
        for wrong in [
            "Bearer s3cret-012345678",
            "Bearer s3cret-01234567890",
            "Bearer S3CRET-0123456789",
            "Bearer s3cret-0123456788",
            "Bearer [redacted]",
        ] {
            assert_eq!(ask(wrong), Some(Refusal::Wrong), "{wrong}");
        }
        for none in ["", "Bearer", "Bearer ", "Basic czpz", TOKEN, "Bearers x"] {
            assert_eq!(ask(none), Some(Refusal::NotGiven), "{none}");
        }
        let two = [
            ("host", "localhost"),
            ("authorization", "Bearer s3cret-0123456789"),
            ("authorization", "Bearer s3cret-0123456789"),
        ];
        assert_eq!(refusal(&with, &two), Some(Refusal::NotGiven));
        for token in [None, Some("")] {
            let without = admin(token);
            for value in ["", "Bearer ", "Bearer x"] {
                let headers = [("host", "localhost"), ("authorization", value)];
                assert_eq!(refusal(&without, &headers), Some(Refusal::NoToken));
            }
        }
    }
}
