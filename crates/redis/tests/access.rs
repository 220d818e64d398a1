//! Users, passwords, permissions, TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use tidegate::store::Store;
use tidegate::{Settings, UserId};
use tidegate_redis::{ConnectError, RedisOptions, RedisStore};
use tidegate_test_servers::{Certificates, RedisServer, TempDir, eventually};

const DAY: Duration = Duration::from_secs(86_400);

async fn refused(options: RedisOptions) -> ConnectError {
    let shown = format!("{options:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    match RedisStore::connect(options).await {
        Ok(_) => panic!("it connects"),
        Err(error) => {
            let text = format!("{error} {error:?}");
            assert!(!text.contains("hunter2"), "{text}");
            eprintln!("{error}");
            error
        }
    }
}

async fn works(options: RedisOptions) -> RedisStore {
    let store = RedisStore::connect(options).await.unwrap();
    let (ada, mut own) = (UserId::new("ada").unwrap(), Settings::new());
    own.merge([("a", "1")]).unwrap();
    store.save(&ada, &own, DAY).await.unwrap();
    store
        .heartbeat(std::slice::from_ref(&ada), DAY)
        .await
        .unwrap();
    assert_eq!(store.query(&ada).await, Ok(Some(own)));
    store.delete(&ada).await.unwrap();
    assert_eq!(store.query(&ada).await, Ok(None));
    store
}

#[tokio::test]
async fn passwords() {
    let server = RedisServer::options()
        .config("requirepass hunter2right")
        .start()
        .await;
    let to = |url: String| RedisOptions::new([url]);
    assert!(matches!(
        refused(to(server.url())).await,
        ConnectError::Refused { .. }
    ));
    let wrong = to(server.url()).password("hunter2wrong");
    assert!(matches!(refused(wrong).await, ConnectError::Refused { .. }));
    let wrong = to(server.url_for("", "hunter2wrong"));
    assert!(matches!(refused(wrong).await, ConnectError::Refused { .. }));
    let wrong = to(server.url()).user("nobody").password("hunter2right");
    assert!(matches!(refused(wrong).await, ConnectError::Refused { .. }));
    works(to(server.url()).password("hunter2right")).await;
    works(to(server.url_for("", "hunter2right"))).await;
    // The option is the one that counts.
    works(to(server.url_for("", "hunter2wrong")).password("hunter2right")).await;
}

/// A password is replaced in its file and in Redis, and the connection is lost.
#[tokio::test]
async fn a_password_is_replaced() {
    let server = RedisServer::options()
        .config("requirepass first")
        .start()
        .await;
    let dir = TempDir::new();
    let file = dir.write("password", "first\n");
    let missing = RedisOptions::new([server.url()]).password_file(dir.join("missing"));
    assert!(matches!(refused(missing).await, ConnectError::File { .. }));
    let store = works(RedisOptions::new([server.url()]).password_file(file)).await;
    let client = redis::Client::open(server.url_for("", "first")).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    dir.write("password", "second\n");
    let mut change = redis::pipe();
    change
        .cmd("CONFIG")
        .arg("SET")
        .arg("requirepass")
        .arg("second")
        .ignore();
    change
        .cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .ignore();
    let () = change.query_async(&mut raw).await.unwrap();
    let ada = UserId::new("ada").unwrap();
    eventually("it connects again", async || store.query(&ada).await.ok()).await;
}

/// The permissions that the documentation names are enough, and each is needed.
#[tokio::test]
async fn permissions() {
    let needed = [
        "+get",
        "+set",
        "+del",
        "+pexpire",
        "+ping",
        "+client|info",
        "+client|kill",
    ];
    let user = |name: &str, keys: &str, commands: &[&str]| {
        format!("user {name} on >hunter2 ~{keys} {}\n", commands.join(" "))
    };
    let mut users = user("enough", "shop:settings:*", &needed);
    users += &user("elsewhere", "other:*", &needed);
    for left_out in 0..needed.len() {
        let mut some = needed.to_vec();
        some.remove(left_out);
        users += &user(&format!("without{left_out}"), "shop:settings:*", &some);
    }
    let server = RedisServer::options().config(&users).start().await;
    let options = || {
        RedisOptions::new([server.url()])
            .password("hunter2")
            .prefix("shop")
    };
    works(options().user("enough")).await;
    let names = (0..needed.len()).map(|i| format!("without{i}"));
    for name in names.chain(["elsewhere".into()]) {
        let error = refused(options().user(&name)).await;
        assert!(
            matches!(error, ConnectError::NotPermitted { .. }),
            "{name}: {error}"
        );
    }
}

