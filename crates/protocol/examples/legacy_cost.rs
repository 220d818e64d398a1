//! What a packet costs in each form, encoded and decoded again:
//! `cargo run --release -p tidegate-protocol --example legacy_cost`

use std::hint::black_box;
use std::time::Instant;

use tidegate_protocol::{Cipher, Codec, KeyError, Legacy, Packet, Topic, V1};

/// Short batches, of which the best counts: others use the machine, too.
const ROUNDS: u32 = 500;
const BATCHES: u32 = 400;

fn main() -> Result<(), KeyError> {
    let key = [7; 32];
    let ecb = Legacy::new(&Cipher::aes_ecb(key)?);
    let cbc = Legacy::new(&Cipher::aes_cbc(key)?);
    let forms: [(&str, &dyn Codec); 3] = [("plain", &V1), ("aes-ecb", &ecb), ("aes-cbc", &cbc)];
    for body in [64, 1024] {
        for (form, codec) in forms {
            let (encode, decode) = cost(codec, body);
            println!("{form:8} {body:5} bytes: encode {encode:6.0} ns, decode {decode:6.0} ns");
        }
    }
    Ok(())
}

/// Nanoseconds for a packet, to encode and to decode.
fn cost(codec: &dyn Codec, body: usize) -> (f64, f64) {
    let topic = Topic::new("echo/echo/1").ok();
    let packet = topic.map(|topic| Packet::new(topic, vec![b'x'; body]));
    let Some(packet) = packet else {
        return (0., 0.);
    };
    let mut frame = Vec::new();
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..BATCHES {
        let encode = time(|| {
            frame.clear();
            codec.encode(black_box(&packet), &mut frame);
        });
        let decode = time(|| {
            let _ = black_box(codec.decode(black_box(&frame)));
        });
        best = (best.0.min(encode), best.1.min(decode));
    }
    best
}

fn time(mut once: impl FnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..ROUNDS {
        once();
    }
    began.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}
