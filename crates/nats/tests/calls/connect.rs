//! All the ways to be let in, and to be refused.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use sha2::{Digest as _, Sha256};
use tidegate::bus::Bus as _;
use tidegate_nats::{Auth, ConnectError, Nats, NatsOptions, OptionsError, Secret};
use tidegate_test_servers::{Certificates, NatsServer, TempDir};

use crate::support::{Service, code, options, until_down, until_up};

fn by(server: &NatsServer, auth: Auth) -> NatsOptions {
    let mut options = options(server);
    options.auth = auth;
    options
}

async fn refused(options: NatsOptions) -> ConnectError {
    Nats::connect(options)
        .await
        .expect_err("it must be refused")
}

/// Connected for good: that there is no such service is told.
async fn works(options: NatsOptions) {
    let bus = Nats::connect(options).await.unwrap();
    assert_eq!(code(&*bus, "a", "b").await.unwrap().0, 3);
}

#[tokio::test]
async fn by_user_and_password_by_token_and_not_without() {
    let users = "authorization { user: ada, password: \"p w\" }";
    let server = NatsServer::options().config(users).start().await;
    let with = |auth: Auth| by(&server, auth);
    let password = |text: &str| Auth::UserPassword {
        user: "ada".into(),
        password: Secret::text(text),
    };
    works(with(password("p w"))).await;
    assert_eq!(
        refused(with(password("wrong"))).await,
        ConnectError::Refused
    );
    assert_eq!(refused(options(&server)).await, ConnectError::Refused);

    let dir = TempDir::new();
    dir.write("token", "t0ken\n");
    let server = NatsServer::options()
        .config("authorization { token: t0ken }")
        .start()
        .await;
    let with = |auth: Auth| by(&server, auth);
    works(with(Auth::Token(Secret::text("t0ken")))).await;
    works(with(Auth::Token(Secret::file(dir.join("token"))))).await;
    assert_eq!(
        refused(with(Auth::Token(Secret::text("x")))).await,
        ConnectError::Refused
    );
    let missing = refused(with(Auth::Token(Secret::file(dir.join("missing"))))).await;
    assert!(
        matches!(missing, ConnectError::Options(OptionsError::Secret(_))),
        "{missing:?}"
    );
}

#[tokio::test]
async fn by_nkey() {
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let keys = format!(
        "authorization {{ users: [ {{ nkey: {} }} ] }}",
        user.public_key()
    );
    let server = NatsServer::options().config(&keys).start().await;
    let with = |key: &KeyPair| by(&server, Auth::NKey(Secret::text(key.seed().unwrap())));
    works(with(&user)).await;
    assert_eq!(refused(with(&other)).await, ConnectError::Refused);
}

/// A JWT as `nsc` makes them.
fn jwt(issuer: &KeyPair, subject: &KeyPair, kind: &str) -> String {
    let encode = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let mut claims = serde_json::json!({
        "jti": "",
        "iat": 1_700_000_000,
        "iss": issuer.public_key(),
        "sub": subject.public_key(),
        "name": kind,
        "nats": { "type": kind, "version": 2 },
    });
    if kind == "account" {
        claims["nats"]["limits"] = serde_json::json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1,
        });
    } else if kind == "user" {
        for bound in ["subs", "data", "payload"] {
            claims["nats"][bound] = (-1).into();
        }
    }
    let id = Sha256::digest(claims.to_string());
    claims["jti"] = BASE64_URL_SAFE_NO_PAD.encode(id).into();
    let header = serde_json::json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn by_credentials_file_read_anew_for_each_connection() {
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let config = format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload {{ {}: {} }}",
        jwt(&operator, &operator, "operator"),
        account.public_key(),
        jwt(&operator, &account, "account"),
    );
    let mut server = NatsServer::options()
        .config(&config)
        .without_jetstream()
        .start()
        .await;
    let creds = |jwt: String, key: &KeyPair| {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            key.seed().unwrap()
        )
    };
    let dir = TempDir::new();
    let address = options(&server);
    let with = |name: &str, text: String| {
        dir.write(name, text);
        let mut options = address.clone();
        options.auth = Auth::CredsFile(dir.join(name));
        options
    };
    let good = creds(jwt(&account, &user, "user"), &user);
    works(with("good", good)).await;
    // Of an account that the server does not know; and another's key.
    let foreign = creds(jwt(&KeyPair::new_account(), &user, "user"), &user);
    assert_eq!(
        refused(with("foreign", foreign)).await,
        ConnectError::Refused
    );
    let stolen = creds(jwt(&account, &user, "user"), &other);
    assert_eq!(refused(with("stolen", stolen)).await, ConnectError::Refused);

    let mut options = address.clone();
    options.auth = Auth::CredsFile(dir.join("good"));
    let bus = Nats::connect(options).await.unwrap();
    server.kill();
    until_down(&bus).await;
    dir.write("good", "changed to nonsense");
    server.restart_at_once();
    server.ready().await;
    // Refused, and it goes on trying with what the file holds now.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(bus.stats().down);
    dir.write("good", creds(jwt(&account, &other, "user"), &other));
    until_up(&bus).await;
}

