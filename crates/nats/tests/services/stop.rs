//! Instances that stop while they are called.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tidegate::Guests;
use tidegate::bus::Bus;
use tidegate::service::{RunningService, Service};
use tidegate_nats::Nats;
use tidegate_protocol::{ErrorCode, InstanceId};
use tidegate_test_servers::NatsServer;

use crate::support::*;

/// Calls under way at a time.
const WINDOW: usize = 500;

/// What became of calls, by code.
type Outcomes = BTreeMap<&'static str, u64>;

/// `count/up` counts and answers the instance.
async fn counter(bus: Arc<Nats>, id: &'static str, served: &Arc<AtomicU64>) -> RunningService {
    let served = served.clone();
    Service::new("count")
        .instance(id)
        .request("up", move || {
            let n = served.fetch_add(1, Ordering::Relaxed);
            async move {
                if n.is_multiple_of(5) {
                    tokio::task::yield_now().await;
                }
                id
            }
        })
        .open_to(Guests)
        .register(bus)
        .await
        .unwrap()
}

/// Calls until told to stop; answers what became of each call.
async fn pump(bus: Arc<Nats>, to: Option<InstanceId>, stop: Arc<AtomicBool>) -> Outcomes {
    let who = session(1, false);
    let mut outcomes = Outcomes::new();
    let mut under_way = FuturesUnordered::new();
    loop {
        while !stop.load(Ordering::Relaxed) && under_way.len() < WINDOW {
            under_way.push(outcome(ask(&*bus, &who, "count", "up", to.as_ref(), "")));
        }
        let Some(result) = under_way.next().await else {
            return outcomes;
        };
        let what = match result {
            Ok(_) => "ok",
            Err(error) => error.code.name(),
        };
        *outcomes.entry(what).or_default() += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_stops_under_load_loses_nothing() {
    let server = NatsServer::start().await;
    let served = Arc::new(AtomicU64::new(0));
    let caller = bus(&server, "gate-1").await;
    let stop = Arc::new(AtomicBool::new(false));
    // Some may go to any instance, some only to the one that stops.
    let any = tokio::spawn(pump(caller.clone(), None, stop.clone()));
    let one = tokio::spawn(pump(caller.clone(), Some(instance("one")), stop.clone()));
    let _stays = counter(bus(&server, "b").await, "two", &served).await;
    let home = bus(&server, "a").await;
    for _ in 0..20 {
        let before = served.load(Ordering::Relaxed);
        let one = counter(home.clone(), "one", &served).await;
        while served.load(Ordering::Relaxed) < before + 1_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(one.stop().await, 0, "none was cut off");
    }
    stop.store(true, Ordering::Relaxed);
    let (any, one) = (any.await.unwrap(), one.await.unwrap());
    let served = served.load(Ordering::Relaxed);
    println!("20 stops under load: to any {any:?}, to the one that stops {one:?}, served {served}");
    let ok = any["ok"] + one["ok"];
    assert_eq!(
        ok, served,
        "served once each, and each that was served has its answer"
    );
    for (outcomes, gone) in [
        (&any, ErrorCode::UNAVAILABLE),
        (&one, ErrorCode::INSTANCE_GONE),
    ] {
        // Before the first is there, and between two, nobody takes it: nothing was done.
        let known = ["ok", gone.name(), ErrorCode::NOT_FOUND.name()];
        assert!(outcomes.keys().all(|k| known.contains(k)), "{outcomes:?}");
    }
    let stats = caller.stats();
    assert_eq!((stats.overflowed, stats.late_answers), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_the_load() {
    let server = NatsServer::start().await;
    let (a, b) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let _a = counter(bus(&server, "a").await, "one", &a).await;
    let _b = counter(bus(&server, "b").await, "two", &b).await;
    let caller = bus(&server, "gate-1").await;
    let stop = Arc::new(AtomicBool::new(false));
    let pump = tokio::spawn(pump(caller, None, stop.clone()));
    while a.load(Ordering::Relaxed) + b.load(Ordering::Relaxed) < 10_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let outcomes = pump.await.unwrap();
    let (a, b) = (a.load(Ordering::Relaxed), b.load(Ordering::Relaxed));
    println!("two instances: {a} and {b} of {outcomes:?}");
    assert_eq!(outcomes, [("ok", a + b)].into());
    assert!(a.min(b) > (a + b) / 4, "{a} and {b}");
}
