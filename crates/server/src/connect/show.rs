//! What the terminal gets to see.
//!
//! Topics, bodies and close texts are other people's bytes. On a terminal, control
//! characters are commands and bidirectional controls reorder what is read: all of them
//! are shown as `\u{..}` instead.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use serde::de::IgnoredAny;
use tidegate_client::{Closed, Packet};

/// Binary bodies are shown up to this many bytes.
const HEX_SHOWN: usize = 256;

/// Whether a character must not reach a terminal as it is.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Bidirectional marks, embeddings, overrides and isolates.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separator.
            | '\u{2028}' | '\u{2029}'
        )
}

/// The text with everything dangerous as `\u{..}`. One line stays one line.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_dangerous(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// A body: a JSON object or array on one line, text as text, anything else as hex.
pub(super) fn body(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "(empty)".to_owned();
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return hex(bytes);
    };
    let looks_like_json = text.trim_start().starts_with(['{', '[']);
    if looks_like_json && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        return escape(&on_one_line(text)).into_owned();
    }
    escape(text).into_owned()
}

/// Valid JSON with new white space. Nothing else changes: order, doubled keys and the
/// digits of numbers are shown as they came.
fn on_one_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len() + json.len() / 8);
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            line.push(c);
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match c {
            ' ' | '\t' | '\r' | '\n' => {}
            ':' | ',' => line.extend([c, ' ']),
            _ => {
                in_string = c == '"';
                line.push(c);
            }
        }
    }
    line
}

fn hex(bytes: &[u8]) -> String {
    let mut shown = String::from("0x");
    for byte in &bytes[..bytes.len().min(HEX_SHOWN)] {
        let _ = write!(shown, "{byte:02x}");
    }
    if let Some(more) = bytes.len().checked_sub(HEX_SHOWN).filter(|n| *n > 0) {
        let _ = write!(shown, "… and {more} bytes more");
    }
    shown
}

/// The answer to a request.
pub(super) fn answer(packet: &Packet, took: Duration) -> String {
    let topic = escape(packet.topic.as_str()).into_owned();
    format!("<- {topic} ({}) {}", duration(took), body(&packet.body))
}

/// A packet that answers nothing.
pub(super) fn push(packet: &Packet) -> String {
    format!(
        "<< {} {}",
        escape(packet.topic.as_str()),
        body(&packet.body)
    )
}

/// Why the connection ended, in words and with its number.
pub(super) fn closed(closed: &Closed) -> String {
    let mut shown = escape(&closed.to_string()).into_owned();
    match closed.unsent {
        0 => {}
        1 => shown.push_str("; 1 packet may not have been sent"),
        n => {
            let _ = write!(shown, "; {n} packets may not have been sent");
        }
    }
    shown
}

fn duration(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1000.0;
    if ms < 1000.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(topic: &str, body: &[u8]) -> Packet {
        Packet::try_new(topic, body.to_vec()).unwrap()
    }

    #[test]
    fn every_dangerous_character_is_escaped_and_no_other() {
        let bidi = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\
                    \u{2066}\u{2067}\u{2068}\u{2069}\u{2028}\u{2029}";
        for c in '\0'..=char::MAX {
            let text = c.to_string();
            let shown = escape(&text);
            let dangerous = c < ' ' || ('\u{7f}'..='\u{9f}').contains(&c) || bidi.contains(c);
            if dangerous {
                assert_eq!(shown, format!("\\u{{{:x}}}", u32::from(c)));
            } else {
                assert_eq!(shown, text);
            }
        }
    }

    #[test]
    fn terminal_attacks_are_shown_not_run() {
        let attacks: &[&[u8]] = &[
            b"\x1b[2J\x1b]0;title\x07",
            b"\x1b]52;c;cm0gLXJmIH4=\x07",
            "\u{9b}31m".as_bytes(),
            "{\"a\":\"\u{7f}\u{9b}\u{202e}\"}".as_bytes(),
            b"{\"a\":\"\x1b[31m\"}",
            b"line\r\nover\rwritten\x08\x08",
        ];
        for attack in attacks {
            for shown in [body(attack), push(&packet("a/b", attack))] {
                assert!(!shown.contains(is_dangerous), "{shown:?}");
            }
        }
        assert_eq!(body(b"a\x1b[1mb"), "a\\u{1b}[1mb");
        let topic = packet("chat/\u{202e}x", b"hi");
        assert_eq!(push(&topic), "<< chat/\\u{202e}x hi");
        assert_eq!(
            answer(&topic, Duration::from_micros(1234)),
            "<- chat/\\u{202e}x (1.2 ms) hi"
        );
    }

    #[test]
    fn bodies() {
        assert_eq!(body(b""), "(empty)");
        assert_eq!(body("grüße 喵".as_bytes()), "grüße 喵");
        assert_eq!(body(&[0xff, 0x00, 0x1b]), "0xff001b");
        let long = body(&[0xfe; 300]);
        assert!(long.ends_with("fe… and 44 bytes more"), "{long}");
        assert_eq!(long.matches("fe").count(), HEX_SHOWN);
        assert_eq!(body(&[0xfe; HEX_SHOWN]).len(), 2 + 2 * HEX_SHOWN);
    }

    #[test]
    fn json_keeps_what_it_says() {
        assert_eq!(
            body(b"{\"b\":1.00,\n  \"a\" : [1,2 , {}],\"b\":\"x, y: \\\"z\\\\\"}\n"),
            "{\"b\": 1.00, \"a\": [1, 2, {}], \"b\": \"x, y: \\\"z\\\\\"}"
        );
        assert_eq!(body(b"[1,2"), "[1,2", "not JSON: text");
        assert_eq!(body(b"1,2"), "1,2");
        let deep = "[".repeat(60_000);
        assert_eq!(body(deep.as_bytes()), deep);
    }

    #[test]
    fn durations() {
        assert_eq!(duration(Duration::from_micros(449)), "0.4 ms");
        assert_eq!(duration(Duration::from_millis(1500)), "1.5 s");
    }
}
