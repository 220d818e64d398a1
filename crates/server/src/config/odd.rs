//! What is legal, and yet seldom meant.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

use super::check::{Problems, listeners};
use super::key::{Kind, Section};
use super::model::auth::JwtConfig;
use super::model::bus::BusKind;
use super::model::logins::Per;
use super::model::{BuiltIn, Config};
use super::problem::{KeyPath, Origin, Problem};
use super::tree::{Data, Node};

/// Everything that deserves a warning.
pub(crate) fn find(config: &Config, tree: &Node) -> Vec<Problem> {
    let mut odd = Problems {
        tree,
        found: Vec::new(),
    };
    for listener in listeners(config) {
        let plain = listener.tls.is_none();
        odd.must(
            !plain || config.auth.jwt.is_none() || is_near(listener.address.as_str()),
            &listener.at.key("address"),
            "tokens come here in plain text, from other machines: without TLS whoever is between can take them",
        );
    }
    if let Some(address) = &config.admin.address {
        odd.must(
            is_near(address.as_str()),
            &KeyPath::new().key("admin").key("address"),
            "the admin interface can be reached from other machines",
        );
    }
    let device_claim = |jwt: &JwtConfig| jwt.device_claim.is_some();
    odd.must(
        config.logins.limit.on().is_none()
            || config.logins.per == Per::User
            || config.auth.jwt.as_ref().is_some_and(device_claim),
        &KeyPath::new().key("logins").key("per"),
        "the device is what the client says: one that tells another each time is logged in as often as it likes, unless auth.jwt.device_claim is set",
    );
    odd.must(
        config.bus == BusKind::Local || !config.services.contains(&BuiltIn::Chat),
        &KeyPath::new().key("services"),
        "each gate with \"chat\" has people and rooms of its own, whom those of the others do not meet; tidegate service chat runs one for all gates",
    );
    secret_in_open_file(tree, &mut odd);
    odd.found
}

/// Whether only this machine reaches it.
fn is_near(address: &str) -> bool {
    let Some((host, _)) = address.rsplit_once(':') else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    address.starts_with("unix:")
        || host == "localhost"
        || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn secret_in_open_file(tree: &Node, odd: &mut Problems<'_>) {
    let top = Kind::Table {
        keys: Config::keys,
        alone: true,
    };
    let mut found = Vec::new();
    secrets(tree, &top, &KeyPath::new(), &mut found);
    for (at, origin) in found {
        let Origin::File(file, _) = origin else {
            continue;
        };
        let mode = std::fs::metadata(file.as_path()).map_or(0, |data| data.mode());
        let what = format!(
            "a secret in a file that everyone on this machine can read (mode {:04o}); chmod 600 stops that",
            mode & 0o777
        );
        odd.must(mode & 0o004 == 0, &at, &what);
    }
}

/// Where there are secrets.
fn secrets<'a>(node: &'a Node, kind: &Kind, at: &KeyPath, found: &mut Vec<(KeyPath, &'a Origin)>) {
    match (&node.data, kind) {
        (_, Kind::Secret) => found.push((at.clone(), &node.origin)),
        (Data::Table(table), Kind::Table { keys, .. }) => {
            for key in keys() {
                if let Some(below) = table.get(key.name) {
                    secrets(below, &key.kind, &at.key(key.name), found);
                }
            }
        }
        (Data::List(list), Kind::Tables(keys)) => {
            let table = Kind::Table {
                keys: *keys,
                alone: true,
            };
            for (i, below) in list.iter().enumerate() {
                secrets(below, &table, &at.index(i), found);
            }
        }
        _ => {}
    }
}
