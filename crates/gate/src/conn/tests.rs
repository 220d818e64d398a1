use tidegate_protocol::Packet;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::{Gate, LocalSession, Protocol, RunningGate, Tcp};

/// A task's allocation comes in steps of 128 bytes; with tokio's part of it this much
/// fits the second step. See `ARCHITECTURE.md`, "Memory".
#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection>() <= 160);
    assert!(size_of::<crate::session::Core>() <= 240);
}

async fn gate_with_a_session() -> (RunningGate, LocalSession, DuplexStream) {
    let builder = Gate::builder().shards(0);
    let gate = builder.start().await.unwrap();
    let (client, server) = duplex(4096);
    let peer = ([127, 0, 0, 1], 1).into();
    let v1 = Tcp::bind("pipe:0").protocol(Protocol::V1);
    gate.serve(server, v1, peer).unwrap();
    let session = loop {
        match gate.gate().sessions().next() {
            Some(session) => break session,
            None => tokio::task::yield_now().await,
        }
    };
    (gate, session, client)
}

fn packet(topic: &str) -> Packet {
    Packet::try_new(topic, "").unwrap()
}

/// The session may be taken over while a connection of it is being polled.
#[tokio::test(start_paused = true)]
async fn a_connection_that_lost_its_session_ends_only_itself() {
    let (gate, session, _first) = gate_with_a_session().await;
    let at = Arc::clone(&session.core().at());
    let connection = |epoch| {
        let io = Transport::Other(Box::new(duplex(1).0));
        let place = Place::take(&gate.gate().0).unwrap();
        let (session, at) = (session.clone(), at.clone());
        Connection::attached(io, session, at, epoch, Vec::new(), place)
    };
    let mut old = connection(session.attach(&at, 1).unwrap());
    session.attach(&at, 2).unwrap();
    old.take(Step::Close(CloseReason::ExtendedProtocol));
    assert_eq!(old.state, State::Done(CloseReason::ExtendedProtocol));
    old.finish(CloseReason::ExtendedProtocol);
    assert_eq!(session.core().flow.lock().phase, Phase::Open);
    session.send(packet("a/a")).unwrap();
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_latest_connection_has_the_session() {
    let (gate, session, mut first) = gate_with_a_session().await;
    session.send(packet("a/a")).unwrap();
    let mut frame = [0; 7];
    first.read_exact(&mut frame).await.unwrap();
    let at = Arc::clone(&session.core().at());
    let place = || Place::take(&gate.gate().0).unwrap();
    let join = |epoch| {
        let (client, server) = duplex(4096);
        let io = Transport::Other(Box::new(server));
        let epoch = session.attach(&at, epoch)?;
        let (session, at) = (session.clone(), at.clone());
        let connection = Connection::attached(io, session, at, epoch, Vec::new(), place());
        tokio::spawn(connection);
        Some(client)
    };
    assert!(join(0).is_none(), "the session was taken up since");
    let mut second = join(1).unwrap();
    assert!(join(1).is_none(), "one of two wins");
    session.send(packet("b/b")).unwrap();
    assert_eq!(first.read(&mut frame).await.unwrap(), 0, "closed");
    second.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame, b"\x07\0\x03\0b/b");
    assert_eq!(
        gate.gate().stats().sessions_ended,
        0,
        "one session throughout"
    );
    // What the second one does still counts.
    second.write_all(&frame).await.unwrap();
    while session.packets_received() == 0 {
        tokio::task::yield_now().await;
    }
    drop(second);
    while gate.gate().session_count() > 0 {
        tokio::task::yield_now().await;
    }
    gate.stop().await;
}
