//! Old clients, in Python with OpenSSL's AES: `examples/legacy_client.py` against a gate in
//! this process, and the golden bytes of the protocol's tests.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use support::{legacy_client, legacy_golden};
use tidegate::{Cipher, CloseReason, Gate, Tcp};

const KEYS: [(&str, &str); 5] = [
    ("plain", ""),
    ("aes-ecb", "k"),
    ("aes-ecb", "a key that is longer than sixteen bytes"),
    ("aes-cbc", "0123456789abcdef"),
    ("aes-cbc", "0123456789abcdef0123456789ABCDEF"),
];

fn listener((form, key): (&str, &str)) -> Tcp {
    let listener = Tcp::bind("127.0.0.1:0");
    match form {
        "aes-ecb" => listener.cipher(Cipher::aes_ecb(key).unwrap()),
        "aes-cbc" => listener.cipher(Cipher::aes_cbc(key).unwrap()),
        _ => listener,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_speaks_every_form() {
    let echo = tidegate::Service::new("echo")
        .request("echo", async |body: bytes::Bytes| body)
        .open_to(tidegate::Guests);
    let mut gate = Gate::builder().service(echo);
    for form in KEYS {
        gate = gate.listen(listener(form));
    }
    let gate = gate.start().await.unwrap();
    for (i, (form, key)) in KEYS.iter().enumerate() {
        for (j, _) in KEYS.iter().enumerate() {
            let address = gate.address(j).unwrap().to_string();
            let report = legacy_client(&address, form, key);
            if i == j {
                assert!(report.passed, "{form}: {report}");
                assert_eq!(report.stdout, "echo/echo/1 hello\n");
            } else {
                // Closed by the gate; or the frame looks like a longer one that has begun,
                // and the client's patience ends first.
                assert!(!report.passed, "{form} at another's listener: {report}");
            }
        }
    }
    assert!(gate.gate().closed(CloseReason::BadFrame) > 0);
    gate.stop().await;
}

#[test]
fn the_golden_bytes_are_what_their_script_writes() {
    let report = legacy_golden();
    assert!(report.passed, "{report}");
    let committed = include_str!("../../protocol/tests/data/legacy.txt");
    assert_eq!(report.stdout, committed);
}
