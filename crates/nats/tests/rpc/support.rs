//! A NATS server, a gate on it, and those who ask it.

use std::sync::Arc;

use async_nats::{HeaderMap, HeaderValue, Message};
use bytes::Bytes;
use serde_json::Value;
use tidegate::{Gate, GateBuilder, LocalSession, RunningGate, Session, SessionId};
use tidegate_nats::{Nats, NatsOptions};
use tidegate_test_servers::NatsServer;

use crate::harness::within;

/// A NATS server, and a gate on it.
pub(crate) struct Bench {
    pub(crate) server: NatsServer,
    pub(crate) bus: Arc<Nats>,
    pub(crate) gate: RunningGate,
}

/// A bus of a process of its own.
pub(crate) async fn bus(server: &NatsServer, name: &str) -> Arc<Nats> {
    let mut options = NatsOptions::new([server.url()]);
    options.name = name.to_owned();
    options.ask_timeout = std::time::Duration::from_secs(20);
    Nats::connect(options).await.unwrap()
}

/// A gate `g1` on a NATS server of its own.
pub(crate) async fn bench() -> Bench {
    bench_with(|gate| gate).await
}

pub(crate) async fn bench_with(build: impl FnOnce(GateBuilder) -> GateBuilder) -> Bench {
    let server = NatsServer::start().await;
    let bus = bus(&server, "g1").await;
    let gate = Gate::builder().id("g1").shards(0).bus(bus.clone());
    let gate = build(gate).start().await.unwrap();
    Bench { server, bus, gate }
}

impl Bench {
    /// A service that knows NATS and nothing else.
    pub(crate) async fn plain(&self) -> Plain {
        Plain::connect(&self.server).await
    }

    /// The session as a service of another process sees it.
    pub(crate) async fn kit(&self, session: &LocalSession) -> Session {
        let bus = bus(&self.server, "service").await;
        Session::new(bus, session.snapshot(), 7)
    }
}

/// A plain NATS client.
pub(crate) struct Plain(pub(crate) async_nats::Client);

/// What came of a request.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    /// The name of the error.
    pub(crate) error: Option<String>,
    pub(crate) body: Bytes,
}

impl Plain {
    pub(crate) async fn connect(server: &NatsServer) -> Self {
        let options = async_nats::ConnectOptions::new()
            .subscription_capacity(1 << 20)
            .client_capacity(1 << 16);
        Self(options.connect(server.url()).await.unwrap())
    }

    /// One operation on a session of gate `g1`.
    pub(crate) async fn ask(
        &self,
        op: &str,
        session: SessionId,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let subject = format!("tidegate.gate.g1.{op}.{session}");
        self.request(subject, fields, body).await
    }

    pub(crate) async fn request(
        &self,
        subject: String,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let asked = self
            .0
            .request_with_headers(subject, headers(fields), body.into());
        read(within("a reply", asked).await.unwrap())
    }

    /// One operation, without waiting for what comes of it.
    pub(crate) async fn tell(
        &self,
        op: &str,
        session: SessionId,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) {
        let subject = format!("tidegate.gate.g1.{op}.{session}");
        let told = self
            .0
            .publish_with_headers(subject, headers(fields), body.into());
        told.await.unwrap();
    }
}

pub(crate) fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, value.parse::<HeaderValue>().unwrap());
    }
    map
}

/// An error tells its name in a header and in the body, and has a number and a text for tools.
pub(crate) fn read(message: Message) -> Reply {
    let header = |name| {
        let headers = message.headers.as_ref()?;
        headers.get(name).map(|value| value.as_str().to_owned())
    };
    let error = header("Tidegate-Error");
    if let Some(error) = &error {
        let body: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(body["error"], **error);
        assert_eq!(
            header("Nats-Service-Error"),
            body["text"].as_str().map(str::to_owned)
        );
        let number: u16 = header("Nats-Service-Error-Code").unwrap().parse().unwrap();
        assert!((400..600).contains(&number), "{number}");
    }
    Reply {
        error,
        body: message.payload,
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.error, None);
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn is_done(&self) {
        assert_eq!((&self.error, &*self.body), (&None, &b""[..]));
    }

    /// The error's name and text.
    pub(crate) fn failed(&self) -> (String, String) {
        let error = self.error.clone().expect("it did not fail");
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        (error, body["text"].as_str().unwrap().to_owned())
    }
}
