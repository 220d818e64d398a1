//! Tells systemd, or whatever stands in for it, how the gate is.
//!
//! Where `NOTIFY_SOCKET` is not set there is nobody to tell, and nothing happens. Messages
//! are those of `sd_notify(3)`.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;
use std::{env, io};

use sd_notify::NotifyState;
use tidegate::Gate;

/// Between two looks at the gate, where no watchdog wants more.
const PERIOD: Duration = Duration::from_secs(15);

/// A service manager that listens; tells it of the gate until dropped.
#[derive(Debug)]
pub(crate) struct Manager {
    /// Closed when dropped, which ends the thread.
    _watch: Sender<()>,
}

impl Manager {
    /// Says that the gate takes clients, and from then on that it is alive, as often as
    /// the watchdog wants to hear it; `None` where nobody listens.
    ///
    /// Alive is a gate whose every shard turns: one that is stuck for half of the
    /// watchdog's time is not, and systemd starts it again.
    pub(crate) fn ready(gate: &Gate) -> Option<Self> {
        env::var_os("NOTIFY_SOCKET")?;
        let gate = gate.clone();
        notify(&[NotifyState::Ready, NotifyState::Status(&status(&gate))]);
        // systemd's advice: twice in the time that it waits.
        let patience = sd_notify::watchdog_enabled().map(|time| time / 2);
        let period = patience.map_or(PERIOD, |patience| patience.min(PERIOD));
        let (watch, stopped) = mpsc::channel::<()>();
        // Not a task: it is to notice when tasks do not run.
        let thread = thread::Builder::new().name("systemd".to_owned());
        let spawned = thread.spawn(move || {
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                look(&gate.shard_lag(), patience, &status(&gate), notify);
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "systemd's watchdog will not be answered");
        }
        Some(Self { _watch: watch })
    }

    /// Says that it stops, and how long that may take.
    pub(crate) fn stopping(&self, at_most: Duration) {
        let micros = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
        notify(&[
            NotifyState::Stopping,
            NotifyState::ExtendTimeoutUsec(micros),
            NotifyState::Status("stopping"),
        ]);
    }
}

/// Says that the configuration is being read again.
pub(crate) fn reloading() {
    // With the time in the same message, or systemd 253 and later takes it for a failure.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
}

/// Says that it has been read, with or without success.
pub(crate) fn reloaded() {
    notify(&[NotifyState::Ready]);
}

/// Tells what is to be told at this time.
fn look(
    lag: &Duration,
    patience: Option<Duration>,
    status: &str,
    tell: impl Fn(&[NotifyState<'_>]),
) {
    match patience {
        Some(patience) if *lag >= patience => {
            tracing::error!(
                ?lag,
                "a shard does not turn; systemd's watchdog is not answered"
            );
            tell(&[NotifyState::Status("a shard does not turn")]);
        }
        Some(_) => tell(&[NotifyState::Watchdog, NotifyState::Status(status)]),
        None => tell(&[NotifyState::Status(status)]),
    }
}

fn status(gate: &Gate) -> String {
    format!(
        "{} connections, {} sessions",
        gate.connection_count(),
        gate.session_count()
    )
}

/// Whoever does not listen any more is not told.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn a_gate_that_is_stuck_is_not_called_alive() {
        let second = Duration::from_secs(1);
        for (lag, patience, wanted) in [
            (Duration::ZERO, Some(second), "WATCHDOG=1 STATUS=s"),
            (second / 2, Some(second), "WATCHDOG=1 STATUS=s"),
            (second, Some(second), "STATUS=a shard does not turn"),
            (second, None, "STATUS=s"),
        ] {
            let told = RefCell::new(Vec::new());
            look(&lag, patience, "s", |states| {
                told.borrow_mut()
                    .extend(states.iter().map(ToString::to_string));
            });
            assert_eq!(told.into_inner().join(" "), wanted, "{lag:?}");
        }
    }
}
