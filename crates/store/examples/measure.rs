//! Measures the embedded store on a real disk:
//! `cargo run --release -p tidegate-store --example measure -- DIRECTORY`.

#![allow(clippy::unwrap_used, reason = "a measurement that fails is none")]

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tidegate::store::Store;
use tidegate::{Settings, UserId};
use tidegate_store::{Embedded, EmbeddedOptions};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::main]
async fn main() {
    let directory = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let path = Path::new(&directory).join("measure.db");
    let _ = std::fs::remove_file(&path);
    let store = Embedded::open(&path, EmbeddedOptions::default()).unwrap();
    let own = settings(1000);
    for sessions in [1, 64, 1000] {
        let began = Instant::now();
        let store = &store;
        let own = &own;
        let each = join_all((0..sessions).map(async |who| {
            let user = user(who);
            let mut times = Vec::new();
            while began.elapsed() < Duration::from_secs(5) {
                let saving = Instant::now();
                store.save(&user, own, DAY).await.unwrap();
                times.push(saving.elapsed());
            }
            times
        }));
        report(&format!("saves, {sessions} sessions"), began, each.await);
    }
    let users: Vec<_> = (0..100_000).map(user).collect();
    let began = Instant::now();
    for some in users.chunks(1000) {
        for saved in join_all(some.iter().map(|user| store.save(user, &own, DAY))).await {
            saved.unwrap();
        }
    }
    println!("100,000 users of 1,000 bytes: {:?}", began.elapsed());
    state(&path);
    let began = Instant::now();
    let mut times = Vec::new();
    for _ in 0..10 {
        for some in users.chunks(1000) {
            let beat = Instant::now();
            store.heartbeat(some, DAY).await.unwrap();
            times.push(beat.elapsed());
        }
    }
    report("heartbeats of 1,000 users", began, vec![times]);
    state(&path);
    let began = Instant::now();
    let each = join_all((0..100_u64).map(async |first| {
        let mut times = Vec::new();
        for who in (first..100_000).step_by(100) {
            let query = Instant::now();
            store.query(&users[who as usize]).await.unwrap();
            times.push(query.elapsed());
        }
        times
    }));
    report("queries, 100 sessions", began, each.await);
    drop(store);
    for verify in [true, false] {
        let began = Instant::now();
        let options = EmbeddedOptions::default().verify(verify);
        drop(Embedded::open(&path, options).unwrap());
        println!("open and close, verify {verify}: {:?}", began.elapsed());
    }
    state(&path);
    std::fs::remove_file(&path).unwrap();
}

fn user(who: u64) -> UserId {
    // Not in the order of their keys.
    UserId::new(&format!(
        "user-{:016x}",
        who.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    ))
    .unwrap()
}

fn settings(bytes: usize) -> Settings {
    let mut settings = Settings::new();
    settings.merge([("k", "x".repeat(bytes))]).unwrap();
    settings
}

fn report(what: &str, began: Instant, each: Vec<Vec<Duration>>) {
    let took = began.elapsed();
    let mut times: Vec<_> = each.into_iter().flatten().collect();
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: {:.0} a second, p50 {:?}, p99 {:?}, most {:?}",
        times.len() as f64 / took.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
}

fn state(path: &Path) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = |name| status.lines().find(|l| l.starts_with(name)).unwrap_or("");
    println!(
        "  file {} MiB; {}; {}",
        std::fs::metadata(path).unwrap().len() >> 20,
        line("VmRSS"),
        line("VmHWM")
    );
}
