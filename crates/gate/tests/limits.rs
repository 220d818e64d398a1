//! How many, how fast, how much: connections, packets, bytes, descriptors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::process::Stdio;
use std::time::Duration;

use tidegate::bus::gate::GateError;
use tidegate::{CloseReason, GateLimits, Limits, Rate, Tcp, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

mod support;

use support::{LONG, Rig, assert_echo, connect_from, packet, quiet, read_v1, until, v1};

const SECOND: Duration = Duration::from_secs(1);

// --- places

/// Whether the gate serves the connection, or closes it without a word.
async fn is_served(client: &mut TcpStream) -> bool {
    let frame = v1("echo/echo/1", b"");
    client.write_all(&frame).await.is_ok() && read_v1(client).await.is_some()
}

#[tokio::test]
async fn places_are_limited_in_all_and_given_back() {
    let mut limits = GateLimits::default();
    limits.max_connections = 5;
    let rig = Rig::with(|gate| {
        gate.gate_limits(limits)
            .listen(Tcp::bind("127.0.0.1:0"))
            .listen(WebSocket::bind("127.0.0.1:0"))
    })
    .await;
    for round in 1..=3 {
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = TcpStream::connect(rig.address(0)).await.unwrap();
            assert!(is_served(&mut client).await);
            clients.push(client);
        }
        // Those in set-up count too.
        for _ in 0..2 {
            clients.push(TcpStream::connect(rig.address(1)).await.unwrap());
        }
        until("five are there", || rig.gate().connection_count() == 5).await;
        let mut sixth = TcpStream::connect(rig.address(0)).await.unwrap();
        assert!(!is_served(&mut sixth).await);
        assert_eq!(rig.gate().stats().turned_away, round);
        drop(clients);
        rig.settled().await;
    }
}

#[tokio::test]
async fn places_are_limited_by_address() {
    let mut limits = GateLimits::default();
    limits.max_connections_per_address = 2;
    let rig = Rig::with(|gate| gate.gate_limits(limits).listen(Tcp::bind("127.0.0.1:0"))).await;
    let to = rig.address(0);
    let mut clients = Vec::new();
    for last in 1..=5 {
        for _ in 0..2 {
            let mut client = connect_from([127, 0, 0, last], to).await;
            assert!(is_served(&mut client).await);
            clients.push(client);
        }
        assert!(!is_served(&mut connect_from([127, 0, 0, last], to).await).await);
    }
    assert_eq!(rig.gate().stats().turned_away, 5);
    drop(clients.remove(0));
    until("its place is free", || rig.gate().connection_count() == 9).await;
    assert!(is_served(&mut connect_from([127, 0, 0, 1], to).await).await);
    drop(clients);
    rig.settled().await;
}

#[tokio::test]
async fn after_a_storm_nothing_is_left() {
    let rig = Rig::with(|gate| {
        gate.shards(2)
            .listen(Tcp::bind("127.0.0.1:0"))
            .listen(WebSocket::bind("127.0.0.1:0"))
    })
    .await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let mut storm = tokio::task::JoinSet::new();
    for i in 0..1000 {
        let to = rig.address(i % 2);
        storm.spawn(async move {
            let mut client = TcpStream::connect(to).await.unwrap();
            // Gone at every stage: before, in and after the first frame.
            match i % 10 {
                0 | 1 => {}
                2 | 3 => client.write_all(b"\x14\x00\x0b").await.unwrap(),
                4 => drop(is_served(&mut client).await),
                5 => {
                    let request = support::ws::request("/", &[]);
                    client.write_all(&request).await.unwrap();
                }
                _ => {
                    let part = &support::ws::request("/", &[])[..20];
                    client.write_all(part).await.unwrap();
                }
            }
        });
    }
    timeout(LONG, storm.join_all()).await.unwrap();
    until("all were accepted", || rig.gate().stats().accepted == 1000).await;
    rig.settled().await;
    until("descriptors are given back", || descriptors() <= before).await;
    let stats = rig.gate().stats();
    assert_eq!(stats.sessions_started, stats.sessions_ended);
    let mut client = TcpStream::connect(rig.address(0)).await.unwrap();
    assert_echo(&mut client).await;
}

// --- rates

