//! Instances of this process, and the lanes of its gates' shards.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tidegate::bus::{
    Answer, Bus as _, Call, Endpoint, Event, EventTarget, InstanceInfo, MethodInfo, MethodKind,
    OpenTo, Policy, Responder,
};
use tidegate_protocol::{GateId, InstanceId, Name, Snapshot};
use tidegate_test_servers::{NatsServer, eventually};

use crate::support::{Ask, Service, bus, call, session, until_down};

/// Answers its name, and notes its events.
#[derive(Default)]
struct Instance {
    name: &'static str,
    events: Mutex<Vec<Event>>,
}

impl Endpoint for Instance {
    fn call(&self, _: Call<'_>, responder: Responder) {
        responder.answer(Ok(Answer {
            body: Bytes::from_static(self.name.as_bytes()),
            instance: None,
        }));
    }

    fn event(&self, _: Arc<Snapshot>, event: Event) {
        self.events.lock().push(event);
    }
}

fn info(instance: &str) -> InstanceInfo {
    InstanceInfo {
        service: Name::new("chat").unwrap(),
        instance: InstanceId::new(instance).unwrap(),
        version: "1.0.0".to_owned(),
        metadata: Default::default(),
        ttl: Duration::from_secs(1),
        methods: vec![MethodInfo {
            name: Name::new("say").unwrap(),
            kind: MethodKind::Request,
            open_to: OpenTo::Guests,
        }],
        policy: Policy::default(),
        wants_started: true,
        wants_dormancy: true,
        wants_gates: false,
    }
}

fn instance(name: &'static str) -> Arc<Instance> {
    Arc::new(Instance {
        name,
        ..Instance::default()
    })
}

/// A near instance serves without NATS, and is told of each event once.
#[tokio::test]
async fn an_instance_of_the_process_is_preferred() {
    let mut server = NatsServer::start().await;
    let (here, there) = (bus(&server).await, bus(&server).await);
    let (mine, other) = (instance("here"), instance("there"));
    let _mine = here.register(info("a"), mine.clone()).await.unwrap();
    let _other = there.register(info("b"), other.clone()).await.unwrap();
    for _ in 0..10 {
        assert_eq!(call(&*here, "chat", "say", "").await.unwrap().body, "here");
        assert_eq!(
            call(&*there, "chat", "say", "").await.unwrap().body,
            "there"
        );
    }
    let explicit = Ask {
        instance: Some(InstanceId::new("b").unwrap()),
        ..Ask::new("chat", "say", "")
    };
    assert_eq!(explicit.begin(&*here).await.unwrap().body, "there");

    // For all who ask: the service once, though it has instances in two processes; and others.
    let mut audit = Service::on(&server, "tidegate.all.*").await;
    for _ in 0..10 {
        here.event(EventTarget::WhoAsked, session(7), Event::Started);
        audit.next().await;
    }
    // Behind everything that was sent to it.
    let to_b = InstanceId::new("b").unwrap();
    let rebound = Event::Rebound {
        from: InstanceId::new("c").unwrap(),
    };
    here.event(
        EventTarget::Service("chat", Some(&to_b)),
        session(7),
        rebound.clone(),
    );
    eventually("the other is told", async || {
        other.events.lock().contains(&rebound).then_some(())
    })
    .await;
    assert_eq!(mine.events.lock().len(), 10);
    assert_eq!(other.events.lock().len(), 1, "of what it alone was told");

    server.stop().await;
    until_down(&here).await;
    let served = Ask::new("chat", "say", "").begin(&*here);
    assert_eq!(served.now_or_never().unwrap().unwrap().body, "here");
}

#[tokio::test]
async fn each_shard_has_a_connection_for_as_long_as_it_is_attached() {
    let server = NatsServer::start().await;
    let bus = bus(&server).await;
    let connections = async || {
        let page = server.monitor("/connz").await;
        page["num_connections"].as_u64().unwrap()
    };
    let before = connections().await;
    let gate = GateId::new("gate-1").unwrap();
    let mut shards = Vec::new();
    for number in 0..2 {
        shards.push(bus.attach_shard(&gate, number).await.unwrap());
    }
    assert_eq!(connections().await, before + 2);
    let mut service = Service::on(&server, "tidegate.c.chat.say").await;
    let asked = Ask::new("chat", "say", "x").begin(&*bus);
    let question = service.next().await;
    // It came over the lane of the session, which has an inbox of its own.
    service.answer(&question, "").await;
    asked.await.unwrap();
    drop(shards);
    eventually("the lanes are closed", async || {
        // The service has one, too.
        (connections().await == before + 1).then_some(())
    })
    .await;
    let asked = Ask::new("chat", "say", "x").begin(&*bus);
    let question = service.next().await;
    service.answer(&question, "").await;
    asked.await.unwrap();
}
