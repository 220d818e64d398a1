//! Instances that stop while they are called.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tidegate::Guests;
use tidegate::bus::Bus;
use tidegate::service::{RunningService, Service};
use tidegate_nats::Nats;
use tidegate_protocol::{ErrorCode, InstanceId};
use tidegate_test_servers::{NatsCluster, NatsServer, eventually};

use tokio::time::timeout;

use crate::support::*;

/// Calls under way at a time.
const WINDOW: usize = 500;

const UNKNOWN: &str = "OUTCOME_UNKNOWN";

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

/// Calls until told to stop; answers what became of each call. Like a gate, it does not call
/// an instance that is gone until it is back.
async fn pump(
    bus: Arc<Nats>,
    to: Option<InstanceId>,
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Outcomes {
    let who = session(1, false);
    let mut outcomes = Outcomes::new();
    let mut under_way = FuturesUnordered::new();
    let mut up: Option<BoxFuture<'static, ()>> = None;
    loop {
        while up.is_none() && !stop.load(Ordering::Relaxed) && under_way.len() < WINDOW {
            under_way.push(outcome(ask(&*bus, &who, "count", "up", to.as_ref(), "")));
        }
        let result = match (under_way.next().await, &mut up) {
            (Some(result), _) => result,
            (None, _) if stop.load(Ordering::Relaxed) => return outcomes,
            (None, Some(back)) => {
                // It does not come back when the test is over.
                let _ = timeout(Duration::from_millis(100), back)
                    .await
                    .map(|()| up = None);
                continue;
            }
            (None, None) => continue,
        };
        let what = match result {
            Ok(_) => {
                answered.fetch_add(1, Ordering::Relaxed);
                "ok"
            }
            Err(error) => error.code.name(),
        };
        *outcomes.entry(what).or_default() += 1;
        if let (Some(to), true) = (&to, what == ErrorCode::INSTANCE_GONE.name()) {
            up = Some(bus.instance_up("count", to));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_stops_under_load_loses_nothing() {
    let server = NatsServer::start().await;
    let url = server.url();
    let outcomes = stops_under_load([&url, &url, &url], 10).await;
    assert!(!outcomes.contains_key(UNKNOWN), "{outcomes:?}");
}

/// The client counts what a subscription has got since it began, the server since it was
/// told of it anew: an end by such a count would lose what lies between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_after_its_connection_was_lost() {
    let mut server = NatsServer::start().await;
    let served = Arc::new(AtomicU64::new(0));
    let (home, caller) = (bus(&server, "a").await, bus(&server, "gate-1").await);
    let one = counter(home, "one", &served).await;
    let guest = session(1, false);
    let call = async || outcome(ask(&*caller, &guest, "count", "up", None, "")).await;
    for _ in 0..1_000 {
        call().await.unwrap();
    }
    server.restart().await;
    eventually("it is reached again", async || call().await.ok()).await;
    let (answered, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let before = served.load(Ordering::Relaxed);
    let pump = tokio::spawn(pump(caller, None, answered.clone(), stop.clone()));
    eventually("calls are under way to it", async || {
        (answered.load(Ordering::Relaxed) >= 2_000).then_some(())
    })
    .await;
    assert_eq!(one.stop().await, 0);
    stop.store(true, Ordering::Relaxed);
    let outcomes = pump.await.unwrap();
    let served = served.load(Ordering::Relaxed) - before;
    println!("a stop after a reconnect: {outcomes:?}, served {served}");
    assert_eq!(outcomes["ok"], served);
    let known = ["ok", ErrorCode::UNAVAILABLE.name()];
    assert!(outcomes.keys().all(|k| known.contains(k)), "{outcomes:?}");
}

/// Caller and instances on a server each. What was on its way between two servers to the
/// instance that unsubscribes is dropped by them; it was not served, and is no success.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_stops_under_load_loses_nothing_in_a_cluster() {
    let cluster = NatsCluster::start().await;
    let urls = cluster.urls();
    stops_under_load([&urls[0], &urls[1], &urls[2]], 10).await;
}

/// The caller, the instance that stops, and the one that stays, on servers of these addresses.
/// Answers what became of the calls to the one that stops.
async fn stops_under_load([caller, stops, stays]: [&str; 3], times: u32) -> Outcomes {
    let connect = async |url, name| Nats::connect(options(url, name)).await.unwrap();
    let served = Arc::new(AtomicU64::new(0));
    let caller = connect(caller, "gate-1").await;
    let stop = Arc::new(AtomicBool::new(false));
    let [any_answered, one_answered] = [0; 2].map(|n| Arc::new(AtomicU64::new(n)));
    // Some may go to any instance, some only to the one that stops.
    let any = tokio::spawn(pump(
        caller.clone(),
        None,
        any_answered.clone(),
        stop.clone(),
    ));
    let one = tokio::spawn(pump(
        caller.clone(),
        Some(instance("one")),
        one_answered.clone(),
        stop.clone(),
    ));
    let _stays = counter(connect(stays, "b").await, "two", &served).await;
    let home = connect(stops, "a").await;
    for _ in 0..times {
        let before = one_answered.load(Ordering::Relaxed);
        let one = counter(home.clone(), "one", &served).await;
        eventually("calls are under way to it", async || {
            (one_answered.load(Ordering::Relaxed) >= before + 500).then_some(())
        })
        .await;
        assert_eq!(one.stop().await, 0, "none was cut off");
    }
    stop.store(true, Ordering::Relaxed);
    let (any, one) = (any.await.unwrap(), one.await.unwrap());
    let served = served.load(Ordering::Relaxed);
    println!(
        "{times} stops under load: to any {any:?}, to the one that stops {one:?}, served {served}"
    );
    let ok = any["ok"] + one["ok"];
    assert_eq!(
        ok, served,
        "served once each, and each that was served has its answer"
    );
    // Before the first is there, and between two, nobody takes it: nothing was done.
    let (not_found, gone) = (ErrorCode::NOT_FOUND.name(), ErrorCode::INSTANCE_GONE.name());
    let not_served = [not_found, ErrorCode::UNAVAILABLE.name(), "ok"];
    assert!(any.keys().all(|k| not_served.contains(k)), "{any:?}");
    let not_served = [gone, UNKNOWN, "ok"];
    assert!(one.keys().all(|k| not_served.contains(k)), "{one:?}");
    assert_eq!(caller.stats().overflowed, 0);
    one
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_the_load() {
    let server = NatsServer::start().await;
    let (a, b) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let _a = counter(bus(&server, "a").await, "one", &a).await;
    let _b = counter(bus(&server, "b").await, "two", &b).await;
    let caller = bus(&server, "gate-1").await;
    let stop = Arc::new(AtomicBool::new(false));
    let pump = tokio::spawn(pump(caller, None, Arc::default(), stop.clone()));
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