#[tokio::test]
async fn over_tls_with_a_certificate_or_not_at_all() {
    let certificates = Certificates::new();
    let server = NatsServer::options().tls(&certificates, true).start().await;
    let tls = |change: fn(&mut NatsOptions, &Certificates)| {
        let mut options = options(&server);
        options.tls.required = true;
        options.tls.ca = Some(certificates.ca());
        options.tls.cert = Some(certificates.client());
        options.tls.key = Some(certificates.client_key());
        change(&mut options, &certificates);
        options
    };
    works(tls(|_, _| {})).await;
    // Without a certificate; to a server signed by nobody known; with files mixed up.
    let nameless = refused(tls(|o, _| (o.tls.cert, o.tls.key) = (None, None))).await;
    assert!(
        matches!(
            nameless,
            ConnectError::Unreachable(_) | ConnectError::Tls(_)
        ),
        "{nameless}"
    );
    let other = Certificates::new();
    let mut unknown = tls(|_, _| {});
    unknown.tls.ca = Some(other.ca());
    let unknown = refused(unknown).await;
    assert!(
        matches!(unknown, ConnectError::Unreachable(_) | ConnectError::Tls(_)),
        "{unknown}"
    );
    let mixed = refused(tls(|o, c| o.tls.key = Some(c.ca()))).await;
    assert!(
        matches!(mixed, ConnectError::Options(OptionsError::Tls(_))),
        "{mixed}"
    );

    let plain = NatsServer::start().await;
    let mut demanding = options(&plain);
    demanding.tls.required = true;
    demanding.tls.ca = Some(certificates.ca());
    let demanding = refused(demanding).await;
    assert!(
        matches!(
            demanding,
            ConnectError::Unreachable(_) | ConnectError::Tls(_)
        ),
        "{demanding}"
    );
}

#[tokio::test]
async fn tls_before_anything_is_said() {
    let certificates = Certificates::new();
    let text = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, handshake_first: true }}",
        certificates.server(),
        certificates.server_key()
    );
    let server = NatsServer::options().config(&text).start().await;
    let mut options = NatsOptions::new([server.address().to_string()]);
    options.tls.first = true;
    options.tls.ca = Some(certificates.ca());
    works(options).await;
}

#[tokio::test]
async fn one_that_can_be_reached_is_enough_and_waiting_is_possible() {
    let mut server = NatsServer::start().await;
    let mut several = options(&server);
    several.servers = vec!["127.0.0.1:1".into(), server.url(), "127.0.0.1:2".into()];
    works(several).await;
    let mut none = options(&server);
    none.servers = vec!["127.0.0.1:1".into()];
    assert!(matches!(refused(none).await, ConnectError::Unreachable(_)));
    assert!(matches!(
        refused(NatsOptions::new([""])).await,
        ConnectError::Options(OptionsError::Server { .. })
    ));

    server.stop().await;
    let mut patient = options(&server);
    patient.wait = Some(Duration::from_secs(60));
    let waits = tokio::spawn(Nats::connect(patient));
    let mut hasty = options(&server);
    hasty.wait = Some(Duration::from_millis(100));
    assert!(matches!(refused(hasty).await, ConnectError::Unreachable(_)));
    server.restart().await;
    let bus = waits.await.unwrap().unwrap();
    let mut service = Service::on(&server, "tidegate.c.a.b").await;
    let asked = crate::support::Ask::new("a", "b", "").begin(&*bus);
    let question = service.next().await;
    service.answer(&question, "x").await;
    assert_eq!(asked.await.unwrap().body, "x");
}
