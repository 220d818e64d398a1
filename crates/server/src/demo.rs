//! `tidegate demo`: a gate on this machine, a page to chat on, and how to try it.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use crate::admin;
use crate::cli::DemoArgs;
use crate::config::problem::{KeyPath, Origin, Problem};
use crate::config::value::text::HttpAddress;
use crate::config::{Given, Loaded, Mistakes, Sources};
use crate::logging;
use crate::page::{Page, Reach};
use crate::run::{self, RunError, Signals};
use crate::secret::Secret;

/// How long a silent TCP client stays. The version 1 protocol has no ping, and people who
/// chat by hand are slower than the minute that clients are given otherwise.
const PATIENCE: &str = "1h";

/// Runs the demo until a signal comes.
pub(crate) async fn run(args: DemoArgs) -> Result<(), RunError> {
    let page = HttpAddress::new(&args.page);
    let page = page.map_err(|expected| mistake("--page", &args.page, expected))?;
    let ws_url = args.ws_url.clone();
    if let Some(url) = &ws_url {
        Reach::check(url).map_err(|expected| mistake("--ws-url", url, expected))?;
    }
    let mut config = Loaded::load(&sources(args))?.config;
    logging::start(config.log.clone());
    // Before the gate starts: it lets in what comes from here, and needs the port for that.
    let page = run::bind_http("page", page.as_str())?;
    let mut reach = Reach::new(page.address(), ws_url);
    for ws in &mut config.websocket {
        reach.let_in(ws.origins.get_or_insert_default());
    }
    let token = token();
    let admin = admin::Settings::of(&config.admin).map(|settings| admin::Settings {
        token: Some(token.clone()),
        ..settings
    });
    // First: a signal that comes while the gate starts is not lost.
    let signals = Signals::new().map_err(RunError::Signals)?;
    let gate = config.gate(&config.gate_id(), None, None).await?;
    run::until_signal(gate, admin, signals, |gate, admin| {
        // It has these: they were bound, or it would not have started.
        let (tcp, ws) = (gate.address(0), gate.address(1));
        let found = Found {
            program: program(),
            tcp: format!("tcp://{}", shown(tcp)),
            ws: format!("ws://{}/", shown(ws)),
            python: tcp.map(python).unwrap_or_default(),
            admin: format!("http://{}", shown(admin)),
        };
        let served = Page::new(&found, &reach, ws, gate.gate().clone());
        let server = page.serve(served.handler());
        let text = found.text(server.address(), &token);
        // Whoever closed standard output does not want to read it.
        let _ = io::stdout().write_all(text.as_bytes());
        let _ = io::stdout().flush();
        Ok(server)
    })
    .await
}

fn mistake(flag: &str, found: &str, expected: &str) -> Mistakes {
    let what = format!("found {found:?}, expected {expected}");
    let origin = Origin::Flag(flag.to_owned());
    Mistakes::from(Problem::new(&origin, &KeyPath::new(), what))
}

/// Every service, and no limit on what one address may do. No file, no environment: the demo
/// is the same everywhere.
fn sources(args: DemoArgs) -> Sources {
    let topic = args.v1_error_topic;
    let mut flags = vec![
        Given::new("demo", "services", "echo,chat"),
        Given::new(
            "demo",
            "gate.max_connections_per_address",
            i64::MAX.to_string(),
        ),
        Given::new("--tcp", "tcp.0.address", args.tcp),
        Given::new("--v1-error-topic", "tcp.0.v1_error_topic", &topic),
        Given::new("demo", "tcp.0.limits.heartbeat_timeout", PATIENCE),
        Given::new("demo", "tcp.0.resume_over_plaintext", "true"),
        Given::new("--ws", "websocket.0.address", args.ws),
        Given::new("demo", "websocket.0.resume_over_plaintext", "true"),
        Given::new("--v1-error-topic", "websocket.0.v1_error_topic", &topic),
        Given::new("--admin", "admin.address", args.admin),
    ];
    for (i, origin) in args.ws_origin.into_iter().enumerate() {
        let key = format!("websocket.0.origins.{i}");
        flags.push(Given::new("--ws-origin", &key, origin));
    }
    flags.extend(args.log.given());
    Sources {
        flags,
        ..Sources::default()
    }
}

/// Where everything is.
#[derive(Debug)]
pub(crate) struct Found {
    /// How this program is called from a shell.
    program: String,
    pub(crate) tcp: String,
    pub(crate) ws: String,
    /// `http://host:port`
    pub(crate) admin: String,
    /// A client in one line.
    pub(crate) python: String,
}

impl Found {
    /// The commands to paste, one for each of two terminals.
    pub(crate) fn connect(&self) -> [String; 2] {
        [&self.tcp, &self.ws].map(|url| format!("{} connect {url}", self.program))
    }

    /// What is printed. The token is for whoever started the demo, and nobody else.
    fn text(&self, page: SocketAddr, token: &Secret) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let Self {
            tcp,
            ws,
            admin,
            python,
            ..
        } = self;
        let [first, second] = self.connect();
        let token = token.expose();
        format!(
            "\
Tidegate {version}: the demo is running. Ctrl-C stops it.

  TCP        {tcp}
  WebSocket  {ws}
  page       http://{page}/
  admin      {admin}/healthz  {admin}/readyz
  metrics    curl -H 'Authorization: Bearer {token}' {admin}/metrics

Chat in a browser: open the page in two windows. Or on terminals: open two more here, paste
one line into each,

  {first}
  {second}

and type, in turn:

  chat/login ada                       chat/login bob
  chat/say hello                       chat/tell ada only you can see this
  chat/join tea                        chat/who
  chat/say nobody here?                chat/join tea

Type help there for more; cut loses the connection, and the session goes on with the next.
Both listeners speak the extended protocol and version 1; where that has no word for an error,
the demo sends a packet of its error topic.

A client without Tidegate:

  {python}

"
        )
    }
}

/// A token for the admin interface of this one run.
fn token() -> Secret {
    let random: u128 = rand::random();
    Secret::new(format!("{random:032x}"))
}

fn shown(address: Option<impl Display>) -> String {
    address.map(|a| a.to_string()).unwrap_or_default()
}

/// A packet to echo/echo and back, by hand.
fn python(tcp: SocketAddr) -> String {
    format!(
        "python3 -c \"import socket; s = socket.create_connection(('{}', {})); \
         s.sendall(b'\\x14\\0\\x0b\\0echo/echo/1hello'); print(s.recv(99))\"",
        tcp.ip(),
        tcp.port()
    )
}

/// How this program can be called again from where it was called: as it was, or by the
/// relative path, which is shorter.
fn program() -> String {
    let called = env::args_os().next().unwrap_or_else(|| "tidegate".into());
    let called = Path::new(&called);
    let here = env::current_dir().unwrap_or_default();
    let path = match called.strip_prefix(&here) {
        Ok(relative) if called.is_absolute() => Path::new(".").join(relative),
        _ => called.to_owned(),
    };
    quote(&path.to_string_lossy())
}

/// As a shell wants it.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_take_it_as_one_word() {
        assert_eq!(quote("target/release/tidegate"), "target/release/tidegate");
        assert_eq!(quote("/my disk/it's"), "'/my disk/it'\\''s'");
        assert_eq!(quote(""), "''");
    }
}
