//! What keeps something reachable on the bus.

use std::fmt;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

/// Keeps a gate, an instance or a shard reachable; dropping it ends that.
#[must_use = "dropping a registration ends it"]
pub struct Registration(Option<End>);

enum End {
    AtOnce(Box<dyn FnOnce() + Send + Sync>),
    InTime(
        Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send + Sync>,
        Handle,
    ),
}

impl Registration {
    /// A registration that runs `end` once when dropped.
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(End::AtOnce(Box::new(end))))
    }

    /// A registration whose end takes time: `end` runs once, to its end, as a task of this
    /// runtime, whether [`end`](Self::end) waits for it or nobody does.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn with_async_end<F: Future<Output = ()> + Send + 'static>(
        end: impl FnOnce() -> F + Send + Sync + 'static,
    ) -> Self {
        let end = move || end().boxed();
        Self(Some(End::InTime(Box::new(end), Handle::current())))
    }

    /// Ends it: when this is done nothing more comes in, and what had come in has been
    /// handed over.
    pub async fn end(mut self) {
        match self.0.take() {
            Some(End::AtOnce(end)) => end(),
            // A task: who waits no longer does not break it off.
            Some(End::InTime(end, runtime)) => drop(runtime.spawn(end()).await),
            None => {}
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        match self.0.take() {
            Some(End::AtOnce(end)) => end(),
            Some(End::InTime(end, runtime)) => drop(runtime.spawn(end())),
            None => {}
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registration")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn an_end_runs_to_its_end_though_nobody_waits_for_it_any_more() {
        let (go, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (goes, is_done) = (go.clone(), done.clone());
        let registration = Registration::with_async_end(move || async move {
            goes.notified().await;
            is_done.notify_one();
        });
        let waited = timeout(Duration::from_millis(1), registration.end()).await;
        assert!(waited.is_err());
        go.notify_one();
        let ended = timeout(Duration::from_secs(30), done.notified()).await;
        assert!(ended.is_ok(), "it was broken off");
    }
}
