//! Which gates a user's sessions are on.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use tidegate::bus::GateError;
use tidegate_protocol::{GateId, UserId};

use crate::record::Record;
use crate::registrar::Registrar;

/// Records read at a time.
const AT_A_TIME: usize = 256;

/// The gates on which users have sessions, and for each the users, by their places in the list.
/// Whoever is bound is in a record, and none that has gone is missed for long: the gates named
/// here say what is true.
pub(crate) async fn gates_of(
    registrar: &Registrar,
    users: &[UserId],
) -> Result<BTreeMap<GateId, Vec<usize>>, GateError> {
    let mut gates = BTreeMap::<GateId, Vec<usize>>::new();
    for (chunk, some) in users.chunks(AT_A_TIME).enumerate() {
        let records = try_join_all(some.iter().map(|user| read(registrar, user))).await?;
        for (i, record) in records.into_iter().enumerate() {
            let i = chunk * AT_A_TIME + i;
            for login in record.logins.into_iter().filter(|e| !e.replaced) {
                let users = gates.entry(login.gate).or_default();
                if users.last() != Some(&i) {
                    users.push(i);
                }
            }
        }
    }
    Ok(gates)
}

async fn read(registrar: &Registrar, user: &UserId) -> Result<Record, GateError> {
    let (mut record, _) = registrar.read(user).await?;
    registrar.prune(&mut record).await?;
    Ok(record)
}
