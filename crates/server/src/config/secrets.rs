//! Secrets that are in files of their own.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::key::{Key, Section};
use super::model::auth::JwtConfig;
use super::model::bus::NatsConfig;
use super::model::listener::TcpConfig;
use super::model::store::RedisConfig;
use super::model::{AdminConfig, Config};
use super::problem::{KeyPath, Problem};
use super::tree::Node;
use super::value::file::FilePath;
use super::value::secret;
use crate::secret::Secret;

/// Larger files are no secrets.
const LARGEST: u64 = 64 * 1024;

/// What is wrong, and what is odd but no mistake.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

/// Reads the secrets whose files are named.
pub(crate) fn read(config: &mut Config, tree: &Node) -> Findings {
    let mut findings = Findings::default();
    let top = KeyPath::new();
    let mut read = |table: &KeyPath, keys: Vec<Key>, name, slot: &mut _, file: &Option<_>| {
        let range = keys
            .iter()
            .find(|key| key.name == name)
            .and_then(|key| key.range);
        one(tree, table, name, range, slot, file.as_ref(), &mut findings);
    };
    let AdminConfig {
        token, token_file, ..
    } = &mut config.admin;
    read(
        &top.key("admin"),
        AdminConfig::keys(),
        "token",
        token,
        token_file,
    );
    if let Some(JwtConfig {
        secret,
        secret_file,
        ..
    }) = &mut config.auth.jwt
    {
        let table = top.key("auth").key("jwt");
        read(&table, JwtConfig::keys(), "secret", secret, secret_file);
    }
    if let Some(NatsConfig {
        password,
        password_file,
        token,
        token_file,
        ..
    }) = &mut config.nats
    {
        let (table, keys) = (top.key("nats"), NatsConfig::keys);
        read(&table, keys(), "password", password, password_file);
        read(&table, keys(), "token", token, token_file);
    }
    if let Some(RedisConfig {
        password,
        password_file,
        ..
    }) = &mut config.store.redis
    {
        let table = top.key("store").key("redis");
        read(
            &table,
            RedisConfig::keys(),
            "password",
            password,
            password_file,
        );
    }
    let tcp = config.tcp.iter_mut().enumerate().map(|(i, tcp)| {
        let table = top.key("tcp").index(i);
        (table, &mut tcp.encryption_key, &tcp.encryption_key_file)
    });
    let ws = config.websocket.iter_mut().enumerate().map(|(i, ws)| {
        let table = top.key("websocket").index(i);
        (table, &mut ws.encryption_key, &ws.encryption_key_file)
    });
    for (table, key, file) in tcp.chain(ws) {
        read(&table, TcpConfig::keys(), "encryption_key", key, file);
    }
    if let Some(nats) = &config.nats {
        let table = top.key("nats");
        for (key, file) in [
            ("nkey_seed_file", &nats.nkey_seed_file),
            ("creds_file", &nats.creds_file),
        ] {
            later(tree, &table.key(key), file.as_ref(), &mut findings);
        }
    }
    findings
}

fn one(
    tree: &Node,
    table: &KeyPath,
    name: &str,
    range: Option<(u64, u64)>,
    slot: &mut Option<Secret>,
    file: Option<&FilePath>,
    findings: &mut Findings,
) {
    let Some(FilePath(file)) = file else {
        return;
    };
    let at = table.key(&format!("{name}_file"));
    let origin = tree.origin_of(&at);
    let mut wrong = |what: String| findings.problems.push(Problem::new(origin, &at, what));
    if slot.is_some() {
        return wrong(format!("{name} is given too, expected one of the two"));
    }
    let (text, mode) = match contents(file) {
        Ok(read) => read,
        Err(e) => return wrong(format!("{}: cannot be read: {e}", file.display())),
    };
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if let Some(found) = secret::fault(text, range) {
        let (least, most) = range.unwrap_or((1, LARGEST));
        return wrong(format!(
            "{}: found {found}, expected a secret of {least} to {most} bytes",
            file.display()
        ));
    }
    *slot = Some(Secret::new(text));
    let open = open_to_all(file, mode).map(|what| Problem::new(origin, &at, what));
    findings.warnings.extend(open);
}

/// Looks at a file with a secret that is read when it is needed.
fn later(tree: &Node, at: &KeyPath, file: Option<&FilePath>, findings: &mut Findings) {
    let Some(FilePath(file)) = file else {
        return;
    };
    let origin = tree.origin_of(at);
    let problem = |what| Problem::new(origin, at, what);
    match contents(file) {
        Ok((_, mode)) => {
            let open = open_to_all(file, mode);
            findings.warnings.extend(open.map(problem));
        }
        Err(e) => {
            let what = format!("{}: cannot be read: {e}", file.display());
            findings.problems.push(problem(what));
        }
    }
}

fn open_to_all(file: &Path, mode: u32) -> Option<String> {
    (mode & 0o004 != 0).then(|| {
        format!(
            "{} can be read by everyone on this machine (mode {:04o}); chmod 600 stops that",
            file.display(),
            mode & 0o777
        )
    })
}

/// Text and mode of a file.
fn contents(path: &Path) -> io::Result<(String, u32)> {
    use std::io::Read;
    let file = std::fs::File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text)?;
    Ok((text, mode))
}
