//! What `docs/protocol.md` advises clients, this one does.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../protocol/tests/page/mod.rs"]
mod page;

use tidegate_client::Backoff;

#[test]
fn how_long_to_wait_before_connecting_again() {
    let Backoff { base, cap } = Backoff::default();
    let (base, cap) = (base.as_millis(), cap.as_secs());
    page::says(&format!(
        "0 to a ceiling that begins at {base} ms and doubles with each attempt, up to {cap} s"
    ));
}
