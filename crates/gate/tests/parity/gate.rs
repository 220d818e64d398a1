//! The gate: frames, services, hooks, store, session table, options.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tidegate::bus::{Connected, Ended, GateError, SessionOp, SessionReply};
use tidegate::protocol::{Legacy, V1};
use tidegate::service::{Service, Services, SessionHandle};
use tidegate::{
    Cipher, Clients, CloseReason, Codec, Credentials, Gate, GateLimits, Guests, Identity, Inbound,
    Internal, Limits, LocalSession, Packet, Refused, Session, Settings, Snapshot, StartError,
    Store, Tcp, WebSocket,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::*;

#[test]
pub(crate) fn the_frame() {
    assert_eq!(V1::HEADER_LEN, 4);
    let packet = packet("svc/echo/1", "hello");
    assert_eq!(
        (packet.topic.as_str(), &*packet.body),
        ("svc/echo/1", &b"hello"[..])
    );
    let mut frame = Vec::new();
    V1.encode(&packet, &mut frame);
    assert_eq!(frame, b"\x13\x00\x0a\x00svc/echo/1hello");
    assert_eq!(V1.encoded_len(&packet), frame.len());
    assert_eq!(V1.frame_len(&frame[..2], 100), Ok(Some(frame.len())));
    assert_eq!(V1.decode(&frame), Ok(packet));
    let _ = (Tcp::bind("x").codec(V1), WebSocket::bind("x").codec(V1));
}

#[tokio::test(start_paused = true)]
pub(crate) async fn what_a_service_is_told() {
    let log = Log::default();
    let [asked, told, left] = [0; 3].map(|_| log.clone());
    let front = Service::new("front")
        .request("ask", move |session: Session, services: Services| {
            asked.add(format!("ask {:032x}", session.trace_id()));
            async move {
                assert_ne!(session.span_id(), 0);
                let back = services.with_session(&session);
                back.request("back", "ask", "").await
            }
        })
        .open_to(Guests)
        .one_way("tell", move |body: String| {
            told.add(format!("tell {body}"));
            async {}
        })
        .open_to(Guests)
        .on_disconnect(move |session: Session, how: Ended| {
            left.add(format!("left {} {}", session.id(), how.reason.name()));
            async {}
        });
    let back = Service::new("back")
        .request("ask", async |session: Option<Session>| {
            session.map_or("nobody".into(), |s| s.id().to_string())
        })
        .open_to(Internal);
    let gate = builder()
        .service(front)
        .service(back)
        .start()
        .await
        .unwrap();
    let (mut client, local) = join(&gate).await;
    let id = local.id().to_string();
    assert_eq!(client.ask("front/ask/1", "").await, id);
    client.send("front/tell", "x").await;
    log.wait(2).await;
    drop(client);
    let trace = format!("ask {:032x}", local.trace_id());
    let left = format!("left {id} ClientLeft");
    assert_eq!(log.wait(3).await, [&*trace, "tell x", &left]);
    let services = Services::new(gate.gate().bus());
    assert_eq!(services.request("back", "ask", "").await.unwrap(), "nobody");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn the_hooks() {
    let log = Log::default();
    let [received, routed, sent, started, ended] = [0; 5].map(|_| log.clone());
    let gate = builder()
        .on_authenticate(Duration::from_secs(1), async |_: Credentials| {
            Ok::<_, Refused>(Identity::guest())
        })
        .on_receive(move |_, packet: Packet| {
            received.add(format!("receive {}", packet.topic));
            async { Ok(Inbound::Pass(packet)) }
        })
        .on_route(move |_, packet: Packet| {
            routed.add(format!("route {}", packet.topic));
            async { Ok(Inbound::Answer(packet)) }
        })
        .on_outbound(move |_, packet: Packet| {
            sent.add(format!("outbound {}", packet.topic));
            Ok(packet)
        })
        .on_started(move |_| {
            started.add("started");
            async { Ok(()) }
        })
        .on_ended(move |_, how| {
            ended.add(format!("ended {}", how.reason.code()));
            async {}
        })
        .start()
        .await
        .unwrap();
    let mut client = connect(&gate);
    assert_eq!(client.ask("any/thing/1", "x").await, "x");
    drop(client);
    assert_eq!(
        log.wait(5).await,
        [
            "started",
            "receive any/thing/1",
            "route any/thing/1",
            "outbound any/thing/1",
            "ended 1000"
        ]
    );
}

#[tokio::test(start_paused = true)]
pub(crate) async fn the_store() {
    let store = TestStore::default();
    let gate = builder()
        .store(store.clone())
        .store_ttl(Duration::from_secs(3))
        .start()
        .await
        .unwrap();
    let (_client, local) = join(&gate).await;
    local.bind(user("u")).await.unwrap();
    local.set(settings([("k", "v")])).await.unwrap();
    store.log.wait(4).await;
    gate.gate().forget(&user("u")).await.unwrap();
    assert_eq!(
        store.log.all(),
        ["query u", "save u", "save u", "heartbeat u", "delete u"]
    );
    let memory = tidegate::MemoryStore::new();
    let day = Duration::from_secs(24 * 3600);
    memory
        .save(&user("u"), &Settings::new(), day)
        .await
        .unwrap();
    assert!(memory.query(&user("u")).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
pub(crate) async fn the_session_table() {
    let gate = builder().start().await.unwrap();
    let (mut client, local) = join(&gate).await;
    let table: &Gate = gate.gate();
    assert_eq!(table.session(local.id()).unwrap().id(), local.id());
    assert_eq!((table.session_count(), table.connection_count()), (1, 1));
    let ids: Vec<_> = table.sessions().map(|s: LocalSession| s.id()).collect();
    assert_eq!(ids, [local.id()]);
    let clients: Clients = table.clients();
    let handle: SessionHandle = clients.session(table.id().clone(), local.id());
    assert_eq!(handle.load().await.unwrap().id, local.id());
    let is_user = |s: &Snapshot, name| s.user == Some(user(name));
    assert!(is_user(&handle.bind("u").await.unwrap(), "u"));
    assert_eq!(handle.bind("v").await, Err(GateError::BoundToAnother));
    assert!(handle.unbind().await.unwrap().is_guest());
    let both = settings([("a", "1"), ("b", "2")]);
    assert_eq!(handle.set(both.clone()).await.unwrap().settings, both);
    let one = settings([("b", "2")]);
    assert_eq!(handle.del("a").await.unwrap().settings, one);
    assert_eq!(handle.replace(both.clone()).await.unwrap().settings, both);
    handle.send("t", "one").await.unwrap();
    let wait = SessionOp::SendWait(packet("t", "two"), Duration::from_secs(1));
    assert_eq!(table.apply(local.id(), wait).await, Ok(SessionReply::Done));
    assert_eq!(clients.broadcast("t", "three").await.unwrap().taken(), 1);
    assert_eq!(
        table.broadcast(packet("t", "four")).await.unwrap().taken(),
        1
    );
    for expected in ["one", "two", "three", "four"] {
        assert_eq!(client.recv().await, ("t".into(), expected.into()));
    }
    assert_eq!(handle.connected().await, Ok(Connected::Attached));
    assert_eq!(table.connected(local.id()), Connected::Attached);
    handle.close().await.unwrap();
    assert_eq!(handle.close().await, Err(GateError::SessionGone));
    assert_eq!(handle.connected().await, Ok(Connected::Gone));
    assert_eq!(table.close_all(CloseReason::Kicked), 0);
    client.closed().await;
    gate.stop().await;
}

#[tokio::test]
pub(crate) async fn the_gate() {
    let mut limits = GateLimits::default();
    limits.max_connections = 7;
    let gate = builder()
        .limits(Limits::default())
        .gate_limits(limits)
        .start()
        .await
        .unwrap();
    let handle = gate.gate().clone();
    assert_eq!(handle.limits().max_connections, 7);
    let gates = handle.bus().gates().await.unwrap();
    assert_eq!(gates.len(), 1);
    assert_eq!(gates[0].id, *handle.id());
    assert!(handle.is_ready());
    gate.stop().await;
    assert!(!handle.is_ready());
}

#[tokio::test]
pub(crate) async fn the_options() {
    let mut limits = Limits::default();
    assert_eq!(limits.concurrent_tasks, 20);
    assert_eq!(limits.read_buffer, 2048);
    assert_eq!(limits.max_packet_size, 65_535);
    assert_eq!(limits.send_queue_packets, 100);
    assert_eq!(limits.setup_timeout, Duration::from_secs(10));
    assert_eq!(limits.heartbeat_timeout, Duration::from_secs(60));
    limits.concurrent_tasks = 1;
    limits.max_packet_size = 4096;
    let service = Service::new("s")
        .version("1.2")
        .instance("s-1")
        .metadata("zone", "a")
        .ttl(Duration::from_secs(9));
    let gate = builder()
        .listen(Tcp::bind("127.0.0.1:0").limits(limits.clone()))
        .listen(
            WebSocket::bind("127.0.0.1:0")
                .limits(limits.clone())
                .path("/ws"),
        )
        .limits(limits)
        .service(service)
        .start()
        .await
        .unwrap();
    let instances = gate.gate().bus().instances("s").await.unwrap();
    let [s] = &instances[..] else {
        panic!("one instance")
    };
    assert_eq!((&*s.version, s.instance.as_str()), ("1.2", "s-1"));
    assert_eq!((&*s.metadata["zone"], s.ttl), ("a", Duration::from_secs(9)));
    let mut client = Client::tcp(&gate, 0).await;
    assert_eq!(client.ask("echo/echo/1", "x").await, "x");
    let url = format!("ws://{}/ws", gate.address(1).unwrap());
    tokio_tungstenite::connect_async(url).await.unwrap();
    // The gate's own limits hold where a listener has none.
    let mut client = connect(&gate);
    client.send("echo/echo/1", vec![0; 5000]).await;
    client.closed().await;
    drop(client);
    until("it is counted", || {
        gate.gate().closed(CloseReason::FrameTooLarge) == 1
    })
    .await;
    let mut wrong = Limits::default();
    wrong.concurrent_tasks = 0;
    let refused = builder().limits(wrong).start().await.err();
    assert!(matches!(refused, Some(StartError::Limit(_))));
}

#[tokio::test]
pub(crate) async fn tls() {
    let listeners: [tidegate::Listener; 2] = [
        Tcp::bind("127.0.0.1:0")
            .tls("absent.pem", "absent.key")
            .into(),
        WebSocket::bind("127.0.0.1:0")
            .tls("absent.pem", "absent.key")
            .into(),
    ];
    for listener in listeners {
        let refused = builder().listen(listener).start().await.err();
        assert!(matches!(refused, Some(StartError::Listen(_))));
    }
}

#[tokio::test]
pub(crate) async fn ciphers() {
    let ecb = Cipher::aes_ecb("a key of any length").unwrap();
    let cbc = Cipher::aes_cbc("0123456789abcdef").unwrap();
    assert!(Cipher::aes_cbc("a key of any length").is_err());
    let listeners: [tidegate::Listener; 2] = [
        Tcp::bind("127.0.0.1:0").cipher(ecb.clone()).into(),
        WebSocket::bind("127.0.0.1:0").cipher(cbc.clone()).into(),
    ];
    let [tcp, ws] = listeners;
    let gate = builder().listen(tcp).listen(ws).start().await.unwrap();
    let hello = |cipher: &Cipher| {
        let mut frame = Vec::new();
        Legacy::new(cipher).encode(&packet("echo/echo/1", "x"), &mut frame);
        frame
    };
    let (tcp, ws) = (hello(&ecb), hello(&cbc));
    let mut socket = TcpStream::connect(gate.address(0).unwrap()).await.unwrap();
    socket.write_all(&tcp).await.unwrap();
    let mut answer = vec![0; tcp.len()];
    within("the answer", socket.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(answer, tcp);
    let url = format!("ws://{}/", gate.address(1).unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    socket
        .send(Message::Binary(ws.clone().into()))
        .await
        .unwrap();
    let answer = within("the answer", socket.next()).await.unwrap();
    assert_eq!(answer.unwrap().into_data(), ws);
    gate.stop().await;
}
