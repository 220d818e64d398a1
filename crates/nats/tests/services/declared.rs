//! What instances tell of themselves, and what others make of it.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tidegate::bus::{Bus, BusError, CallError, DeadInstance};
use tidegate::service::{RegisterError, Service};
use tidegate::{Bound, Guests, Internal};
use tidegate_protocol::ErrorCode;
use tidegate_test_servers::{NatsServer, eventually, tool};
use tokio::time::sleep;

use crate::support::*;

fn shop(id: &str) -> Service {
    Service::new("shop")
        .instance(id)
        .version("1.4.0")
        .metadata("zone", "eu")
        .request("buy", |body: String| async move {
            match &*body {
                "nothing" => Err(CallError::service(1001, "sold out")),
                body => Ok(format!("one {body}")),
            }
        })
        .open_to(Guests)
        .one_way("wave", async || {})
        .open_to(Bound)
        .one_way("close", async || {})
        .open_to(Internal)
        .on_gate_gone(async || {})
        .sticky()
        .on_dead_instance(DeadInstance::Hold(Duration::from_secs(30)))
}

/// What a tool that speaks the services protocol sees.
const ASK: &str = r#"
import asyncio, json, sys, nats
async def main():
    nc = await nats.connect(servers=[sys.argv[1]])
    async def ask(subject):
        return json.loads((await nc.request(subject, b'', timeout=10)).data)
    seen = {}
    for verb in ['PING', 'INFO', 'STATS']:
        answers = [await ask(f'$SRV.{verb}{rest}') for rest in ['', '.shop', '.shop.s-1']]
        assert answers[0] == answers[1] == answers[2], answers
        seen[verb] = answers[0]
    await nc.close()
    print(json.dumps(seen))
