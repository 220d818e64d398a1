//! Users on several gates on NATS: gates that die with users on them, servers that die under
//! the records, and what is not permitted.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../gate/tests/harness/mod.rs"]
mod harness;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tidegate::bus::{Bus, BusError, Connected, GateError, GateGone, GateReply, GateRequest, Sent};
use tidegate::service::RunningService;
use tidegate::{
    Clients, CloseReason, Delivery, Gate, LocalSession, Logins, RunningGate, Service, StartError,
    UserId,
};
use tidegate_nats::{Auth, Nats, NatsOptions, Secret};
use tidegate_test_servers::{NatsCluster, NatsServer, eventually};
use tokio::sync::Barrier;

use harness::{Client, join, packet, user};

async fn bus(options: &NatsOptions, name: &str) -> Arc<Nats> {
    let mut options = options.clone();
    options.name = name.to_owned();
    Nats::connect(options).await.unwrap()
}

fn options(server: &NatsServer, lease: u64) -> NatsOptions {
    let mut options = NatsOptions::new([server.url()]);
    options.lease = Duration::from_secs(lease);
    options
}

async fn gate(options: &NatsOptions, id: &str, logins: Logins) -> RunningGate {
    let bus = bus(options, id).await;
    let gate = Gate::builder().id(id).bus(bus).shards(0).logins(logins);
    gate.start().await.unwrap()
}

fn one() -> Logins {
    Logins::limit(NonZeroU32::MIN)
}

/// A gate in a runtime of its own, which can die as a process does: at once, all its
/// connections with it, and without a word.
struct Doomed {
    runtime: Option<tokio::runtime::Runtime>,
    gate: Option<RunningGate>,
    clients: Vec<Client>,
}

impl Doomed {
    async fn start(options: &NatsOptions, id: &str, logins: Logins, users: &[UserId]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (options, id, users) = (options.clone(), id.to_owned(), users.to_vec());
        let started = runtime.spawn(async move {
            let gate = gate(&options, &id, logins).await;
            let mut clients = Vec::new();
            for user in users {
                let (client, session) = join(&gate).await;
                session.bind(user).await.unwrap();
                clients.push(client);
            }
            (gate, clients)
        });
        let (gate, clients) = started.await.unwrap();
        Self {
            runtime: Some(runtime),
            gate: Some(gate),
            clients,
        }
    }

    fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
        std::mem::forget(self.gate.take());
        self.clients.clear();
    }
}

/// Takes note of the gates that died.
async fn watcher(
    options: &NatsOptions,
    name: &str,
    told: &Arc<Mutex<Vec<GateGone>>>,
) -> RunningService {
    let told = told.clone();
    let service = Service::new("watcher").on_gate_gone(move |gone: GateGone| {
        told.lock().push(gone);
        async {}
    });
    service.register(bus(options, name).await).await.unwrap()
}

