//! What is loaded, and what stops the start.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, date_time_ymd};
use tidegate::{ClientAuth, Gate, ListenErrorKind, StartError, Tcp, Tls, TlsError, WebSocket};

use crate::client::{Client, VERSIONS};
use crate::pki::{Ca, Dir, Pair, localhost, openssl, own, own_with, params, rsa, traditional};
use crate::support::Rig;

async fn start(tls: Tls) -> Result<(), TlsError> {
    let listener = Tcp::bind("127.0.0.1:0").tls_with(tls);
    match Gate::builder().shards(0).listen(listener).start().await {
        Ok(gate) => {
            gate.stop().await;
            Ok(())
        }
        Err(StartError::Listen(error)) => match error.why {
            ListenErrorKind::Tls(error) => Err(error),
            other => panic!("{other:?}"),
        },
        Err(other) => panic!("{other:?}"),
    }
}

/// The message of what stops the start.
async fn problem(tls: Tls) -> String {
    start(tls).await.expect_err("it started").to_string()
}

fn chained(leaf: &Pair, rest: &[&Ca]) -> Pair {
    let rest: String = rest.iter().map(|ca| ca.pem()).collect();
    Pair {
        chain: leaf.chain.clone() + &rest,
        key: leaf.key.clone(),
    }
}

