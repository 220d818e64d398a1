//! Packets to services, and what comes back.

use futures_util::FutureExt;
use futures_util::future::join_all;
use tidegate::bus::CallError;
use tidegate::service::{RunningService, Service, Services, Session};
use tidegate::{Bound, ErrorCode, Guests};
use tidegate_protocol::UserId;

use crate::World;
use crate::stage::*;

async fn echo(world: &impl World) -> RunningService {
    Service::new("echo")
        .request("echo", |body: bytes::Bytes| async move { body })
        .open_to(Guests)
        .request("fail", |body: String| async move {
            let number = body.parse().unwrap_or(1);
            Err::<(), _>(CallError::service(number, "no ✓ \u{1f600}"))
        })
        .open_to(Guests)
        .register(world.bus().await)
        .await
        .unwrap()
}

pub async fn answers_and_errors(world: &impl World) {
    let gate = gate(world, "a").await;
    let _echo = echo(world).await;
    let client = join(&gate).await;
    let answer = client.request("echo/echo", "hi").await.unwrap();
    assert_eq!(answer, "hi");
    for number in [1000, 4242, 65_535] {
        let error = client.request("echo/fail", number.to_string()).await;
        let Err(tidegate_client::Error::NotServed(error)) = error else {
            panic!("{error:?}")
        };
        assert_eq!(error.code.0, number);
        assert_eq!(error.message, "no ✓ \u{1f600}");
    }
    // The codes that say "not delivered" are not for handlers.
    let error = code(
        client
            .request("echo/fail", ErrorCode::UNAVAILABLE.0.to_string())
            .await,
    );
    assert_eq!(error, ErrorCode::INTERNAL);
}

pub async fn one_way_packets_are_told_about(world: &impl World) {
    let gate = gate(world, "a").await;
    let log = Log::default();
    let taken = log.clone();
    let _service = Service::new("box")
        .one_way("take", move |body: String| {
            taken.add(body);
            async {}
        })
        .open_to(Guests)
        .register(world.bus().await)
        .await
        .unwrap();
    let client = join(&gate).await;
    let mut events = client.events();
    client.send("box/take", "1").await.unwrap();
    // With a request id it is answered, when it has been served.
    assert_eq!(client.request("box/take", "2").await.unwrap(), "");
    assert_eq!(log.take(), ["1", "2"]);
    client.send("box/none", "3").await.unwrap();
    match events.recv().await {
        Some(Ok(tidegate_client::Event::NotServed { topic, error })) => {
            assert_eq!((&*topic, error.code), ("box/none", ErrorCode::NOT_FOUND));
        }
        other => panic!("{other:?}"),
    }
}

pub async fn what_cannot_be_called(world: &impl World) {
    let gate = gate(world, "a").await;
    let echo = echo(world).await;
    let client = join(&gate).await;
    assert_eq!(client.request("echo/echo", "1").await.unwrap(), "1");
    let ask = |method: &'static str| {
        let client = client.clone();
        async move { code(client.request(method, "").await) }
    };
    becomes("no such service", ErrorCode::NOT_FOUND, || ask("nobody/x")).await;
    becomes("no such method", ErrorCode::NOT_FOUND, || ask("echo/none")).await;
    for name in [
        "echo.echo/x",
        "*/x",
        ">/x",
        "echo/*",
        "echo/>",
        "echo/a b",
        "echo/é",
        "$SRV/PING",
    ] {
        assert!(client.request(name, "").await.is_err(), "{name}");
    }
    echo.stop().await;
    becomes("known, and gone", ErrorCode::UNAVAILABLE, || {
        ask("echo/echo")
    })
    .await;
}

pub async fn who_may_call(world: &impl World) {
    let gate = gate(world, "a").await;
    let (_desk, _running) = desk(world).await;
    let _hall = Service::new("hall")
        .request("guests", || async { "g" })
        .open_to(Guests)
        .request("bound", || async { "b" })
        .open_to(Bound)
        .request("internal", || async { "i" })
        .open_to(tidegate::Internal)
        .register(world.bus().await)
        .await
        .unwrap();
    let services = Services::new(world.bus().await);
    let client = join(&gate).await;
    assert_eq!(client.request("hall/guests", "").await.unwrap(), "g");
    for method in ["hall/bound", "hall/internal"] {
        let ask = || async { code(client.request(method, "").await) };
        becomes(method, ErrorCode::NOT_FOUND, ask).await;
    }
    client.request("desk/login", "ada").await.unwrap();
    assert_eq!(client.request("desk/who", "").await.unwrap(), "ada");
    assert_eq!(client.request("hall/guests", "").await.unwrap(), "g");
    assert_eq!(client.request("hall/bound", "").await.unwrap(), "b");
    let internal = code(client.request("hall/internal", "").await);
    assert_eq!(internal, ErrorCode::NOT_FOUND);
    for (method, answer) in [("guests", "g"), ("bound", "b"), ("internal", "i")] {
        assert_eq!(services.request("hall", method, "").await.unwrap(), answer);
    }
}

