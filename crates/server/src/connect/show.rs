//! What people get to see of packets.

use std::fmt::Write;
use std::time::Duration;

use tidegate_client::{Packet, PacketError, Topic};

use super::escape::escape;
use super::json;
use super::words::{count, duration, packet_error};

/// Of bodies that are not text, this many bytes are shown.
const HEX_SHOWN: usize = 256;
/// Of other bodies, this many characters.
const TEXT_SHOWN: usize = 4096;
const BYTES_PER_LINE: usize = 16;
/// Before the lines of a body that does not fit the line of its topic.
const MARGIN: &str = "   ";

/// How packets are shown.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Style {
    /// One line each.
    pub(super) compact: bool,
    /// However long they are.
    pub(super) full: bool,
    pub(super) colour: bool,
}

#[derive(Clone, Copy)]
enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
    Dim = 2,
}

impl Style {
    /// The answer to a request.
    pub(super) fn answer(self, packet: &Packet, took: Duration) -> String {
        let topic = escape(packet.topic.as_str());
        let head = self.paint(Colour::Green, &format!("<- {topic}"));
        let took = self.paint(Colour::Dim, &format!("({})", duration(took)));
        self.with_body(format!("{head} {took}"), &packet.body)
    }

    /// A packet that answers nothing.
    pub(super) fn push(self, packet: &Packet) -> String {
        let topic = escape(packet.topic.as_str());
        let head = self.paint(Colour::Cyan, &format!("<< {topic}"));
        self.with_body(head, &packet.body)
    }

    /// What the gate tells about a packet that is not a request.
    pub(super) fn not_served(self, of: &Topic, error: &PacketError) -> String {
        let text = format!("!! {}: {}", of.as_str(), packet_error(error));
        self.paint(Colour::Red, &escape(&text))
    }

    /// What went wrong, and after how long.
    pub(super) fn mistake(self, what: &str, took: Option<Duration>) -> String {
        let shown = self.paint(Colour::Red, &format!("!! {}", escape(what)));
        match took {
            Some(took) => {
                let took = self.paint(Colour::Dim, &format!("({})", duration(took)));
                format!("{shown} {took}")
            }
            None => shown,
        }
    }

    /// That it is over, and why.
    pub(super) fn end(self, why: &str) -> String {
        self.paint(Colour::Red, &escape(why))
    }

    /// What happens to the connection, in words.
    pub(super) fn news(self, what: &str) -> String {
        self.paint(Colour::Yellow, &escape(what))
    }

    fn with_body(self, head: String, body: &[u8]) -> String {
        let body = self.body(body);
        match body.contains('\n') {
            false => format!("{head} {body}"),
            true => body
                .lines()
                .fold(head, |shown, line| format!("{shown}\n{MARGIN}{line}")),
        }
    }

    /// A body: JSON with white space that makes it readable, text as text, anything else in
    /// hexadecimal. Only the line ends that are put in here are line ends.
    fn body(self, bytes: &[u8]) -> String {
        if bytes.is_empty() {
            return "(empty)".to_owned();
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            return self.hex(bytes);
        };
        if !json::is_json(text) {
            return self.cut(&escape(text), bytes.len());
        }
        if self.compact {
            return self.cut(&escape(&json::on_one_line(text)), bytes.len());
        }
        let shown = json::pretty(text);
        // Valid JSON has no line ends within its strings.
        let lines: Vec<_> = shown.lines().map(escape).collect();
        self.cut(&lines.join("\n"), bytes.len())
    }

    fn cut(self, shown: &str, bytes: usize) -> String {
        match shown.char_indices().nth(TEXT_SHOWN) {
            Some((end, _)) if !self.full => {
                let note = format!("… cut: the body has {bytes} bytes: --full shows it whole");
                let note = self.paint(Colour::Dim, &note);
                let before = if self.compact { " " } else { "\n" };
                format!("{}{before}{note}", &shown[..end])
            }
            _ => shown.to_owned(),
        }
    }

    fn hex(self, bytes: &[u8]) -> String {
        let end = if self.full {
            bytes.len()
        } else {
            HEX_SHOWN.min(bytes.len())
        };
        let mut shown = match self.compact {
            true => "0x".to_owned(),
            false => count(bytes.len() as u64, "byte"),
        };
        for (i, line) in bytes[..end].chunks(BYTES_PER_LINE).enumerate() {
            if self.compact {
                for byte in line {
                    let _ = write!(shown, "{byte:02x}");
                }
            } else {
                shown.push('\n');
                dump(&mut shown, i * BYTES_PER_LINE, line);
            }
        }
        if let Some(more) = bytes.len().checked_sub(end).filter(|n| *n > 0) {
            let note = format!(
                "… and {} more: --full shows all",
                count(more as u64, "byte")
            );
            shown.push(if self.compact { ' ' } else { '\n' });
            shown.push_str(&self.paint(Colour::Dim, &note));
        }
        shown
    }

    fn paint(self, colour: Colour, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{}m{text}\x1b[0m", colour as u8),
            false => text.to_owned(),
        }
    }
}

/// Offset, bytes, and what is ASCII among them.
fn dump(shown: &mut String, offset: usize, line: &[u8]) {
    let _ = write!(shown, "{offset:08x} ");
    for i in 0..BYTES_PER_LINE {
        if i % 8 == 0 {
            shown.push(' ');
        }
        let _ = match line.get(i) {
            Some(byte) => write!(shown, "{byte:02x} "),
            None => write!(shown, "   "),
        };
    }
    let visible = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '.',
    };
    let ascii: String = line.iter().map(visible).collect();
    let _ = write!(shown, " |{ascii}|");
}

#[cfg(test)]
mod tests {
    use super::super::escape::is_dangerous;
    use super::*;

