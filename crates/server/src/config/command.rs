//! `tidegate config`: a new file, what is wrong with one, what is in force, the reference.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use tidegate::{Gate, StartError};

use super::gate::Unusable;
use super::problem::{KeyPath, Problem};
use super::{Loaded, Mistakes, check, init, print, reference};
use crate::auth::Auth;
use crate::cli::ConfigArgs;

/// The configuration is wrong.
const WRONG: u8 = 2;

/// What can be done with configurations.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Write a new file: every key with its meaning and default, and random secrets
    Init {
        /// Where to
        #[arg(value_name = "PATH", default_value = "tidegate.toml")]
        path: PathBuf,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Check a configuration as serve would, without listening: ok, or all mistakes
    Check {
        #[command(flatten)]
        from: ConfigArgs,
    },
    /// Print the configuration in force and where each value came from; no secrets
    Print {
        #[command(flatten)]
        from: ConfigArgs,
        /// How
        #[arg(long, value_name = "FORMAT", default_value = "toml")]
        format: Format,
    },
    /// Print the reference of all keys, as Markdown
    Reference,
}

/// How a configuration is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// With comments
    Toml,
    /// Each value as {"value": …, "from": …}
    Json,
}

/// Does it. Exit codes: 0 done, 1 a file cannot be written, 2 the configuration is wrong.
pub(crate) fn run(command: ConfigCommand) -> ExitCode {
    match command {
        ConfigCommand::Init { path, force } => match new_file(&path, force) {
            Ok(()) => say(&format!("{}: written\n", path.display())),
            Err(error) => {
                complain(&[format!("tidegate: {}: {error}", path.display())]);
                ExitCode::FAILURE
            }
        },
        ConfigCommand::Check { from } => match from.sources(Vec::new()).and_then(|s| {
            let loaded = Loaded::load(&s)?;
            whole(&loaded)?;
            Ok(loaded)
        }) {
            Ok(loaded) => {
                warn(&loaded);
                say("ok\n")
            }
            Err(mistakes) => wrong(&mistakes),
        },
        ConfigCommand::Print { from, format } => {
            match from.sources(Vec::new()).and_then(|s| Loaded::load(&s)) {
                Ok(loaded) => {
                    warn(&loaded);
                    say(&match format {
                        Format::Toml => print::toml(&loaded),
                        Format::Json => print::json(&loaded),
                    })
                }
                Err(mistakes) => wrong(&mistakes),
            }
        }
        ConfigCommand::Reference => say(&reference::page()),
    }
}

fn new_file(path: &std::path::Path, force: bool) -> io::Result<()> {
    let secrets = init::Secrets::random()?;
    let written = init::write(path, &init::text(Some(&secrets)), force);
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            io::Error::other("there is a file already; --force replaces it")
        }
        _ => error,
    })
}

/// What `serve` would find out before it listens: certificates and keys, those of tokens too.
/// The store is not opened: a gate may be using it.
fn whole(loaded: &Loaded) -> Result<(), Mistakes> {
    let config = &loaded.config;
    check::has_listener(config)?;
    let top = KeyPath::new();
    let mut problems = Vec::new();
    let mut check = |at: KeyPath, listener: Result<tidegate::Listener, Unusable>| {
        let what = match listener.map(|l| Gate::builder().listen(l).check()) {
            Ok(Ok(())) => None,
            Ok(Err(StartError::Listen(error))) => Some(error.why.to_string()),
            Ok(Err(other)) => Some(other.to_string()),
            Err(unusable) => Some(unusable.to_string()),
        };
        if let Some(what) = what {
            let tls = at.key("tls");
            let at = if loaded.given.find(&tls).is_some() {
                tls
            } else {
                at
            };
            problems.push(Problem::new(loaded.given.origin_of(&at), &at, what));
        }
    };
    for (i, tcp) in config.tcp.iter().enumerate() {
        let listener = tcp.listener(&config.trusted_proxies).map(Into::into);
        check(top.key("tcp").index(i), listener);
    }
    for (i, ws) in config.websocket.iter().enumerate() {
        let listener = ws.listener(&config.trusted_proxies, None).map(Into::into);
        check(top.key("websocket").index(i), listener);
    }
    if let Some(path) = &config.store.path
        && let Some(home) = path.0.parent()
        && !home.as_os_str().is_empty()
        && !home.is_dir()
    {
        let at = top.key("store").key("path");
        let what = format!("there is no directory {}", home.display());
        problems.push(Problem::new(loaded.given.origin_of(&at), &at, what));
    }
    if let Some(Err(error)) = config.auth.settings().map(Auth::new) {
        let keys = error.key.split('.');
        let at = keys.fold(top.key("auth"), |at, key| at.key(key));
        problems.push(Problem::new(loaded.given.origin_of(&at), &at, error.why));
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Mistakes(problems)),
    }
}

fn warn(loaded: &Loaded) {
    let lines = loaded
        .warnings
        .iter()
        .map(|warning| format!("warning: {warning}"));
    complain(&lines.collect::<Vec<_>>());
}

fn wrong(mistakes: &Mistakes) -> ExitCode {
    complain(
        &mistakes
            .0
            .iter()
            .map(Problem::to_string)
            .collect::<Vec<_>>(),
    );
    ExitCode::from(WRONG)
}

fn complain(lines: &[String]) {
    for line in lines {
        // Whoever closed standard error does not want to know.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
