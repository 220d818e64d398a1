//! What must hold between the keys of the bus, and with them.

use super::Problems;
use crate::config::model::Config;
use crate::config::model::bus::{BusKind, NatsConfig};
use crate::config::model::store::StoreKind;
use crate::config::problem::KeyPath;

pub(super) fn check(config: &Config, problems: &mut Problems<'_>) {
    let at = KeyPath::new().key("nats");
    let used = config.bus == BusKind::Nats || config.store.kind == StoreKind::Nats;
    problems.must(
        used || config.nats.is_none(),
        &at,
        "nothing is on NATS: expected bus = \"nats\", or store.kind = \"nats\"",
    );
    if let Some(nats) = &config.nats {
        credentials(nats, &at, problems);
        let lease = nats.lease;
        problems.must(
            lease.0.subsec_nanos() == 0,
            &at.key("lease"),
            &format!("found \"{lease}\", expected whole seconds"),
        );
        let replicas = nats.replicas;
        problems.must(
            !replicas.is_multiple_of(2),
            &at.key("replicas"),
            &format!("found {replicas}, expected 1, 3 or 5"),
        );
        tls(nats, &at, problems);
    }
}

/// Of two ways to say who one is, one would be ignored.
fn credentials(nats: &NatsConfig, at: &KeyPath, problems: &mut Problems<'_>) {
    let given = |key: &str| problems.tree.find(&at.key(key)).is_some();
    let kinds = [
        (
            "user and password",
            given("user") || nats.password.is_some(),
        ),
        ("a token", nats.token.is_some()),
        ("an NKey seed", nats.nkey_seed_file.is_some()),
        ("a credentials file", nats.creds_file.is_some()),
    ];
    let names = kinds.iter().filter(|(_, given)| *given);
    let names: Vec<&str> = names.map(|(name, _)| *name).collect();
    problems.must(
        names.len() <= 1,
        at,
        &format!("found {}, expected one of them", names.join(" and ")),
    );
    // A password file that cannot be read is told of where it stands.
    problems.must(
        nats.user.is_none() || nats.password.is_some() || given("password_file"),
        &at.key("user"),
        "a user needs password or password_file",
    );
    let password = match problems.tree.find(&at.key("password")) {
        Some(_) => at.key("password"),
        None => at.key("password_file"),
    };
    problems.must(
        nats.user.is_some() || nats.password.is_none(),
        &password,
        "a password needs user",
    );
}

fn tls(nats: &NatsConfig, at: &KeyPath, problems: &mut Problems<'_>) {
    let Some(tls) = &nats.tls else { return };
    let at = at.key("tls");
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
