//! Clocks that jump by a day, either way, in a gate and in a service: nobody notices (threat
//! 34).

use std::time::Duration;

use tidegate_test_servers::{NatsServer, TempDir};

use crate::account::{Load, Outcome, numbers};
use crate::roles::Role;
use crate::stage::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_jump() {
    let nats = NatsServer::start().await;
    let servers = [nats.url()];
    let dir = TempDir::new();
    let offset = dir.write("offset", "+0");
    let jump = |to: &str| {
        // As a whole: half a time would be another.
        let new = dir.write("new", to);
        std::fs::rename(new, &offset).unwrap();
    };
    let work = Role::new_service("w1", &servers).clock(&offset);
    let mut work = work.service().await;
    let (_gate, url) = Role::new_gate("g1", &servers).clock(&offset).gate().await;
    // One with a clock that goes as it should.
    let (_other, other_url) = Role::new_gate("g2", &servers).gate().await;
    let (ada, bob) = (connect(&url).await, connect(&other_url).await);
    let clock = async || -> i64 {
        let seconds = ada.request("near-g1/clock", "").await.unwrap();
        std::str::from_utf8(&seconds).unwrap().parse().unwrap()
    };
    all_is_well(&ada, "ada").await;
    all_is_well(&bob, "bob").await;
    let load = Load::start(
        &[ada.clone(), bob.clone()],
        "work/do",
        Duration::from_millis(5),
    );
    let begun = clock().await;
    for (to, days) in [("+1d", 1), ("-1d", -1), ("+0", 0)] {
        jump(to);
        let now = clock().await;
        assert_eq!(
            (now - begun + 600).div_euclid(86_400),
            days,
            "the clock has jumped"
        );
        all_is_well(&ada, "ada").await;
        // Longer than a lease is renewed.
        tokio::time::sleep(Duration::from_secs(4)).await;
        all_is_well(&bob, "bob").await;
    }
    let account = load.stop().await;
    let output = work.output();
    let done = numbers([&*output], "did");
    account.print("while clocks jump", &done);
    account.check(&done);
    assert_eq!(account.count(Outcome::Answered), account.0.len());
    assert!(!output.contains("gone"), "{output}");
    assert!(work.is_running());
}