asyncio.run(main())
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_tool_sees_a_service_of_the_kit() {
    let server = NatsServer::start().await;
    let running = shop("s-1")
        .register(bus(&server, "shop").await)
        .await
        .unwrap();
    let caller = bus(&server, "gate-1").await;
    let guest = session(1, false);
    for body in ["apple", "pear", "nothing"] {
        let _ = outcome(ask(&*caller, &guest, "shop", "buy", None, body)).await;
    }
    let refused = outcome(ask(&*caller, &guest, "shop", "wave", None, "")).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::NOT_FOUND);
    let url = server.url();
    let seen = tokio::task::spawn_blocking(move || {
        Command::new(tool("TIDEGATE_TEST_PYTHON", "venv/bin/python"))
            .args(["-c", ASK, &url])
            .output()
    });
    let seen = seen.await.unwrap().unwrap();
    assert!(
        seen.status.success(),
        "{}",
        String::from_utf8_lossy(&seen.stderr)
    );
    let seen: serde_json::Value = serde_json::from_slice(&seen.stdout).unwrap();
    println!("{seen:#}");
    for verb in ["PING", "INFO", "STATS"] {
        let answer = &seen[verb];
        let kind = format!("io.nats.micro.v1.{}_response", verb.to_lowercase());
        assert_eq!(answer["type"], *kind);
        assert_eq!(answer["name"], "shop");
        assert_eq!(answer["id"], "s-1");
        assert_eq!(answer["version"], "1.4.0");
        assert_eq!(answer["metadata"]["zone"], "eu");
        assert_eq!(answer["metadata"]["tidegate-policy"], "sticky");
        assert_eq!(answer["metadata"]["tidegate-dead-instance"], "hold:30000");
        assert_eq!(answer["metadata"]["tidegate-wants"], "gates");
        assert_eq!(answer["metadata"].get("tidegate-claim"), None);
    }
    let subjects = |verb: &str| -> Vec<_> {
        let endpoints = seen[verb]["endpoints"].as_array().unwrap().iter();
        endpoints.map(|e| e["subject"].as_str().unwrap()).collect()
    };
    let expected = [
        "tidegate.g.shop.buy",
        "tidegate.c.shop.buy",
        "tidegate.s.shop.buy",
        "tidegate.c.shop.wave",
        "tidegate.s.shop.wave",
        "tidegate.s.shop.close",
    ];
    assert_eq!(subjects("INFO"), expected);
    assert_eq!(subjects("STATS"), expected);
    let buy = &seen["STATS"]["endpoints"][0];
    assert_eq!(
        (&buy["num_requests"], &buy["num_errors"]),
        (&3.into(), &1.into())
    );
    assert_eq!(buy["last_error"], "1001:sold out");
    let (total, average) = (
        buy["processing_time"].as_u64(),
        buy["average_processing_time"].as_u64(),
    );
    assert_eq!(total.unwrap() / 3, average.unwrap());
    assert!(total.unwrap() > 0);
    running.stop().await;
    let gone = plain(&server)
        .await
        .request("$SRV.PING.shop", "".into())
        .await;
    assert!(gone.is_err(), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_claim_an_id_at_once_one_gets_it() {
    let server = NatsServer::start().await;
    let buses = join_all((0..4).map(|_| bus(&server, "shop"))).await;
    for _ in 0..10 {
        let claims = buses.iter().map(|bus| shop("s-1").register(bus.clone()));
        let (got, refused): (Vec<_>, Vec<_>) =
            join_all(claims).await.into_iter().partition(Result::is_ok);
        assert_eq!(got.len(), 1, "{refused:?}");
        for refused in refused {
            let taken = matches!(refused, Err(RegisterError::Bus(BusError::Taken(_))));
            assert!(taken, "{refused:?}");
        }
        for running in got {
            running.unwrap().stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_a_service_stays_known_without_it() {
    let server = NatsServer::start().await;
    let caller = bus(&server, "gate-1").await;
    let guest = session(1, false);
    let code = async |service: &str, method: &str| {
        let result = outcome(ask(&*caller, &guest, service, method, None, "")).await;
        result.err().map(|error| error.code)
    };
    assert_eq!(code("shop", "buy").await, Some(ErrorCode::NOT_FOUND));
    let running = shop("s-1")
        .register(bus(&server, "shop").await)
        .await
        .unwrap();
    assert_eq!(code("shop", "buy").await, None);
    eventually("its policy is known", async || {
        caller.policy("shop").sticky.then_some(())
    })
    .await;
    running.stop().await;
    let policy = caller.policy("shop");
    assert_eq!(
        policy.dead_instance,
        DeadInstance::Hold(Duration::from_secs(30))
    );
    assert_eq!(code("shop", "buy").await, Some(ErrorCode::UNAVAILABLE));
    assert_eq!(
        code("shop", "wave").await,
        Some(ErrorCode::NOT_FOUND),
        "not for guests"
    );
    assert_eq!(code("shop", "sell").await, Some(ErrorCode::NOT_FOUND));
    assert_eq!(caller.instances("shop").await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_waited_for() {
    let server = NatsServer::start().await;
    let caller: Arc<dyn Bus> = bus(&server, "gate-1").await;
    let id = instance("s-1");
    // Many wait, and some no longer.
    let waits: Vec<_> = (0..1_000)
        .map(|_| tokio::spawn(caller.instance_up("shop", &id)))
        .collect();
    drop(caller.instance_up("shop", &instance("other")));
    let asked = async |server: &NatsServer| {
        let connections = server.monitor("/varz").await;
        connections["in_msgs"].as_u64().unwrap()
    };
    let before = asked(&server).await;
    sleep(Duration::from_secs(1)).await;
    let questions = asked(&server).await - before;
    assert!(questions < 50, "one looks for all of them: {questions}");
    assert!(waits.iter().all(|wait| !wait.is_finished()));
    let _running = shop("s-1")
        .register(bus(&server, "shop").await)
        .await
        .unwrap();
    for wait in waits {
        tokio::time::timeout(LONG, wait).await.unwrap().unwrap();
    }
    let guest = session(1, false);
    outcome(ask(&*caller, &guest, "shop", "buy", Some(&id), "x"))
        .await
        .unwrap();
}
