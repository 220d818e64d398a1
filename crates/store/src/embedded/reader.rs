//! The threads that answer queries, each batch from one state of the database.

use redb::{Database, Error, ReadableDatabase};
use tidegate::store::StoreError;
use tidegate::{Settings, UserId};

use super::database::{EXPIRY, SETTINGS, caught};
use super::encoding::decode;
use super::queue::Taken;
use super::{Query, Shared};

/// Queries answered from one state of the database.
const MOST: usize = 64;

/// Answers queries until the queue is closed.
pub(super) fn run(shared: &Shared) {
    while let Some(queries) = shared.queries.take(MOST, None) {
        let database = shared.database.read();
        match &*database {
            Ok(database) => answer(shared, database, queries),
            Err(error) => {
                for Taken { item, .. } in queries {
                    let _ = item.reply.send(Err(error.clone()));
                }
            }
        }
    }
}

fn answer(shared: &Shared, database: &Database, queries: Vec<Taken<Query>>) {
    let now = shared.clock.now();
    for Taken { item, .. } in queries {
        if item.reply.is_closed() {
            continue;
        }
        let found = match caught(|| find(database, &item.user, now)) {
            Ok(Ok(found)) => found,
            Ok(Err(Error::Corrupted(detail))) => Err(StoreError::Corrupt(detail)),
            Ok(Err(error)) => {
                shared.report_broken();
                Err(StoreError::Unavailable(error.to_string()))
            }
            Err(panic) => Err(StoreError::Corrupt(panic)),
        };
        let _ = item.reply.send(found);
    }
}

type Found = Result<Option<Settings>, StoreError>;

fn find(database: &Database, user: &UserId, now: u64) -> Result<Found, Error> {
    let transaction = database.begin_read()?;
    let expiry = transaction.open_table(EXPIRY)?;
    let live = expiry.get(&**user)?.is_some_and(|row| row.value().0 > now);
    if !live {
        return Ok(Ok(None));
    }
    let settings = transaction.open_table(SETTINGS)?;
    Ok(match settings.get(&**user)? {
        Some(row) => decode(row.value()).map(Some),
        None => Err(StoreError::Corrupt("they are missing".into())),
    })
}
