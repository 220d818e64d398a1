//! Resume tokens: guessed, stolen, and kept secret.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidegate::bus::Connected;
use tidegate::protocol::extended::*;
use tidegate::{CloseReason, Credentials, Identity};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::sleep;

use super::*;

fn token(welcome: &Welcome) -> String {
    welcome.resume.clone().unwrap().token
}

/// A `$hello` that asks for a session.
fn asking(token: &str, received: u64) -> Vec<u8> {
    let mut hello = hello();
    hello.resume = Some(ResumeRequest {
        token: token.to_owned(),
        received,
    });
    frame(HELLO, &serde_json::to_vec(&hello).unwrap())
}

/// What the gate answers to somebody at an address who presents a token, and the connection.
async fn present(gate: &RunningGate, from: IpAddr, token: &str) -> (Welcome, Client) {
    let (ours, theirs) = duplex(65_536);
    let peer = SocketAddr::new(from, 4711);
    gate.serve(theirs, listener(), peer).unwrap();
    let mut io = Client::new(ours);
    io.send_bytes(&asking(token, 0)).await;
    let welcome = read_welcome(&mut io).await;
    (welcome, io)
}

fn refusal(welcome: &Welcome) -> ResumeRefusal {
    let code = welcome.refused.as_ref().unwrap().code;
    let mut all = ResumeRefusal::ALL.iter();
    *all.find(|refusal| refusal.code() == code).unwrap()
}

async fn dormant(gate: &RunningGate) {
    until("it waits", || {
        let mut sessions = gate.gate().sessions();
        sessions.all(|s| s.connected() == Connected::Dormant)
    })
    .await;
}

/// Tokens of one session have nothing in common but the session, and nothing in them is
/// derived from each other: 128 bits are needed, there are 256.
#[tokio::test(start_paused = true)]
async fn each_token_is_new() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    let mut secrets = Vec::new();
    for _ in 0..400 {
        let bytes = URL_SAFE_NO_PAD.decode(token(&client.welcome)).unwrap();
        let (session, secret) = bytes.split_at(16);
        let session = u128::from_be_bytes(session.try_into().unwrap());
        assert_eq!(format!("{session:032x}"), client.welcome.session);
        secrets.push(<[u8; 32]>::try_from(secret).unwrap());
        client.come_back(&gate).await;
        assert!(client.welcome.resumed);
    }
    assert_eq!(secrets.iter().collect::<HashSet<_>>().len(), secrets.len());
    // Bits in which two that follow each other differ: half of 256, give or take seven
    // standard deviations of 8.
    for pair in secrets.windows(2) {
        let pairs = pair[0].iter().zip(&pair[1]);
        let differ: u32 = pairs.map(|(a, b)| (a ^ b).count_ones()).sum();
        assert!((72..=184).contains(&differ), "{differ} bits differ");
    }
    // Bytes are spread: of 12,800, each value 50 times, with a deviation of 7.
    let mut seen = [0u32; 256];
    secrets
        .as_flattened()
        .iter()
        .for_each(|b| seen[usize::from(*b)] += 1);
    assert!(seen.iter().all(|n| (1..=105).contains(n)), "{seen:?}");
    gate.stop().await;
}

/// Whoever guesses is not looked at any more, whatever it presents, as long as he goes on or
/// longer; and by another door that leads to the same network.
#[tokio::test(start_paused = true)]
async fn brute_force_is_capped() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    client.cut();
    dormant(&gate).await;
    let good = token(&client.welcome);
    let guess = |n: u32| {
        let mut bytes = URL_SAFE_NO_PAD.decode(&good).unwrap();
        bytes[16..20]
            .iter_mut()
            .zip(n.to_be_bytes())
            .for_each(|(b, n)| *b ^= n);
        URL_SAFE_NO_PAD.encode(bytes)
    };
    let v6 = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 7, 0, 0, 0, last]);
    let mut looked_at = 0;
    for n in 1..=200 {
        let (welcome, _io) = present(&gate, v6(n as u16), &guess(n)).await;
        assert!(!welcome.resumed);
        match refusal(&welcome) {
            ResumeRefusal::Unknown => looked_at += 1,
            other => assert_eq!(other, ResumeRefusal::TooMany),
        }
    }
    assert_eq!(
        looked_at, 10,
        "of 200 guesses within a second, from one network"
    );
    // Not even the right one.
    let (welcome, _io) = present(&gate, v6(1), &good).await;
    assert_eq!(refusal(&welcome), ResumeRefusal::TooMany);
    // Others are served, the minute is over sometime, and nothing was done to the session.
    let (welcome, _io) = present(&gate, [198, 51, 100, 1].into(), &guess(7)).await;
    assert_eq!(refusal(&welcome), ResumeRefusal::Unknown);
    sleep(61 * SECOND).await;
    let (welcome, _io) = present(&gate, v6(9), &good).await;
    assert!(welcome.resumed);
    assert_eq!(gate.gate().closed(CloseReason::TokenStolen), 0);
    gate.stop().await;
}

