//! Sessions: in hooks, and in services.

use std::time::Duration;

use bytes::Bytes;
use tidegate::bus::Connected;
use tidegate::{CloseReason, Network, Settings, Snapshot};

use crate::harness::*;

#[tokio::test(start_paused = true)]
pub(crate) async fn a_connection() {
    let gate = builder().start().await.unwrap();
    let (mut client, agent) = join(&gate).await;
    assert_eq!(client.ask("echo/echo/1", "x").await, "x");
    agent.send(packet("t", "push")).unwrap();
    let wait = Duration::from_secs(1);
    agent.send_wait(packet("t", "push"), wait).await.unwrap();
    for _ in 0..2 {
        assert_eq!(client.recv().await.1, "push");
    }
    assert!(agent.opened_at() <= std::time::SystemTime::now());
    assert!(agent.age() < Duration::from_secs(60));
    assert_eq!(agent.connected(), Connected::Attached);
    assert_eq!((agent.packets_received(), agent.packets_sent()), (1, 3));
    assert_eq!(agent.snapshot().id, agent.id());
    assert_eq!(agent.last_error(), None);
    assert!(agent.close(CloseReason::Kicked));
    assert!(!agent.close(CloseReason::Kicked));
    assert_eq!(agent.connected(), Connected::Gone);
    client.closed().await;
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_session_read_and_changed_here() {
    let gate = builder().start().await.unwrap();
    let (_client, local) = join(&gate).await;
    local.set_local_data(String::from("mine"));
    assert_eq!(*local.local_data::<String>().unwrap(), "mine");
    let session = as_service(&gate, &local);
    assert_eq!(
        (session.ip(), session.network()),
        (peer().ip(), Network::Tcp)
    );
    assert_eq!((Network::Tcp.as_str(), Network::Ws.as_str()), ("tcp", "ws"));
    assert_eq!(
        (session.id(), &session.gate()),
        (local.id(), gate.gate().id())
    );
    assert_eq!(
        (session.user(), session.user_u64(), session.is_guest()),
        (None, None, true)
    );
    session.set_user_local(Some(user("18446744073709551615")));
    assert_eq!(
        (session.user_u64(), session.is_guest()),
        (Some(u64::MAX), false)
    );
    session.set_user_local(Some(user("ada")));
    assert_eq!(
        (session.user(), session.user_u64()),
        (Some(user("ada")), None)
    );
    session.set_local("a", "1").unwrap();
    assert_eq!(session.get("a").as_deref(), Some("1"));
    session
        .import_local(&settings([("a", "2"), ("b", "2")]))
        .unwrap();
    let all: Settings = session.settings();
    assert_eq!(all.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
    let copy = session.clone();
    assert!(copy.remove_local("a"));
    assert_eq!(
        (copy.get("a"), session.get("a").as_deref()),
        (None, Some("1"))
    );
    copy.replace_local(Settings::new());
    assert!(copy.settings().is_empty());
    let bytes = session.snapshot().encode();
    assert_eq!(Snapshot::decode(&bytes).unwrap(), *session.snapshot());
    // None of it reached the gate.
    assert!(local.is_guest() && local.settings().is_empty());
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_session_changed_at_its_gate() {
    let gate = builder().start().await.unwrap();
    let (mut client, local) = join(&gate).await;
    let session = as_service(&gate, &local);
    session.bind("ada").await.unwrap();
    assert_eq!(
        (session.user(), local.user()),
        (Some(user("ada")), Some(user("ada")))
    );
    session.set("a", "1").await.unwrap();
    session.set_batch([("b", "2"), ("c", "3")]).await.unwrap();
    session.del("c").await.unwrap();
    session.set_local("a", "9").unwrap();
    session.push().await.unwrap();
    let all = settings([("a", "9"), ("b", "2")]);
    assert_eq!((session.settings(), local.settings()), (all.clone(), all));
    local.set(settings([("d", "4")])).await.unwrap();
    assert_eq!(session.get("d"), None);
    session.update().await.unwrap();
    assert_eq!(session.get("d").as_deref(), Some("4"));
    session.unbind().await.unwrap();
    assert!(local.is_guest());
    session.send("t", "text").await.unwrap();
    session.send_json("t", &[1, 2]).await.unwrap();
    let wait = Duration::from_secs(1);
    session.send_wait("t", "waited", wait).await.unwrap();
    for expected in ["text", "[1,2]", "waited"] {
        assert_eq!(client.recv().await.1, Bytes::from(expected));
    }
    assert_eq!(session.connected().await, Ok(Connected::Attached));
    session.close().await.unwrap();
    assert_eq!(session.connected().await, Ok(Connected::Gone));
    client.closed().await;
}
