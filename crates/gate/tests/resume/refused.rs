//! Sessions that are not resumed, and why.

use tidegate::bus::Connected;
use tidegate::protocol::extended::*;
use tidegate::{CloseReason, Credentials, GateLimits, Identity, Refused};
use tokio::time::sleep;

use super::*;

fn refusal(client: &Extended) -> Option<u16> {
    assert!(!client.welcome.resumed);
    client.welcome.refused.as_ref().map(|refused| refused.code)
}

pub(super) async fn lost(gate: &RunningGate, client: &mut Extended) {
    client.cut();
    until("the gate sees the break", || {
        gate.gate()
            .sessions()
            .all(|s| s.connected() == Connected::Dormant)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn too_late() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    lost(&gate, &mut client).await;
    sleep(125 * SECOND).await;
    client.come_back(&gate).await;
    assert_eq!(refusal(&client), Some(ResumeRefusal::Expired.code()));
    client.send("echo/echo/1", "a fresh one").await;
    assert_eq!(client.packet().await.1, "a fresh one");
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn kicked_unbound_or_nobodys() {
    let gate = start().await;
    let mut kicked = Extended::join(&gate).await;
    lost(&gate, &mut kicked).await;
    gate.gate().close_all(CloseReason::Kicked);
    until("it ends", || gate.gate().session_count() == 0).await;
    kicked.come_back(&gate).await;
    assert_eq!(refusal(&kicked), Some(ResumeRefusal::Ended.code()));
    let session = gate.gate().sessions().next().unwrap();
    session.bind(user("u1")).await.unwrap();
    session.unbind().await.unwrap();
    let Taken::Token(Some(told)) = kicked.take().await else {
        panic!("not told");
    };
    assert_eq!(told.code, ResumeRefusal::Ended.code());
    assert!(!kicked.state.is_resumable());
    kicked.cut();
    until("it ends with its connection", || {
        gate.gate().session_count() == 0
    })
    .await;
    let mut stranger = Extended::join(&gate).await;
    let mut hello = hello();
    for token in [
        "",
        "x",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        hello.resume = Some(ResumeRequest {
            token: token.into(),
            received: 0,
        });
        stranger.io = connect_with(&gate, listener(), 65_536);
        let body = serde_json::to_vec(&hello).unwrap();
        stranger.io.send(HELLO, body).await;
        stranger.welcome = read_welcome(&mut stranger.io).await;
        assert_eq!(refusal(&stranger), Some(ResumeRefusal::Unknown.code()));
    }
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn guesses_are_not_looked_at_for_ever() {
    let gate = start().await;
    let mut honest = Extended::join(&gate).await;
    lost(&gate, &mut honest).await;
    let mut codes = Vec::new();
    for n in 0..12u8 {
        let mut hello = hello();
        let mut token = honest.welcome.resume.clone().unwrap().token.into_bytes();
        // The session is right, the secret is not.
        token[40] = b"ABCDEFGHIJKLMNOP"[usize::from(n)];
        hello.resume = Some(ResumeRequest {
            token: String::from_utf8(token).unwrap(),
            received: 0,
        });
        let mut io = connect_with(&gate, listener(), 65_536);
        io.send(HELLO, serde_json::to_vec(&hello).unwrap()).await;
        let welcome = read_welcome(&mut io).await;
        if !welcome.resumed {
            codes.push(welcome.refused.unwrap().code);
        }
    }
    assert!(codes.contains(&ResumeRefusal::Unknown.code()));
    assert_eq!(codes.last(), Some(&ResumeRefusal::TooMany.code()));
    sleep(61 * SECOND).await;
    honest.come_back(&gate).await;
    assert!(honest.welcome.resumed, "the session is not harmed");
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stolen_token_ends_the_session() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    let stolen = client.welcome.resume.clone().unwrap().token;
    lost(&gate, &mut client).await;
    client.come_back(&gate).await;
    assert!(client.welcome.resumed);
    client.send("echo/echo/1", "confirmed").await;
    client.packet().await;
    let mut thief = ClientSession::default();
    let mut hello = hello();
    hello.resume = Some(ResumeRequest {
        token: stolen,
        received: 0,
    });
    let mut io = connect_with(&gate, listener(), 65_536);
    io.send(HELLO, serde_json::to_vec(&hello).unwrap()).await;
    let welcome = read_welcome(&mut io).await;
    assert!(!welcome.resumed);
    assert_eq!(
        welcome.refused.clone().unwrap().code,
        ResumeRefusal::Spent.code()
    );
    assert!(thief.welcome(&welcome).is_ok());
    // The first packet shows that somebody is there.
    let confirmed = thief.confirm();
    io.send(confirmed.topic.as_str(), &confirmed.body).await;
    let close = client.closed_with().await;
    assert_eq!(close.code, CloseReason::TokenStolen.code());
    assert!(!close.reconnect);
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_was_given_up_and_comes_late_is_no_theft() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    let late = client.state.hello(&hello());
    lost(&gate, &mut client).await;
    client.come_back(&gate).await;
    client.send("echo/echo/1", "confirmed").await;
    client.packet().await;
    let mut io = connect_with(&gate, listener(), 65_536);
    io.send(HELLO, &late.body).await;
    let welcome = read_welcome(&mut io).await;
    assert_eq!(welcome.refused.unwrap().code, ResumeRefusal::Spent.code());
    drop(io);
    client.send("echo/echo/2", "still here").await;
    assert_eq!(client.packet().await.1, "still here");
    assert_eq!(gate.gate().closed(CloseReason::TokenStolen), 0);
    gate.stop().await;
}

/// The client gives an attempt up, and the gate reads its `$hello` only when the next one
/// has been answered, before the client could confirm that.
#[tokio::test(start_paused = true)]
async fn a_hello_that_was_overtaken_does_no_harm() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    let late = client.state.hello(&hello());
    lost(&gate, &mut client).await;
    let (io, _, _) = open(&mut client.state, &gate, listener(), &hello()).await;
    client.io = io;
    let session = gate.gate().sessions().next().unwrap();
    for n in 0..3 {
        session.send(packet("push/n", vec![n; 10_000])).unwrap();
    }
    for n in 0..3 {
        assert_eq!(client.packet().await.1.as_bytes()[0], n);
    }
    // There it does not come to writing all of them again.
    let mut io = connect_with(&gate, listener(), 1000);
    io.send(HELLO, &late.body).await;
    assert!(read_welcome(&mut io).await.resumed);
    drop(io);
    client.come_back(&gate).await;
    assert!(client.welcome.resumed, "{:?}", client.welcome.refused);
    session.send(packet("push/n", "last")).unwrap();
    assert_eq!(client.packet().await.1, "last");
    gate.stop().await;
}

/// An attempt whose `$welcome` cannot be written, because the client has come on another
/// connection, does not end the session that it had for a moment.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_when_another_has_the_session_does_no_harm() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    lost(&gate, &mut client).await;
    let first = client.state.hello(&hello());
    let mut io = connect_with(&gate, listener(), 64);
    io.send(HELLO, &first.body).await;
    until("it has the session", || gate.gate().stats().resumed == 1).await;
    client.come_back(&gate).await;
    assert!(client.welcome.resumed);
    drop(io);
    client.send("echo/echo/1", "still here").await;
    assert_eq!(client.packet().await.1, "still here");
    until("the attempt is gone", || {
        gate.gate().connection_count() == 1
    })
    .await;
    client.send("echo/echo/2", "still here").await;
    assert_eq!(client.packet().await.1, "still here");
    let stats = gate.gate().stats();
    assert_eq!((stats.sessions_started, stats.sessions_ended), (1, 0));
    gate.stop().await;
}

/// However many attempts the client has given up, each of which got a token: the one that
/// arrived is good.
#[tokio::test(start_paused = true)]
async fn many_hellos_that_come_late_do_not_spend_the_token_that_arrived() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    lost(&gate, &mut client).await;
    let late = client.state.hello(&hello());
    // It arrives, and is not confirmed.
    let (io, _, _) = open(&mut client.state, &gate, listener(), &hello()).await;
    client.io = io;
    for _ in 0..10 {
        let mut io = connect_with(&gate, listener(), 65_536);
        io.send(HELLO, &late.body).await;
        assert!(read_welcome(&mut io).await.resumed);
    }
    client.come_back(&gate).await;
    assert!(client.welcome.resumed, "{:?}", client.welcome.refused);
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_at_every_byte_of_the_welcome_leaves_a_token_that_works() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    let mut length = 1;
    let mut at = 0;
    while at <= length {
        lost(&gate, &mut client).await;
        // The welcome is cut after so many bytes: the client has seen none of it.
        let (ours, theirs) = tokio::io::duplex(65_536);
        gate.serve(theirs, listener(), peer()).unwrap();
        let mut io = ours;
        let hello_packet = client.state.hello(&hello());
        let bytes = frame(HELLO, &hello_packet.body);
        tokio::io::AsyncWriteExt::write_all(&mut io, &bytes)
            .await
            .unwrap();
        let mut seen = vec![0; at.max(1)];
        tokio::io::AsyncReadExt::read_exact(&mut io, &mut seen)
            .await
            .unwrap();
        if at >= 2 {
            length = usize::from(u16::from_le_bytes([seen[0], seen[1]])) - 1;
        } else {
            length = 10_000;
        }
        drop(io);
        until("it waits again", || {
            gate.gate()
                .sessions()
                .all(|s| s.connected() == Connected::Dormant)
        })
        .await;
        client.come_back(&gate).await;
        assert!(client.welcome.resumed, "cut after {at} bytes");
        at += 37;
    }
    assert_eq!(gate.gate().closed(CloseReason::TokenStolen), 0);
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_user_or_counts_that_cannot_be() {
    let who = |credentials: Credentials| async move {
        let name = credentials
            .hello
            .map(|h| String::from_utf8(h.to_vec()).unwrap());
        match name.as_deref().map(|n| n.trim_matches('"')) {
            Some("nobody") => Err(Refused::new("not known")),
            Some(name) => Ok(Identity::user(user(name))),
            None => Ok(Identity::guest()),
        }
    };
    let gate = builder()
        .on_authenticate(SECOND, who)
        .start()
        .await
        .unwrap();
    let as_user = |name: &str| {
        let text = format!(r#"{{"versions":[1],"capabilities":["resume"],"auth":"{name}"}}"#);
        Hello::read(text.as_bytes()).unwrap()
    };
    let mut client = Extended::join_on(&gate, listener(), &as_user("anna")).await;
    assert_eq!(client.welcome.user.as_deref(), Some("anna"));
    for (other, refused) in [("bob", ResumeRefusal::WrongUser)] {
        lost(&gate, &mut client).await;
        let good = client.state;
        client.state = ClientSession::default();
        client.state.welcome(&client.welcome).unwrap();
        client
            .come_back_on(&gate, listener(), &as_user(other))
            .await;
        assert_eq!(refusal(&client), Some(refused.code()));
        client.state = good;
        gate.gate()
            .user_sessions(&user("bob"))
            .iter()
            .for_each(|s| _ = s.close(CloseReason::Kicked));
        until("only hers is there", || gate.gate().session_count() == 1).await;
    }
    client
        .come_back_on(&gate, listener(), &as_user("anna"))
        .await;
    assert!(
        client.welcome.resumed,
        "nothing was changed by the other one"
    );
    lost(&gate, &mut client).await;
    let mut hello = as_user("anna");
    hello.resume = Some(ResumeRequest {
        token: client.welcome.resume.clone().unwrap().token,
        received: 1,
    });
    let mut io = connect_with(&gate, listener(), 65_536);
    io.send(HELLO, serde_json::to_vec(&hello).unwrap()).await;
    let welcome = read_welcome(&mut io).await;
    assert_eq!(
        welcome.refused.unwrap().code,
        ResumeRefusal::BadCount.code()
    );
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn not_without_tls_unless_allowed_and_not_where_it_is_off() {
    let gate = start().await;
    let off = Tcp::bind("memory")
        .resume_over_plaintext(true)
        .limits(limits(|l| l.resume_window = None));
    for listener in [Tcp::bind("memory"), off] {
        let mut client = Extended::join_on(&gate, listener.clone(), &hello()).await;
        assert!(client.welcome.resume.is_none() && client.welcome.capabilities.is_empty());
        client.cut();
        until("it ends", || gate.gate().session_count() == 0).await;
        let mut hello = hello();
        hello.resume = Some(ResumeRequest {
            token: "x".into(),
            received: 0,
        });
        let mut io = connect_with(&gate, listener, 65_536);
        io.send(HELLO, serde_json::to_vec(&hello).unwrap()).await;
        let welcome = read_welcome(&mut io).await;
        assert_eq!(welcome.refused.unwrap().code, ResumeRefusal::NotHere.code());
        drop(io);
        until("it ends", || gate.gate().session_count() == 0).await;
    }
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn more_than_is_kept() {
    let gate = start().await;
    let small = || listener().limits(limits(|l| l.resume_packets = 32));
    let mut client = Extended::join_on(&gate, small(), &hello()).await;
    let session = gate.gate().sessions().next().unwrap();
    lost(&gate, &mut client).await;
    for _ in 0..32 {
        session.send(packet("n/n", "x")).unwrap();
    }
    assert!(session.send(packet("n/n", "one too many")).is_err());
    until("it ends", || gate.gate().session_count() == 0).await;
    assert_eq!(gate.gate().closed(CloseReason::ResumeOverflow), 1);
    client.come_back_on(&gate, small(), &hello()).await;
    assert_eq!(refusal(&client), Some(ResumeRefusal::Overflowed.code()));
    // A client that never acknowledges loses the ability, and goes on.
    let session = gate.gate().sessions().next().unwrap();
    for n in 0..40 {
        session.send(packet("n/n", n.to_string())).unwrap();
    }
    let mut told = false;
    let mut packets = 0;
    while packets < 40 {
        let (topic, _) = client.io.recv().await;
        told |= topic == TOKEN;
        packets += u32::from(topic == "n/n");
    }
    assert!(told || client.io.recv().await.0 == TOKEN);
    // Had it not got to hear of that, it would be told when it comes back: to a session that
    // still has its connection, and to one that is gone.
    let mut ignorant = hello();
    ignorant.resume = client.welcome.resume.clone().map(|resume| ResumeRequest {
        token: resume.token,
        received: 0,
    });
    let ignorant = serde_json::to_vec(&ignorant).unwrap();
    for connected in [true, false] {
        if !connected {
            client.cut();
            until("it ends", || {
                gate.gate().sessions().all(|s| s.id() != session.id())
            })
            .await;
        }
        let mut io = connect_with(&gate, small(), 65_536);
        io.send(HELLO, &ignorant).await;
        let refused = read_welcome(&mut io).await.refused.unwrap();
        assert_eq!(refused.code, ResumeRefusal::Overflowed.code());
    }
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn where_nobody_may_wait_nobody_is_promised_to_be_resumed() {
    let mut limits = GateLimits::default();
    limits.max_dormant = 0;
    let gate = builder().gate_limits(limits).start().await.unwrap();
    let mut client = Extended::join(&gate).await;
    assert!(client.welcome.resume.is_none() && client.welcome.capabilities.is_empty());
    client.cut();
    until("it ends", || gate.gate().session_count() == 0).await;
    gate.stop().await;
}
