#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

fn options() -> NatsOptions {
    NatsOptions::new(["127.0.0.1:4222"])
}

#[test]
fn addresses_are_checked_and_never_repeated() {
    for good in [
        "h",
        "h:1",
        "nats://h:4222",
        "tls://h",
        "[::1]:4222",
        "127.0.0.1:4222",
    ] {
        let mut options = options();
        options.servers = vec![good.to_owned()];
        assert_eq!(options.check(), Ok(()), "{good:?}");
    }
    for bad in [
        "",
        "a,b",
        "http://h",
        "ws://h",
        "nats://user:hunter2@h",
        "nats://:hunter2@h",
        "user@h",
        "h\r\nCONNECT {}",
        "h:99999",
        &"x".repeat(600),
    ] {
        let mut options = options();
        options.servers = vec!["h".to_owned(), bad.to_owned()];
        let error = options.check().unwrap_err();
        assert!(matches!(error, OptionsError::Server { .. }), "{bad:?}");
        assert!(!error.to_string().contains("hunter2"));
    }
    let mut none = options();
    none.servers.clear();
    assert_eq!(none.check(), Err(OptionsError::Servers(0)));
}

#[test]
fn names_times_and_numbers_are_bounded() {
    let refused = |change: fn(&mut NatsOptions)| {
        let mut options = options();
        change(&mut options);
        options.check().unwrap_err()
    };
    assert_eq!(
        refused(|o| o.name = "a.b".into()),
        OptionsError::Name("a.b".into())
    );
    assert!(matches!(
        refused(|o| o.call_timeout = Duration::ZERO),
        OptionsError::Time {
            option: "call_timeout",
            ..
        }
    ));
    assert!(matches!(
        refused(|o| o.lease = Duration::from_secs(1)),
        OptionsError::Time {
            option: "lease",
            ..
        }
    ));
    assert!(matches!(
        refused(|o| o.lease = Duration::from_millis(2500)),
        OptionsError::Lease(_)
    ));
    assert_eq!(refused(|o| o.replicas = 2), OptionsError::Replicas(2));
    assert!(matches!(
        refused(|o| o.events = 0),
        OptionsError::Number {
            option: "events",
            ..
        }
    ));
    assert!(matches!(
        refused(|o| o.in_flight = usize::MAX),
        OptionsError::Number {
            option: "in_flight",
            ..
        }
    ));
    assert_eq!(
        refused(|o| o.tls.cert = Some("c".into())),
        OptionsError::Tls(TlsFileError::Half)
    );
    assert_eq!(
        refused(|o| o.auth = Auth::UserPassword {
            user: "a\nb".into(),
            password: Secret::text("x"),
        }),
        OptionsError::User
    );
}

#[test]
fn secrets_are_not_shown() {
    let mut options = options();
    for auth in [
        Auth::Token(Secret::text("hunter2")),
        Auth::NKey(Secret::text("hunter2")),
        Auth::UserPassword {
            user: "u".into(),
            password: Secret::text("hunter2"),
        },
    ] {
        options.auth = auth;
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}

#[test]
fn secrets_are_read_from_files_and_checked() {
    let dir = std::env::temp_dir().join(format!("tidegate-auth-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let put = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let read = |auth: Auth| read_auth(&auth);

    let token = put("token", "s3cret\r\nnot this\n");
    assert!(
        matches!(read(Auth::Token(Secret::file(token))), Ok(Credentials::Token(t)) if t == "s3cret")
    );
    for bad in ["", "\n", "a\u{1}b"] {
        let file = Secret::file(put("bad", bad));
        assert!(
            matches!(read(Auth::Token(file)), Err(SecretError::NotOne(_))),
            "{bad:?}"
        );
    }
    let missing = Secret::file(dir.join("missing"));
    assert!(matches!(
        read(Auth::Token(missing)),
        Err(SecretError::File { .. })
    ));
    let large = Secret::file(put("large", &"x".repeat(70_000)));
    assert!(matches!(
        read(Auth::Token(large)),
        Err(SecretError::File { .. })
    ));

    let user = nkeys::KeyPair::new_user();
    let seed = user.seed().unwrap();
    let found = read(Auth::NKey(Secret::text(&seed)));
    assert!(matches!(found, Ok(Credentials::Key { jwt: None, .. })));
    let account = nkeys::KeyPair::new_account().seed().unwrap();
    for bad in ["SUAAAA", &account, &user.public_key()] {
        let found = read(Auth::NKey(Secret::text(bad)));
        assert!(matches!(found, Err(SecretError::Seed(_))), "{bad}");
        assert!(!format!("{}", found.err().unwrap()).contains(bad));
    }

    let creds = format!(
        "-----BEGIN NATS USER JWT-----\r\na.b-c.d_e\r\n------END NATS USER JWT------\r\n\r\n\
         ***** IMPORTANT *****\r\n\r\n-----BEGIN USER NKEY SEED-----\r\n{seed}\r\n\
         ------END USER NKEY SEED------\r\n"
    );
    let found = read(Auth::CredsFile(put("creds", &creds)));
    assert!(matches!(found, Ok(Credentials::Key { jwt: Some(jwt), .. }) if jwt == "a.b-c.d_e"));
    for bad in [
        String::new(),
        creds.replace("a.b-c.d_e", ""),
        creds.replace("a.b-c.d_e", "a b"),
        creds.replace(&seed, "SU"),
        creds.replace("USER NKEY SEED", "OTHER"),
    ] {
        let found = read(Auth::CredsFile(put("creds", &bad)));
        assert!(matches!(found, Err(SecretError::Creds(_))), "{bad}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn tls_files_are_looked_into() {
    let dir = std::env::temp_dir().join(format!("tidegate-nats-tls-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let empty = dir.join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let with_ca = |ca: &std::path::Path| TlsOptions {
        ca: Some(ca.to_owned()),
        ..TlsOptions::default()
    };
    let nothing = with_ca(&empty).check_files();
    assert!(matches!(
        nothing,
        Err(TlsFileError::Nothing {
            what: "certificate",
            ..
        })
    ));
    let missing = with_ca(&dir.join("missing")).check_files();
    assert!(
        matches!(missing, Err(TlsFileError::File { .. })),
        "{missing:?}"
    );
    let cert = TlsOptions {
        key: Some(empty),
        ..TlsOptions::default()
    };
    assert!(matches!(
        cert.check_files(),
        Err(TlsFileError::Nothing {
            what: "private key",
            ..
        })
    ));
    std::fs::remove_dir_all(&dir).unwrap();
}
