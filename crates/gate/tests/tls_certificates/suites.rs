//! Versions and suites, as another implementation of TLS sees them.

use std::net::SocketAddr;
use std::process::Stdio;

use rcgen::KeyPair;
use tidegate::Tcp;
use tokio::process::Command;
use tokio::time::timeout;

use crate::client::Client;
use crate::pki::{Dir, localhost, own_with, params, rsa};
use crate::support::{LONG, Rig, until};

/// What `openssl s_client` prints; `Err` where the handshake fails.
async fn s_client(to: SocketAddr, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("openssl")
        .args(["s_client", "-brief", "-connect", &to.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = timeout(LONG, output).await.expect("openssl does not end");
    let output =
        output.unwrap_or_else(|e| panic!("openssl: {e}; scripts/install-test-tools installs it"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    match text.contains("CONNECTION ESTABLISHED") {
        true => Ok(text),
        false => Err(text),
    }
}

#[tokio::test]
async fn only_1_2_and_1_3_with_aead_and_forward_secrecy() {
    let dir = Dir::new();
    let rsa_key = KeyPair::from_pem(&rsa(2048)).unwrap();
    let ecdsa = dir.pair("ecdsa", &localhost());
    let rsa = dir.pair("rsa", &own_with(params(&["localhost"]), rsa_key));
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").tls_with(ecdsa))
            .listen(Tcp::bind("127.0.0.1:0").tls_with(rsa))
    })
    .await;
    let mut refused = 0;
    for (i, kind) in [(0, "ECDSA"), (1, "RSA")] {
        let suite = |rest: &str| format!("ECDHE-{kind}-{rest}");
        // Old ones are offered at all only at the lowest of OpenSSL's levels.
        let all = "ALL:@SECLEVEL=0";
        for old in ["-tls1", "-tls1_1"] {
            let text = s_client(rig.address(i), &[old, "-cipher", all])
                .await
                .unwrap_err();
            assert!(
                text.contains("alert"),
                "the gate refuses it, not openssl: {text}"
            );
            refused += 1;
        }
        for wrong in [
            &suite("AES128-SHA"),
            &suite("AES256-SHA"),
            &suite("AES128-SHA256"),
            &suite("AES256-SHA384"),
            "AES128-GCM-SHA256",
            "AES256-SHA",
            "DHE-RSA-AES256-GCM-SHA384",
            "ADH-AES256-GCM-SHA384",
        ] {
            let offer = format!("{wrong}:@SECLEVEL=0");
            let text = s_client(rig.address(i), &["-tls1_2", "-cipher", &offer]).await;
            let text = text.expect_err(wrong);
            assert!(text.contains("alert"), "{wrong}: {text}");
            refused += 1;
        }
        for right in [
            "AES128-GCM-SHA256",
            "AES256-GCM-SHA384",
            "CHACHA20-POLY1305",
        ] {
            let suite = suite(right);
            let text = s_client(rig.address(i), &["-tls1_2", "-cipher", &suite])
                .await
                .unwrap();
            assert!(text.contains("TLSv1.2") && text.contains(&suite), "{text}");
        }
        // The gate's order, not the client's.
        let weakest_first = format!(
            "{}:{}",
            suite("CHACHA20-POLY1305"),
            suite("AES256-GCM-SHA384")
        );
        let text = s_client(rig.address(i), &["-tls1_2", "-cipher", &weakest_first])
            .await
            .unwrap();
        assert!(text.contains("AES256-GCM-SHA384"), "{text}");
        let text = s_client(rig.address(i), &["-tls1_3"]).await.unwrap();
        assert!(text.contains("TLSv1.3"), "{text}");
        // Nothing is wrong with the listener.
        Client::any().served(rig.address(i)).await.unwrap();
    }
    until("all are counted", || {
        rig.gate().stats().handshake_failures == refused
    })
    .await;
}