#[tokio::test]
async fn a_gate_that_dies_is_told_once_and_its_users_are_gone() {
    let server = NatsServer::start().await;
    let options = options(&server, 2);
    let told = Arc::new(Mutex::new(Vec::new()));
    let _watchers = [
        watcher(&options, "watcher-1", &told).await,
        watcher(&options, "watcher-2", &told).await,
    ];
    let refuse = one().refuse();
    let gates = [
        gate(&options, "g1", refuse).await,
        gate(&options, "g2", refuse).await,
    ];
    let users: Vec<UserId> = (0..20).map(UserId::from).collect();
    let mut doomed = Doomed::start(&options, "g3", refuse, &users).await;
    let service = bus(&options, "service").await;
    let clients = Clients::new(service.clone());
    let present = clients.presence(&users).await.unwrap();
    assert!(present.iter().all(|sessions| sessions.len() == 1));
    let send = || {
        let packet = packet("t", "x");
        let request = GateRequest::SendToUser(users[0].clone(), packet, Delivery::Critical);
        service.every_gate(request)
    };
    assert!(matches!(
        send().await,
        Ok(GateReply::Sent(Sent {
            attached: 1,
            unknown: 0,
            ..
        }))
    ));
    doomed.kill();
    let died = Instant::now();
    // Nobody is told that it was sent.
    let sent = send().await;
    assert!(
        !matches!(&sent, Ok(GateReply::Sent(sent)) if sent.taken() > 0 || sent.unknown == 0),
        "{sent:?}"
    );
    let (_client, again) = join(&gates[0]).await;
    let blocked = eventually("the user can log in again", async || {
        let bound = again.bind(users[0].clone()).await;
        bound.ok().map(|_| died.elapsed())
    })
    .await;
    let misled = eventually("the users of the dead gate are gone", async || {
        let present = clients.presence(&users).await.ok()?;
        let rest = present[1..].iter().all(Vec::is_empty);
        (present[0] == [again.id()] && rest).then(|| died.elapsed())
    })
    .await;
    println!("lease 2 s; a dead gate's login blocked for {blocked:?}, and misled for {misled:?}");
    eventually("a watcher is told", async || {
        (!told.lock().is_empty()).then_some(())
    })
    .await;
    // Whoever else would tell would have.
    tokio::time::sleep(options.lease).await;
    let told = told.lock().clone();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].gate, "g3");
    join_all(gates.map(RunningGate::stop)).await;
}

#[tokio::test]
async fn a_gate_that_was_killed_is_back_at_once_and_a_second_one_is_refused() {
    let server = NatsServer::start().await;
    let options = options(&server, 10);
    let mut doomed = Doomed::start(&options, "g1", one().refuse(), &[user("ann")]).await;
    let second = bus(&options, "g1").await;
    let second = Gate::builder().id("g1").bus(second).shards(0).start().await;
    assert!(
        matches!(&second, Err(StartError::Bus(BusError::Taken(_)))),
        "{:?}",
        second.err()
    );
    doomed.kill();
    let began = Instant::now();
    let again = eventually("it starts again", async || {
        let bus = bus(&options, "g1").await;
        let gate = Gate::builder().id("g1").bus(bus).shards(0);
        gate.logins(one().refuse()).start().await.ok()
    })
    .await;
    println!(
        "lease 10 s; the killed gate was back after {:?}",
        began.elapsed()
    );
    assert!(began.elapsed() < options.lease, "it waited for the lease");
    let (_client, ann) = join(&again).await;
    ann.bind(user("ann")).await.unwrap();
    again.stop().await;
}

async fn race(
    gates: &[RunningGate],
    name: &str,
) -> Vec<(LocalSession, Client, Result<(), GateError>)> {
    let clients = join_all(gates.iter().map(join)).await;
    let start = Arc::new(Barrier::new(gates.len()));
    let binds = clients.into_iter().map(|(client, session)| {
        let (start, user) = (start.clone(), user(name));
        tokio::spawn(async move {
            start.wait().await;
            let bound = session.bind(user).await.map(drop);
            (session, client, bound)
        })
    });
    let bound = join_all(binds).await;
    bound.into_iter().map(Result::unwrap).collect()
}

