//! Certificates of clients: who is let in, and what an authenticate hook learns.

use std::path::Path;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{SanType, SerialNumber, date_time_ymd};
use tidegate::{ClientAuth, Identity, PeerCertificate, Tcp, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::unbounded_channel;

use crate::client::{Client, VERSIONS, echo};
use crate::pki::{Ca, Dir, Pair, localhost, named, openssl, own, params};
use crate::support::{Rig, until};

fn optional(ca: &Path) -> ClientAuth {
    ClientAuth::Optional {
        ca: ca.to_path_buf(),
    }
}

fn required(ca: &Path) -> ClientAuth {
    ClientAuth::Required {
        ca: ca.to_path_buf(),
    }
}

#[tokio::test]
async fn who_is_let_in() {
    let dir = Dir::new();
    let ca = Ca::root("clients");
    let below = ca.intermediate(Ca::params("below"));
    let ca_path = dir.write("ca.pem", &ca.pem());
    let tls = dir.pair("a", &localhost());
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls.clone()))
            .listen(Tcp::bind("127.0.0.1:0").tls_with(tls.clone().client_auth(optional(&ca_path))))
            .listen(Tcp::bind("127.0.0.1:0").tls_with(tls.client_auth(required(&ca_path))))
    })
    .await;
    let device = || named(params(&["device"]), "device");
    let good = ca.issue(device());
    let mut chained = below.issue(device());
    chained.chain += &below.pem();
    let foreign = Ca::root("clients").issue(device());
    let mut old = device();
    old.not_after = date_time_ymd(2021, 1, 1);
    let expired = ca.issue(old);
    let by_itself = own(device());

    let mut held = Client::showing(VERSIONS[1], Some(&good))
        .served(rig.address(2))
        .await
        .unwrap();
    let cases: [(&str, Option<&Pair>, [bool; 3]); 6] = [
        ("none", None, [true, true, false]),
        ("good", Some(&good), [true, true, true]),
        ("chained", Some(&chained), [true, true, true]),
        ("foreign", Some(&foreign), [true, false, false]),
        ("expired", Some(&expired), [true, false, false]),
        ("by itself", Some(&by_itself), [true, false, false]),
    ];
    let mut failures = 0;
    let mut n = 0;
    for version in VERSIONS {
        for (what, own, allowed) in &cases {
            for (i, allowed) in allowed.iter().enumerate() {
                let client = Client::showing(version, *own);
                let served = client.served(rig.address(i)).await;
                let told = format!(
                    "{what}, listener {i}, {:?}: {:?}",
                    version.version,
                    served.as_ref().err()
                );
                assert_eq!(served.is_ok(), *allowed, "{told}");
                if let Err(error) = served {
                    failures += 1;
                    // What the client is told, not a reset.
                    assert!(error.contains("received fatal alert"), "{told}");
                }
                n += 1;
                echo(&mut held, n).await;
            }
        }
    }
    until("each is counted", || {
        rig.gate().stats().handshake_failures == failures
    })
    .await;
    assert_eq!(failures, 14);
    drop(held);
    rig.settled().await;
}

/// A close on bytes that nobody has read would take the alert back.
#[tokio::test]
async fn who_has_sent_much_already_is_told_too() {
    let dir = Dir::new();
    let ca = dir.write("ca.pem", &Ca::root("clients").pem());
    let tls = dir.pair("a", &localhost()).client_auth(required(&ca));
    let rig = Rig::with(|gate| gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls))).await;
    let nobody = Client::showing(VERSIONS[1], None);
    // To a TLS 1.3 client the handshake is over before the gate has seen its end of it.
    let mut io = nobody.connect(rig.address(0)).await.unwrap();
    io.write_all(&[0; 200_000]).await.unwrap();
    let error = io.read(&mut [0; 1]).await.unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    // The close after it is an orderly one: at a reset some systems forget the alert.
    let (mut socket, _) = io.into_inner();
    assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0);
    drop(socket);
    rig.settled().await;
}

#[tokio::test]
async fn an_authenticate_hook_learns_whose_certificate_it_is() {
    let dir = Dir::new();
    let ca = Ca::root("clients");
    let ca_path = dir.write("ca.pem", &ca.pem());
    let tls = dir.pair("a", &localhost()).client_auth(optional(&ca_path));
    let (seen, mut seen_next) = unbounded_channel();
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls.clone()))
            .listen(WebSocket::bind("127.0.0.1:0").tls_with(tls))
            .on_authenticate(Duration::from_secs(5), move |credentials| {
                let chain = credentials.certificates.len();
                let _ = seen.send((credentials.peer_certificate(), chain));
                async { Ok(Identity::guest()) }
            })
    })
    .await;
    let text = |text: &str| Ia5String::try_from(text).unwrap();
    let mut device = named(params(&["a.example", "b.example"]), "Gerät 7");
    device.serial_number = Some(SerialNumber::from(vec![0x9f, 0, 0x0a]));
    device.subject_alt_names.extend([
        SanType::URI(text("spiffe://example/device/7")),
        SanType::Rfc822Name(text("seven@example")),
    ]);
    let own = ca.issue(device);
    let cert = dir.write("client.pem", &own.chain);
    let openssl = openssl(&[
        "x509",
        "-in",
        cert.to_str().unwrap(),
        "-noout",
        "-fingerprint",
        "-sha256",
        "-serial",
    ]);
    for version in VERSIONS {
        let client = Client::showing(version, Some(&own));
        client.served(rig.address(0)).await.unwrap();
        let (peer, chain) = seen_next.recv().await.unwrap();
        let peer: PeerCertificate = peer.unwrap();
        assert_eq!(chain, 1);
        assert_eq!(peer.common_name.as_deref(), Some("Gerät 7"));
        assert_eq!(peer.dns_names, ["a.example", "b.example"]);
        assert_eq!(peer.uris, ["spiffe://example/device/7"]);
        assert_eq!(peer.emails, ["seven@example"]);
        assert_eq!(peer.serial, "9f000a");
        let told = openssl.to_lowercase().replace(':', "");
        assert!(
            told.contains(&format!("={}\n", peer.fingerprint_sha256)),
            "{told}"
        );
        assert!(told.contains("serial=9f000a\n"), "{told}");

        let mut io = client.connect(rig.address(1)).await.unwrap();
        io.write_all(&crate::support::ws::request("/", &[]))
            .await
            .unwrap();
        assert_eq!(seen_next.recv().await.unwrap().0, Some(peer));

        let nobody = Client::showing(version, None);
        nobody.served(rig.address(0)).await.unwrap();
        assert_eq!(seen_next.recv().await.unwrap(), (None, 0));
    }
}

#[test]
fn what_a_certificate_does_not_say_is_not_guessed() {
    let mut twice = named(params(&[]), "first");
    let name = rcgen::DnType::CustomDnType(vec![2, 5, 4, 3]);
    twice.distinguished_name.push(name, "second");
    let peer = PeerCertificate::from_der(&own(twice).leaf()).unwrap();
    assert_eq!(peer.common_name, None, "which one it is, nobody can know");
    let mut empty = params(&[]);
    empty.distinguished_name = rcgen::DistinguishedName::new();
    let peer = PeerCertificate::from_der(&own(empty).leaf()).unwrap();
    assert_eq!(peer.common_name, None);
    assert_eq!(peer.fingerprint_sha256.len(), 64);
    for wrong in [&b""[..], b"x", &[0x30, 0x80, 0]] {
        assert_eq!(PeerCertificate::from_der(wrong), None);
    }
}