#[tokio::test]
async fn chains_are_served_whole_and_must_be_in_order() {
    let dir = Dir::new();
    let root = Ca::root("root");
    let middle = root.intermediate(Ca::params("middle"));
    let lower = middle.intermediate(Ca::params("lower"));
    let leaf = lower.issue(params(&["localhost"]));

    for chain in [&[&lower, &middle][..], &[&lower, &middle, &root]] {
        let tls = dir.pair("chain", &chained(&leaf, chain));
        let rig = Rig::with(|gate| gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls))).await;
        let client = Client::trusting(root.roots());
        client.served(rig.address(0)).await.unwrap();
    }

    let of_the_same_name = root.intermediate(Ca::params("lower"));
    for (name, chain, wanted) in [
        (
            "left-out",
            vec![&lower, &root],
            "certificate 3 in it (CN=root) is not the issuer of certificate 2 (CN=lower), which is CN=middle",
        ),
        (
            "swapped",
            vec![&middle, &lower],
            "certificate 2 in it (CN=middle) is not the issuer",
        ),
        (
            "alien",
            vec![&of_the_same_name],
            "certificate 1 in it (CN=rcgen self signed cert) is not signed by certificate 2 (CN=lower)",
        ),
    ] {
        let tls = dir.pair(name, &chained(&leaf, &chain));
        let error = start(tls).await.unwrap_err();
        assert!(matches!(error, TlsError::Chain { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(wanted), "{text}");
        assert!(text.contains(&format!("{name}.pem")), "{text}");
    }
    // The server's own certificate is not the first.
    let backwards = Pair {
        chain: lower.pem() + &leaf.chain,
        key: leaf.key.clone(),
    };
    let text = problem(dir.pair("backwards", &backwards)).await;
    assert!(text.contains("certificate 2 in it"), "{text}");
}

#[tokio::test]
async fn every_certificate_of_a_chain_must_be_valid_now() {
    let dir = Dir::new();
    let root = Ca::root("root");
    for (years, wanted) in [
        ((2000, 2001), "has expired"),
        ((2089, 2090), "is not valid yet"),
    ] {
        let mut old = Ca::params("middle");
        old.not_before = date_time_ymd(years.0, 1, 1);
        old.not_after = date_time_ymd(years.1, 1, 1);
        let middle = root.intermediate(old);
        let leaf = middle.issue(params(&["localhost"]));
        let tls = dir.pair("chain", &chained(&leaf, &[&middle]));
        let error = start(tls.clone()).await.unwrap_err();
        assert!(matches!(error, TlsError::Validity { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("certificate 2 in it (CN=middle)"), "{text}");
        assert!(text.ends_with(wanted), "{text}");

        // In a second certificate, and in a client CA.
        let (cert, key) = dir.pair_paths("second", &chained(&leaf, &[&middle]));
        let text = problem(dir.pair("good", &localhost()).certificate(cert, key)).await;
        assert!(text.contains("second.pem"), "{text}");
        let ca = dir.write("ca.pem", &(root.pem() + &middle.pem()));
        let good = dir.pair("good", &localhost());
        let text = problem(good.client_auth(ClientAuth::Optional { ca })).await;
        assert!(text.contains("ca.pem") && text.ends_with(wanted), "{text}");
    }
}

#[tokio::test]
async fn keys_of_every_kind_and_form() {
    let dir = Dir::new();
    let generate = |algorithm| KeyPair::generate_for(algorithm).unwrap();
    let rsa = KeyPair::from_pem(&rsa(2048)).unwrap();
    for (key, other_form) in [
        (rsa, Some("-----BEGIN RSA PRIVATE KEY-----")),
        (
            generate(&PKCS_ECDSA_P256_SHA256),
            Some("-----BEGIN EC PRIVATE KEY-----"),
        ),
        (
            generate(&PKCS_ECDSA_P384_SHA384),
            Some("-----BEGIN EC PRIVATE KEY-----"),
        ),
        (generate(&PKCS_ED25519), None),
    ] {
        let mut pair = own_with(params(&["localhost"]), key);
        let pkcs8 = dir.pair("a", &pair);
        let mut listeners = vec![pkcs8];
        if let Some(begin) = other_form {
            pair.key = traditional(&dir.path("a.key"));
            assert!(pair.key.starts_with(begin), "{}", pair.key);
            listeners.push(dir.pair("b", &pair));
        }
        let rig = Rig::with(|gate| {
            let add = |gate: tidegate::GateBuilder, tls: &Tls| {
                gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls.clone()))
            };
            listeners.iter().fold(gate, add)
        })
        .await;
        for i in 0..listeners.len() {
            for version in VERSIONS {
                Client::version(version)
                    .served(rig.address(i))
                    .await
                    .unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_said_why() {
    let dir = Dir::new();
    let pair = localhost();
    let (cert, plain) = dir.pair_paths("good", &pair);
    let plain = plain.to_str().unwrap();
    let pkcs8 = openssl(&[
        "pkcs8", "-topk8", "-v2", "aes128", "-passout", "pass:x", "-in", plain,
    ]);
    let sec1 = openssl(&[
        "pkey",
        "-traditional",
        "-aes128",
        "-passout",
        "pass:x",
        "-in",
        plain,
    ]);
    let weak = rsa(1024);
    let p521 = openssl(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-521",
    ]);
    assert!(sec1.contains("Proc-Type"), "{sec1}");
    for (text, wanted) in [
        (&pkcs8, "it is encrypted"),
        (&sec1, "it is encrypted"),
        (&weak, "RSA of 2048"),
        (&p521, "P-256 or P-384"),
    ] {
        let key = dir.write("bad.key", text);
        let error = start(Tls::new(&cert, &key)).await.unwrap_err();
        assert!(
            matches!(&error, TlsError::File { path, .. } if *path == key),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(text.contains(wanted) && text.contains("bad.key"), "{text}");
        assert!(!text.contains('\n'), "{text:?}");
    }
    let other = dir.write("other.key", &localhost().key);
    let text = problem(Tls::new(&cert, &other)).await;
    assert!(
        text.contains("good.pem") && text.contains("other.key"),
        "{text}"
    );
}

#[tokio::test]
async fn further_certificates_and_authorities_are_checked_too() {
    let dir = Dir::new();
    let good = dir.pair("good", &localhost());
    let nameless = dir.pair_paths("nameless", &own(params(&[])));
    let absent = (dir.path("absent.pem"), dir.path("absent.key"));
    for ((cert, key), wanted) in [(nameless, "nameless.pem"), (absent, "absent.pem")] {
        let text = problem(good.clone().certificate(cert, key)).await;
        assert!(text.contains(wanted), "{text}");
    }
    let empty = dir.write("empty.pem", "");
    let key = dir.path("good.key");
    for ca in [&empty, &key, &dir.path("absent.pem")] {
        for auth in [
            ClientAuth::Optional { ca: ca.clone() },
            ClientAuth::Required { ca: ca.clone() },
        ] {
            let text = problem(good.clone().client_auth(auth)).await;
            assert!(text.starts_with("client CA "), "{text}");
            assert!(text.contains(ca.to_str().unwrap()), "{text}");
        }
    }
    // The permitted neighbours: one certificate needs no name; an authority.
    start(dir.pair("alone", &own(params(&[])))).await.unwrap();
    let ca = dir.write("ca.pem", &Ca::root("root").pem());
    start(good.client_auth(ClientAuth::Required { ca }))
        .await
        .unwrap();
}

#[tokio::test]
async fn http_1_1_is_agreed_on_with_web_clients_only() {
    let dir = Dir::new();
    let tls = dir.pair("a", &localhost());
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls.clone()))
            .listen(WebSocket::bind("127.0.0.1:0").tls_with(tls))
    })
    .await;
    let agreed = async |i, offered: &[&str]| {
        let mut client = Client::any();
        client.config.alpn_protocols = offered.iter().map(|p| p.as_bytes().to_vec()).collect();
        let io = client.connect(rig.address(i)).await.ok()?;
        Some(io.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    };
    let http = Some(Some(b"http/1.1".to_vec()));
    assert_eq!(agreed(1, &["h2", "http/1.1"]).await, http);
    assert_eq!(agreed(1, &[]).await, Some(None));
    assert_eq!(agreed(1, &["h2"]).await, None);
    assert_eq!(agreed(0, &["h2", "http/1.1"]).await, Some(None));
    assert_eq!(agreed(0, &[]).await, Some(None));
}
