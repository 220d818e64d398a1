//! Runs a gate from its start to its orderly stop.

use std::io;
use std::net::SocketAddr;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tidegate::bus::BusError;
use tidegate::service::RegisterError;
use tidegate::{Gate, GateBuilder, RunningGate, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin::{self, Admin};
use crate::auth::Auth;
use crate::auth::mint::MintError;
use crate::auth::settings::AuthError;
use crate::bus::{self, Unreached};
use crate::cli::ServeArgs;
use crate::config::gate::Unusable;
use crate::config::model::bus::BusKind;
use crate::config::{Config, Loaded, Mistakes, check};
use crate::http::Bound;
use crate::kernel::{self, Needs};
use crate::systemd::{self, Manager};
use crate::{descriptors, logging};

/// What stopping may take beyond the gate's own deadline, before the process just ends.
const OVERTIME: Duration = Duration::from_secs(5);

/// Why there is no gate, or none any more.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Config(#[from] Mistakes),
    #[error("cannot start: {0}")]
    Start(StartError),
    #[error("cannot start: {0} lives already; give this one another id, by id or --id")]
    Taken(String),
    #[error("cannot start: {0}")]
    Bus(#[from] Unreached),
    #[error("cannot start: {0}")]
    Service(#[from] RegisterError),
    #[error("cannot start: {what} on {address}: {why}")]
    Http {
        what: &'static str,
        address: String,
        why: io::Error,
    },
    #[error("cannot start: {0}")]
    Auth(#[from] AuthError),
    #[error("cannot start: {0}")]
    Unusable(#[from] Unusable),
    #[error("no token: {0}")]
    Mint(#[from] MintError),
    #[error("cannot start: signals: {0}")]
    Signals(io::Error),
    #[error("the gate did not stop in time")]
    StuckAtStop,
}

impl From<StartError> for RunError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Bus(BusError::Taken(who)) => Self::Taken(who),
            other => Self::Start(other),
        }
    }
}

impl RunError {
    /// 2 for what whoever started it has to write otherwise, else 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Mint(error) if error.is_usage() => 2,
            _ => 1,
        }
    }
}

/// `tidegate serve`.
pub(crate) async fn serve(args: ServeArgs) -> Result<(), RunError> {
    let Loaded {
        config, warnings, ..
    } = Loaded::load(&args.sources()?)?;
    check::has_listener(&config).map_err(Mistakes::from)?;
    logging::start(config.log.clone());
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let admin = admin::Settings::of(&config.admin);
    let auth = config.auth.settings().map(Auth::new).transpose()?;
    let hangup = signal(SignalKind::hangup()).map_err(RunError::Signals)?;
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    // A signal ends what waits for a bus or a store.
    let Some(gate) = signals.unless_told(build(&config, auth.as_ref())).await else {
        return Ok(());
    };
    until_signal(gate?, admin, signals, |gate, _| {
        kernel::check(Needs::new(gate.gate().limits(), gate.listeners().count()));
        let watch = auth.as_ref().map(|auth| auth.watch(gate.gate()));
        tokio::spawn(reload_at(hangup, gate.gate().clone(), auth));
        Ok(watch)
    })
    .await
}

/// The gate that is configured, on the bus that is.
async fn build(config: &Config, auth: Option<&Arc<Auth>>) -> Result<GateBuilder, RunError> {
    let id = config.gate_id();
    let bus = match config.bus {
        BusKind::Local => None,
        BusKind::Nats => Some(bus::reach(config, &id).await?),
    };
    Ok(config.gate(&id, auth, bus.as_ref()).await?)
}

/// Reads certificates and the keys of tokens again at each SIGHUP; both log what came of it.
async fn reload_at(mut hangup: Signal, gate: Gate, auth: Option<Arc<Auth>>) {
    while hangup.recv().await.is_some() {
        systemd::reloading();
        let (gate, auth) = (gate.clone(), auth.clone());
        let reload = tokio::task::spawn_blocking(move || {
            if let Some(auth) = &auth {
                auth.reload();
            }
            gate.reload_tls().listeners.is_empty() && auth.is_none()
        });
        match reload.await {
            Ok(nothing) if nothing => {
                tracing::info!("SIGHUP: there are no certificates and no keys to reload");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "SIGHUP: not all was reloaded"),
        }
        systemd::reloaded();
    }
}

/// Runs the gate until a signal comes, then stops it in order. `started` is told where
/// everything is; what it returns lives until the gate has stopped.
pub(crate) async fn until_signal<T>(
    gate: GateBuilder,
    admin: Option<admin::Settings>,
    signals: Signals,
    started: impl FnOnce(&RunningGate, Option<SocketAddr>) -> Result<T, RunError>,
) -> Result<(), RunError> {
    descriptors::raise_limit();
    let admin = match admin {
        Some(settings) => {
            let address = settings.address.clone();
            let state = Admin::new(settings);
            let server = bind_http("admin", &address)?;
            Some((server.serve(state.clone().handler()), state))
        }
        None => None,
    };
    let gate = gate.start().await?;
    if let Some((_, state)) = &admin {
        state.watch(gate.gate().clone());
    }
    let beside = started(&gate, admin.as_ref().map(|(server, _)| server.address()))?;
    tracing::info!(gate = %gate.gate().id(), "ready");
    let manager = Manager::ready(gate.gate());
    signals.told_to_stop().await;
    let limits = gate.gate().limits();
    let deadline = limits.drain_wait.unwrap_or_default() + limits.shutdown_timeout + OVERTIME;
    if let Some(manager) = &manager {
        manager.stopping(deadline);
    }
    // In a task of its own: its last part waits for the gate's threads.
    let stopping = tokio::spawn(gate.stop());
    if tokio::time::timeout(deadline, stopping).await.is_err() {
        // Something keeps a thread of the gate to itself. Nobody can stop that.
        tracing::error!("{}", RunError::StuckAtStop);
        process::exit(1);
    }
    // Only now: readiness could be asked for until here.
    drop((admin, beside, manager));
    Ok(())
}

/// Takes `address` for HTTP.
pub(crate) fn bind_http(what: &'static str, address: &str) -> Result<Bound, RunError> {
    let bound = Bound::new(address).map_err(|why| RunError::Http {
        what,
        address: address.to_owned(),
        why,
    })?;
    tracing::info!(address = %bound.address(), "{what} is served");
    Ok(bound)
}

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// What `work` gives; none where a signal comes first.
    pub(crate) async fn unless_told<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            by = self.next() => {
                tracing::info!(signal = by, "told to stop while starting");
                None
            }
        }
    }

    /// Completes at a signal. A second one then ends the process at once.
    pub(crate) async fn told_to_stop(mut self) {
        let by = self.next().await;
        tracing::info!(
            signal = by,
            "told to stop; a second signal ends the process at once"
        );
        tokio::spawn(async move {
            let by = self.next().await;
            tracing::warn!(signal = by, "stop cut short");
            process::exit(1);
        });
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
