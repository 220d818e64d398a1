//! The control packets of the extended protocol, resume tokens, and both sides' state, fed with
//! what an enemy may send. The first byte says which.

#![no_main]

// It is no part of the gate's interface.
#[allow(dead_code)]
#[path = "../../crates/gate/src/token.rs"]
mod token;

use libfuzzer_sys::fuzz_target;
use tidegate_protocol::extended::*;
use tidegate_protocol::{Codec, Packet, V1};

const OF_CLIENTS: [&str; 6] = [HELLO, PING, PONG, ACK, BYE, "$other"];
const OF_GATES: [&str; 10] = [
    WELCOME, PING, PONG, ACK, ERROR, GAP, TOKEN, DRAIN, CLOSE, "$other",
];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else {
        return;
    };
    match choice % 6 {
        0 => client_control(choice / 6, data),
        1 => gate_control(choice / 6, data),
        2 => hello(data),
        3 => resume_token(data),
        4 => client_state(data),
        _ => gate_state(data),
    }
});

fn packet(topics: &[&str], choice: u8, body: &[u8]) -> Packet {
    let topic = topics[usize::from(choice) % topics.len()];
    Packet::try_new(topic, body.to_vec()).unwrap()
}

/// What is read is written as what reads the same.
fn client_control(choice: u8, body: &[u8]) {
    let came = packet(&OF_CLIENTS, choice, body);
    let Ok(control) = ClientControl::read(&came) else {
        return;
    };
    let written = control.packet();
    assert_eq!(written.topic, came.topic);
    let again = ClientControl::read(&written).unwrap().packet();
    assert_eq!(again, written);
}

fn gate_control(choice: u8, body: &[u8]) {
    let came = packet(&OF_GATES, choice, body);
    if let Ok(control) = GateControl::read(&came) {
        assert_eq!(GateControl::read(&control.packet()), Ok(control));
    }
}

/// Whatever a client wishes for, it gets what the gate allows.
fn hello(body: &[u8]) {
    let Ok(hello) = Hello::read(body) else { return };
    let timeout = std::time::Duration::from_secs(60);
    let offer = Offer {
        heartbeat_timeout: timeout,
        resume: body.len() % 2 == 0,
    };
    let Some(terms) = offer.answer(&hello) else {
        assert!(!hello.versions.contains(&VERSION));
        return;
    };
    assert_eq!(terms.version, VERSION);
    assert!(!terms.resume || (offer.resume && hello.wants(RESUME)));
    for ms in [terms.heartbeat.client_ms, terms.heartbeat.gate_ms] {
        assert!((1000..=30_000).contains(&ms));
    }
    // Secrets do not get into a log by way of `{:?}`.
    if let Some(resume) = &hello.resume
        && resume.token.len() > 16
    {
        assert!(!format!("{resume:?}").contains(&resume.token));
    }
}

/// A token is read from one text only.
fn resume_token(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    if let Some((session, hash)) = token::parse(text) {
        assert_eq!(text.len(), 64);
        assert_eq!(token::parse(text), Some((session, hash)));
        let next = if text.ends_with('A') { "B" } else { "A" };
        let other = format!("{}{next}", &text[..63]);
        assert_ne!(token::parse(&other).map(|(_, hash)| hash), Some(hash));
    }
}

/// A client whose gate sends anything: it does not panic, does not forget what was not
/// acknowledged, and says no smaller count than before.
fn client_state(mut data: &[u8]) {
    let mut client = ClientSession::default();
    let mut kept = 0;
    let mut last = 0;
    while let Some((&op, rest)) = data.split_first() {
        data = rest;
        match op % 4 {
            0 => {
                let packet = Packet::try_new("a/b", &b"body"[..]).unwrap();
                let count = client.write(&packet);
                kept += 1;
                assert!(count.is_some());
            }
            1 => {
                let request = client.hello(&Hello::read(br#"{"versions":[1]}"#).unwrap());
                let request = Hello::read(&request.body).unwrap();
                assert_eq!(request.resume.is_some(), client.is_resumable());
                if let Some(resume) = request.resume {
                    assert!(resume.received >= last);
                    last = resume.received;
                }
            }
            2 => {
                client.ack();
            }
            // A frame, whose length leads; a `$welcome` answers a `$hello`.
            _ => {
                let Ok(Some(len)) = V1.frame_len(data, V1::MAX_FRAME) else {
                    return;
                };
                let Some((frame, behind)) = data.split_at_checked(len) else {
                    return;
                };
                data = behind;
                let Ok(packet) = V1.decode(frame) else { return };
                match GateControl::read(&packet) {
                    Ok(GateControl::Welcome(welcome)) => match client.welcome(&welcome) {
                        Ok(Welcomed::Resumed { again }) => {
                            assert!(again.len() <= kept);
                            for packet in again {
                                client.write(&packet);
                            }
                        }
                        Ok(Welcomed::Fresh { unknown, .. }) => {
                            assert_eq!(unknown.len(), kept);
                            last = 0;
                        }
                        // The connection is of no use, the session is.
                        Err(_) => {}
                    },
                    _ => {
                        if client.take(packet).is_err() {
                            return;
                        }
                    }
                }
                assert!(client.unacknowledged().0 <= kept);
                kept = client.unacknowledged().0;
            }
        }
        assert_eq!(client.unacknowledged().0, kept);
    }
}

/// What a gate keeps for a client that says any counts and presents any of the tokens that
/// it was ever given.
fn gate_state(data: &[u8]) {
    let hash = |n: usize| TokenHash([n as u8; 32]);
    let mut retained = Retained::default();
    let mut tokens = Tokens::new(hash(0));
    // What the client has for sure, the newest that it may have got since, and how many it was
    // ever given.
    let (mut has, mut newest, mut given) = (0, None, 0);
    for op in data.chunks_exact(2) {
        let n = u64::from(op[1]);
        let (least, most) = (retained.acknowledged(), retained.written());
        let is_possible = (least..=most).contains(&n);
        match op[0] % 6 {
            0 => {
                assert_eq!(retained.write(most, 1, 10), most + 1);
            }
            1 => {
                retained.write(most, n, 10);
            }
            2 => assert_eq!(retained.acknowledge(n).is_ok(), is_possible),
            3 => match retained.rewind(n) {
                Ok(again) => {
                    assert!(is_possible);
                    let again: Vec<_> = again.collect();
                    assert!(again.is_sorted());
                }
                Err(_) => assert!(!is_possible),
            },
            4 if given < 255 => {
                given += 1;
                tokens.offer(hash(given));
                newest = Some(given);
            }
            4 => {}
            _ if op[1] == 255 => {
                tokens.confirm();
                has = newest.take().unwrap_or(has);
            }
            _ => {
                let n = usize::from(op[1]);
                let was = tokens.present(&hash(n));
                // Never one that was not given; always the last that surely arrived.
                assert!(n <= given || was == Presented::Unknown);
                assert!(n != has || was == Presented::Good);
                assert!(newest != Some(n) || was == Presented::Good);
                if was == Presented::Good && n != has {
                    assert!(n > has);
                    (has, newest) = (n, None);
                }
            }
        }
        assert!(retained.acknowledged() <= retained.written());
        assert_eq!(retained.bytes(), 10 * retained.len());
    }
}