/// All clients behind one address come back to a gate that was started anew. That is no guessing,
/// and their new sessions can be resumed.
#[tokio::test(start_paused = true)]
async fn tokens_of_a_former_gate_are_no_guesses() {
    let former = start().await;
    let mut tokens = Vec::new();
    for _ in 0..20 {
        tokens.push(token(&Extended::join(&former).await.welcome));
    }
    former.stop().await;
    let gate = start().await;
    let here = [198, 51, 100, 1].into();
    for token in tokens {
        let (welcome, _io) = present(&gate, here, &token).await;
        assert_eq!(refusal(&welcome), ResumeRefusal::Unknown);
    }
    let mut client = Extended::join(&gate).await;
    client.cut();
    dormant(&gate).await;
    let (welcome, _io) = present(&gate, here, &token(&client.welcome)).await;
    assert!(welcome.resumed);
    gate.stop().await;
}

/// A thief that is quicker than the client is thrown out when the client comes.
#[tokio::test(start_paused = true)]
async fn a_thief_that_was_first_loses_the_session_too() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    client.send("echo/echo/1", "mine").await;
    client.packet().await;
    client.cut();
    dormant(&gate).await;
    let stolen = token(&client.welcome);
    let (welcome, mut thief) = present(&gate, [203, 0, 113, 9].into(), &stolen).await;
    assert!(welcome.resumed);
    thief.send(ACK, 0u64.to_le_bytes()).await;
    // The answer again: the thief said that it had taken nothing.
    assert_eq!(thief.recv().await.0, "echo/echo/1");
    client.come_back(&gate).await;
    assert!(!client.welcome.resumed);
    assert_eq!(refusal(&client.welcome), ResumeRefusal::Spent);
    let (topic, close) = thief.recv().await;
    assert_eq!(topic, CLOSE);
    let close: Close = serde_json::from_slice(&close).unwrap();
    assert_eq!(close.code, CloseReason::TokenStolen.code());
    thief.closed().await;
    until("it is counted", || {
        gate.gate().closed(CloseReason::TokenStolen) == 1
    })
    .await;
    // Whatever the thief got is worth nothing.
    let (again, _io) = present(&gate, [203, 0, 113, 9].into(), &token(&welcome)).await;
    assert_eq!(refusal(&again), ResumeRefusal::Spent);
    assert_eq!(gate.gate().stats().not_resumed, 2);
    gate.stop().await;
}

/// Cut at each byte of what the client writes, and of what the gate writes, around a resume:
/// the last token that the client got works.
#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_is_no_theft() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    for written in [true, false] {
        let mut at = 0;
        loop {
            client.cut();
            dormant(&gate).await;
            let said = client.state.hello(&hello());
            let mut up = frame(HELLO, &said.body);
            let hello_len = up.len();
            up.extend(frame(ACK, &client.state.confirm().body));
            let (mut io, theirs) = duplex(65_536);
            gate.serve(theirs, listener(), peer()).unwrap();
            let mut welcome = Vec::new();
            let end = if written {
                // As much of `$hello` and the `$ack` behind the `$welcome`.
                let at = at.min(up.len());
                io.write_all(&up[..at.min(hello_len)]).await.unwrap();
                if at >= hello_len {
                    welcome = read_frame(&mut io).await;
                    io.write_all(&up[hello_len..at]).await.unwrap();
                }
                up.len()
            } else {
                // As much of `$welcome`.
                io.write_all(&up[..hello_len]).await.unwrap();
                let mut seen = vec![0; at];
                io.read_exact(&mut seen).await.unwrap();
                match seen.first_chunk::<2>() {
                    Some(total) => usize::from(u16::from_le_bytes(*total)),
                    None => usize::MAX,
                }
            };
            if !written && at == end {
                // It was whole.
                break;
            }
            drop(io);
            if !welcome.is_empty() {
                let topic = 4 + WELCOME.len();
                let welcome: Welcome = serde_json::from_slice(&welcome[topic..]).unwrap();
                assert!(welcome.resumed, "cut after {at} bytes");
                client.state.welcome(&welcome).unwrap();
            }
            dormant(&gate).await;
            client.come_back(&gate).await;
            assert!(
                client.welcome.resumed,
                "cut after {at} bytes, written {written}: {:?}",
                client.welcome.refused
            );
            client.send("echo/echo/1", "goes on").await;
            assert_eq!(client.packet().await.1, "goes on");
            client.ack().await;
            if written && at == end {
                break;
            }
            at += 1;
        }
        client.come_back(&gate).await;
        assert!(client.welcome.resumed);
    }
    assert_eq!(gate.gate().closed(CloseReason::TokenStolen), 0);
    assert_eq!(gate.gate().stats().not_resumed, 0);
    gate.stop().await;
}