/// The server that leads the records is killed between and during the races.
async fn races_while_the_leader_dies(logins: Logins) {
    const RACES: usize = 60;
    let mut cluster = NatsCluster::start().await;
    let mut options = NatsOptions::new(cluster.urls());
    options.replicas = 3;
    let gates = [
        gate(&options, "g1", logins).await,
        gate(&options, "g2", logins).await,
        gate(&options, "g3", logins).await,
    ];
    let (mut bound, mut refused, mut replaced, mut unavailable, mut slowest) =
        (0, 0, 0, 0, Duration::ZERO);
    for number in 0..RACES {
        let name = format!("user-{number}");
        let began = Instant::now();
        let racing = race(&gates, &name);
        let raced = if number == RACES / 3 {
            let leader = cluster.leader_of("KV_tidegate-users", 0).await;
            cluster.nodes[leader].kill();
            racing.await
        } else {
            racing.await
        };
        slowest = slowest.max(began.elapsed());
        for (.., result) in &raced {
            match result {
                Ok(()) => bound += 1,
                Err(GateError::TooManyLogins) => refused += 1,
                Err(GateError::SessionGone) => replaced += 1,
                Err(GateError::Unavailable) => unavailable += 1,
                Err(error) => panic!("{error}"),
            }
        }
        let any_failed = raced
            .iter()
            .any(|(.., r)| *r == Err(GateError::Unavailable));
        let live = || {
            let all = gates
                .iter()
                .flat_map(|g| g.gate().user_sessions(&user(&name)));
            all.filter(|s| s.connected() == Connected::Attached).count()
        };
        match any_failed {
            false => {
                eventually("one is left", async || (live() == 1).then_some(())).await;
            }
            true => assert!(live() <= 1, "race {number}"),
        }
        for (session, ..) in &raced {
            session.close(CloseReason::Kicked);
        }
    }
    println!(
        "{RACES} races, the records' leader killed in one, {logins:?}: at most one live login \
         after each; {bound} bound, {refused} refused, {replaced} replaced before they were done, \
         {unavailable} unavailable; the slowest race took {slowest:?}"
    );
    join_all(gates.map(RunningGate::stop)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn races_have_one_winner_while_the_leader_of_the_records_dies() {
    races_while_the_leader_dies(one().refuse()).await;
}

/// The error that a gate does not start with.
async fn not_started(options: &NatsOptions) -> String {
    let bus = bus(options, "g1").await;
    let gate = Gate::builder().id("g1").bus(bus).shards(0);
    gate.start().await.err().unwrap().to_string()
}

/// What `docs/nats.md` gives a gate, for one that is called `g1`.
fn permissions_of_a_gate() -> String {
    let spec = include_str!("../../../docs/nats.md");
    let from = spec.find("permissions: {").unwrap();
    let to = from + spec[from..].find("{ user: chat").unwrap();
    let gate = spec[from..to].replace("gate-1", "g1");
    // One that may not make the buckets.
    let gate = gate.replace("$JS.API.STREAM.CREATE.", "nothing.");
    format!(
        "authorization {{ users: [ {{ user: g1, password: p, {gate} {{ user: admin, password: p }} ] }}"
    )
}

#[tokio::test]
async fn without_jetstream_or_the_permission_to_use_it_a_gate_says_so() {
    let server = NatsServer::options().without_jetstream().start().await;
    let error = not_started(&options(&server, 10)).await;
    println!("{error}");
    assert!(error.contains("JetStream"), "{error}");

    let users = permissions_of_a_gate();
    let server = NatsServer::options().config(&users).start().await;
    let given = options(&server, 10);
    let as_user = |user: &str| {
        let mut options = given.clone();
        options.auth = Auth::UserPassword {
            user: user.into(),
            password: Secret::text("p"),
        };
        options
    };
    let error = not_started(&as_user("g1")).await;
    println!("{error}");
    assert!(error.contains("tidegate-gates"), "{error}");
    assert!(error.contains("Permissions"), "{error}");
    // Once somebody has made the buckets, it starts.
    gate(&as_user("admin"), "g0", one()).await.stop().await;
    let started = gate(&as_user("g1"), "g1", one()).await;
    let (_client, ann) = join(&started).await;
    ann.bind(user("ann")).await.unwrap();
    let present = started.gate().clients().presence(&[user("ann")]).await;
    assert_eq!(present.unwrap(), [vec![ann.id()]]);
    assert_eq!(started.gate().bus().stats().forbidden, 0);
    started.stop().await;
    // Gates that are told of different leases do not work together.
    let mut other = as_user("g1");
    other.lease = Duration::from_secs(5);
    let error = not_started(&other).await;
    assert!(error.contains("lease"), "{error}");
}
