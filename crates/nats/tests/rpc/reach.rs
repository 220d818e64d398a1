//! Gates come and go; services that run reach them.

use tidegate::bus::{Bus, BusError, SessionOp, SessionReply};
use tidegate::{Delivery, Gate, StartError};
use tidegate_protocol::GateId;

use crate::harness::{join, packet, within};
use crate::support::{bench, bus};

#[tokio::test]
async fn a_second_gate_with_a_live_ones_id_does_not_start() {
    let bench = bench().await;
    let start = async |id: &str| {
        let bus = bus(&bench.server, "g1").await;
        Gate::builder().id(id).shards(0).bus(bus).start().await
    };
    let second = start("g1").await;
    assert!(
        matches!(&second, Err(StartError::Bus(BusError::Taken(_)))),
        "{:?}",
        second.err()
    );
    let other = start("g2").await.unwrap();
    other.stop().await;
}

#[tokio::test]
async fn a_gate_that_comes_back_with_its_id_or_another_is_reached_at_once() {
    let bench = bench().await;
    let services = bus(&bench.server, "service").await;
    let send = || SessionOp::Send(packet("a", ""), Delivery::Critical);
    let (_client, session) = join(&bench.gate).await;
    let first = GateId::new("g1").unwrap();
    let sent = services.session(&first, session.id(), send());
    assert_eq!(within("a send", sent).await, Ok(SessionReply::Done));
    // As when its process dies: no goodbye.
    drop(bench.gate);
    drop(bench.bus);
    for id in ["g1", "g2"] {
        let own = bus(&bench.server, id).await;
        let gate = Gate::builder().id(id).shards(0).bus(own).start().await;
        let gate = gate.unwrap();
        let (mut client, session) = join(&gate).await;
        let sent = services.session(&GateId::new(id).unwrap(), session.id(), send());
        assert_eq!(within("a send", sent).await, Ok(SessionReply::Done), "{id}");
        assert_eq!(client.recv().await.0, "a");
        let mut gates: Vec<_> = services.gates().await.unwrap();
        gates.sort_by(|a, b| a.id.cmp(&b.id));
        let ids: Vec<_> = gates.iter().map(|gate| gate.id.to_string()).collect();
        assert!(ids.iter().any(|known| known == id), "{ids:?}");
        gate.stop().await;
        let sent = services.session(&GateId::new(id).unwrap(), session.id(), send());
        let gone = within("an error", sent).await;
        assert_eq!(gone, Err(tidegate::bus::GateError::Unavailable));
    }
}
