//! The bus that a configuration asks for.

use std::sync::Arc;

use thiserror::Error;
use tidegate_nats::{Auth, ConnectError, Nats, NatsOptions, Prefix, Secret};

use crate::config::Config;
use crate::config::model::bus::NatsConfig;
use crate::config::value::file::FilePath;

/// NATS, as others are on it.
pub(crate) struct Reached {
    pub(crate) bus: Arc<Nats>,
    /// Where it is, for people.
    pub(crate) at: String,
}

/// Why there is no bus.
#[derive(Debug, Error)]
#[error("NATS at {servers}: {why}")]
pub(crate) struct Unreached {
    servers: String,
    why: ConnectError,
}

/// Connects to NATS, for the gate or service that is called `name`.
pub(crate) async fn reach(config: &Config, name: &str) -> Result<Reached, Unreached> {
    let nats = config.nats.clone().unwrap_or_default();
    let at = nats.at();
    let options = nats.options(name);
    match Nats::connect(options).await {
        Ok(bus) => {
            tracing::info!(servers = at, prefix = nats.prefix.as_str(), name, "on NATS");
            Ok(Reached { bus, at })
        }
        Err(why) => Err(Unreached { servers: at, why }),
    }
}

impl NatsConfig {
    /// What the client of NATS makes of it.
    pub(crate) fn options(&self, name: &str) -> NatsOptions {
        let name = self.name.as_ref().map_or(name, |name| name.as_str());
        let mut options = NatsOptions::new(self.servers.0.iter().map(|s| s.as_str()));
        options.auth = self.auth();
        options.name = name.to_owned();
        // Not what is let pass by the configuration's own check.
        options.prefix = Prefix::new(self.prefix.as_str()).unwrap_or_default();
        options.connect_timeout = self.connect_timeout.into();
        options.wait = self.wait.clone().into();
        options.ask_timeout = self.ask_timeout.into();
        options.call_timeout = self.call_timeout.into();
        options.lease = self.lease.into();
        options.replicas = self.replicas;
        options.in_flight = self.in_flight;
        options.outbound = self.outbound;
        options.inbound = self.inbound;
        options.events = self.events;
        if let Some(tls) = &self.tls {
            options.tls.required = true;
            options.tls.first = tls.first;
            options.tls.ca = tls.ca.as_ref().map(|file| file.0.clone());
            options.tls.cert = tls.cert.as_ref().map(|file| file.0.clone());
            options.tls.key = tls.key.as_ref().map(|file| file.0.clone());
        }
        options
    }

    fn auth(&self) -> Auth {
        let secret = |text: &Option<crate::secret::Secret>, file: &Option<FilePath>| {
            let file = file.as_ref().map(|file| Secret::file(&file.0));
            file.or_else(|| Some(Secret::text(text.as_ref()?.expose())))
        };
        if let Some(file) = &self.creds_file {
            return Auth::CredsFile(file.0.clone());
        }
        if let Some(file) = &self.nkey_seed_file {
            return Auth::NKey(Secret::file(&file.0));
        }
        if let Some(token) = secret(&self.token, &self.token_file) {
            return Auth::Token(token);
        }
        match (&self.user, secret(&self.password, &self.password_file)) {
            (Some(user), Some(password)) => Auth::UserPassword {
                user: user.as_str().to_owned(),
                password,
            },
            _ => Auth::None,
        }
    }

    /// Where it is, for people.
    pub(crate) fn at(&self) -> String {
        let servers: Vec<&str> = self.servers.0.iter().map(|s| s.as_str()).collect();
        servers.join(", ")
    }
}