#[tokio::test(start_paused = true)]
async fn a_flooder_gets_its_rate_and_a_hundred_others_their_answers() {
    let mut rig = Rig::new().await;
    let mut limits = Limits::default();
    limits.packet_rate = Some(Rate::per_second(50));
    let mut others = Vec::new();
    for _ in 0..100 {
        others.push(rig.tcp(limits.clone()));
    }
    let (mut reader, mut writer) = tokio::io::split(rig.tcp(limits));
    for _ in 0..101 {
        rig.session().await;
    }
    let began = Instant::now();
    let flood = async {
        let frame = v1("echo/echo/1", b"x").repeat(10);
        for _ in 0..1000 {
            writer.write_all(&frame).await.unwrap();
        }
    };
    let mut answered = 0;
    let read = async {
        while read_v1(&mut reader).await.is_some() {
            answered += 1;
        }
    };
    let serve = async {
        for _ in 0..60 {
            let asked = Instant::now();
            for other in &mut others {
                assert_echo(other).await;
            }
            assert_eq!(asked.elapsed(), Duration::ZERO, "nobody waits");
            sleep(SECOND).await;
        }
    };
    tokio::select! {
        () = flood => panic!("the gate reads it all"),
        () = read => panic!("the flooder is not closed"),
        () = serve => {}
    }
    let allowed = 50 * began.elapsed().as_secs() + 50;
    assert!(
        (allowed * 9 / 10..=allowed + 5).contains(&answered),
        "{answered}"
    );
    assert!(rig.ended.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn bytes_are_limited_by_not_reading_and_frames_larger_than_the_burst_pass() {
    let rig = Rig::new().await;
    let mut limits = Limits::default();
    limits.byte_rate = Some(Rate::per_second(1000));
    limits.heartbeat_timeout = SECOND * 5;
    limits.partial_frame_timeout = SECOND * 5;
    let (mut reader, mut writer) = tokio::io::split(rig.tcp(limits));
    let began = Instant::now();
    // 30 seconds' worth: neither a partial frame nor silence, for it is the gate that
    // does not read.
    let frame = v1("echo/echo/1", &[7; 30_000]);
    let (written, answer) = tokio::join!(writer.write_all(&frame), read_v1(&mut reader));
    written.unwrap();
    assert_eq!(answer.unwrap().1.len(), 30_000);
    let took = began.elapsed();
    assert!(SECOND * 25 < took && took < SECOND * 32, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn pings_count_as_packets() {
    let rig = Rig::new().await;
    let mut limits = Limits::default();
    limits.packet_rate = Some(Rate::per_second(10));
    let client = rig.ws(limits).await;
    let (mut reader, mut writer) = tokio::io::split(client.io);
    let flood = async {
        let ping = support::ws::masked(0x89, b"").repeat(10);
        for _ in 0..1000 {
            writer.write_all(&ping).await.unwrap();
        }
    };
    let read = async { while reader.read(&mut [0; 1024]).await.unwrap() > 0 {} };
    tokio::select! {
        () = flood => panic!("the gate reads it all"),
        () = read => panic!("closed"),
        () = sleep(SECOND * 30) => {}
    }
    let pings = rig.gate().stats().pings;
    assert!((280..=315).contains(&pings), "{pings}");
}

// --- the gate's byte budget

#[tokio::test(start_paused = true)]
async fn beyond_the_budget_sends_are_refused_and_the_fattest_blocked_sessions_closed() {
    let mut limits = GateLimits::default();
    limits.memory_budget = 1_000_000;
    let mut rig = Rig::with(|gate| gate.gate_limits(limits)).await;
    let mut patient = Limits::default();
    patient.write_timeout = SECOND * 1000;
    let mut reader = rig.tcp(patient.clone());
    rig.session().await;
    let mut stuck = Vec::new();
    let mut sessions = Vec::new();
    // Thin ones first: they must outlive the fat ones.
    for i in 0..40 {
        stuck.push(rig.tcp(patient.clone()));
        let session = rig.session().await;
        let mut queued = 0;
        loop {
            match session.send(packet("news", 2000)) {
                Ok(()) => queued += 1,
                Err(GateError::QueueFull) => break,
                Err(error) => panic!("{error:?}"),
            }
            if queued % 8 == 0 {
                tokio::task::yield_now().await;
            }
            if i < 10 && queued == 20 {
                break;
            }
        }
        sessions.push(session);
        assert!(
            rig.gate().memory_used() < 1_100_000,
            "{}",
            rig.gate().memory_used()
        );
        assert_echo(&mut reader).await;
        quiet().await;
    }
    // Refusing holds it at the limit; to stay there is too much.
    for session in &sessions {
        while session.send(packet("news", 2000)).is_ok() {}
    }
    assert!(rig.gate().memory_used() >= 1_000_000);
    sleep(SECOND).await;
    let used = rig.gate().memory_used();
    assert!(used < 1_000_000, "{used}");
    let closed = rig.gate().closed(CloseReason::MemoryPressure);
    assert!((1..30).contains(&closed), "{closed}");
    assert!(rig.gate().stats().refused_full > 0);
    for thin in &sessions[..10] {
        assert_eq!(thin.connected(), tidegate::bus::Connected::Attached);
    }
    for _ in 0..closed {
        assert_eq!(rig.reason().await, CloseReason::MemoryPressure);
    }
    // The gate is at ease again.
    assert_echo(&mut reader).await;
    let sent = rig.gate().broadcast(packet("all", 10)).await.unwrap();
    assert!(sent.attached >= 11, "{sent:?}");
    drop((stuck, reader));
    sleep(SECOND).await;
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn partial_frames_count_against_the_budget_and_go_first() {
    let mut limits = GateLimits::default();
    limits.memory_budget = 400_000;
    let mut rig = Rig::with(|gate| gate.gate_limits(limits)).await;
    let mut whole = rig.tcp(Limits::default());
    // Holds little of a frame, which comes byte by byte meanwhile: it is not the one to go.
    let mut thin = rig.tcp(Limits::default());
    let thin_frame = v1("echo/echo/1", &[7; 60]);
    let mut clients = Vec::new();
    for i in 0..40 {
        thin.write_all(&thin_frame[i..=i]).await.unwrap();
        let part = &v1("echo/take", &[0; 30_000])[..20_000];
        if i % 2 == 0 {
            let mut client = rig.tcp(Limits::default());
            // Closed at some point, when there are too many.
            let _ = client.write_all(part).await;
            clients.push(client);
        } else {
            let mut client = rig.ws(Limits::default()).await;
            let message = support::ws::masked(0x82, &[0; 30_000]);
            let _ = client.io.write_all(&message[..20_000]).await;
            clients.push(client.io);
        }
        quiet().await;
        let used = rig.gate().memory_used();
        assert!(used < 450_000, "{used}");
    }
    sleep(SECOND * 2).await;
    let closed = rig.gate().closed(CloseReason::MemoryPressure);
    assert!(closed > 15, "{closed}");
    // Those with whole frames are served, once the partial ones have gone.
    drop(clients);
    for _ in 0..40 {
        rig.end().await;
    }
    assert_echo(&mut whole).await;
    thin.write_all(&thin_frame[40..]).await.unwrap();
    let mut answer = vec![0; thin_frame.len()];
    thin.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, thin_frame);
    drop((whole, thin));
    rig.settled().await;
}

// --- descriptors

const CHILD: &str = "TIDEGATE_TEST_CHILD";

/// Runs in a process of its own, whose descriptors can be used up.
#[test]
fn out_of_descriptors_the_gate_lives_and_recovers() {
    if std::env::var_os(CHILD).is_some() {
        return starve();
    }
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "out_of_descriptors_the_gate_lives_and_recovers",
        ])
        .env(CHILD, "1")
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        .status()
        .unwrap();
    assert!(status.success());
}

fn starve() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let rig = Rig::with(|gate| gate.listen(Tcp::bind("127.0.0.1:0"))).await;
        let to = rig.address(0);
        let mut early = TcpStream::connect(to).await.unwrap();
        assert_echo(&mut early).await;
        let mut waiting = vec![TcpStream::connect(to).await.unwrap()];
        // Now and not before: nothing else may want one meanwhile.
        let mut hoard = hoard();
        // The client's end needs one; the gate's end finds none.
        hoard.pop();
        waiting.push(TcpStream::connect(to).await.unwrap());
        let gate = rig.gate().clone();
        until("an accept fails", || gate.stats().accept_errors > 0).await;
        assert_echo(&mut early).await;
        let errors = gate.stats().accept_errors;
        let began = Instant::now();
        until("it has tried five times more", || {
            gate.stats().accept_errors >= errors + 5
        })
        .await;
        // 20, 40, 80… ms: it backs off rather than spins.
        assert!(began.elapsed() >= Duration::from_millis(300));
        assert_echo(&mut early).await;
        drop(hoard);
        for client in &mut waiting {
            assert_echo(client).await;
        }
        let mut new = TcpStream::connect(to).await.unwrap();
        assert_echo(&mut new).await;
        drop((early, waiting, new));
        rig.settled().await;
    });
}

/// Takes every descriptor there is.
fn hoard() -> Vec<std::fs::File> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let limit = Rlimit {
        current: Some(open + 20),
        maximum: Some(open + 20),
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut files = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        files.push(file);
    }
    files
}
