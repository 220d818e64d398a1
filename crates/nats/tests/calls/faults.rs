//! NATS stops, stands still and comes back; services answer late, twice, or not at all.

use std::time::Duration;

use futures_util::FutureExt as _;
use tidegate::bus::Bus as _;
use tidegate_nats::Nats;
use tidegate_protocol::ErrorCode;
use tidegate_test_servers::{NatsServer, eventually};

use crate::support::{Ask, Service, bus, call, code, options, text, until_down, until_up};

/// Row 26, stopped and killed: at once, and nothing of it is done later.
#[tokio::test]
async fn while_nats_is_away_calls_fail_at_once_and_for_good() {
    let mut server = NatsServer::start().await;
    let bus = bus(&server).await;
    for round in 0..2 {
        let mut service = Service::on(&server, "tidegate.c.chat.say").await;
        let in_flight = Ask::new("chat", "say", "in flight").begin(&*bus);
        assert_eq!(text(&service.next().await), "in flight");
        match round {
            0 => server.stop().await,
            _ => server.kill(),
        }
        let error = in_flight.await.unwrap_err();
        assert_eq!(error.code, ErrorCode::OUTCOME_UNKNOWN);
        until_down(&bus).await;
        for _ in 0..100 {
            let refused = Ask::new("chat", "say", "stale").begin(&*bus);
            // Answered before the call returns.
            let error = refused.now_or_never().unwrap().unwrap_err();
            assert_eq!(error.code, ErrorCode::UNAVAILABLE);
        }
        drop(service);
        server.restart().await;
        until_up(&bus).await;
        let mut service = Service::on(&server, "tidegate.c.chat.say").await;
        let asked = Ask::new("chat", "say", "fresh").begin(&*bus);
        // The first that comes: nothing stale was before it.
        let question = service.next().await;
        assert_eq!(text(&question), "fresh");
        service.answer(&question, "ok").await;
        assert_eq!(asked.await.unwrap().body, "ok");
    }
    assert_eq!(bus.stats().disconnects, 2);
    assert_eq!(bus.stats().calls_in_flight, 0);
}

/// Row 26, standing still: noticed within seconds.
#[tokio::test]
async fn a_server_that_stands_still_leaves_nobody_waiting() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    let mut service = Service::on(&server, "tidegate.c.chat.say").await;
    server.pause();
    let in_flight = Ask::new("chat", "say", "x").begin(&*bus);
    // Long before its deadline, which is half a minute.
    let error = tokio::time::timeout(Duration::from_secs(20), in_flight);
    let error = error.await.expect("noticed").unwrap_err();
    assert_eq!(error.code, ErrorCode::OUTCOME_UNKNOWN);
    assert_eq!(
        code(&*bus, "chat", "say").await,
        Some(ErrorCode::UNAVAILABLE)
    );
    server.resume();
    until_up(&bus).await;
    let answers = tokio::spawn(async move {
        loop {
            // The one in flight may have arrived, too: that is what unknown means.
            let question = service.next().await;
            service.answer(&question, text(&question)).await;
        }
    });
    // The service may not be back yet.
    let answer = eventually("the service answers", async || {
        call(&*bus, "chat", "say", "again").await.ok()
    });
    assert_eq!(answer.await.body, "again");
    answers.abort();
}

/// Row 28: received, and then killed.
#[tokio::test]
async fn a_service_that_dies_with_a_call_leaves_its_outcome_unknown() {
    let server = NatsServer::start().await;
    let mut options = options(&server);
    options.call_timeout = Duration::from_millis(300);
    let bus = Nats::connect(options).await.unwrap();
    let mut service = Service::on(&server, "tidegate.c.chat.say").await;
    let asked = Ask::new("chat", "say", "x").begin(&*bus);
    service.next().await;
    drop(service);
    assert_eq!(asked.await.unwrap_err().code, ErrorCode::OUTCOME_UNKNOWN);
}

/// Row 29.
#[tokio::test]
async fn late_and_double_answers_are_discarded_and_counted() {
    let server = NatsServer::start().await;
    let mut options = options(&server);
    options.call_timeout = Duration::from_millis(200);
    let bus = Nats::connect(options).await.unwrap();
    let mut service = Service::on(&server, "tidegate.c.chat.say").await;
    let asked = Ask::new("chat", "say", "1").begin(&*bus);
    let late = service.next().await;
    assert_eq!(asked.await.unwrap_err().code, ErrorCode::OUTCOME_UNKNOWN);

    let asked = Ask::new("chat", "say", "2").begin(&*bus);
    let question = service.next().await;
    service.answer(&late, "late").await;
    service.answer(&question, "right").await;
    service.answer(&question, "twice").await;
    assert_eq!(asked.await.unwrap().body, "right");
    eventually("both are counted", async || {
        (bus.stats().late_answers == 2).then_some(())
    })
    .await;
}

/// Of two in one process that have one name, each gets its own answers.
#[tokio::test]
async fn two_connections_of_one_name_do_not_mix_their_answers() {
    let server = NatsServer::start().await;
    let (one, two) = (bus(&server).await, bus(&server).await);
    let mut service = Service::on(&server, "tidegate.c.chat.say").await;
    let asked = [
        Ask::new("chat", "say", "one").begin(&*one),
        Ask::new("chat", "say", "two").begin(&*two),
    ];
    for _ in 0..2 {
        let question = service.next().await;
        service.answer(&question, text(&question)).await;
    }
    let [first, second] = asked;
    assert_eq!(first.await.unwrap().body, "one");
    assert_eq!(second.await.unwrap().body, "two");
    assert_eq!(one.stats().late_answers + two.stats().late_answers, 0);
}

#[tokio::test]
async fn more_than_may_wait_is_refused() {
    let server = NatsServer::start().await;
    let mut options = options(&server);
    options.in_flight = 10;
    let bus = Nats::connect(options).await.unwrap();
    let mut service = Service::on(&server, "tidegate.c.chat.say").await;
    let calls: Vec<_> = (0..10)
        .map(|_| Ask::new("chat", "say", "").begin(&*bus))
        .collect();
    let error = call(&*bus, "chat", "say", "").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::OVERLOADED);
    assert!(bus.stats().calls_in_flight <= 10);
    for call in calls {
        let question = service.next().await;
        service.answer(&question, "").await;
        call.await.unwrap();
    }
    assert!(bus.stats().overloaded >= 1);
}
