//! The demo's chat page in a browser: `tests/clients/chat_page.mjs`, which says what it does.

mod support;

use support::chat_page;

/// Two windows chat; one loses its network for ten seconds, its connection is cut, it is
/// reloaded, the gate is started anew. Nothing that is said can become part of the page.
#[test]
fn two_windows_chat_and_what_is_cut_comes_back() {
    let report = chat_page();
    assert!(report.passed, "{report}");
}