async fn read_frame(io: &mut tokio::io::DuplexStream) -> Vec<u8> {
    let mut frame = vec![0; 2];
    io.read_exact(&mut frame).await.unwrap();
    frame.resize(usize::from(u16::from_le_bytes([frame[0], frame[1]])), 0);
    io.read_exact(&mut frame[2..]).await.unwrap();
    frame
}

/// Neither the log nor anything that can be printed repeats a token, or what a client shows to
/// be let in.
#[tokio::test(start_paused = true)]
async fn secrets_are_not_repeated() {
    log::keep();
    const SHOWN: &str = "swordfish-4711";
    let seen = Log::default();
    let shown = seen.clone();
    let gate = builder()
        .on_authenticate(SECOND, move |who: Credentials| {
            shown.add(format!("{who:?}"));
            async { Ok::<_, tidegate::Refused>(Identity::guest()) }
        })
        .start()
        .await
        .unwrap();
    let auth = format!(r#"{{"versions":[1],"capabilities":["resume"],"auth":"{SHOWN}"}}"#);
    let mut hello = Hello::read(auth.as_bytes()).unwrap();
    let mut client = Extended::join_on(&gate, listener(), &hello).await;
    let mut tokens = vec![token(&client.welcome)];
    // Good, spent, stolen, wrong, and where none should be.
    client.come_back_on(&gate, listener(), &hello).await;
    tokens.push(token(&client.welcome));
    let (_, mut thief) = present(&gate, peer().ip(), &tokens[0]).await;
    thief.send(ACK, 0u64.to_le_bytes()).await;
    client.closed_with().await;
    present(&gate, peer().ip(), &format!("{}x", tokens[1])).await;
    let mut printed = seen.all();
    for body in [
        format!(r#"{{"versions":[1],"resume":"{}"}}"#, tokens[1]),
        format!(
            r#"{{"versions":[1],"resume":{{"token":"x","received":"{}"}}}}"#,
            tokens[1]
        ),
        format!(r#"{{"versions":"{SHOWN}"}}"#),
        format!(r#"{{"versions":[1],"auth":"{SHOWN}"#),
    ] {
        let mut client = connect_with(&gate, listener(), 65_536);
        client.send(HELLO, &body).await;
        assert_eq!(client.recv().await.0, CLOSE);
        printed.push(format!("{:?}", Hello::read(body.as_bytes())));
    }
    hello.resume = Some(ResumeRequest {
        token: tokens[1].clone(),
        received: 0,
    });
    let update = TokenUpdate {
        token: Some(tokens[1].clone()),
        refused: None,
    };
    printed.push(format!("{hello:?} {update:?} {:?}", client.welcome));
    printed.push(format!("{:?}", ClientControl::Hello(Box::new(hello))));
    printed.push(format!("{:?}", client.state));
    assert!(printed.len() > 8);
    assert!(!log::lines_with(&["set-up failed"]).is_empty());
    let secrets = tokens.iter().map(String::as_str).chain([SHOWN]);
    for secret in secrets {
        // Nor the part behind the session's id, which is no secret.
        for part in [secret, &secret[secret.len().min(22)..]] {
            if part.is_empty() {
                continue;
            }
            assert_eq!(log::lines_with(&[part]), Vec::<String>::new());
            let repeats = printed.iter().find(|text| text.contains(part));
            assert_eq!(repeats, None);
        }
    }
    gate.stop().await;
}
