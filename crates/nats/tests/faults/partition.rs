//! Gates that the network cuts off from NATS, for less and for more than their lease: clients
//! stay, the others learn who is gone, and everybody finds together again (threat 27).

use std::time::{Duration, Instant};

use tidegate_test_servers::{NatsServer, Site, eventually, with_namespaces};

use crate::account::{Load, Outcome, numbers};
use crate::roles::{self, Role};
use crate::stage::*;

const SHORT: Duration = Duration::from_secs(5);
/// The lease is 10 s.
const LONG: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gates_are_cut_off() {
    if !with_namespaces("partition::gates_are_cut_off") {
        return;
    }
    // As the documentation advises: a server that does not look for minutes hands a dead gate
    // its share of the requests for any gate.
    let config = "ping_interval: \"2s\"\nping_max: 2";
    let nats = NatsServer::options().config(config).start().await;
    let servers = [nats.url()];
    let mut work = Role::new_service("w1", &servers).service().await;
    let third = roles::gate(&servers, "g3", [127, 0, 0, 1].into()).await;
    let url = format!("tcp://{}", third.address(0).unwrap());
    let eve = connect(&url).await;
    let mut sites = [Site::new().await, Site::new().await];
    let mut gates = Vec::new();
    let mut clients = Vec::new();
    for (site, id) in sites.iter_mut().zip(["g1", "g2"]) {
        let servers = [format!("nats://{}", site.way_to(nats.address()))];
        let (gate, url) = Role::new_gate_at(site, id, &servers).gate().await;
        clients.push(connect(&url).await);
        gates.push(gate);
    }
    let [ada, bob] = [&clients[0], &clients[1]];
    for (client, user) in [(ada, "ada"), (bob, "bob"), (&eve, "eve")] {
        all_is_well(client, user).await;
    }
    let subscriptions = async || nats.monitor("/subsz").await["num_subscriptions"].clone();
    let before = subscriptions().await;

    let pause = Duration::from_millis(10);
    let far = clients.iter().chain([&eve]);
    let far: Vec<_> = far
        .map(|c| Load::start(std::slice::from_ref(c), "work/do", pause))
        .collect();
    let near = Load::start(std::slice::from_ref(ada), "near-g1/echo", pause);
    let near_too = Load::start(std::slice::from_ref(bob), "near-g2/echo", pause);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let cut = Instant::now();
    sites.iter().for_each(Site::cut);
    tokio::time::sleep(SHORT).await;
    sites[0].mend();
    let mended = Instant::now();
    answers(ada, "work/do").await;
    println!(
        "cut off for {SHORT:?}: well again after {:?}",
        mended.elapsed()
    );
    prints(&mut work, "gone g2").await;
    println!(
        "the other gate is known to be gone {:?} after the cut",
        cut.elapsed()
    );
    // Nobody waits for it any more.
    eventually("eve shouts to those who are left", async || {
        let sent = eve.request("work/shout", "without bob").await.ok()?;
        let sent = String::from_utf8(sent.to_vec()).unwrap();
        (sent.contains("attached: 2") && sent.contains("unknown: 0")).then_some(())
    })
    .await;
    tokio::time::sleep(LONG.saturating_sub(cut.elapsed())).await;
    sites[1].mend();
    let mended_too = Instant::now();
    answers(bob, "work/do").await;
    println!(
        "cut off for {LONG:?}: well again after {:?}",
        mended_too.elapsed()
    );
    tokio::time::sleep(Duration::from_secs(1)).await;

    let mut accounts = Vec::new();
    for load in far {
        accounts.push(load.stop().await);
    }
    let output = work.output();
    let done = numbers([&*output], "did");
    for (account, gate) in accounts
        .iter()
        .zip(["g1", "g2", "g3, which is not cut off"])
    {
        account.print(&format!("clients of {gate}"), &done);
        account.check(&done);
    }
    let gone: Vec<_> = output.lines().filter(|l| l.starts_with("gone")).collect();
    assert_eq!(gone, ["gone g2"]);
    let whole = &accounts[2];
    assert_eq!(whole.count(Outcome::Answered), whole.0.len());
    for near in [near.stop().await, near_too.stop().await] {
        assert_eq!(near.count(Outcome::Answered), near.0.len());
    }
    for (client, gate) in [(ada, "g1"), (bob, "g2")] {
        let bus = client
            .request(&format!("near-{gate}/bus"), "")
            .await
            .unwrap();
        println!("{gate}: {}", String::from_utf8_lossy(&bus));
    }
    for (client, user) in [(ada, "ada"), (bob, "bob"), (&eve, "eve")] {
        all_is_well(client, user).await;
    }
    eventually("the same subscriptions as before", async || {
        (subscriptions().await == before).then_some(())
    })
    .await;
}
