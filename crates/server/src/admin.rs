//! The admin interface: is it alive, does it take clients.

use std::sync::{Arc, OnceLock};

use hyper::StatusCode;
use tidegate::Gate;

use crate::http::{Handler, Reply};

/// What the admin interface knows: nothing before the gate has started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admin(Arc<OnceLock<Gate>>);

impl Admin {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The gate has started.
    pub(crate) fn watch(&self, gate: Gate) {
        // There is one gate.
        let _ = self.0.set(gate);
    }

    /// Answers `/healthz` while the process lives, and `/readyz` by whether the gate takes
    /// clients.
    pub(crate) fn handler(&self) -> Handler {
        let gate = self.0.clone();
        Arc::new(move |path| match path {
            "/healthz" => Some(Reply::text(StatusCode::OK, "alive\n")),
            "/readyz" if gate.get().is_some_and(Gate::is_ready) => {
                Some(Reply::text(StatusCode::OK, "ready\n"))
            }
            "/readyz" => Some(Reply::text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")),
            _ => None,
        })
    }
}
