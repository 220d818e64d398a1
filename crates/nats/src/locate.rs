//! Which gates a user's sessions are on.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tidegate::bus::GateError;
use tidegate_protocol::{GateId, UserId};

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
    let read = |(i, user): (usize, UserId)| async move {
        let (mut record, _) = registrar.read(&user).await?;
        registrar.prune(&mut record).await?;
        Ok::<_, GateError>((i, record))
    };
    let users: Vec<_> = users.iter().cloned().enumerate().collect();
    let mut records = stream::iter(users).map(read).buffer_unordered(AT_A_TIME);
    let mut gates = BTreeMap::<GateId, Vec<usize>>::new();
    while let Some((i, record)) = records.try_next().await? {
        for login in record.logins.into_iter().filter(|e| !e.replaced) {
            let users = gates.entry(login.gate).or_default();
            if users.last() != Some(&i) {
                users.push(i);
            }
        }
    }
    Ok(gates)
}
