//! The numbers and the examples in `docs/protocol.md` are those of the code.

#![allow(
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

mod page;

use page::{PAGE, bytes_behind, table};
use tidegate_protocol::extended::ResumeRefusal;
use tidegate_protocol::{Cipher, CloseReason, Codec, ErrorCode, Legacy, Packet, V1};

/// Codes, names and texts, what they mean for the client, and nothing that the code has not.
#[test]
fn every_code_stands_there_as_it_is() {
    let never = [
        CloseReason::ConnectionLost,
        CloseReason::TooManyConnections,
        CloseReason::NotResumed,
        CloseReason::ResumeOverflow,
        CloseReason::Handshake,
    ];
    let mut reasons = CloseReason::ALL.to_vec();
    reasons.sort_by_key(|reason| reason.code());
    let row = |reason: &CloseReason| {
        let text = match never.contains(reason) {
            true => format!("{} (never sent)", reason.text()),
            false => reason.text().to_owned(),
        };
        let (again, session) = (reason.may_reconnect(), reason.keeps_session());
        let again = if again { "yes" } else { "no" };
        let session = if session { "stays" } else { "ends" };
        vec![
            reason.code().to_string(),
            reason.name().to_owned(),
            text,
            again.to_owned(),
            session.to_owned(),
        ]
    };
    same(
        reasons.iter().map(row),
        "Code | Name | Text | Reconnect | Session",
    );
    let row = |code: &ErrorCode| named(code.0, code.name(), code.text());
    same(ErrorCode::ALL.iter().map(row), "Code | Name | Meaning");
    let row = |why: &ResumeRefusal| named(why.code(), why.name(), why.text());
    same(ResumeRefusal::ALL.iter().map(row), "Code | Name | Text");
    page::says(&format!(
        "Codes from {} are the services' own",
        ErrorCode::FIRST_OF_SERVICES
    ));
}

fn named(code: u16, name: &str, text: &str) -> Vec<String> {
    vec![code.to_string(), name.to_owned(), text.to_owned()]
}

fn same(code: impl Iterator<Item = Vec<String>>, head: &str) {
    let (code, mut page): (Vec<_>, _) = (code.collect(), table(head));
    for row in code {
        let found = page.iter().position(|r| *r == row);
        page.remove(found.unwrap_or_else(|| panic!("not in docs/protocol.md: {row:?}")));
    }
    assert!(page.is_empty(), "not in the code: {page:?}");
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
        let bytes = bytes_behind(head);
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
