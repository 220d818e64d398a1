//! A proxy that changes what the sides tell each other, so that they do as if their code
//! had a fault: it loses, repeats and swaps packets, and tells wrong counts. It reads
//! frames, and cuts between them.

use std::io;

use rand::Rng;
use rand::rngs::StdRng;
use tidegate_protocol::extended::{ClientControl, GateControl};
use tidegate_protocol::{Codec, Packet, V1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meddling {
    /// None: it only cuts.
    Nothing,
    /// The client leaves out the first packet that it should write again.
    SkipRewind,
    /// The client counts a packet that it did not take.
    CountWrongly,
    /// The client confirms a token before it has it.
    ConfirmEarly,
    /// A packet never arrives, though counts say that it has.
    Lose(Way),
    /// A packet arrives twice.
    Repeat(Way),
    /// Two packets change places.
    Swap(Way),
}

/// Whose packets have the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The client's.
    Up,
    /// The gate's.
    Down,
}

/// Breaks the order of one connection's packets once.
struct Breaker {
    meddling: Meddling,
    /// Numbered packets until then, with the one that it hits.
    left: u32,
    /// Comes behind the next.
    held: Option<Packet>,
}

impl Breaker {
    /// What is passed on for a packet that goes this way.
    fn pass(&mut self, way: Way, packet: Packet) -> Vec<Packet> {
        let (Meddling::Lose(hit) | Meddling::Repeat(hit) | Meddling::Swap(hit)) = self.meddling
        else {
            return vec![packet];
        };
        let numbered = matches!(packet.topic.as_str(), "push/n" | "n/tell")
            || packet.topic.as_str().starts_with("n/ask/");
        if hit != way || !numbered {
            return vec![packet];
        }
        if let Some(held) = self.held.take() {
            return vec![packet, held];
        }
        self.left = self.left.wrapping_sub(1);
        match self.meddling {
            _ if self.left != 0 => vec![packet],
            Meddling::Lose(_) => Vec::new(),
            Meddling::Repeat(_) => vec![packet.clone(), packet],
            _ => {
                self.held = Some(packet);
                Vec::new()
            }
        }
    }
}

pub async fn serve(
    mut client: TcpStream,
    mut gate: TcpStream,
    mut rng: StdRng,
    meddling: Meddling,
) -> io::Result<()> {
    let (mut up, mut down) = (Frames::default(), Frames::default());
    let mut breaker = Breaker {
        meddling,
        left: rng.random_range(1..=10),
        held: None,
    };
    // Of either direction.
    for _ in 0..rng.random_range(1..60) {
        tokio::select! {
            packet = up.next(&mut client) => {
                let (packet, resumes) = meddle_up(packet?, meddling);
                for packet in breaker.pass(Way::Up, packet) {
                    write(&mut gate, &packet).await?;
                }
                if resumes && meddling == Meddling::ConfirmEarly {
                    // Before the answer has come; which then is cut.
                    write(&mut gate, &ClientControl::Ack(0).packet()).await?;
                    down.next(&mut gate).await?;
                    return Ok(());
                }
            }
            packet = down.next(&mut gate) => {
                let packet = meddle_down(packet?, meddling);
                for packet in breaker.pass(Way::Down, packet) {
                    write(&mut client, &packet).await?;
                }
            }
        }
    }
    Ok(())
}

/// Answers the packet, and whether it asks for a session to go on.
fn meddle_up(packet: Packet, meddling: Meddling) -> (Packet, bool) {
    let Ok(ClientControl::Hello(mut hello)) = ClientControl::read(&packet) else {
        return (packet, false);
    };
    let Some(resume) = &mut hello.resume else {
        return (packet, false);
    };
    if meddling == Meddling::CountWrongly {
        resume.received += 1;
    }
    (ClientControl::Hello(hello).packet(), true)
}

fn meddle_down(packet: Packet, meddling: Meddling) -> Packet {
    match GateControl::read(&packet) {
        Ok(GateControl::Welcome(mut welcome))
            if welcome.resumed && meddling == Meddling::SkipRewind =>
        {
            welcome.received += 1;
            GateControl::Welcome(welcome).packet()
        }
        _ => packet,
    }
}

async fn write(to: &mut TcpStream, packet: &Packet) -> io::Result<()> {
    let mut frame = Vec::new();
    V1.encode(packet, &mut frame);
    to.write_all(&frame).await
}

/// Reads frames. Cancel-safe.
#[derive(Default)]
struct Frames(Vec<u8>);

impl Frames {
    async fn next(&mut self, from: &mut TcpStream) -> io::Result<Packet> {
        loop {
            let len = V1.frame_len(&self.0, V1::MAX_FRAME).unwrap();
            if let Some(len) = len.filter(|len| self.0.len() >= *len) {
                return Ok(V1.decode(&self.0.drain(..len).collect::<Vec<_>>()).unwrap());
            }
            if from.read_buf(&mut self.0).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
