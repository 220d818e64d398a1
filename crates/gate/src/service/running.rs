//! A registered service, and how it stops.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::{InstanceId, Name};
use tokio::time::timeout;

use super::STOP_DEADLINE;
use super::runtime::Inner;
use crate::bus::Registration;

/// How long tasks that were cut off may take to notice. Only a handler that keeps its
/// thread to itself needs more, and nobody can stop that one.
const CUT_DEADLINE: Duration = Duration::from_secs(1);

/// A service's instance, reachable until it is stopped.
///
/// Dropped it stops at once: what is under way is cut off, and its callers are told that
/// the outcome is unknown.
#[must_use = "a service stops when this is dropped"]
pub struct RunningService {
    inner: Arc<Inner>,
    registration: Option<Registration>,
}

impl RunningService {
    pub(super) fn new(inner: Arc<Inner>, registration: Registration) -> Self {
        Self {
            inner,
            registration: Some(registration),
        }
    }

    /// The service.
    pub fn service(&self) -> &Name {
        &self.inner.info.service
    }

    /// This instance of it.
    pub fn instance(&self) -> &InstanceId {
        &self.inner.info.instance
    }

    /// Calls and events that are pending or wait for one that is.
    pub fn under_way(&self) -> usize {
        self.inner.under_way.count()
    }

    /// [`stop_within`](Self::stop_within) of [`STOP_DEADLINE`].
    pub async fn stop(self) -> usize {
        self.stop_within(STOP_DEADLINE).await
    }

    /// Takes no new calls, lets those under way finish within `deadline` and cuts off
    /// the rest, whose callers are told that the outcome is unknown. Answers how many
    /// were cut off.
    pub async fn stop_within(mut self, deadline: Duration) -> usize {
        let registration = self.registration.take();
        let under_way = &self.inner.under_way;
        let drained = async {
            if let Some(registration) = registration {
                registration.end().await;
            }
            under_way.finished().await;
        };
        // Whether it timed out is what the count says.
        let _ = timeout(deadline, drained).await;
        let left = self.cut_off();
        let last = async {
            under_way.finished().await;
            // The answers, too: perhaps the process ends after this.
            self.inner.bus.flush().await;
        };
        let _ = timeout(CUT_DEADLINE, last).await;
        left
    }

    fn cut_off(&self) -> usize {
        let left = self.inner.under_way.count();
        if self.inner.under_way.cut_off() && left > 0 {
            let (service, instance) = (&**self.service(), &**self.instance());
            tracing::warn!(service, instance, left, "calls and events were cut off");
        }
        left
    }
}

impl Drop for RunningService {
    fn drop(&mut self) {
        drop(self.registration.take());
        // Also when nobody waited for `stop` to come to its end.
        self.cut_off();
    }
}

impl fmt::Debug for RunningService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningService")
            .field("service", self.service())
            .field("instance", self.instance())
            .finish_non_exhaustive()
    }
}
