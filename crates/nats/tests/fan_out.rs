//! Requests to all gates: three gates on one NATS, and services beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../gate/tests/harness/mod.rs"]
mod harness;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join, join_all, pending, ready};
use tidegate::bus::{
    Bus, GateEndpoint, GateError, GateInfo, GateReply, GateRequest, JudgeLogins, Registration,
    Sent, SessionOp, SessionReply,
};
use tidegate::{Delivery, Gate, GroupName, RunningGate, SessionId, Settings, Snapshot, UserId};
use tidegate_nats::{Nats, NatsOptions};
use tidegate_test_servers::NatsServer;

use harness::{Client, join as join_gate, packet, within};

const PATIENCE: Duration = Duration::from_secs(20);

async fn bus(server: &NatsServer, name: &str, ask_timeout: Duration) -> Arc<Nats> {
    let mut options = NatsOptions::new([server.url()]);
    options.name = name.to_owned();
    options.ask_timeout = ask_timeout;
    Nats::connect(options).await.unwrap()
}

fn sent(attached: u64, unknown: u64) -> Result<GateReply, GateError> {
    let mut sent = Sent::default();
    (sent.attached, sent.unknown) = (attached, unknown);
    Ok(GateReply::Sent(sent))
}

fn broadcast(topic: &str) -> GateRequest {
    GateRequest::Broadcast(packet(topic, ""), Delivery::Critical)
}

/// Three gates, and who asks: each of them, and a service beside them.
struct Three {
    gates: Vec<RunningGate>,
    askers: Vec<Arc<Nats>>,
    server: NatsServer,
}

async fn three() -> Three {
    let server = NatsServer::start().await;
    let (mut gates, mut askers) = (Vec::new(), Vec::new());
    for id in ["g1", "g2", "g3"] {
        let bus = bus(&server, id, PATIENCE).await;
        askers.push(bus.clone());
        let gate = Gate::builder().id(id).shards(0).bus(bus);
        gates.push(gate.start().await.unwrap());
    }
    askers.push(bus(&server, "service", PATIENCE).await);
    Three {
        gates,
        askers,
        server,
    }
}

#[tokio::test]
async fn a_broadcast_reaches_each_client_once_and_is_summed() {
    let three = three().await;
    let mut clients: Vec<Client> = Vec::new();
    for gate in [0, 1, 1, 1] {
        clients.push(join_gate(&three.gates[gate]).await.0);
    }
    for (i, asker) in three.askers.iter().enumerate() {
        let done = asker.every_gate(broadcast(&format!("news/{i}")));
        assert_eq!(within("a broadcast", done).await, sent(4, 0), "{i}");
        let count = asker.every_gate(GateRequest::Count);
        let all = GateReply::Count {
            sessions: 4,
            connections: 4,
        };
        assert_eq!(within("a count", count).await, Ok(all), "{i}");
    }
    for client in &mut clients {
        for i in 0..three.askers.len() {
            assert_eq!(client.recv().await.0, format!("news/{i}"));
        }
    }
}

