//! What a store keeps: what was saved, for whom, and in which order.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join;
use tidegate_protocol::Settings;
use tidegate_protocol::name::MAX_USER_ID;
use tidegate_protocol::session::MAX_SETTINGS;

use super::super::{Store, StoreError};
use super::{Fault, Outcome, Time, Users, expect, settings};

pub(super) async fn nothing_at_first(
    store: &impl Store,
    users: &Users,
    _: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    expect(store, &users.user("")?, None, "at first").await
}

pub(super) async fn what_was_saved(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let big = "x".repeat(MAX_SETTINGS - 3);
    let many: BTreeMap<String, String> = (0..500)
        .map(|i| (format!("key {i}"), i.to_string()))
        .collect();
    let many = Settings::try_from(many).map_err(|e| Fault(e.to_string()))?;
    let escaped = Settings::try_from(grow_most()).map_err(|e| Fault(e.to_string()))?;
    let cases = [
        settings(&[("name", "ada")])?,
        Settings::new(),
        settings(&[("", "empty key"), ("empty value", "")])?,
        settings(&[("喵", "\u{1f431}"), ("quote\"\\", "\r\n\0\u{1b}[31m\u{7f}")])?,
        settings(&[("big", &big)])?,
        many,
        escaped,
    ];
    for (i, case) in cases.iter().enumerate() {
        let user = users.user(&format!("-{i}"))?;
        store.save(&user, case, time.long()).await?;
        expect(store, &user, Some(case), "after a save").await?;
    }
    Ok(())
}

/// As many short keys of what grows most when it is escaped as there is room for.
fn grow_most() -> BTreeMap<String, String> {
    let escaped_as_six = (1..32_u8).filter(|b| !matches!(b, 8 | 9 | 10 | 12 | 13));
    let mut keys = vec![String::new()];
    let mut size = 0;
    for i in 0.. {
        for byte in escaped_as_six.clone() {
            let key = format!("{}{}", keys[i], char::from(byte));
            size += key.len();
            if size > MAX_SETTINGS {
                return keys.into_iter().map(|key| (key, String::new())).collect();
            }
            keys.push(key);
        }
    }
    BTreeMap::new()
}

pub(super) async fn save_replaces(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let user = users.user("")?;
    store
        .save(&user, &settings(&[("a", "1"), ("b", "2")])?, time.long())
        .await?;
    let second = settings(&[("b", "3"), ("c", "4")])?;
    store.save(&user, &second, time.long()).await?;
    expect(store, &user, Some(&second), "after a second save").await?;
    store.save(&user, &Settings::new(), time.long()).await?;
    expect(
        store,
        &user,
        Some(&Settings::new()),
        "after a save of no settings",
    )
    .await
}

pub(super) async fn users_are_apart(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let suffixes = [
        "",
        "a",
        "A",
        "a ",
        " a",
        "a/b",
        "a.b",
        "a:b",
        "a*",
        "a>",
        "a%20",
        "a=",
        "a\\",
        "a'\"",
        "a$",
        "../a",
        "ä",
        "a\u{308}",
        "喵",
        "a?",
        "a#",
        "{a}",
        "[a]",
        "a\u{200b}",
        "a\u{202e}b",
        "a\u{feff}",
        "\u{10ffff}",
        "a\u{e000}",
        "a,b",
        "a;b",
        "a|b",
        "a\"b",
        "a--",
        "a%",
        "a_",
        "-1",
        "a\u{a0}",
    ];
    let mut all = Vec::new();
    for suffix in suffixes {
        let user = users.user(suffix)?;
        let own = settings(&[("i am", suffix)])?;
        store.save(&user, &own, time.long()).await?;
        all.push((user, own));
    }
    // As long as an id may be, of one and of several bytes a character.
    let room = MAX_USER_ID - users.0.len();
    let long = ["z".repeat(room - 1), "\u{1f431}".repeat(room / 4 - 1)];
    let long = long
        .iter()
        .flat_map(|long| ["x", "y"].map(|last| (long, last)));
    for (long, last) in long {
        let user = users.user(&format!("{long}{last}"))?;
        let own = settings(&[("i am", last)])?;
        store.save(&user, &own, time.long()).await?;
        all.push((user, own));
    }
    for (user, own) in &all {
        expect(store, user, Some(own), "beside other users").await?;
    }
    for i in 0..all.len() {
        store.delete(&all[i].0).await?;
        expect(store, &all[i].0, None, "after its delete").await?;
        if let Some((user, own)) = all.get(i + 1) {
            expect(store, user, Some(own), "after another user's delete").await?;
        }
    }
    Ok(())
}

