//! Services, gates and NATS servers that are killed, each while requests are under way: what
//! was in flight is delivered, or its caller is told (threat 28).

use std::time::{Duration, Instant};

use tidegate::ErrorCode;
use tidegate_client::{Client, Error};
use tidegate_test_servers::{NatsCluster, NatsServer};

use crate::account::{Load, Outcome, numbers};
use crate::roles::{self, Role};
use crate::stage::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_dies_with_a_request_leaves_its_outcome_unknown() {
    let nats = NatsServer::start().await;
    let servers = [nats.url()];
    let mut work = Role::new_service("w1", &servers).service().await;
    let gate = roles::gate(&servers, "g1", [127, 0, 0, 1].into()).await;
    let url = format!("tcp://{}", gate.address(0).unwrap());
    let (free, bound) = (connect(&url).await, connect(&url).await);
    answers(&free, "work/do").await;
    // Any instance, and this one and no other.
    bound.request("work/stay", "").await.unwrap();
    let take = async |client: Client, number: &'static str| {
        client.request("work/take", number).await.unwrap_err()
    };
    let one = tokio::spawn(take(free.clone(), "1"));
    let two = tokio::spawn(take(bound.clone(), "2"));
    for number in ["took 1", "took 2"] {
        prints(&mut work, number).await;
    }
    work.kill();
    for (error, client) in [(one.await.unwrap(), &free), (two.await.unwrap(), &bound)] {
        let Error::NotServed(error) = error else {
            panic!("{error:?}");
        };
        assert_eq!(error.code, ErrorCode::OUTCOME_UNKNOWN);
        // And now it is known that there is none.
        let next = client.request("work/do", "3").await.unwrap_err();
        let Error::NotServed(next) = next else {
            panic!("{next:?}");
        };
        let gone = [ErrorCode::UNAVAILABLE, ErrorCode::INSTANCE_GONE];
        assert!(gone.contains(&next.code), "{next:?}");
    }
}

/// A cluster of three NATS servers, two gates, two instances of a service, and one of each is
/// killed in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_was_in_flight_is_accounted_for() {
    let mut cluster = NatsCluster::start().await;
    let servers = cluster.urls();
    let start = |id: &'static str| Role::new_service(id, &servers).service();
    let mut services = vec![start("w1").await, start("w2").await];
    let mut gates = Vec::new();
    let mut clients = Vec::new();
    for id in ["g1", "g2"] {
        let (gate, url) = Role::new_gate(id, &servers).gate().await;
        clients.extend(connect_all(&url, 8).await);
        gates.push(gate);
    }
    for client in &clients {
        answers(client, "work/do").await;
    }
    let mut pushes: Vec<_> = clients.iter().map(|c| c.subscribe("told")).collect();
    let begun = Instant::now();
    let asked = Load::start(&clients, "work/do", Duration::from_millis(2));
    let told = Load::start(&clients, "work/tell", Duration::from_millis(10));
    let wait = async |seconds| tokio::time::sleep(Duration::from_secs(seconds)).await;
    let mut phases = vec![("everything runs", begun)];

    wait(2).await;
    phases.push(("a service is killed", Instant::now()));
    services[0].kill();
    wait(7).await;
    services.push(start("w3").await);
    phases.push(("a NATS server is killed", Instant::now()));
    let busiest = busiest(&cluster).await;
    cluster.nodes[busiest].kill();
    wait(6).await;
    cluster.nodes[busiest].restart().await;
    phases.push(("it is back", Instant::now()));
    wait(2).await;
    phases.push(("a gate is killed", Instant::now()));
    gates[0].kill();
    // It comes back with the same id, and running services reach it at once.
    let (gate, url) = Role::new_gate("g1", &servers).gate().await;
    gates.push(gate);
    let newcomer = connect(&url).await;
    let mut told_newcomer = newcomer.subscribe("told");
    newcomer.request("work/tell", "hello").await.unwrap();
    gets(&mut told_newcomer, "hello").await;
    wait(2).await;
    let (asked, told) = (asked.stop().await, told.stop().await);
    phases.push(("", Instant::now()));

    let outputs: Vec<_> = services.iter().map(|s| s.output()).collect();
    let outputs = || outputs.iter().map(String::as_str);
    let done = numbers(outputs(), "did");
    for phase in phases.windows(2) {
        let [(what, from), (_, to)] = phase else {
            unreachable!()
        };
        asked.between(*from, *to).print(what, &done);
    }
    asked.print("in all", &done);
    asked.check(&done);
    let pushed = numbers(outputs(), "told");
    told.print("those that push to their caller", &pushed);
    told.check(&pushed);
    assert!(asked.count(Outcome::Answered) > 1000);

    // What services were told of each push, beside what the clients got.
    let mut got = std::collections::HashMap::<u64, usize>::new();
    for (i, pushes) in pushes.iter_mut().enumerate() {
        // After all that came before it.
        if i >= 8 {
            clients[i].request("near-g2/echo", "").await.unwrap();
        }
        while let Some(packet) = pushes.try_recv() {
            let body = packet.expect("none is missed").body;
            let number = std::str::from_utf8(&body).unwrap().parse().unwrap();
            *got.entry(number).or_default() += 1;
        }
    }
    assert!(got.values().all(|times| *times == 1), "no push came twice");
    for outcome in ["queued", "refused", "unknown"] {
        let of_it = |line: &&str| line.ends_with(&format!(" {outcome}"));
        let lines = outputs().flat_map(str::lines).filter(of_it);
        let numbers = numbers(lines, "told");
        let missing: Vec<_> = numbers.keys().filter(|n| !got.contains_key(n)).collect();
        let arrived = numbers.len() - missing.len();
        println!(
            "pushes {outcome}: {}, of them arrived {arrived}",
            numbers.len()
        );
        match outcome {
            // What the killed gate had queued and not written yet is gone with its sessions.
            "queued" => {
                let of_the_dead = |n: &&u64| {
                    let asked = told.0.iter().find(|e| e.number == **n);
                    asked.is_some_and(|e| e.client < 8)
                };
                assert!(missing.iter().all(of_the_dead), "{missing:?} are lost");
            }
            "refused" => assert_eq!(arrived, 0),
            _ => {}
        }
    }
}

/// The server with the most connections.
async fn busiest(cluster: &NatsCluster) -> usize {
    let mut connections = Vec::new();
    for node in &cluster.nodes {
        let varz = node.monitor("/varz").await;
        connections.push(varz["connections"].as_u64().unwrap());
    }
    println!("connections of the NATS servers: {connections:?}");
    (0..3).max_by_key(|i| connections[*i]).unwrap()
}