    const PRETTY: Style = Style {
        compact: false,
        full: false,
        colour: false,
    };
    const COMPACT: Style = Style {
        compact: true,
        ..PRETTY
    };

    fn packet(topic: &str, body: &[u8]) -> Packet {
        Packet::try_new(topic, body.to_vec()).unwrap()
    }

    #[test]
    fn terminal_attacks_are_shown_not_run() {
        let long = "x".repeat(80);
        let attacks: &[&[u8]] = &[
            b"\x1b[2J\x1b]0;title\x07",
            b"\x1b]52;c;cm0gLXJmIH4=\x07",
            "\u{9b}31m".as_bytes(),
            "{\"a\":\"\u{7f}\u{9b}\u{202e}\u{200b}\"}".as_bytes(),
            &format!("{{\"{long}\":\"\u{7f}\u{9b}\u{202e}\u{feff}\"}}").into_bytes(),
            b"{\"a\":\"\x1b[31m\"}",
            b"line\r\nover\rwritten\x08\x08",
            b"\xff\x1b[2J\r\n",
        ];
        for attack in attacks {
            for style in [PRETTY, COMPACT] {
                for shown in [style.body(attack), style.push(&packet("a/b", attack))] {
                    let dangerous = |c| c != '\n' && is_dangerous(c);
                    assert!(!shown.contains(dangerous), "{shown:?}");
                    assert!(!style.compact || !shown.contains('\n'), "{shown:?}");
                }
            }
        }
        assert_eq!(PRETTY.body(b"a\x1b[1mb\n<< c"), "a\\u{1b}[1mb\\u{a}<< c");
        let packet = packet("chat/\u{202e}x", b"hi");
        assert_eq!(PRETTY.push(&packet), "<< chat/\\u{202e}x hi");
        assert_eq!(
            PRETTY.answer(&packet, Duration::from_micros(1234)),
            "<- chat/\\u{202e}x (1.2 ms) hi"
        );
        assert_eq!(PRETTY.mistake("a\u{1b}b\n", None), "!! a\\u{1b}b\\u{a}");
    }

    #[test]
    fn colours_go_round_what_is_escaped() {
        let style = Style {
            colour: true,
            ..PRETTY
        };
        assert_eq!(
            style.push(&packet("a/b", b"x\x1b[0m")),
            "\x1b[36m<< a/b\x1b[0m x\\u{1b}[0m"
        );
    }

    #[test]
    fn bodies() {
        assert_eq!(PRETTY.body(b""), "(empty)");
        assert_eq!(PRETTY.body("grüße 喵".as_bytes()), "grüße 喵");
        assert_eq!(COMPACT.body(&[0xff, 0x00, 0x1b]), "0xff001b");
        assert_eq!(PRETTY.body(b"[1,2"), "[1,2", "not JSON: text");
        let long = "x".repeat(80);
        let json = format!("{{\"a\":\"{long}\",\"b\":[1,2]}}");
        assert_eq!(
            PRETTY.push(&packet("a/b", json.as_bytes())),
            format!("<< a/b\n   {{\n     \"a\": \"{long}\",\n     \"b\": [1, 2]\n   }}")
        );
        assert_eq!(
            COMPACT.body(json.as_bytes()),
            format!("{{\"a\": \"{long}\", \"b\": [1, 2]}}")
        );
    }

    #[test]
    fn a_hex_dump_has_offset_bytes_and_text() {
        let mut bytes: Vec<u8> = (0x3a..0x4a).collect();
        bytes.extend([0xff, b'A', 0x1b, b'|']);
        assert_eq!(
            PRETTY.push(&packet("a/b", &bytes)),
            "<< a/b\n   \
             20 bytes\n   \
             00000000  3a 3b 3c 3d 3e 3f 40 41  42 43 44 45 46 47 48 49  |:;<=>?@ABCDEFGHI|\n   \
             00000010  ff 41 1b 7c                                       |.A.||"
        );
    }

    #[test]
    fn what_is_very_long_is_cut_and_said() {
        let bytes = [0xfe; 300];
        let long = PRETTY.body(&bytes);
        assert!(
            long.ends_with("\n… and 44 bytes more: --full shows all"),
            "{long}"
        );
        assert_eq!(long.lines().count(), 1 + HEX_SHOWN / BYTES_PER_LINE + 1);
        let long = COMPACT.body(&bytes);
        assert!(
            long.ends_with("fe … and 44 bytes more: --full shows all"),
            "{long}"
        );
        let text = "ä".repeat(TEXT_SHOWN + 1);
        let note = format!("… cut: the body has {} bytes", text.len());
        assert!(PRETTY.body(text.as_bytes()).contains(&note));
        assert_eq!(PRETTY.body(&text.as_bytes()[2..]), text[2..]);
        let full = Style {
            full: true,
            ..PRETTY
        };
        assert_eq!(full.body(text.as_bytes()), text);
        assert_eq!(full.body(&[0xfe; 1600]).lines().count(), 101);
    }

    #[test]
    fn errors_have_words_number_and_name() {
        let body = br#"{"topic":"chat/wave","code":3,"message":"no such method for this client"}"#;
        let (topic, error) = PacketError::read(body).unwrap();
        assert_eq!(
            PRETTY.not_served(&topic, &error),
            "!! chat/wave: no such method for this client (3 NOT_FOUND)"
        );
        let body = br#"{"topic":"a/b","code":1007,"message":"\u001b[2J"}"#;
        let (topic, error) = PacketError::read(body).unwrap();
        assert_eq!(
            PRETTY.not_served(&topic, &error),
            "!! a/b: \\u{1b}[2J (1007 SERVICE)"
        );
    }
}