#[tokio::test]
async fn databases_are_apart() {
    let server = RedisServer::start().await;
    let ada = UserId::new("ada").unwrap();
    let first = works(RedisOptions::new([format!("{}/1", server.url())])).await;
    let second = works(RedisOptions::new([format!("{}/1", server.url())]).database(2)).await;
    first.save(&ada, &Settings::new(), DAY).await.unwrap();
    assert_eq!(second.query(&ada).await, Ok(None));
    assert_eq!(first.query(&ada).await, Ok(Some(Settings::new())));
    let error = refused(RedisOptions::new([server.url()]).database(1000)).await;
    assert!(matches!(error, ConnectError::Unusable { .. }), "{error:?}");
}

#[tokio::test]
async fn encrypted() {
    let certificates = Certificates::new();
    let server = RedisServer::options()
        .config("user default on >hunter2 ~* +@all")
        .tls(&certificates, false)
        .start()
        .await;
    let options = || RedisOptions::new([server.url()]).password("hunter2");
    works(options().ca(certificates.ca())).await;
    let localhost = format!("rediss://localhost:{}", server.address().port());
    works(
        RedisOptions::new([localhost])
            .password("hunter2")
            .ca(certificates.ca()),
    )
    .await;
    // Whom it does not know it does not trust.
    let tls = |error: ConnectError| assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    tls(refused(options()).await);
    tls(refused(options().ca(Certificates::new().ca())).await);
    let password = refused(options().ca(certificates.ca()).password("hunter2wrong")).await;
    assert!(matches!(password, ConnectError::Refused { .. }));
    // No encryption is told, not done without.
    let plain = format!("redis://{}", server.address());
    let error = refused(RedisOptions::new([plain.clone()]).password("hunter2")).await;
    let told = matches!(
        error,
        ConnectError::Unusable { .. } | ConnectError::Unreachable { .. }
    );
    assert!(told, "{error:?}");
    let error = refused(RedisOptions::new([plain]).ca(certificates.ca())).await;
    assert!(matches!(error, ConnectError::CertificatesWithoutTls { .. }));
    let unencrypted = RedisServer::start().await;
    let url = format!("rediss://{}", unencrypted.address());
    // It waits for the end of what it takes for a line.
    let error = refused(RedisOptions::new([url]).ca(certificates.ca())).await;
    assert!(
        matches!(error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
    let insecure = format!("{}/#insecure", server.url());
    let error = refused(RedisOptions::new([insecure]).ca(certificates.ca())).await;
    assert!(matches!(error, ConnectError::Url { .. }), "{error:?}");
    // Files that are none.
    let error = refused(options().ca(certificates.server_key())).await;
    assert!(matches!(error, ConnectError::NotOne { .. }), "{error:?}");
    let error = refused(options().ca("/missing")).await;
    assert!(matches!(error, ConnectError::File { .. }), "{error:?}");
}

#[tokio::test]
async fn client_certificates() {
    let certificates = Certificates::new();
    let server = RedisServer::options()
        .tls(&certificates, true)
        .start()
        .await;
    let options = || RedisOptions::new([server.url()]).ca(certificates.ca());
    works(options().client_certificate(certificates.client(), certificates.client_key())).await;
    refused(options()).await;
    let strangers = Certificates::new();
    refused(options().client_certificate(strangers.client(), strangers.client_key())).await;
    let mixed = options().client_certificate(certificates.client(), strangers.client_key());
    assert!(matches!(refused(mixed).await, ConnectError::NotOne { .. }));
}

#[tokio::test]
async fn mistakes() {
    let none = RedisOptions::new(Vec::<String>::new());
    assert!(matches!(refused(none).await, ConnectError::NoUrl));
    for url in [
        "",
        "x",
        "http://127.0.0.1",
        "redis://:hunter2@",
        "redis://127.0.0.1/x",
    ] {
        let error = refused(RedisOptions::new(["redis://127.0.0.1:1", url])).await;
        assert!(
            matches!(error, ConnectError::Url { number: 2 }),
            "{url}: {error:?}"
        );
    }
    for prefix in ["", "a:b", "a b", "a*", "ä", &"a".repeat(65)] {
        let error = refused(RedisOptions::new(["redis://127.0.0.1:1"]).prefix(prefix)).await;
        assert!(matches!(error, ConnectError::Prefix), "{prefix}: {error:?}");
    }
    let error = refused(RedisOptions::new(["redis://u:hunter2@127.0.0.1:1"])).await;
    assert!(
        matches!(error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
}
