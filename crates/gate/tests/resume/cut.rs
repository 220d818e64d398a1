//! Connections that are cut at any byte, in both directions: nothing is lost, repeated or
//! reordered.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidegate::Guests;
use tidegate::bus::Connected;
use tidegate::service::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// Passes on so many bytes of each direction, then cuts both.
async fn pass(mut client: DuplexStream, mut gate: DuplexStream, mut up: usize, mut down: usize) {
    let (mut a, mut b) = ([0; 97], [0; 211]);
    loop {
        let cut = tokio::select! {
            n = client.read(&mut a) => {
                let n = n.unwrap_or(0).min(up);
                up -= n;
                n == 0 || gate.write_all(&a[..n]).await.is_err() || up == 0
            }
            n = gate.read(&mut b) => {
                let n = n.unwrap_or(0).min(down);
                down -= n;
                n == 0 || client.write_all(&b[..n]).await.is_err() || down == 0
            }
        };
        if cut {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_repeated_or_reordered() {
    for seed in 0..40 {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    const CUTS: usize = 25;
    let mut random = StdRng::seed_from_u64(seed);
    let seen = Log::default();
    let service = {
        let seen = seen.clone();
        Service::new("n")
            .one_way("n", move |body: bytes::Bytes| {
                let seen = seen.clone();
                async move { seen.add(String::from_utf8(body.to_vec()).unwrap()) }
            })
            .open_to(Guests)
    };
    let gate = builder().service(service).start().await.unwrap();
    let mut state = ClientSession::default();
    let (mut sent, mut pushed) = (0u32, 0u32);
    let mut got = Vec::new();
    for round in 0..=CUTS {
        let last = round == CUTS;
        let (ours, near) = duplex(65_536);
        let (far, theirs) = duplex(65_536);
        gate.serve(theirs, listener(), peer()).unwrap();
        let (up, down) = match last {
            true => (usize::MAX, usize::MAX),
            false => (random.random_range(1..1500), random.random_range(1..1500)),
        };
        let proxy = tokio::spawn(pass(near, far, up, down));
        let (mut read, mut write) = tokio::io::split(ours);
        let mut input = Vec::new();
        let hello = state.hello(&hello());
        let mut broken = write.write_all(&frame(HELLO, &hello.body)).await.is_err();
        let mut welcomed = false;
        let mut quiet = 0;
        let mut budget = random.random_range(1..40);
        while !broken && quiet < 3 {
            // What the gate says.
            let next = tokio::time::timeout(SECOND / 5, read_packet(&mut read, &mut input)).await;
            let mut out = Vec::new();
            match next {
                Ok(None) => break,
                Ok(Some(packet)) if !welcomed => {
                    let Ok(GateControl::Welcome(welcome)) = GateControl::read(&packet) else {
                        panic!("seed {seed}: not a welcome: {packet:?}");
                    };
                    welcomed = true;
                    let again = match state.welcome(&welcome).unwrap() {
                        Welcomed::Resumed { again } => again,
                        Welcomed::Fresh { unknown, refused } => {
                            assert!(
                                unknown.is_empty() && refused.is_none(),
                                "seed {seed}: {refused:?}"
                            );
                            assert_eq!(sent, 0, "seed {seed}");
                            // Of a session that never heard its welcome nothing was promised.
                            pushed = 0;
                            Vec::new()
                        }
                    };
                    out.push(state.confirm());
                    for packet in again {
                        state.write(&packet);
                        out.push(packet);
                    }
                }
                Ok(Some(packet)) => match state.take(packet).unwrap() {
                    Taken::Packet(packet) => {
                        got.push(String::from_utf8(packet.body.to_vec()).unwrap());
                    }
                    Taken::Reply(reply) => out.push(reply),
                    Taken::Nothing => {}
                    other => panic!("seed {seed}: {other:?}"),
                },
                Err(_) => quiet += 1,
            }
            // What both sides send meanwhile.
            if welcomed && (budget > 0 || last && sent < 100) {
                budget -= 1;
                quiet = 0;
                if random.random_bool(0.6) {
                    sent += 1;
                    let packet = packet("n/n", sent.to_string());
                    state.write(&packet);
                    out.push(packet);
                }
                if random.random_bool(0.6)
                    && let Some(session) = newest(&gate)
                {
                    pushed += 1;
                    session
                        .send(super::packet("p/p", pushed.to_string()))
                        .unwrap();
                }
                if random.random_bool(0.2) || state.is_ack_due() {
                    out.extend(state.ack());
                }
            }
            for packet in out {
                broken |= write
                    .write_all(&frame(packet.topic.as_str(), &packet.body))
                    .await
                    .is_err();
            }
        }
        drop((read, write));
        proxy.abort();
        let _ = proxy.await;
        until("the gate sees the break", || {
            gate.gate()
                .sessions()
                .all(|s| s.connected() != Connected::Attached)
        })
        .await;
    }
    let numbers = |n: u32| (1..=n).map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(seen.all(), numbers(sent), "seed {seed}: to the service");
    assert_eq!(got, numbers(pushed), "seed {seed}: to the client");
    assert!(sent >= 100 && pushed > 10, "seed {seed}: {sent} {pushed}");
    gate.stop().await;
}

/// The session that the client has: others never heard of their welcome.
fn newest(gate: &RunningGate) -> Option<tidegate::LocalSession> {
    let mut attached = gate
        .gate()
        .sessions()
        .filter(|s| s.connected() == Connected::Attached);
    attached.next()
}

async fn read_packet(
    read: &mut tokio::io::ReadHalf<DuplexStream>,
    input: &mut Vec<u8>,
) -> Option<Packet> {
    use tidegate::Codec;
    use tidegate::protocol::V1;
    loop {
        if let Some(len) = V1.frame_len(input, V1::MAX_FRAME).unwrap()
            && input.len() >= len
        {
            let rest = input.split_off(len);
            let bytes = std::mem::replace(input, rest);
            return Some(V1.decode(&bytes).unwrap());
        }
        if read.read_buf(input).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}
