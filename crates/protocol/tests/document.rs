//! The numbers and the examples in `docs/protocol.md` are those of the code.

#![allow(
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use tidegate_protocol::extended::ResumeRefusal;
use tidegate_protocol::{Cipher, CloseReason, Codec, ErrorCode, Legacy, Packet, V1};

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// Rows `| number | `Name` | text… |` of the page.
fn rows() -> Vec<(u16, String, String)> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let number = cells.next()?.parse().ok()?;
        let name = cells.next()?.trim_matches('`').to_owned();
        let text = cells.next()?.trim_end_matches([' ', '|']).to_owned();
        Some((number, name, text))
    };
    PAGE.lines().filter_map(row).collect()
}

#[test]
fn every_close_reason_and_error_code_stands_there_as_it_is() {
    let mut rows = rows();
    for reason in CloseReason::ALL {
        let text = match reason {
            CloseReason::ConnectionLost
            | CloseReason::Handshake
            | CloseReason::TooManyConnections => {
                format!("{} (never sent)", reason.text())
            }
            _ => reason.text().to_owned(),
        };
        take(&mut rows, (reason.code(), reason.name().to_owned(), text));
    }
    for code in ErrorCode::ALL {
        take(
            &mut rows,
            (code.0, code.name().to_owned(), code.text().to_owned()),
        );
    }
    for refusal in ResumeRefusal::ALL {
        let (name, text) = (refusal.name().to_owned(), refusal.text().to_owned());
        take(&mut rows, (refusal.code(), name, text));
    }
    assert!(rows.is_empty(), "not in the code: {rows:?}");
}

fn take(rows: &mut Vec<(u16, String, String)>, row: (u16, String, String)) {
    let found = rows.iter().position(|r| *r == row);
    rows.remove(found.unwrap_or_else(|| panic!("not in docs/protocol.md: {row:?}")));
}

/// The bytes of the example that stands behind a line that begins with `head`.
fn example(head: &str) -> Vec<u8> {
    let (_, after) = PAGE.split_once(&format!("\n{head}")).expect(head);
    let (_, after) = after.split_once("```text\n").expect(head);
    let (text, _) = after.split_once("```").expect(head);
    let mut bytes = Vec::new();
    for line in text.lines() {
        // What is in words stands apart from the bytes.
        let (numbers, words) = line.split_once("  ").unwrap_or((line, ""));
        let numbers = numbers.split(' ');
        let numbers: Vec<_> = numbers
            .map(|n| u8::from_str_radix(n, 16).expect(line))
            .collect();
        if let Some(quoted) = words.trim().strip_prefix('"') {
            assert_eq!(quoted.trim_end_matches('"').as_bytes(), numbers, "{line}");
        }
        bytes.extend(numbers);
    }
    bytes
}

#[test]
fn the_examples_are_what_the_code_writes_and_reads() {
    let key = "0123456789abcdef";
    assert!(PAGE.contains("Topic `svc/echo/1`, body `hello`, key `0123456789abcdef`"));
    let hello = Packet::try_new("svc/echo/1", "hello").unwrap();
    let ecb = Legacy::new(&Cipher::aes_ecb(key).unwrap());
    let cbc = Legacy::new(&Cipher::aes_cbc(key).unwrap());
    let forms: [(&str, &dyn Codec); 4] = [
        ("Topic `svc/echo/1`, body `hello`, is 19 bytes", &V1),
        ("`plain`: 19 bytes", &V1),
        ("`aes-ecb`: 46 bytes", &ecb),
        ("`aes-cbc`: 34 bytes", &cbc),
    ];
    for (head, codec) in forms {
        let bytes = example(head);
        let mut written = Vec::new();
        codec.encode(&hello, &mut written);
        assert_eq!(written, bytes, "{head}");
        assert_eq!(codec.decode(&bytes).as_ref(), Ok(&hello), "{head}");
        let len = bytes.len().to_string();
        assert!(head.contains(&len), "{head}: {len}");
    }
}

#[test]
fn smallest_and_largest_are_as_the_page_says() {
    let ecb = Legacy::new(&Cipher::aes_ecb("k").unwrap());
    let cbc = Legacy::new(&Cipher::aes_cbc([0; 32]).unwrap());
    let forms: [(&str, &dyn Codec); 3] = [("plain", &V1), ("aes-ecb", &ecb), ("aes-cbc", &cbc)];
    for (form, codec) in forms {
        let row = format!("\n| `{form}` | ");
        let (_, row) = PAGE.split_once(&row).expect(form);
        let mut numbers = row
            .lines()
            .next()
            .unwrap()
            .trim_end_matches(" |")
            .split(" | ");
        let mut number = || numbers.next().unwrap().parse::<usize>().unwrap();
        let len = |body: usize| codec.encoded_len(&Packet::try_new("t", vec![0; body]).unwrap());
        assert_eq!(number(), len(0), "{form}");
        let largest = number();
        assert!(len(largest - 1) <= V1::MAX_FRAME, "{form}");
        assert!(len(largest) > V1::MAX_FRAME, "{form}");
    }
}
