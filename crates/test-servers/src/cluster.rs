//! A cluster of NATS servers.

use crate::{NatsOptions, NatsServer, Port, eventually};

const SIZE: usize = 3;

/// Three NATS servers in one cluster with JetStream, for streams with three replicas.
#[derive(Debug)]
pub struct NatsCluster {
    /// The servers, named `n1` to `n3`.
    pub nodes: Vec<NatsServer>,
    _routes: Vec<Port>,
}

impl NatsCluster {
    /// Starts them and waits until they are one cluster.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with text added to each one's configuration file.
    pub async fn start_with(config: &str) -> Self {
        let routes: Vec<_> = (0..SIZE).map(|_| Port::free()).collect();
        let all: Vec<_> = routes
            .iter()
            .map(|port| format!("\"nats-route://{}\"", port.address()))
            .collect();
        let nodes = routes.iter().enumerate().map(|(i, port)| {
            let cluster = format!(
                "cluster {{ name: tidegate, listen: \"{}\", no_advertise: true, routes: [{}] }}",
                port.address(),
                all.join(", "),
            );
            let options = NatsOptions::default().config(config);
            options.spawn(&format!("n{}", i + 1), Some(&cluster))
        });
        let mut cluster = Self {
            nodes: nodes.collect(),
            _routes: routes,
        };
        for node in &mut cluster.nodes {
            node.ready().await;
        }
        cluster
    }

    /// The URLs of all three.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(NatsServer::url).collect()
    }

    /// The place in [`nodes`](Self::nodes) of the leader of a stream (`KV_` + the name of a
    /// bucket), as `asked`, one of them, knows it. Waits until there is one.
    pub async fn leader_of(&self, stream: &str, asked: usize) -> usize {
        eventually(&format!("{stream} has a leader"), async || {
            let all = self.nodes[asked]
                .monitor("/jsz?accounts=1&streams=1&config=1")
                .await;
            let accounts = all["account_details"].as_array()?;
            let streams = accounts.iter().flat_map(|a| a["stream_detail"].as_array());
            let found = streams.flatten().find(|s| s["name"] == stream)?;
            let leader = found["cluster"]["leader"].as_str()?;
            self.nodes.iter().position(|node| node.name() == leader)
        })
        .await
    }
}
