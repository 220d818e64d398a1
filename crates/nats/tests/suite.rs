//! What every bus must do, on NATS: each gate and each service with connections of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::BoxFuture;
use tidegate::bus::Bus;
use tidegate_bus_suite::{World, bus_suite};
use tidegate_nats::{Nats, NatsOptions};
use tidegate_test_servers::NatsServer;

struct NatsWorld {
    server: NatsServer,
    members: AtomicU32,
}

impl World for NatsWorld {
    fn bus(&self) -> BoxFuture<'_, Arc<dyn Bus>> {
        Box::pin(async {
            let mut options = NatsOptions::new([self.server.url()]);
            let number = self.members.fetch_add(1, Ordering::Relaxed);
            options.name = format!("member-{number}");
            let bus: Arc<dyn Bus> = Nats::connect(options).await.unwrap();
            bus
        })
    }
}

async fn world() -> NatsWorld {
    NatsWorld {
        server: NatsServer::start().await,
        members: AtomicU32::new(0),
    }
}

bus_suite!(crate::world, with logins);