pub(super) async fn delete_forgets(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let user = users.user("")?;
    store.delete(&user).await?;
    let own = settings(&[("a", "1")])?;
    store.save(&user, &own, time.long()).await?;
    store.delete(&user).await?;
    expect(store, &user, None, "after a delete").await?;
    store.delete(&user).await?;
    store.save(&user, &own, time.long()).await?;
    expect(store, &user, Some(&own), "saved again after a delete").await
}

pub(super) async fn in_order(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let user = users.user("")?;
    let changes = async {
        for round in 0..40 {
            let own = settings(&[("round", &round.to_string())])?;
            store.save(&user, &own, time.long()).await?;
            expect(store, &user, Some(&own), "after a save").await?;
            if round % 3 == 0 {
                store.delete(&user).await?;
                expect(store, &user, None, "after a delete").await?;
            }
            if round % 5 == 0 {
                store.delete(&user).await?;
                store.save(&user, &own, time.long()).await?;
                store.save(&user, &Settings::new(), time.long()).await?;
                expect(store, &user, Some(&Settings::new()), "after two saves").await?;
            }
        }
        Outcome::Ok(())
    };
    // The gate's heartbeats come in between.
    let heartbeats = async {
        for _ in 0..40 {
            store
                .heartbeat(std::slice::from_ref(&user), time.long())
                .await?;
        }
        Outcome::Ok(())
    };
    let (changes, heartbeats) = join(changes, heartbeats).await;
    changes.and(heartbeats)
}

pub(super) async fn given_up(
    store: &impl Store,
    users: &Users,
    time: &Time<impl AsyncFn(Duration)>,
) -> Outcome {
    let user = users.user("")?;
    for round in 0..20 {
        let first = settings(&[("first", &round.to_string())])?;
        let second = settings(&[("second", &round.to_string())])?;
        // As a deadline does it: polled, and dropped.
        let _ = store.save(&user, &first, time.long()).now_or_never();
        store.save(&user, &second, time.long()).await?;
        expect(
            store,
            &user,
            Some(&second),
            "after a save that was waited for",
        )
        .await?;
        let _ = store.delete(&user).now_or_never();
        let _ = store.query(&user).now_or_never();
        store.save(&user, &first, time.long()).await?;
        expect(
            store,
            &user,
            Some(&first),
            "after a delete that was given up",
        )
        .await?;
    }
    Ok(())
}

pub(super) async fn full(store: &impl Store, users: &Users, room: usize) -> Outcome {
    let long = Duration::from_secs(3600);
    let own = settings(&[("a", "1")])?;
    let all = (0..room).map(|i| users.user(&format!("-{i}")));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    let [first, .., last] = all.as_slice() else {
        return Err(Fault("the rule needs room for two users".into()));
    };
    for user in &all {
        store.save(user, &own, long).await?;
    }
    let another = users.user("-another")?;
    let refused = store.save(&another, &own, long).await;
    if refused != Err(StoreError::Full) {
        return Err(Fault(format!(
            "one user more than {room} was answered {refused:?}"
        )));
    }
    expect(store, &another, None, "refused").await?;
    expect(store, first, Some(&own), "in a full store").await?;
    let second = settings(&[("b", "2")])?;
    store.save(first, &second, long).await?;
    expect(store, first, Some(&second), "saved again in a full store").await?;
    store.delete(last).await?;
    store.save(&another, &own, long).await?;
    expect(store, &another, Some(&own), "saved after another's delete").await
}
