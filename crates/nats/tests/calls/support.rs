use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tidegate::bus::{Bus, Call, CallResult, Caller, Responder};
use tidegate_nats::{Nats, NatsOptions};
use tidegate_protocol::{
    ErrorCode, GateId, InstanceId, Network, SessionId, Settings, Snapshot, UserId,
};
use tidegate_test_servers::{NatsServer, eventually};
use tokio::time::timeout;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn bus(server: &NatsServer) -> Arc<Nats> {
    Nats::connect(options(server)).await.unwrap()
}

pub(crate) fn options(server: &NatsServer) -> NatsOptions {
    let mut options = NatsOptions::new([server.url()]);
    options.name = "gate-1".to_owned();
    options
}

/// Session `number` of `gate-1`, of a user with a name outside ASCII.
pub(crate) fn session(number: u128) -> Arc<Snapshot> {
    let mut settings = Settings::new();
    settings.merge([("name", "Ädä\r\n")]).unwrap();
    Arc::new(Snapshot {
        id: SessionId::new(number << 8, 0),
        gate: GateId::new("gate-1").unwrap(),
        user: Some(UserId::new("ada").unwrap()),
        device: None,
        settings,
        ip: "127.0.0.1".parse().unwrap(),
        network: Network::Tcp,
        trace_id: 0xabc,
    })
}

/// A call of `service`/`method` by session 7.
pub(crate) struct Ask<'a> {
    pub(crate) service: &'a str,
    pub(crate) method: &'a str,
    pub(crate) caller: Caller,
    pub(crate) body: Bytes,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) wants_answer: bool,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(service: &'a str, method: &'a str, body: &str) -> Self {
        Self {
            service,
            method,
            caller: Caller::Bound,
            body: Bytes::copy_from_slice(body.as_bytes()),
            instance: None,
            wants_answer: true,
        }
    }

    /// The call is handed over when this is called.
    pub(crate) fn begin(&self, bus: &dyn Bus) -> impl Future<Output = CallResult> + use<> {
        let (responder, answer) = Responder::channel();
        bus.call(
            Call {
                service: self.service,
                method: self.method,
                caller: self.caller,
                session: Some(session(7)),
                body: self.body.clone(),
                instance: self.instance.as_ref(),
                wants_answer: self.wants_answer,
                span_id: 0xdef,
            },
            responder,
        );
        timeout(PATIENCE, answer).map(|answer| answer.expect("an answer in time").unwrap())
    }
}

pub(crate) async fn call(bus: &dyn Bus, service: &str, method: &str, body: &str) -> CallResult {
    Ask::new(service, method, body).begin(bus).await
}

pub(crate) async fn code(bus: &dyn Bus, service: &str, method: &str) -> Option<ErrorCode> {
    let result = call(bus, service, method, "").await;
    result.err().map(|error| error.code)
}

/// A service: a client of NATS and nothing else.
pub(crate) struct Service {
    pub(crate) client: Client,
    pub(crate) calls: Subscriber,
}

impl Service {
    pub(crate) async fn on(server: &NatsServer, subject: &'static str) -> Self {
        let client = async_nats::connect(server.url()).await.unwrap();
        let calls = client.queue_subscribe(subject, "q".into()).await.unwrap();
        let service = Self { client, calls };
        service.fence().await;
        service
    }

    /// Waits until the server knows of all subscriptions.
    pub(crate) async fn fence(&self) {
        let mut echo = self.client.subscribe("echo").await.unwrap();
        self.client.publish("echo", Bytes::new()).await.unwrap();
        echo.next().await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Message {
        timeout(PATIENCE, self.calls.next())
            .await
            .expect("a message in time")
            .unwrap()
    }

    pub(crate) async fn answer(&self, to: &Message, body: &str) {
        self.answer_with(to, HeaderMap::new(), body).await;
    }

    pub(crate) async fn answer_with(&self, to: &Message, headers: HeaderMap, body: &str) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.client
            .publish_with_headers(to.reply.clone().unwrap(), headers, body)
            .await
            .unwrap();
        self.client.flush().await.unwrap();
    }
}

pub(crate) fn text(message: &Message) -> &str {
    std::str::from_utf8(&message.payload).unwrap()
}

pub(crate) async fn until_down(bus: &Nats) {
    eventually("the bus is down", async || bus.stats().down.then_some(())).await;
}

pub(crate) async fn until_up(bus: &Nats) {
    eventually("the bus is up", async || (!bus.stats().down).then_some(())).await;
}
