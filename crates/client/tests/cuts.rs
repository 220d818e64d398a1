//! A real client and a real gate, and between them a proxy that cuts their connections at
//! random bytes: every packet arrives once and in order, both ways.
//!
//! `TIDEGATE_TEST_CUTS` is how often each client is cut, `TIDEGATE_TEST_SEED` where the
//! randomness begins.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic anywhere"
)]
#![allow(unreachable_pub, reason = "modules of a test")]

#[path = "cuts/history.rs"]
mod history;
#[path = "cuts/meddle.rs"]
mod meddle;
#[path = "cuts/proxy.rs"]
mod proxy;
#[path = "cuts/run.rs"]
mod run;

use history::Fault;
use meddle::{Meddling, Way};
use run::{Outcome, Rig};

const CLIENTS: u32 = 8;

fn from_environment(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().unwrap())
}

async fn every_packet_arrives(websocket: bool) {
    let cuts = from_environment("TIDEGATE_TEST_CUTS", 500) as u32;
    let seed = from_environment("TIDEGATE_TEST_SEED", 1);
    println!("TIDEGATE_TEST_SEED={seed} TIDEGATE_TEST_CUTS={cuts}, {CLIENTS} clients");
    let rig = Rig::start().await;
    let runs = (0..CLIENTS).map(|n| rig.run(n, websocket, seed + u64::from(n), cuts, None));
    for (n, Outcome { up, down, sent }) in futures_util::future::join_all(runs)
        .await
        .into_iter()
        .enumerate()
    {
        assert_eq!(
            (up, down),
            (Ok(()), Ok(())),
            "client {n}, seed {seed}, sent {sent:?}"
        );
        assert!(sent.0 > 200 && sent.1 > 50, "{sent:?}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_packet_arrives_once_and_in_order_over_tcp() {
    every_packet_arrives(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_packet_arrives_once_and_in_order_over_websocket() {
    every_packet_arrives(true).await;
}

/// Runs with a fault, or without.
async fn meddled(meddling: Meddling) -> Vec<Outcome> {
    let rig = Rig::start().await;
    let runs = (0..4).map(|n| rig.run(n, false, u64::from(n), 60, Some(meddling)));
    let outcomes = futures_util::future::join_all(runs).await;
    rig.stop().await;
    outcomes
}

/// What the checker finds, of each client the first.
async fn faults(meddling: Meddling) -> Vec<Fault> {
    let outcomes = meddled(meddling).await;
    let faults = outcomes.into_iter().map(|o| o.up.and(o.down));
    faults.filter_map(Result::err).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checker_finds_packets_lost_repeated_and_reordered() {
    for way in [Way::Up, Way::Down] {
        for meddling in [
            Meddling::Lose(way),
            Meddling::Repeat(way),
            Meddling::Swap(way),
        ] {
            for Outcome { up, down, .. } in meddled(meddling).await {
                let found = match way {
                    Way::Up => up,
                    Way::Down => down,
                };
                let expected = matches!(
                    (meddling, &found),
                    (Meddling::Repeat(_), Err(Fault::Again(_)))
                        | (
                            Meddling::Lose(_) | Meddling::Swap(_),
                            Err(Fault::Missing(_))
                        )
                );
                assert!(expected, "{meddling:?}: {found:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checker_finds_wrong_counts_and_tokens() {
    assert_eq!(faults(Meddling::Nothing).await, []);
    for meddling in [
        Meddling::SkipRewind,
        Meddling::CountWrongly,
        Meddling::ConfirmEarly,
    ] {
        let found = faults(meddling).await;
        println!("{meddling:?}: {found:?}");
        assert_eq!(found.len(), 4, "{meddling:?}: {found:?}");
    }
}
