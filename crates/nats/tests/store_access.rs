//! Users, passwords, TLS and buckets of others; whole gates on one bucket.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use bytes::Bytes;
use tidegate::bus::GateError;
use tidegate::store::Store;
use tidegate::{Gate, GateLimits, Guests, RunningGate, Service, Session, Settings, Tcp, UserId};
use tidegate_client::Client;
use tidegate_nats::{
    Auth, ConnectError, KvStore, KvStoreError, KvStoreOptions, NatsOptions, Prefix, Secret,
};
use tidegate_test_servers::{Certificates, NatsServer, eventually};

const DAY: Duration = Duration::from_secs(86_400);

fn password(user: &str, password: &str) -> Auth {
    Auth::UserPassword {
        user: user.to_owned(),
        password: Secret::text(password),
    }
}

async fn refused(nats: &NatsOptions, options: KvStoreOptions) -> KvStoreError {
    match KvStore::connect(nats, options).await {
        Ok(_) => panic!("it connects"),
        Err(error) => {
            let text = format!("{error} {error:?} {nats:?}");
            assert!(!text.contains("hunter2"), "{text}");
            error
        }
    }
}

async fn works(nats: &NatsOptions) {
    let store = KvStore::connect(nats, KvStoreOptions::default())
        .await
        .unwrap();
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
}

#[tokio::test]
async fn encrypted_and_with_a_password() {
    let certificates = Certificates::new();
    let users = "authorization { users: [{ user: gate, password: hunter2right }] }";
    let server = NatsServer::options()
        .config(users)
        .tls(&certificates, false)
        .start()
        .await;
    let mut nats = NatsOptions::new([server.url()]);
    nats.tls.ca = Some(certificates.ca());
    nats.auth = password("gate", "hunter2right");
    works(&nats).await;
    nats.auth = password("gate", "hunter2wrong");
    let error = refused(&nats, KvStoreOptions::default()).await;
    assert_eq!(error, KvStoreError::Connect(ConnectError::Refused));
    nats.auth = Auth::None;
    let error = refused(&nats, KvStoreOptions::default()).await;
    assert_eq!(error, KvStoreError::Connect(ConnectError::Refused));
    nats.auth = password("gate", "hunter2right");
    nats.tls.ca = Some(Certificates::new().ca());
    let error = refused(&nats, KvStoreOptions::default()).await;
    assert!(matches!(error, KvStoreError::Connect(_)), "{error:?}");
}

/// The permissions that the documentation names are enough.
#[tokio::test]
async fn permissions() {
    let users = r#"accounts { A { jetstream: enabled, users: [
        { user: admin, password: hunter2 }
        { user: gate, password: hunter2, permissions: {
            publish: { allow: [
                "tg.inbox.gate1.>", "$KV.tg-settings.>",
                "$JS.API.STREAM.INFO.KV_tg-settings", "$JS.API.STREAM.MSG.GET.KV_tg-settings",
            ] }
            subscribe: { allow: ["tg.inbox.gate1.>"] }
        } }
    ] } }"#;
    let server = NatsServer::options().config(users).start().await;
    let mut nats = NatsOptions::new([server.url()]);
    nats.prefix = Prefix::new("tg").unwrap();
    nats.name = "gate1".to_owned();
    nats.auth = password("gate", "hunter2");
    // It may not make the bucket.
    let mut options = KvStoreOptions::default();
    options.timeout = Duration::from_millis(500);
    let error = refused(&nats, options.clone()).await;
    assert!(matches!(error, KvStoreError::NoAnswer { .. }), "{error:?}");
    options.create = false;
    let error = refused(&nats, options).await;
    assert!(matches!(error, KvStoreError::NoBucket { .. }), "{error:?}");
    let mut admin = nats.clone();
    admin.auth = password("admin", "hunter2");
    works(&admin).await;
    works(&nats).await;
}

#[tokio::test]
async fn without_jetstream() {
    let server = NatsServer::options().without_jetstream().start().await;
    let nats = NatsOptions::new([server.url()]);
    let error = refused(&nats, KvStoreOptions::default()).await;
    assert!(matches!(error, KvStoreError::NoAnswer { .. }), "{error:?}");
}

