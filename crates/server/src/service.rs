//! `tidegate service`: the services that the binary brings with it, in a process of their own.

use std::io::{self, Write};
use std::time::Duration;

use futures_util::future::join_all;
use tidegate::Service;
use tidegate::service::RunningService;

use crate::bus::{self, Reached};
use crate::cli::{Detached, ServiceArgs};
use crate::config::{Config, Loaded, Mistakes, check};
use crate::run::{RunError, Signals};
use crate::{chat, descriptors, echo, logging};

/// Runs the services until a signal comes, then lets what is under way finish.
pub(crate) async fn run(args: ServiceArgs) -> Result<(), RunError> {
    let (services, instance) = (args.services.clone(), args.instance.clone());
    let Loaded {
        config, warnings, ..
    } = Loaded::load(&args.sources()?)?;
    check::has_bus(&config).map_err(Mistakes::from)?;
    logging::start(config.log.clone());
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // First: a signal that comes while it starts is not lost.
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    descriptors::raise_limit();
    let name = services.first().map_or("service", |service| service.name());
    let Some(reached) = signals.unless_told(bus::reach(&config, name)).await else {
        return Ok(());
    };
    let reached = reached?;
    let mut running = Vec::new();
    for service in services {
        let mut service = built_in(service);
        if let Some(instance) = &instance {
            service = service.instance(instance.as_str());
        }
        running.push(service.register(reached.bus.clone()).await?);
    }
    announce(&running, &reached);
    signals.told_to_stop().await;
    stop(running, &config).await;
    Ok(())
}

fn built_in(service: Detached) -> Service {
    match service {
        Detached::Echo => echo::service(),
        Detached::Chat => chat::service(),
    }
}

/// One line for each, for people and scripts that wait for it.
fn announce(running: &[RunningService], reached: &Reached) {
    let mut out = io::stdout().lock();
    for service in running {
        let (name, instance) = (service.service(), service.instance());
        tracing::info!(service = %name, %instance, "ready");
        // Whoever closed standard output does not want to read it.
        let _ = writeln!(out, "{name} is ready: instance {instance}, {}", reached.at);
    }
    let _ = out.flush();
}

async fn stop(running: Vec<RunningService>, config: &Config) {
    let deadline = Duration::from(config.gate.shutdown_timeout);
    let stopped = join_all(running.into_iter().map(|s| s.stop_within(deadline)));
    let cut_off: usize = stopped.await.into_iter().sum();
    tracing::info!(cut_off, "stopped");
}
