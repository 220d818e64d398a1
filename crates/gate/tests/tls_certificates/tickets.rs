//! Sessions that are resumed, and what a ticket must not bring back.

use std::time::{Duration, SystemTime};

use rustls::{HandshakeKind, ProtocolVersion};
use tidegate::{ClientAuth, Identity, Tcp};
use tokio::sync::mpsc::unbounded_channel;

use crate::client::{Client, Io, VERSIONS, leaf, pause};
use crate::pki::{Ca, Dir, expiring_in, localhost, named, params};
use crate::support::{Rig, until};

fn kind(io: &Io) -> HandshakeKind {
    io.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_also_after_a_new_certificate() {
    let dir = Dir::new();
    let old = localhost();
    let tls = dir.pair("a", &old);
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls))
            .tls_watch(None)
    })
    .await;
    let clients = VERSIONS.map(|version| Client::version(version).resuming());
    for client in &clients {
        let io = client.served(rig.address(0)).await.unwrap();
        assert_eq!(kind(&io), HandshakeKind::Full);
        if io.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
            assert_eq!(io.get_ref().1.tls13_tickets_received(), 2);
        }
        for _ in 0..3 {
            let io = client.served(rig.address(0)).await.unwrap();
            assert_eq!(kind(&io), HandshakeKind::Resumed);
        }
    }
    let new = localhost();
    dir.pair("a", &new);
    assert!(rig.gate().reload_tls().any_changed());
    for client in &clients {
        let io = client.served(rig.address(0)).await.unwrap();
        assert_eq!(kind(&io), HandshakeKind::Resumed);
        let other = Client::any().served(rig.address(0)).await.unwrap();
        assert_eq!(
            (kind(&other), leaf(&other)),
            (HandshakeKind::Full, new.leaf())
        );
    }
}

#[tokio::test]
async fn a_ticket_is_of_no_use_at_another_listener() {
    let dir = Dir::new();
    let tls = dir.pair("a", &localhost());
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls.clone()))
            .listen(Tcp::bind("127.0.0.1:0").tls_with(tls))
    })
    .await;
    for version in VERSIONS {
        let client = Client::version(version).resuming();
        for (i, wanted) in [(0, HandshakeKind::Full), (1, HandshakeKind::Full)] {
            let io = client.served(rig.address(i)).await.unwrap();
            assert_eq!(kind(&io), wanted);
        }
    }
}

#[tokio::test]
async fn other_authorities_end_what_tickets_brought_back() {
    let dir = Dir::new();
    let (old, new) = (Ca::root("old"), Ca::root("new"));
    let ca = dir.write("ca.pem", &old.pem());
    let tls = dir.pair("a", &localhost());
    let tls = tls.client_auth(ClientAuth::Optional { ca });
    let (seen, mut seen_next) = unbounded_channel();
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls))
            .tls_watch(None)
            .on_authenticate(Duration::from_secs(5), move |credentials| {
                let name = credentials
                    .peer_certificate()
                    .and_then(|peer| peer.common_name);
                let _ = seen.send(name);
                async { Ok(Identity::guest()) }
            })
    })
    .await;
    let own = old.issue(named(params(&[]), "seven"));
    let clients = VERSIONS.map(|version| Client::showing(version, Some(&own)).resuming());
    for client in &clients {
        for wanted in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let io = client.served(rig.address(0)).await.unwrap();
            assert_eq!(kind(&io), wanted);
            let name = seen_next.recv().await.unwrap();
            assert_eq!(name.as_deref(), Some("seven"), "from the ticket too");
        }
    }
    // One more: everyone shows their certificate again.
    dir.write("ca.pem", &(old.pem() + &new.pem()));
    assert!(rig.gate().reload_tls().any_changed());
    for client in &clients {
        for wanted in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let io = client.served(rig.address(0)).await.unwrap();
            assert_eq!(kind(&io), wanted);
        }
    }
    // And without the old one.
    dir.write("ca.pem", &new.pem());
    assert!(rig.gate().reload_tls().any_changed());
    for client in &clients {
        let error = client.served(rig.address(0)).await.unwrap_err();
        assert!(error.contains("fatal alert"), "{error}");
    }
    until("it is counted", || {
        rig.gate().stats().handshake_failures == 2
    })
    .await;
}

#[tokio::test]
async fn a_ticket_does_not_outlive_the_certificate_in_it() {
    let dir = Dir::new();
    let authority = Ca::root("clients");
    let ca = dir.write("ca.pem", &authority.pem());
    let tls = dir.pair("a", &localhost());
    let tls = tls.client_auth(ClientAuth::Required { ca });
    let rig = Rig::with(|gate| gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls))).await;
    // Time enough for two handshakes on a busy machine, and not much to wait for.
    let began = SystemTime::now();
    let life = Duration::from_secs(6);
    let own = authority.issue(expiring_in(params(&[]), life));
    let clients = VERSIONS.map(|version| Client::showing(version, Some(&own)).resuming());
    for client in &clients {
        client.served(rig.address(0)).await.unwrap();
        let io = client.served(rig.address(0)).await.unwrap();
        assert_eq!(kind(&io), HandshakeKind::Resumed);
    }
    while began.elapsed().unwrap() < life + Duration::from_secs(1) {
        pause().await;
    }
    let before = rig.gate().stats();
    for client in &clients {
        client.served(rig.address(0)).await.unwrap_err();
    }
    until("both are counted", || {
        rig.gate().stats().handshake_failures == before.handshake_failures + 2
    })
    .await;
    assert_eq!(rig.gate().stats().sessions_started, before.sessions_started);
}
