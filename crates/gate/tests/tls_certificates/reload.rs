//! New certificates in a gate that runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use tidegate::{ClientAuth, Gate, ReloadOutcome, Tcp, Tls, TlsError, WebSocket};

use crate::client::{Client, VERSIONS, echo, leaf, pause};
use crate::log;
use crate::pki::{Ca, Dir, Pair, expiring_in, localhost, own, params};
use crate::support::{LONG, Rig, until};

/// Between two looks at files; a look costs little.
const OFTEN: Option<Duration> = Some(Duration::from_millis(20));

/// Waits until new clients get this certificate.
async fn shows(rig: &Rig, pair: &Pair) {
    let wanted = pair.leaf();
    let wait = async {
        while Client::any().shown(rig.address(0)).await != wanted {
            pause().await;
        }
    };
    let done = tokio::time::timeout(LONG, wait).await;
    assert!(done.is_ok(), "the new certificate is never served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_reloads_under_load_drop_nobody() {
    const SWAPS: usize = 20;
    let dir = Dir::new();
    let pairs: Vec<_> = (0..=SWAPS).map(|_| localhost()).collect();
    let tls = dir.pair("a", &pairs[0]);
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls))
            .shards(2)
            .tls_watch(None)
    })
    .await;
    let address = rig.address(0);
    // The latest certificate that may be served, and the earliest.
    let written = Arc::new(AtomicUsize::new(0));
    let loaded = Arc::new(AtomicUsize::new(0));
    let handshakes = Arc::new(AtomicUsize::new(0));
    let packets = Arc::new(AtomicUsize::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let leaves: Arc<Vec<_>> = Arc::new(pairs.iter().map(Pair::leaf).collect());
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..12 {
        let (written, loaded) = (written.clone(), loaded.clone());
        let (handshakes, over, leaves) = (handshakes.clone(), over.clone(), leaves.clone());
        let client = Client::version(VERSIONS[i % 2]);
        tasks.spawn(async move {
            while !over.load(SeqCst) {
                let earliest = loaded.load(SeqCst);
                let io = client.served(address).await.unwrap();
                let latest = written.load(SeqCst);
                let shown = leaves.iter().position(|l| *l == leaf(&io)).unwrap();
                assert!(
                    (earliest..=latest).contains(&shown),
                    "{earliest} {shown} {latest}"
                );
                handshakes.fetch_add(1, SeqCst);
            }
        });
    }
    for i in 0..12 {
        let (packets, over) = (packets.clone(), over.clone());
        let client = Client::version(VERSIONS[i % 2]);
        let mut io = client.served(address).await.unwrap();
        tasks.spawn(async move {
            for n in 0.. {
                echo(&mut io, n).await;
                packets.fetch_add(1, SeqCst);
                if over.load(SeqCst) {
                    return;
                }
            }
        });
    }
    for (i, pair) in pairs.iter().enumerate().skip(1) {
        let before = (handshakes.load(SeqCst), packets.load(SeqCst));
        dir.pair("a", pair);
        written.store(i, SeqCst);
        let report = rig.gate().reload_tls();
        loaded.store(i, SeqCst);
        assert_eq!(report.listeners.len(), 1);
        assert_eq!(report.listeners[0].outcome, ReloadOutcome::Changed);
        until("clients come and packets go", || {
            assert!(tasks.try_join_next().is_none(), "a client is gone");
            handshakes.load(SeqCst) >= before.0 + 12 && packets.load(SeqCst) >= before.1 + 24
        })
        .await;
    }
    over.store(true, SeqCst);
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(rig.gate().stats().handshake_failures, 0);
    rig.settled().await;
}

