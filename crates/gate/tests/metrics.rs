//! What the gate tells Prometheus: exact numbers, from a set of series that no client adds to.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use support::*;
use tidegate::bus::{CallError, LocalBus};
use tidegate::metrics::catalogue::{self, Kind, METRICS};
use tidegate::metrics::render;
use tidegate::{Bound, Guests, Limits, Service, Tcp, UserId};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

/// A page, read.
struct Page(String);

impl Page {
    fn of(rig: &Rig) -> Self {
        Self(render(rig.gate()))
    }

    fn samples(&self) -> impl Iterator<Item = (&str, f64)> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series, value.parse().unwrap())
        })
    }

    fn series(&self) -> BTreeSet<String> {
        self.samples()
            .map(|(series, _)| series.to_owned())
            .collect()
    }

    #[track_caller]
    fn get(&self, wanted: &str) -> f64 {
        let found = self.samples().find(|(series, _)| *series == wanted);
        found
            .unwrap_or_else(|| panic!("no {wanted} in\n{}", self.0))
            .1
    }

    #[track_caller]
    fn call(&self, service: &str, outcome: &str) -> f64 {
        self.get(&format!(
            "tidegate_calls_total{{service=\"{service}\",outcome=\"{outcome}\"}}"
        ))
    }

    /// All calls that are done with, however they ended.
    fn calls(&self) -> f64 {
        let calls = self.samples();
        let calls = calls.filter(|(series, _)| series.starts_with("tidegate_calls_total"));
        calls.map(|(_, n)| n).sum()
    }
}

#[tokio::test(start_paused = true)]
async fn topics_make_no_series() {
    const TOPICS: usize = 100_000;
    let mut rig = Rig::new().await;
    let mut client = rig.tcp(Limits::default());
    rig.session().await;
    let before = Page::of(&rig);
    for i in 0..TOPICS {
        let topic = match i % 4 {
            0 => format!("service{i}/method"),
            1 => format!("service{i}/method{i}/{i}"),
            2 => format!("echo/method{i}/{i}"),
            _ => format!("not-a-route-{i}"),
        };
        client.write_all(&v1(&topic, b"")).await.unwrap();
    }
    until("all of them are read", || {
        rig.gate().stats().packets_in == TOPICS as u64
    })
    .await;
    let after = Page::of(&rig);
    assert_eq!(after.series(), before.series());
    let quarter = (TOPICS / 4) as f64;
    assert_eq!(after.call("(none)", "not_found"), 2.0 * quarter);
    assert_eq!(after.call("echo", "not_found"), quarter);
    assert_eq!(
        after.get("tidegate_packet_errors_total{code=\"1\",error=\"bad_topic\"}"),
        quarter
    );
}