/// One session's packets come to an instance in the order they were sent, whatever their
/// methods are, before and after it logs in.
pub async fn order_over_methods_and_login(world: &impl World) {
    let gate = gate(world, "a").await;
    let log = Log::default();
    let note = |log: &Log| {
        let log = log.clone();
        move |session: Session, body: String| {
            log.add(body);
            async move {
                // Some have to wait: those behind them wait too.
                tokio::task::yield_now().await;
                drop(session);
            }
        }
    };
    let entered = log.clone();
    let _service = Service::new("s")
        .one_way("x", note(&log))
        .open_to(Guests)
        .one_way("y", note(&log))
        .open_to(Guests)
        .request("login", move |session: Session, body: String| {
            let log = entered.clone();
            async move {
                session.bind("ada").await.unwrap();
                log.add(body);
            }
        })
        .open_to(Guests)
        .register(world.bus().await)
        .await
        .unwrap();
    let client = join(&gate).await;
    let packets = 500;
    let mut logged_in = None;
    for i in 0..packets {
        if i == packets / 2 {
            let client = client.clone();
            let login = async move { client.request("s/login", i.to_string()).await };
            let mut login = Box::pin(login);
            // Polled once it is queued, in its place.
            assert!(login.as_mut().now_or_never().is_none());
            logged_in = Some(login);
            continue;
        }
        let topic = ["s/x", "s/y"][i % 2];
        client.send(topic, i.to_string()).await.unwrap();
    }
    logged_in.unwrap().await.unwrap();
    let seen = log.wait_for(packets).await;
    let sent: Vec<_> = (0..packets).map(|i| i.to_string()).collect();
    assert_eq!(seen, sent);
}

pub async fn services_call_services(world: &impl World) {
    let gate = gate(world, "a").await;
    let _inner = Service::new("inner")
        .request("who", |session: Option<Session>, body: String| async move {
            let user = session.and_then(|s| s.user());
            format!("{body} {user:?}")
        })
        .open_to(tidegate::Internal)
        .request("fail", || async {
            Err::<(), _>(CallError::service(1234, "inner"))
        })
        .open_to(tidegate::Internal)
        .register(world.bus().await)
        .await
        .unwrap();
    let _outer = Service::new("outer")
        .request("ask", |session: Session, services: Services| async move {
            session.bind("ada").await.unwrap();
            services
                .with_session(&session)
                .request("inner", "who", "hi")
                .await
        })
        .open_to(Guests)
        .request("fail", |services: Services| async move {
            services.request("inner", "fail", "").await
        })
        .open_to(Guests)
        .register(world.bus().await)
        .await
        .unwrap();
    let client = join(&gate).await;
    let answer = client.request("outer/ask", "").await.unwrap();
    let user = Some(UserId::new("ada").unwrap());
    assert_eq!(text(&answer), format!("hi {user:?}"));
    assert_eq!(code(client.request("outer/fail", "").await).0, 1234);
    let nobody = Services::new(world.bus().await)
        .request("nobody", "x", "")
        .await;
    let nobody = nobody.unwrap_err().code;
    assert!([ErrorCode::NOT_FOUND, ErrorCode::UNAVAILABLE].contains(&nobody));
}

pub async fn bodies_of_all_sizes(world: &impl World) {
    let gate = gate(world, "a").await;
    let _echo = echo(world).await;
    let client = join(&gate).await;
    for size in [0, 1, 64, 4096, 60_000] {
        let body: Vec<u8> = (0..size).map(|i| (i * 7) as u8).collect();
        let answer = client.request("echo/echo", body.clone()).await.unwrap();
        assert_eq!(answer, body);
    }
}

pub async fn many_clients_at_once(world: &impl World) {
    let gates = [gate(world, "a").await, gate(world, "b").await];
    let _one = echo(world).await;
    let _two = echo(world).await;
    let clients = join_all((0..40).map(|i| join(&gates[i % 2]))).await;
    let asks = clients.iter().enumerate().map(|(i, client)| async move {
        for n in 0..50 {
            let body = format!("{i} {n}");
            let answer = client.request("echo/echo", body.clone()).await.unwrap();
            assert_eq!(answer, body);
        }
    });
    join_all(asks).await;
}

/// What it has taken when it is told to stop it serves; what comes later others serve, or
/// it is refused. Nothing is without an answer.
pub async fn a_service_that_stops_drains(world: &impl World) {
    let gate = gate(world, "a").await;
    let (log, latch) = (Log::default(), Latch::default());
    let start = |id: &'static str| {
        let (log, latch) = (log.clone(), latch.clone());
        Service::new("slow")
            .instance(id)
            .request("work", move || {
                let (log, latch) = (log.clone(), latch.clone());
                async move {
                    log.add(id);
                    latch.pass().await;
                    id
                }
            })
            .open_to(Guests)
            .concurrent()
    };
    let first = start("first").register(world.bus().await).await.unwrap();
    let clients = join_all((0..20).map(|_| join(&gate))).await;
    let asks: Vec<_> = clients
        .iter()
        .map(|client| {
            let client = client.clone();
            tokio::spawn(async move { client.request("slow/work", "").await })
        })
        .collect();
    log.wait_for(20).await;
    let second = start("second").register(world.bus().await).await.unwrap();
    let stopping = tokio::spawn(first.stop());
    // From some moment on all come to the second.
    let client = join(&gate).await;
    latch.open(usize::MAX >> 4);
    assert_eq!(stopping.await.unwrap(), 0, "none was cut off");
    for ask in asks {
        assert_eq!(ask.await.unwrap().unwrap(), "first");
    }
    assert_eq!(client.request("slow/work", "").await.unwrap(), "second");
    second.stop().await;
}
