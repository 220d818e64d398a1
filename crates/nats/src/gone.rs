//! What becomes of a gate that died: one of the others tells the services, and cleans up.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::Operation;
use bytes::Bytes;
use futures_util::StreamExt;
use tidegate::bus::{GateGone, GiveWay, SessionOp};
use tidegate_protocol::UserId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::bucket::{Bucket, NotWritten};
use crate::membership::Reach;
use crate::record::{Entry, Record};
use crate::registrar::{Registrar, replaced};
use crate::view::Gone;

/// How long it is remembered who told of a death.
const TOLD: Duration = Duration::from_secs(3600);
/// For the next record, of all that are read.
const NEXT: Duration = Duration::from_secs(5);
/// Records cleaned at a time.
const AT_A_TIME: usize = 16;
/// Attempts to become the one that tells; between two.
const ATTEMPTS: usize = 20;
const AGAIN: Duration = Duration::from_millis(500);

/// Looks after the gates that died.
pub(crate) async fn bury(
    mut died: mpsc::Receiver<Gone>,
    registrar: Arc<Registrar>,
    reach: Arc<dyn Reach>,
    me: String,
) {
    while let Some(gone) = died.recv().await {
        let (gate, incarnation) = (gone.gate.clone(), gone.incarnation.0);
        tracing::info!(%gate, "a gate has died");
        if !is_first(&registrar.users, &gone, &me).await {
            continue;
        }
        reach.gate_gone(GateGone { gate, incarnation }).await;
        let cleaned = clean(&registrar, &gone, &reach).await;
        tracing::info!(gate = %gone.gate, cleaned, "the records of a gate that died are cleaned");
    }
}

/// Whether it is this gate that tells of it.
async fn is_first(users: &Bucket, gone: &Gone, me: &str) -> bool {
    let incarnation: String = gone.incarnation.into();
    let key = format!("gone.{}.{incarnation}.{}", gone.gate, gone.revision);
    let value = Bytes::from(me.to_owned());
    for _ in 0..ATTEMPTS {
        match users.put(&key, value.clone(), 0, Some(TOLD)).await {
            Ok(_) => return true,
            Err(NotWritten::Changed) => match users.get(&key).await {
                // Its own, of which it did not hear.
                Ok(found) => return found.value == Some(value),
                Err(_) => sleep(AGAIN).await,
            },
            Err(_) => sleep(AGAIN).await,
        }
    }
    tracing::warn!(gate = %gone.gate, "it was not found out who tells that the gate has died");
    false
}

/// Takes the dead gate's logins out of the records, and closes those that it may have replaced
/// without telling their gates. What is missed here the next login of the user finds.
async fn clean(registrar: &Arc<Registrar>, gone: &Gone, reach: &Arc<dyn Reach>) -> usize {
    let Ok(mut records) = registrar.users.watch("u.>").await else {
        return 0;
    };
    let mut cleaning = JoinSet::new();
    let mut cleaned = 0;
    let count = |done: Result<bool, _>| usize::from(done.unwrap_or(false));
    while let Ok(Some(Ok(change))) = timeout(NEXT, records.next()).await {
        let record = (change.operation == Operation::Put).then(|| Record::decode(&change.value));
        if let Some(Ok(record)) = record {
            let of_it = |e: &Entry| e.is_of(&gone.gate, gone.incarnation);
            if record.logins.iter().any(|e| of_it(e) || e.replaced) {
                if cleaning.len() >= AT_A_TIME
                    && let Some(done) = cleaning.join_next().await
                {
                    cleaned += count(done);
                }
                let (registrar, user) = (registrar.clone(), record.user().clone());
                cleaning.spawn(clean_one(registrar, user, reach.clone()));
            }
        }
        if change.delta == 0 {
            break;
        }
    }
    while let Some(done) = cleaning.join_next().await {
        cleaned += count(done);
    }
    cleaned
}

async fn clean_one(registrar: Arc<Registrar>, user: UserId, reach: Arc<dyn Reach>) -> bool {
    for _ in 0..ATTEMPTS {
        let Ok((mut record, revision)) = registrar.read(&user).await else {
            return false;
        };
        let Ok(pruned) = registrar.prune(&mut record).await else {
            return false;
        };
        for login in replaced(&record) {
            let op = SessionOp::GiveWay(user.clone(), GiveWay::Yes);
            // One that cannot be told leaves when its gate is back.
            let _ = reach.session(&login.gate, login.session, op).await;
        }
        if !pruned {
            return false;
        }
        match registrar.write(&record, revision).await {
            Err(NotWritten::Changed) => {}
            written => return written.is_ok(),
        }
    }
    false
}
