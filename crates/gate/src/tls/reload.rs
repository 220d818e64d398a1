//! New files in place of old ones: when asked, and when they change. Connections go on
//! with what they began with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::TlsError;
use super::load::Digest;
use super::served::Served;
use crate::gate::Gate;

/// The least time between two looks at files.
const MIN_WATCH: Duration = Duration::from_millis(10);
/// The most time until the second look at files that have changed: who writes them may
/// not be done.
const SETTLE: Duration = Duration::from_secs(1);
/// A certificate that expires earlier than this is warned of,
const SOON: Duration = Duration::from_secs(14 * DAY.as_secs());
/// as often as this.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What came of [`Gate::reload_tls`], for each listener with TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TlsReload {
    /// In the order of the listeners.
    pub listeners: Vec<ListenerReload>,
}

/// What came of a reload at one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerReload {
    /// The listener's name.
    pub listener: Arc<str>,
    /// What it serves now.
    pub outcome: ReloadOutcome,
}

/// What a listener serves after a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReloadOutcome {
    /// What is in the files now.
    Changed,
    /// What it did: the files are the same.
    Unchanged,
    /// What it did: the files cannot be used.
    Kept(TlsError),
}

impl TlsReload {
    /// The listeners that kept what they had, and why.
    pub fn kept(&self) -> impl Iterator<Item = (&str, &TlsError)> {
        self.listeners.iter().filter_map(|one| match &one.outcome {
            ReloadOutcome::Kept(why) => Some((&*one.listener, why)),
            ReloadOutcome::Changed | ReloadOutcome::Unchanged => None,
        })
    }

    /// Whether any listener serves something new.
    pub fn any_changed(&self) -> bool {
        let mut all = self.listeners.iter();
        all.any(|one| one.outcome == ReloadOutcome::Changed)
    }
}

/// When a listener's certificates expire.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsExpiry {
    /// The listener's name.
    pub listener: Arc<str>,
    /// When the first of those that it serves now expires, issuers in its chains too.
    pub expires: SystemTime,
    /// That certificate's file.
    pub certificate: PathBuf,
}

impl Gate {
    /// Loads certificates, keys and client CAs again, for each listener with TLS. What
    /// passes every check of the start is served from the next handshake on: those that
    /// begin after this returns see nothing older. A listener whose files cannot be used
    /// keeps what it has. Connections go on in any case.
    ///
    /// Reads files, and so may block; each outcome is logged.
    pub fn reload_tls(&self) -> TlsReload {
        let reload = |served: &Arc<Served>| {
            let outcome = match served.reload() {
                Ok(true) => ReloadOutcome::Changed,
                Ok(false) => ReloadOutcome::Unchanged,
                Err(why) => ReloadOutcome::Kept(why),
            };
            log(served, &outcome);
            ListenerReload {
                listener: served.listener().clone(),
                outcome,
            }
        };
        let listeners = self.0.tls.iter().map(reload).collect();
        TlsReload { listeners }
    }

    /// When certificates expire, for each listener with TLS.
    pub fn tls_expiry(&self) -> Vec<TlsExpiry> {
        self.0.tls.iter().map(|served| served.expiry()).collect()
    }
}

fn log(served: &Served, outcome: &ReloadOutcome) {
    let listener = served.listener();
    match outcome {
        ReloadOutcome::Changed => {
            tracing::info!(%listener, "TLS reloaded");
            warn_of_expiry(served);
        }
        ReloadOutcome::Unchanged => {
            tracing::info!(%listener, "TLS not reloaded: its files are the same");
            warn_of_expiry(served);
        }
        ReloadOutcome::Kept(error) => {
            tracing::error!(%listener, %error, "TLS not reloaded; the old certificates are served on");
        }
    }
}

/// Warns of a certificate that expires soon, or has.
fn warn_of_expiry(served: &Served) {
    let TlsExpiry {
        listener,
        expires,
        certificate,
    } = served.expiry();
    let certificate = certificate.display();
    match expires.duration_since(SystemTime::now()) {
        Err(_) => tracing::warn!(%listener, %certificate, "the certificate has expired"),
        Ok(left) if left < SOON => {
            let days = left.as_secs() / DAY.as_secs();
            tracing::warn!(%listener, %certificate, days, "the certificate expires soon");
        }
        Ok(_) => {}
    }
}

/// Warns, now and each day, of certificates that expire soon.
pub(crate) async fn remind(all: Vec<Arc<Served>>) {
    loop {
        for served in &all {
            warn_of_expiry(served);
        }
        sleep(DAY).await;
    }
}

/// Looks at the files each so often, and reloads those that have changed.
///
/// It compares contents, not times or names: files are swapped by way of links too.
pub(crate) async fn watch(all: Vec<Arc<Served>>, every: Duration) {
    let every = every.max(MIN_WATCH);
    let mut watched: Vec<_> = all.into_iter().map(Watched::new).collect();
    loop {
        let settling = watched.iter().any(|one| one.settling);
        sleep(if settling { every.min(SETTLE) } else { every }).await;
        let look = tokio::task::spawn_blocking(move || {
            watched.iter_mut().for_each(Watched::look);
            watched
        });
        match look.await {
            Ok(looked) => watched = looked,
            Err(error) => {
                tracing::error!(%error, "certificates are not watched any more");
                return;
            }
        }
    }
}

/// A listener's files between two looks.
struct Watched {
    served: Arc<Served>,
    /// What the last look saw: nothing new, something new, or something that cannot be
    /// read.
    seen: Result<Option<Digest>, TlsError>,
    /// What is there was seen once only.
    settling: bool,
    /// Why it could not be used, as the log has it.
    told: Option<TlsError>,
}

impl Watched {
    fn new(served: Arc<Served>) -> Self {
        Self {
            served,
            seen: Ok(None),
            settling: false,
            told: None,
        }
    }

    fn look(&mut self) {
        let found = self.served.changed_files();
        // Taken when two looks agree, as what is being written goes on changing.
        self.settling = found != Ok(None) && found != self.seen;
        self.seen = found;
        if self.settling {
            return;
        }
        let outcome = match &self.seen {
            Ok(None) => {
                self.told = None;
                return;
            }
            Ok(Some(_)) => self.served.reload(),
            Err(error) => Err(error.clone()),
        };
        match outcome {
            Ok(_) => {
                self.told = None;
                log(&self.served, &ReloadOutcome::Changed);
            }
            // Tried at each look, told once.
            Err(error) if self.told.as_ref() == Some(&error) => {}
            Err(error) => {
                log(&self.served, &ReloadOutcome::Kept(error.clone()));
                self.told = Some(error);
            }
        }
    }
}
