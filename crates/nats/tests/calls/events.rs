//! Events: sent, kept while NATS is away, sent once more, counted where nobody takes them.

use std::time::Duration;

use tidegate::bus::{Bus, Ended, Event, EventTarget};
use tidegate_nats::Nats;
use tidegate_protocol::{CloseReason, InstanceId};
use tidegate_test_servers::{NatsServer, Proxy, eventually};
use tokio::time::timeout;

use crate::support::{PATIENCE, Service, bus, options, session, text, until_down, until_up};

fn ended(number: u64) -> Event {
    Event::Disconnected(Ended {
        reason: CloseReason::ConnectionLost,
        undelivered_packets: number,
        undelivered_bytes: 0,
    })
}

/// The number of the session that ended.
fn number(event: &async_nats::Message) -> u64 {
    let body: serde_json::Value = serde_json::from_str(text(event)).unwrap();
    body["undelivered_packets"].as_u64().unwrap()
}

fn tell(bus: &dyn Bus, instance: Option<&str>, count: u64) {
    let instance = instance.map(|i| InstanceId::new(i).unwrap());
    let to = EventTarget::Service("chat", instance.as_ref());
    bus.event(to, session(7), ended(count));
}

#[tokio::test]
async fn events_reach_one_service_or_all_who_asked() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    let mut chat = Service::on(&server, "tidegate.*.chat.*").await;
    let mut audit = Service::on(&server, "tidegate.all.*").await;
    tell(&*bus, None, 3);
    let event = chat.next().await;
    assert_eq!(event.subject.as_str(), "tidegate.e.chat.disconnected");
    assert_eq!(number(&event), 3);
    assert!(event.headers.unwrap().get("Tidegate-Session").is_some());

    for (event, subject) in [
        (Event::Started, "tidegate.all.started"),
        (Event::Dormant, "tidegate.all.dormant"),
        (Event::Resumed, "tidegate.all.resumed"),
    ] {
        bus.event(EventTarget::WhoAsked, session(7), event);
        assert_eq!(audit.next().await.subject.as_str(), subject);
    }

    let mut instance = Service::on(&server, "tidegate.i.chat.a.>").await;
    tell(&*bus, Some("a"), 4);
    let event = instance.next().await;
    assert_eq!(event.subject.as_str(), "tidegate.i.chat.a.e.disconnected");
    // An instance that is gone: another takes it.
    tell(&*bus, Some("b"), 5);
    assert_eq!(number(&chat.next().await), 5);
    assert_eq!(bus.stats().undelivered_events, 0);
}

#[tokio::test]
async fn an_event_that_nobody_takes_is_counted() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    tell(&*bus, None, 0);
    tell(&*bus, Some("gone"), 0);
    // Nobody needs to ask for these.
    bus.event(EventTarget::WhoAsked, session(7), Event::Started);
    eventually("two are counted", async || {
        (bus.stats().undelivered_events == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn events_wait_in_order_while_nats_is_away_up_to_a_bound() {
    let mut server = NatsServer::start().await;
    let mut options = options(&server);
    options.events = 1_000;
    let bus = Nats::connect(options).await.unwrap();
    server.stop().await;
    until_down(&bus).await;
    for number in 0..1_010 {
        tell(&*bus, None, number);
    }
    assert_eq!(bus.stats().lost_events, 10);
    server.restart().await;
    // The service comes a while after the gate: its events wait for it.
    until_up(&bus).await;
    let mut chat = Service::on(&server, "tidegate.*.chat.*").await;
    for expected in 0..1_000 {
        assert_eq!(number(&chat.next().await), expected);
    }
    let stats = bus.stats();
    assert_eq!((stats.lost_events, stats.undelivered_events), (10, 0));
}

#[tokio::test]
async fn an_event_on_its_way_when_the_connection_is_lost_is_sent_again() {
    let server = NatsServer::start().await;
    let mut chat = Service::on(&server, "tidegate.*.chat.*").await;
    let proxy = Proxy::start(server.address());
    let mut options = options(&server);
    options.servers = vec![format!("nats://{}", proxy.address())];
    let bus = Nats::connect(options).await.unwrap();
    proxy.hold();
    for number in 0..10 {
        tell(&*bus, None, number);
    }
    until_down(&bus).await;
    // What had not come through is gone.
    proxy.cut();
    proxy.release();
    let mut missing: Vec<u64> = (0..10).collect();
    while !missing.is_empty() {
        let event = timeout(PATIENCE, chat.next()).await.unwrap();
        missing.retain(|n| *n != number(&event));
    }
    assert_eq!(bus.stats().lost_events, 0);
}

#[tokio::test]
async fn more_events_than_fit_the_channel_at_once_arrive_all() {
    let server = NatsServer::start().await;
    let mut options = options(&server);
    options.outbound = 64;
    options.in_flight = 100;
    let bus = Nats::connect(options).await.unwrap();
    let mut chat = Service::on(&server, "tidegate.*.chat.*").await;
    const COUNT: u64 = 5_000;
    for number in 0..COUNT {
        tell(&*bus, None, number);
    }
    for expected in 0..COUNT {
        assert_eq!(number(&chat.next().await), expected);
    }
    let stats = bus.stats();
    assert_eq!((stats.lost_events, stats.undelivered_events), (0, 0));
    // Who listens and says nothing has taken it; it is not waited for.
    eventually("nothing waits", async || {
        tokio::time::sleep(Duration::from_millis(20)).await;
        (bus.stats().calls_in_flight == 0).then_some(())
    })
    .await;
}
