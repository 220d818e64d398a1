//! What must hold between the keys of the store.

use super::Problems;
use crate::config::model::store::{RedisConfig, StoreConfig, StoreKind};
use crate::config::problem::KeyPath;

pub(super) fn check(store: &StoreConfig, problems: &mut Problems<'_>) {
    let at = KeyPath::new().key("store");
    problems.must(
        store.kind != StoreKind::Embedded || store.path.is_some(),
        &at.key("kind"),
        "\"embedded\" needs store.path, the file it is in",
    );
    problems.must(
        store.kind == StoreKind::Embedded || store.path.is_none(),
        &at.key("path"),
        "only kind = \"embedded\" has a path",
    );
    problems.must(
        store.kind == StoreKind::Redis || store.redis.is_none(),
        &at.key("redis"),
        "only kind = \"redis\" uses it",
    );
    problems.must(
        store.kind == StoreKind::Nats || store.nats.is_none(),
        &at.key("nats"),
        "only kind = \"nats\" uses it",
    );
    let replicas = store.nats.as_ref().map_or(1, |bucket| bucket.replicas);
    problems.must(
        !replicas.is_multiple_of(2),
        &at.key("nats").key("replicas"),
        &format!("found {replicas}, expected 1, 3 or 5"),
    );
    if let Some(redis) = &store.redis {
        check_redis(redis, &at.key("redis"), problems);
    }
}

fn check_redis(redis: &RedisConfig, at: &KeyPath, problems: &mut Problems<'_>) {
    // A password file that cannot be read is told of where it stands.
    let has_file = problems.tree.find(&at.key("password_file")).is_some();
    problems.must(
        redis.user.is_none() || redis.password.is_some() || has_file,
        &at.key("user"),
        "a user needs password or password_file",
    );
    let Some(tls) = &redis.tls else { return };
    let at = at.key("tls");
    problems.must(
        redis.servers.0.iter().all(|server| server.has_tls()),
        &at,
        "a server is spoken with in plain text: expected rediss:// before each",
    );
    problems.must(
        tls.cert.is_none() || tls.key.is_some(),
        &at.key("cert"),
        "a certificate needs key, its private key",
    );
    problems.must(
        tls.key.is_none() || tls.cert.is_some(),
        &at.key("key"),
        "a private key needs cert, its certificate",
    );
}
