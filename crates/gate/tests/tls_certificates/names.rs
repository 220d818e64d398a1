//! Which of several certificates a client gets.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use rustls::SignatureScheme::{
    self, ECDSA_NISTP256_SHA256, ECDSA_NISTP384_SHA384, ED25519, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
};
use tidegate::{Tcp, Tls};

use crate::client::{Client, VERSIONS};
use crate::pki::{Dir, Pair, key, own, own_with, params, rsa};
use crate::support::Rig;

/// A gate that serves these, the first as the default.
async fn rig(dir: &Dir, pairs: &[&Pair]) -> Rig {
    let mut tls: Option<Tls> = None;
    for (i, pair) in pairs.iter().enumerate() {
        let (cert, key) = dir.pair_paths(&i.to_string(), pair);
        tls = Some(match tls {
            None => Tls::new(cert, key),
            Some(tls) => tls.certificate(cert, key),
        });
    }
    let listener = Tcp::bind("127.0.0.1:0").tls_with(tls.unwrap());
    Rig::with(|gate| gate.listen(listener)).await
}

#[tokio::test]
async fn by_the_name_that_a_client_asks_for() {
    let dir = Dir::new();
    let pairs: Vec<_> = [
        &["default.example"][..],
        &["a.example", "b.example"],
        &["*.example", "example"],
        &["*.deep.example"],
        &["CAPS.Example"],
        &["x.deep.example", "127.0.0.1"],
    ]
    .iter()
    .map(|names| own(params(names)))
    .collect();
    let rig = rig(&dir, &pairs.iter().collect::<Vec<_>>()).await;
    for version in VERSIONS {
        for (name, wanted) in [
            (None, 0),
            (Some("default.example"), 0),
            (Some("unknown.test"), 0),
            (Some("localhost"), 0),
            (Some("a.example"), 1),
            (Some("A.EXAMPLE"), 1),
            (Some("b.example"), 1),
            // A wildcard is one label, not none and not two.
            (Some("c.example"), 2),
            (Some("example"), 2),
            (Some("deep.example"), 2),
            (Some("y.deep.example"), 3),
            (Some("z.y.deep.example"), 0),
            (Some("q.a.example"), 0),
            (Some("caps.example"), 4),
            // An exact name goes before a wildcard.
            (Some("x.deep.example"), 5),
        ] {
            let client = Client::version(version).named(name);
            let shown = client.shown(rig.address(0)).await;
            let found = pairs.iter().position(|pair| pair.leaf() == shown);
            assert_eq!(found, Some(wanted), "{name:?}");
        }
    }
}

#[tokio::test]
async fn by_the_signatures_that_a_client_knows() {
    let dir = Dir::new();
    let rsa_key = || KeyPair::from_pem(&rsa(2048)).unwrap();
    let pairs = [
        own_with(params(&["a.example"]), rsa_key()),
        own_with(params(&["a.example"]), key(&PKCS_ECDSA_P256_SHA256)),
        own_with(params(&["b.example"]), key(&PKCS_ECDSA_P384_SHA384)),
        own_with(params(&["b.example"]), key(&PKCS_ED25519)),
        own_with(params(&["*.example"]), rsa_key()),
    ];
    let rig = rig(&dir, &pairs.iter().collect::<Vec<_>>()).await;
    let rsa: &[SignatureScheme] = &[RSA_PSS_SHA256, RSA_PKCS1_SHA256];
    let p256 = &[ECDSA_NISTP256_SHA256][..];
    let p384 = &[ECDSA_NISTP384_SHA384][..];
    let most = &[RSA_PSS_SHA256, RSA_PKCS1_SHA256, ECDSA_NISTP256_SHA256][..];
    for version in VERSIONS {
        for (name, schemes, wanted) in [
            (Some("a.example"), rsa, Some(0)),
            (Some("a.example"), p256, Some(1)),
            (Some("a.example"), most, Some(1)),
            (None, rsa, Some(0)),
            (None, most, Some(1)),
            (None, p256, Some(1)),
            (Some("b.example"), p384, Some(2)),
            (Some("b.example"), &[ED25519], Some(3)),
            // The wildcard where the exact name has nothing that fits.
            (Some("b.example"), rsa, Some(4)),
            (Some("c.example"), most, Some(4)),
            // Not that of another name.
            (Some("c.example"), p256, None),
            (None, &[ED25519], None),
        ] {
            let client = Client::schemes(version, schemes).named(name);
            let connected = client.connect(rig.address(0)).await;
            let shown = connected.ok().map(|io| crate::client::leaf(&io));
            let found = shown.and_then(|shown| pairs.iter().position(|p| p.leaf() == shown));
            assert_eq!(found, wanted, "{name:?} {schemes:?} {:?}", version.version);
        }
    }
}
