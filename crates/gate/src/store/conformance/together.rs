//! Many operations at once.

use std::time::Duration;

use futures_util::future::join_all;
use tidegate_protocol::session::MAX_SETTINGS;

use super::super::Store;
use super::{Fault, Outcome, Time, Users, expect, settings};

pub(super) async fn many_at_once(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let rounds = (0..50).map(async |i: u32| -> Outcome {
        let user = users.user(&format!("-{i}"))?;
        for round in 0..3 {
            let own = settings(&[("round", &format!("{i} {round}"))])?;
            store.save(&user, &own, time.long()).await?;
            store
                .heartbeat(std::slice::from_ref(&user), time.long())
                .await?;
            expect(store, &user, Some(&own), "beside many others").await?;
        }
        store.delete(&user).await?;
        expect(store, &user, None, "deleted beside many others").await
    });
    join_all(rounds).await.into_iter().collect()
}

pub(super) async fn one_user_at_once(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let user = users.user("")?;
    let big = "x".repeat(MAX_SETTINGS - 100);
    let all = (0..20).map(|i| {
        let text = i.to_string();
        settings(&[("a", &text), ("m", &big[i..]), ("z", &text)])
    });
    let all = all.collect::<Result<Vec<_>, _>>()?;
    let saves = all.iter().map(|own| store.save(&user, own, time.long()));
    for saved in join_all(saves).await {
        saved?;
    }
    match store.query(&user).await? {
        Some(found) if all.contains(&found) => Ok(()),
        Some(found) => Err(Fault(format!(
            "it has {} bytes of settings that nobody saved",
            found.size()
        ))),
        None => Err(Fault("it has nothing".into())),
    }
}