#[tokio::test]
async fn what_cannot_be_used_keeps_the_old_and_says_so() {
    log::keep();
    let dir = Dir::new();
    let (first, second) = (localhost(), localhost());
    let (one, other) = (dir.pair("one", &first), dir.pair("other", &second));
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").name("kept-one").tls_with(one))
            .listen(
                WebSocket::bind("127.0.0.1:0")
                    .name("kept-other")
                    .tls_with(other),
            )
            .listen(Tcp::bind("127.0.0.1:0"))
            .tls_watch(None)
    })
    .await;
    let mut held = Client::any().served(rig.address(0)).await.unwrap();
    let reload = || {
        let report = rig.gate().reload_tls();
        let names: Vec<_> = report.listeners.iter().map(|one| &*one.listener).collect();
        assert_eq!(names, ["kept-one", "kept-other"]);
        report
    };
    let report = reload();
    assert!(!report.any_changed());
    assert_eq!(report.kept().count(), 0);

    let new = localhost();
    dir.pair("other", &new);
    let mut expired = params(&["localhost"]);
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let expired = own(expired);
    for (cert, key, part) in [
        ("", &first.key, "no certificate in it"),
        (
            &new.chain[..],
            &first.key,
            "the key is not that of the certificate",
        ),
        (&expired.chain, &expired.key, "it has expired"),
        (&first.chain[..300], &first.key, "one.pem"),
    ] {
        dir.write("one.pem", cert);
        dir.write("one.key", key);
        let report = reload();
        let kept: Vec<_> = report.kept().collect();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].0, "kept-one");
        let text = kept[0].1.to_string();
        assert!(text.contains("one.pem") && text.contains(part), "{text}");
        assert_eq!(Client::any().shown(rig.address(0)).await, first.leaf());
        assert_eq!(Client::any().shown(rig.address(1)).await, new.leaf());
        let line = log::line_with(&["ERROR", "kept-one", part]).await;
        assert!(line.contains("one.pem"), "{line}");
        echo(&mut held, 1).await;
    }
    fs::remove_file(dir.path("one.key")).unwrap();
    let report = reload();
    let (_, error) = report.kept().next().unwrap();
    assert!(matches!(error, TlsError::File { path, .. } if *path == dir.path("one.key")));

    dir.pair("one", &new);
    let outcomes: Vec<_> = reload()
        .listeners
        .into_iter()
        .map(|one| one.outcome)
        .collect();
    assert_eq!(outcomes, [ReloadOutcome::Changed, ReloadOutcome::Unchanged]);
    assert_eq!(Client::any().shown(rig.address(0)).await, new.leaf());
    echo(&mut held, 2).await;
}

#[tokio::test]
async fn changed_files_are_served() {
    let dir = Dir::new();
    let tls = dir.pair("a", &localhost());
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls))
            .tls_watch(OFTEN)
    })
    .await;
    let mut held = Client::any().served(rig.address(0)).await.unwrap();
    for _ in 0..3 {
        let new = localhost();
        dir.pair("a", &new);
        shows(&rig, &new).await;
    }
    echo(&mut held, 1).await;
}

/// Kubernetes swaps the link of a directory; certbot, links to files.
#[tokio::test]
async fn swapped_links_are_followed() {
    let dir = Dir::new();
    let put = |version: &str, pair: &Pair| {
        fs::create_dir(dir.path(version)).unwrap();
        let (cert, key) = (format!("{version}/tls.crt"), format!("{version}/tls.key"));
        for (name, text) in [(&cert, &pair.chain), (&key, &pair.key)] {
            let path = dir.write(name, text);
            // All are of the same age and length or thereabouts.
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
    };
    let swap = |target: &str, link: &str| {
        symlink(target, dir.path("new")).unwrap();
        fs::rename(dir.path("new"), dir.path(link)).unwrap();
    };
    let pairs = [localhost(), localhost(), localhost()];
    put("v0", &pairs[0]);
    swap("v0", "..data");
    swap("..data/tls.crt", "tls.crt");
    swap("..data/tls.key", "tls.key");
    let tls = Tls::new(dir.path("tls.crt"), dir.path("tls.key"));
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls))
            .tls_watch(OFTEN)
    })
    .await;
    shows(&rig, &pairs[0]).await;
    put("v1", &pairs[1]);
    swap("v1", "..data");
    fs::remove_dir_all(dir.path("v0")).unwrap();
    shows(&rig, &pairs[1]).await;
    put("v2", &pairs[2]);
    swap("v2/tls.crt", "tls.crt");
    swap("v2/tls.key", "tls.key");
    shows(&rig, &pairs[2]).await;
}

#[tokio::test]
async fn half_written_files_are_tried_again() {
    log::keep();
    let dir = Dir::new();
    let (old, new) = (localhost(), localhost());
    let tls = dir.pair("half", &old);
    let listener = Tcp::bind("127.0.0.1:0").name("half-written").tls_with(tls);
    let rig = Rig::with(|gate| gate.listen(listener).tls_watch(OFTEN)).await;
    let half = &new.chain[..new.chain.len() / 2];
    for (cert, key, part) in [
        (half, &old.key, "half.pem"),
        (
            &new.chain[..],
            &old.key,
            "the key is not that of the certificate",
        ),
        (&new.chain[..], &String::new(), "half.key"),
    ] {
        dir.write("half.pem", cert);
        dir.write("half.key", key);
        log::line_with(&["ERROR", "half-written", part]).await;
        assert_eq!(Client::any().shown(rig.address(0)).await, old.leaf());
    }
    dir.pair("half", &new);
    shows(&rig, &new).await;
}

