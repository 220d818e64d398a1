//! The way to Redis: one connection at a time, made anew when it is lost.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use tidegate::store::StoreError;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::connection::{Connection, Dialer, Identity, Lost};
use crate::error::{ConnectError, is_lost, store_error};

/// Between attempts to connect, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A connection that was there for so long was well.
const STEADY: Duration = Duration::from_secs(2);

pub(crate) struct Link {
    state: watch::Receiver<State>,
    keeper: AbortHandle,
}

#[derive(Clone)]
enum State {
    Up(Arc<Connection>),
    /// Lost just now, and the first attempt is under way: it is worth waiting for.
    Connecting,
    Down(Arc<str>),
}

impl Link {
    pub(crate) async fn open(dialer: Dialer) -> Result<Self, ConnectError> {
        let first = Arc::new(dialer.connect(None).await?);
        let (tell, state) = watch::channel(State::Up(first.clone()));
        let keeper = tokio::spawn(keep(dialer, first, tell)).abort_handle();
        Ok(Self { state, keeper })
    }

    /// Has `commands` done, in one round trip; their answers, or the first error among
    /// them.
    ///
    /// Does it once more where the connection is lost meanwhile. They may have been done
    /// already: all that the store does may be done twice.
    pub(crate) async fn ask(&self, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let connection = self.connection(None).await?;
        match connection.ask(commands).await {
            Err(error) if is_lost(&error) => connection.is_useless(),
            answers => return answers.map_err(|error| store_error(&error)),
        }
        let connection = self.connection(Some(&connection)).await?;
        let answers = connection.ask(commands).await;
        answers.map_err(|error| {
            if is_lost(&error) {
                connection.is_useless();
            }
            store_error(&error)
        })
    }

    /// A connection that is up, and another than `lost`.
    async fn connection(
        &self,
        lost: Option<&Arc<Connection>>,
    ) -> Result<Arc<Connection>, StoreError> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| match state {
            State::Up(connection) => lost.is_none_or(|lost| !Arc::ptr_eq(lost, connection)),
            State::Connecting => false,
            State::Down(_) => true,
        });
        match settled.await.as_deref() {
            Ok(State::Up(connection)) => Ok(connection.clone()),
            Ok(State::Down(why)) => Err(StoreError::Unavailable(why.to_string())),
            _ => Err(StoreError::Unavailable("its runtime has ended".into())),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Has a connection, for ever.
async fn keep(dialer: Dialer, mut current: Arc<Connection>, tell: watch::Sender<State>) {
    let mut pause = PAUSES.0;
    loop {
        let since = Instant::now();
        let why = current.watch(dialer.answer_timeout).await;
        tracing::warn!(why = why.text(), "lost the connection to Redis");
        let before = current.identity.clone();
        drop(current);
        // One that was closed may just have been idle for long, or Redis starts again.
        if why == Lost::Ended && since.elapsed() > STEADY {
            pause = PAUSES.0;
            tell.send_replace(State::Connecting);
        } else {
            tell.send_replace(State::Down(why.text().into()));
            sleep(pause).await;
        }
        current = reconnect(&dialer, &before, &mut pause, &tell).await;
        tracing::info!("connected to Redis again");
        tell.send_replace(State::Up(current.clone()));
    }
}

async fn reconnect(
    dialer: &Dialer,
    before: &Identity,
    pause: &mut Duration,
    tell: &watch::Sender<State>,
) -> Arc<Connection> {
    let mut told = String::new();
    loop {
        let why = match dialer.connect(Some(before)).await {
            Ok(connection) => return Arc::new(connection),
            Err(error) => error.to_string(),
        };
        if why != told {
            tracing::warn!(why, "cannot connect to Redis; trying on");
            told.clone_from(&why);
        }
        tell.send_replace(State::Down(why.into()));
        sleep(*pause).await;
        *pause = (*pause * 2).min(PAUSES.1);
    }
}