#[tokio::test(start_paused = true)]
async fn every_call_is_counted_once_by_how_it_ended() {
    let open = Arc::new(Notify::new());
    let opened = open.clone();
    let slow = Service::new("slow")
        .request("wait", move |_: Bytes| {
            let opened = opened.clone();
            async move { opened.notified().await }
        })
        .open_to(Guests)
        .concurrent()
        .request("fail", async |_: Bytes| -> Result<(), CallError> {
            Err(CallError::service(1234, "no"))
        })
        .open_to(Guests)
        .request("bound", async |_: Bytes| {})
        .open_to(Bound);
    let mut rig = Rig::with(|gate| gate.service(slow)).await;
    let mut limits = Limits::default();
    limits.call_timeout = Duration::from_secs(5);
    let mut client = rig.tcp_on(Tcp::bind("a \"b\" \\ c").limits(limits));
    let session = rig.session().await;
    for topic in [
        "echo/echo/1",
        "echo/echo/2",
        "echo/take",
        "echo/echo",
        "slow/fail/1",
        "slow/bound/1",
        "slow/nothing/1",
        "nobody/there/1",
        "slow/wait/1",
        "slow/wait/2",
        "slow/wait/3",
        "slow/wait/4",
    ] {
        client.write_all(&v1(topic, b"")).await.unwrap();
    }
    for topic in ["echo/echo/1", "echo/echo/2"] {
        assert_eq!(read_v1(&mut client).await.unwrap().0, topic);
    }
    until("all are under way", || session.backlog().calls == 4).await;
    let page = Page::of(&rig);
    assert_eq!(page.get("tidegate_calls_in_flight"), 4.0);
    assert_eq!(page.calls(), 8.0);
    assert_eq!(
        page.get("tidegate_connections{listener=\"a \\\"b\\\" \\\\ c\",network=\"tcp\"}"),
        1.0
    );
    assert_eq!(page.get("tidegate_sessions{identity=\"guest\"}"), 1.0);
    session.bind(UserId::new("ada").unwrap()).await.unwrap();
    open.notify_one();
    assert_eq!(read_v1(&mut client).await.unwrap().0, "slow/wait/1");
    tokio::time::sleep(Duration::from_secs(6)).await;
    client.write_all(&v1("slow/wait/5", b"")).await.unwrap();
    until("one more is under way", || session.backlog().calls == 1).await;
    assert_eq!(
        Page::of(&rig).get("tidegate_sessions{identity=\"bound\"}"),
        1.0
    );
    drop(client);
    rig.settled().await;
    let page = Page::of(&rig);
    for (service, outcome, count) in [
        ("echo", "ok", 3.0),
        ("echo", "id_required", 1.0),
        ("slow", "service", 1.0),
        // A method that is not there, and one that is not for guests.
        ("slow", "not_found", 2.0),
        ("(none)", "not_found", 1.0),
        ("slow", "ok", 1.0),
        ("slow", "outcome_unknown", 3.0),
        ("slow", "session_ended", 1.0),
    ] {
        assert_eq!(page.call(service, outcome), count, "{service} {outcome}");
    }
    assert_eq!(page.calls(), 13.0);
    assert_eq!(page.get("tidegate_calls_in_flight"), 0.0);
    assert_eq!(page.get("tidegate_packets_received_total"), 13.0);
    assert_eq!(page.get("tidegate_packets_sent_total"), 3.0);
    assert_eq!(
        page.get("tidegate_closed_total{code=\"1000\",reason=\"ClientLeft\"}"),
        1.0
    );
    assert_eq!(
        page.get("tidegate_store_operations_total{operation=\"save\",outcome=\"ok\"}"),
        1.0
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_answered_in_place_is_timed_each_and_the_rest_by_samples() {
    const CALLS: u32 = 4000;
    let later = Service::new("later")
        .request("echo", async |body: Bytes| {
            tokio::task::yield_now().await;
            body
        })
        .open_to(Guests);
    let mut rig = Rig::with(|gate| gate.service(later)).await;
    let mut client = rig.tcp(Limits::default());
    rig.session().await;
    for i in 0..CALLS {
        for service in ["later", "echo"] {
            let topic = format!("{service}/echo/{i}");
            client.write_all(&v1(&topic, b"")).await.unwrap();
            assert_eq!(read_v1(&mut client).await.unwrap().0, topic);
        }
    }
    let page = Page::of(&rig);
    let timed = |service| {
        page.get(&format!(
            "tidegate_call_duration_seconds_count{{service=\"{service}\"}}"
        ))
    };
    assert_eq!(timed("later"), f64::from(CALLS));
    // One in 16, each for 16: 4000 in the mean, off by more than 1500 once in 10^9 runs.
    let sampled = timed("echo");
    assert_eq!(sampled % 16.0, 0.0);
    assert!((2500.0..5500.0).contains(&sampled), "{sampled}");
    let infinite = "tidegate_call_duration_seconds_bucket{service=\"echo\",le=\"+Inf\"}";
    assert_eq!(page.get(infinite), sampled);
}

#[tokio::test(start_paused = true)]
async fn services_are_bounded_and_known_by_their_answers() {
    const SERVICES: usize = 100;
    let bus = Arc::new(LocalBus::new());
    let mut rig = Rig::with(|gate| gate.bus(bus.clone())).await;
    let mut client = rig.tcp(Limits::default());
    rig.session().await;
    let mut running = Vec::new();
    for i in 0..SERVICES {
        let service = Service::new(format!("late{i}"))
            .request("call", async |_: Bytes| {})
            .open_to(Guests);
        running.push(service.register(bus.clone()).await.unwrap());
    }
    assert!(!Page::of(&rig).0.contains("late0"), "nobody has called");
    for round in 0..2 {
        for i in 0..SERVICES {
            let topic = format!("late{i}/call/{round}");
            client.write_all(&v1(&topic, b"")).await.unwrap();
            assert_eq!(read_v1(&mut client).await.unwrap().0, topic);
        }
    }
    let page = Page::of(&rig);
    // `echo` is the 64th.
    assert_eq!(page.call("late0", "ok"), 2.0);
    assert_eq!(page.call("late62", "ok"), 2.0);
    assert!(!page.0.contains("late63"));
    assert_eq!(page.call("(other)", "ok"), 2.0 * 37.0);
}

#[tokio::test]
async fn the_page_has_what_the_catalogue_says() {
    let mut params = rcgen::CertificateParams::new(["gate.test".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2040, 1, 2);
    let key = rcgen::KeyPair::generate().unwrap();
    let home = std::env::temp_dir().join(format!("tidegate-metrics-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    let (cert_file, key_file) = (home.join("cert.pem"), home.join("key.pem"));
    std::fs::write(&cert_file, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let tls = Tcp::bind("127.0.0.1:0").tls(cert_file, key_file);
    let rig = Rig::with(|gate| gate.listen(tls.name("tls"))).await;
    std::fs::remove_dir_all(home).unwrap();
    let _client = rig.tcp(Limits::default());
    let page = Page::of(&rig);
    let expiry = "tidegate_tls_certificate_expiry_timestamp_seconds{listener=\"tls\"}";
    assert_eq!(page.get(expiry), 2_209_075_200.0);
    for metric in METRICS {
        let kind = format!("# TYPE {} {}", metric.name, metric.kind.as_str());
        assert!(page.0.lines().any(|line| line == kind), "{kind}");
        let name = match metric.kind {
            Kind::Histogram => format!("{}_count", metric.name),
            Kind::Counter | Kind::Gauge => metric.name.to_owned(),
        };
        let mut samples = page.samples().map(|(series, _)| series);
        let labels = samples.find_map(|series| match series.strip_prefix(&name)? {
            "" => Some(Vec::new()),
            labels => {
                let labels = labels.strip_prefix('{')?.strip_suffix('}')?;
                let names = labels.split(',').map(|l| l.split('=').next().unwrap());
                Some(names.collect())
            }
        });
        assert_eq!(labels.as_deref(), Some(metric.labels), "{name}");
    }
}

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_documents_are_of_this_catalogue() {
    let page = file("docs/metrics.md");
    let table = catalogue::reference();
    assert!(
        page.contains(&table),
        "the table of docs/metrics.md must be:\n\n{table}"
    );
    for path in ["docs/metrics.md", "examples/prometheus-alerts.yml"] {
        let text = file(path);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|w| w.starts_with("tidegate_") || w.starts_with("process_")) {
            let is_of = |name: &str| {
                let rest = word.strip_prefix(name);
                rest.is_some_and(|rest| matches!(rest, "" | "_bucket" | "_sum" | "_count"))
            };
            assert!(METRICS.iter().any(|m| is_of(m.name)), "{path}: {word}");
        }
    }
}