#[tokio::test(start_paused = true)]
async fn what_stays_bad_is_told_once_and_tried_at_each_look() {
    log::keep();
    let dir = Dir::new();
    let tls = dir.pair("once", &localhost());
    let listener = Tcp::bind("127.0.0.1:0").name("told-once").tls_with(tls);
    // As often as it looks unless told otherwise.
    let rig = Rig::with(|gate| gate.listen(listener)).await;
    let day = Duration::from_secs(24 * 3600);
    let new = own(expiring_in(params(&["localhost"]), 100 * day));
    dir.write("once.pem", &new.chain);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(log::lines_with(&["ERROR", "told-once"]).len(), 1);
    fs::remove_file(dir.path("once.key")).unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(log::lines_with(&["ERROR", "told-once"]).len(), 2);
    let before = rig.gate().tls_expiry();
    dir.pair("once", &new);
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_ne!(rig.gate().tls_expiry(), before);
    assert_eq!(
        log::lines_with(&["INFO", "told-once", "TLS reloaded"]).len(),
        1
    );
}

#[tokio::test]
async fn authorities_of_clients_are_watched_too() {
    let dir = Dir::new();
    let (old, new) = (Ca::root("old"), Ca::root("new"));
    let ca = dir.write("ca.pem", &old.pem());
    let tls = dir.pair("a", &localhost());
    let tls = tls.client_auth(ClientAuth::Required { ca });
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").tls_with(tls))
            .tls_watch(OFTEN)
    })
    .await;
    let [old_client, new_client] =
        [&old, &new].map(|ca| Client::showing(VERSIONS[1], Some(&ca.issue(params(&[])))));
    let mut held = old_client.served(rig.address(0)).await.unwrap();
    new_client.served(rig.address(0)).await.unwrap_err();
    dir.write("ca.pem", &new.pem());
    let let_in = async {
        while new_client.served(rig.address(0)).await.is_err() {
            pause().await;
        }
    };
    tokio::time::timeout(LONG, let_in).await.unwrap();
    old_client.served(rig.address(0)).await.unwrap_err();
    echo(&mut held, 1).await;
}

#[tokio::test]
async fn nobody_watches_when_told_not_to_or_when_the_gate_is_gone() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let dir = Dir::new();
    let tls = dir.pair("a", &localhost());
    let start = async |watch| {
        let listener = Tcp::bind("127.0.0.1:0").tls_with(tls.clone());
        let gate = Gate::builder().shards(0).listen(listener).tls_watch(watch);
        gate.start().await.unwrap()
    };
    let before = tasks();
    let gate = start(None).await;
    let without = tasks();
    gate.stop().await;
    until("its tasks are gone", || tasks() == before).await;
    let gate = start(OFTEN).await;
    assert_eq!(tasks(), without + 1);
    gate.stop().await;
    until("its tasks are gone", || tasks() == before).await;
    // Dropped, not stopped.
    drop(start(OFTEN).await);
    until("its tasks are gone", || tasks() == before).await;
}

#[tokio::test(start_paused = true)]
async fn what_expires_soon_is_said_at_the_start_each_day_and_at_a_reload() {
    log::keep();
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let dir = Dir::new();
    let now = SystemTime::now();
    let expiring = |days| own(expiring_in(params(&["localhost"]), days * DAY + DAY / 2));
    let soon = dir.pair("soon", &expiring(13));
    let late = dir.pair("late", &expiring(14));
    let (cert, key) = dir.pair_paths("second", &expiring(5));
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").name("expiry-soon").tls_with(soon))
            .listen(
                Tcp::bind("127.0.0.1:0")
                    .name("expiry-late")
                    .tls_with(late.clone()),
            )
            .listen(
                Tcp::bind("127.0.0.1:0")
                    .name("expiry-two")
                    .tls_with(late.certificate(cert, key)),
            )
            .tls_watch(None)
    })
    .await;
    let warned = |name: &str| log::lines_with(&["WARN", name, "expires soon"]).len();
    until("the start warns", || warned("expiry-soon") == 1).await;
    for days in 2..=4 {
        tokio::time::advance(DAY).await;
        until("each day warns", || warned("expiry-soon") >= days).await;
    }
    let before = warned("expiry-soon");
    rig.gate().reload_tls();
    assert!(warned("expiry-soon") > before);
    assert_eq!(warned("expiry-late"), 0);
    let lines = log::lines_with(&["WARN", "expiry-two"]);
    assert!(lines[0].contains("second.pem"), "{lines:?}");
    assert!(lines[0].contains("days=5"), "{lines:?}");

    let expiry = rig.gate().tls_expiry();
    let days = expiry.iter().map(|one| {
        let left = one.expires.duration_since(now).unwrap();
        (&*one.listener, (left.as_secs() + 60) / DAY.as_secs())
    });
    let days: Vec<_> = days.collect();
    assert_eq!(
        days,
        [("expiry-soon", 13), ("expiry-late", 14), ("expiry-two", 5)]
    );
    assert_eq!(expiry[2].certificate, dir.path("second.pem"));

    dir.pair("soon", &expiring(100));
    rig.gate().reload_tls();
    let left = rig.gate().tls_expiry()[0]
        .expires
        .duration_since(now)
        .unwrap();
    assert_eq!((left.as_secs() + 60) / DAY.as_secs(), 100);
}