#[tokio::test]
async fn groups_and_users_are_one_over_all_gates() {
    let three = three().await;
    let group = GroupName::new("room 7 > *").unwrap();
    let ada = UserId::new("ада.> *").unwrap();
    let mut members = Vec::new();
    let mut clients = Vec::new();
    for gate in [0, 1, 1] {
        let (client, session) = join_gate(&three.gates[gate]).await;
        session.join(group.clone()).unwrap();
        let bound = harness::as_service(&three.gates[gate], &session);
        bound.bind(ada.clone()).await.unwrap();
        members.push(session.id());
        clients.push(client);
    }
    members.sort();
    for asker in &three.askers {
        let ask = |request| within("a reply", asker.every_gate(request));
        let send = GateRequest::SendToGroup(group.clone(), packet("g", ""), Delivery::Critical);
        assert_eq!(ask(send).await, sent(3, 0));
        let send = GateRequest::SendToUser(ada.clone(), packet("u", ""), Delivery::Critical);
        assert_eq!(ask(send).await, sent(3, 0));
        let count = ask(GateRequest::GroupCount(group.clone())).await;
        assert_eq!(count, Ok(GateReply::Number(3)));
        let listed = ask(GateRequest::GroupMembers(group.clone())).await.unwrap();
        let GateReply::Members(listed) = listed else {
            panic!("{listed:?}");
        };
        let mut ids: Vec<SessionId> = listed.iter().map(|s| s.id).collect();
        ids.sort();
        assert_eq!(ids, members);
        let nobody = UserId::new("nobody").unwrap();
        let users = vec![nobody.clone(), ada.clone(), nobody];
        let presence = ask(GateRequest::Presence(users)).await.unwrap();
        let GateReply::Presence(mut presence) = presence else {
            panic!("{presence:?}");
        };
        presence[1].sort();
        assert_eq!(presence, [vec![], members.clone(), vec![]]);
    }
    for client in &mut clients {
        for _ in &three.askers {
            assert_eq!(client.recv().await.0, "g");
            assert_eq!(client.recv().await.0, "u");
        }
    }
    let service = three.askers.last().unwrap();
    // As services in other languages ask it.
    let plain = async_nats::connect(three.server.url()).await.unwrap();
    let ask = async |what: &str, body: &str| {
        let subject = format!("tidegate.any.{what}");
        let asked = plain.request(subject, body.to_owned().into());
        let reply = within("a reply", asked).await.unwrap();
        serde_json::from_slice::<serde_json::Value>(&reply.payload).unwrap()
    };
    let count = ask("group-count", r#"{"group":"room 7 > *"}"#).await;
    assert_eq!(count["number"], 3);
    let located = ask("locate", r#"{"user":"ада.> *"}"#).await;
    let mut gates: Vec<_> = located
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["gate"])
        .collect();
    gates.sort_by_key(|gate| gate.to_string());
    assert_eq!(gates, ["g1", "g2", "g2"]);
    let live = ask("gates", "").await;
    assert_eq!(live.as_array().unwrap().len(), 3);
    assert!(live.as_array().unwrap().contains(&ask("ping", "").await));

    let closed = service.every_gate(GateRequest::CloseUser(ada));
    let closed = within("all are closed", closed).await;
    assert_eq!(closed, Ok(GateReply::Number(3)));
    let none = GateRequest::GroupCount(group);
    harness::within("the group is empty", async {
        while service.every_gate(none.clone()).await != Ok(GateReply::Number(0)) {}
    })
    .await;
}

/// A gate of which only the replies matter.
struct Fake<F>(F);

impl<F> GateEndpoint for Fake<F>
where
    F: Fn(GateRequest) -> Option<Result<GateReply, GateError>> + Send + Sync + 'static,
{
    fn session(
        &self,
        _: SessionId,
        _: SessionOp,
    ) -> BoxFuture<'static, Result<SessionReply, GateError>> {
        ready(Err(GateError::SessionGone)).boxed()
    }

    fn gate(&self, request: GateRequest) -> BoxFuture<'static, Result<GateReply, GateError>> {
        match (self.0)(request) {
            Some(reply) => ready(reply).boxed(),
            None => pending().boxed(),
        }
    }
}