/// Buckets that lose settings, or are another installation's, are not used.
#[tokio::test]
async fn buckets_of_others() {
    use async_nats::jetstream::kv;
    let server = NatsServer::start().await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let good = || kv::Config {
        bucket: "tidegate-settings".to_owned(),
        history: 1,
        limit_markers: Some(Duration::from_secs(60)),
        ..kv::Config::default()
    };
    let bad = [
        kv::Config {
            history: 2,
            ..good()
        },
        kv::Config {
            limit_markers: None,
            ..good()
        },
        kv::Config {
            max_age: Duration::from_secs(3600),
            ..good()
        },
        kv::Config {
            max_value_size: 1000,
            ..good()
        },
    ];
    let nats = NatsOptions::new([server.url()]);
    for config in bad {
        jetstream.create_key_value(config).await.unwrap();
        let error = refused(&nats, KvStoreOptions::default()).await;
        assert!(matches!(error, KvStoreError::Unfit { .. }), "{error:?}");
        jetstream
            .delete_key_value("tidegate-settings")
            .await
            .unwrap();
    }
    jetstream.create_key_value(good()).await.unwrap();
    works(&nats).await;
    // `a.b` and `a-b` make one name.
    let mut dot = nats.clone();
    dot.prefix = Prefix::new("a.b").unwrap();
    works(&dot).await;
    let mut dash = nats.clone();
    dash.prefix = Prefix::new("a-b").unwrap();
    let error = refused(&dash, KvStoreOptions::default()).await;
    assert!(matches!(error, KvStoreError::Unfit { .. }), "{error:?}");
}

async fn gate(server: &NatsServer) -> RunningGate {
    let service = Service::new("me")
        .request("bind", bind)
        .open_to(Guests)
        .request("echo", async |_: Session, text: String| Bytes::from(text))
        .open_to(Guests)
        .request("set", set);
    let mut limits = GateLimits::default();
    limits.store_timeout = Duration::from_secs(1);
    let nats = NatsOptions::new([server.url()]);
    let store = KvStore::connect(&nats, KvStoreOptions::default()).await;
    Gate::builder()
        .listen(Tcp::bind("127.0.0.1:0"))
        .service(service)
        .gate_limits(limits)
        .store(store.unwrap())
        .start()
        .await
        .unwrap()
}

async fn bind(session: Session, user: String) -> Result<Bytes, GateError> {
    session.bind(UserId::new(&user).unwrap()).await?;
    Ok(session.get("n").unwrap_or_else(|| "nothing".into()).into())
}

async fn set(session: Session, number: String) -> Result<Bytes, GateError> {
    session.set("n", number).await?;
    Ok(session.get("n").unwrap_or_default().into())
}

async fn client(gate: &RunningGate) -> Client {
    Client::builder(&format!("tcp://{}", gate.address(0).unwrap()))
        .request_timeout(Duration::from_secs(60))
        .connect()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_follow_a_user_to_another_gate() {
    let server = NatsServer::start().await;
    let (a, b) = (gate(&server).await, gate(&server).await);
    let on_a = client(&a).await;
    assert_eq!(on_a.request("me/bind", "ada").await.unwrap(), "nothing");
    assert_eq!(on_a.request("me/set", "1").await.unwrap(), "1");
    drop(on_a);
    let on_b = client(&b).await;
    assert_eq!(on_b.request("me/bind", "ada").await.unwrap(), "1");
    assert_eq!(on_b.request("me/set", "2").await.unwrap(), "2");
    drop(on_b);
    let on_a = client(&a).await;
    assert_eq!(on_a.request("me/bind", "ada").await.unwrap(), "2");
}

/// While NATS hangs, changes are refused within the gate's deadline, and everything else
/// goes on; after it, changes work again.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_outlives_a_store_that_hangs() {
    let server = NatsServer::start().await;
    let gate = gate(&server).await;
    let (ada, guest) = (client(&gate).await, client(&gate).await);
    ada.request("me/bind", "ada").await.unwrap();
    assert_eq!(ada.request("me/set", "1").await.unwrap(), "1");
    server.pause();
    for _ in 0..3 {
        assert!(ada.request("me/set", "2").await.is_err());
        assert_eq!(
            ada.request("me/echo", "still here").await.unwrap(),
            "still here"
        );
        assert_eq!(guest.request("me/echo", "me too").await.unwrap(), "me too");
    }
    assert!(guest.request("me/bind", "bob").await.is_err());
    server.resume();
    eventually("changes work again", async || {
        ada.request("me/set", "3").await.ok()
    })
    .await;
    assert_eq!(guest.request("me/bind", "bob").await.unwrap(), "nothing");
    drop(ada);
    let ada = client(&gate).await;
    assert_eq!(ada.request("me/bind", "ada").await.unwrap(), "3");
}