async fn fake(
    bus: &Nats,
    id: &str,
    replies: impl Fn(GateRequest) -> Option<Result<GateReply, GateError>> + Send + Sync + 'static,
) -> Registration {
    let info = GateInfo {
        id: id.try_into().unwrap(),
        version: "1".into(),
        metadata: [].into(),
    };
    bus.register_gate(info, Arc::new(Fake(replies)))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_gate_that_does_not_answer_is_in_the_sum_as_unknown() {
    let server = NatsServer::start().await;
    let short = Duration::from_secs(2);
    let (first, second, third) = (
        bus(&server, "g1", short).await,
        bus(&server, "g2", short).await,
        bus(&server, "g3", short).await,
    );
    let all = |request| match request {
        GateRequest::Broadcast(..) => Some(sent(1, 0)),
        GateRequest::CloseUser(_) => Some(Ok(GateReply::Number(1))),
        _ => Some(Ok(GateReply::Number(7))),
    };
    let _gates = [
        fake(&first, "g1", all).await,
        fake(&second, "g2", all).await,
        // It takes what it is asked, and says nothing.
        fake(&third, "g3", |_| None).await,
    ];
    let service = bus(&server, "service", short).await;
    for asker in [&first, &service] {
        let group = GroupName::new("x").unwrap();
        let replies = join(
            asker.every_gate(broadcast("x")),
            asker.every_gate(GateRequest::GroupCount(group)),
        );
        let (done, count) = within("replies", replies).await;
        assert_eq!(done, sent(2, 1));
        assert_eq!(count, Err(GateError::OutcomeUnknown));
    }
}

fn member(gate: &str, number: u128) -> Arc<Snapshot> {
    let mut settings = Settings::new();
    settings.merge([("x", "y".repeat(4000))]).unwrap();
    Arc::new(Snapshot {
        id: SessionId(number),
        gate: gate.try_into().unwrap(),
        user: None,
        device: None,
        settings,
        ip: "203.0.113.7".parse().unwrap(),
        network: tidegate::Network::Tcp,
        trace_id: 1,
    })
}

#[tokio::test]
async fn long_lists_come_whole() {
    const EACH: u128 = 500;
    let server = NatsServer::start().await;
    let mut gates = Vec::new();
    let mut askers = Vec::new();
    for (i, id) in ["g1", "g2", "g3"].into_iter().enumerate() {
        let bus = bus(&server, id, PATIENCE).await;
        let replies = move |request| match request {
            GateRequest::GroupMembers(_) => {
                let first = i as u128 * EACH;
                let members = (first..first + EACH).map(|n| member(id, n));
                Some(Ok(GateReply::Members(members.collect())))
            }
            // Of every user with a number: one session on the gate that the number says.
            GateRequest::Presence(users) => {
                let sessions = users.iter().map(|user| {
                    let number = user.as_u64().unwrap();
                    let here = number % 4 == i as u64;
                    here.then_some(SessionId(number.into()))
                        .into_iter()
                        .collect()
                });
                Some(Ok(GateReply::Presence(sessions.collect())))
            }
            _ => None,
        };
        gates.push(fake(&bus, id, replies).await);
        let kept = bus.users(&id.try_into().unwrap()).unwrap();
        let judge: JudgeLogins = Arc::new(|_| ready(Ok(Vec::new())).boxed());
        let of_it = (0..2500).filter(|number| number % 4 == i as u64);
        let entered =
            of_it.map(|n| kept.enter(UserId::from(n), SessionId(n.into()), None, judge.clone()));
        for entered in join_all(entered).await {
            entered.unwrap();
        }
        askers.push(bus);
    }
    askers.push(bus(&server, "service", PATIENCE).await);
    for asker in &askers {
        let group = GroupName::new("x").unwrap();
        let all = asker.every_gate(GateRequest::GroupMembers(group));
        let all = within("the members", all).await.unwrap();
        let GateReply::Members(members) = all else {
            panic!("{all:?}");
        };
        let mut ids: Vec<_> = members.iter().map(|m| m.id.0).collect();
        ids.sort();
        assert_eq!(ids, (0..3 * EACH).collect::<Vec<_>>());

        let users: Vec<UserId> = (0..2500).map(UserId::from).collect();
        let presence = asker.every_gate(GateRequest::Presence(users));
        let presence = within("presence", presence).await.unwrap();
        let GateReply::Presence(presence) = presence else {
            panic!("{presence:?}");
        };
        assert_eq!(presence.len(), 2500);
        for (i, sessions) in presence.iter().enumerate() {
            let expected = (i % 4 != 3).then_some(SessionId(i as u128));
            assert_eq!(*sessions, expected.into_iter().collect::<Vec<_>>(), "{i}");
        }
    }
}

#[tokio::test]
async fn without_a_gate_there_is_nobody_to_ask() {
    let server = NatsServer::start().await;
    let service = bus(&server, "service", PATIENCE).await;
    let done = within("a reply", service.every_gate(broadcast("x"))).await;
    assert_eq!(done, Err(GateError::Unavailable));
    // The one of this process is asked without NATS.
    let gate = bus(&server, "g1", PATIENCE).await;
    let _gate = fake(&gate, "g1", |_| Some(sent(1, 0))).await;
    let done = within("a reply", gate.every_gate(broadcast("x"))).await;
    assert_eq!(done, sent(1, 0));
}

/// A message with a carriage return in a header: the client's task ends at one.
async fn poison(server: &NatsServer, subject: &str) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let socket = tokio::net::TcpStream::connect(server.address()).await;
    let mut socket = socket.unwrap();
    let headers = "NATS/1.0\r\nX: a\rb\r\n\r\n";
    let len = headers.len();
    let connect = r#"CONNECT {"verbose":false,"headers":true}"#;
    let said = format!("{connect}\r\nHPUB {subject} {len} {len}\r\n{headers}\r\nPING\r\n");
    socket.write_all(said.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"PONG\r\n") {
        assert!(socket.read_buf(&mut answer).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn what_others_may_send_does_not_cut_a_gate_off_from_the_records() {
    let server = NatsServer::start().await;
    let bus = bus(&server, "g1", PATIENCE).await;
    let gate = Gate::builder().id("g1").shards(0).bus(bus.clone());
    // Its service answers whoever asks `$SRV`.
    let gate = gate.service(harness::echo("echo")).start().await.unwrap();
    let before = bus.stats().disconnects;
    poison(&server, "$SRV.PING").await;
    harness::until("the connection was lost", || {
        bus.stats().disconnects > before
    })
    .await;
    let (_client, session) = join_gate(&gate).await;
    let service = harness::as_service(&gate, &session);
    let ada = UserId::new("ada").unwrap();
    within("the user is bound", async {
        while service.bind(ada.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
