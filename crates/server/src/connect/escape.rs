//! Makes other people's text harmless.
//!
//! Topics, bodies, close and error texts are other people's bytes. On a terminal, control
//! characters are commands, bidirectional controls reorder what is read, and characters
//! without a width hide what is there. None of them reaches the terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character must not be shown as it is: controls, line separators, and what
/// Unicode calls default ignorable (`Default_Ignorable_Code_Point`, which has the
/// bidirectional controls too) together with the interlinear annotation marks.
pub(super) fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}'
            | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The text with everything dangerous as `\u{..}`. One line stays one line.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    replace(text, |shown, c| shown.extend(c.escape_unicode()))
}

/// JSON with everything dangerous in its strings as `\uXXXX`: it means the same. The JSON
/// must have no white space but blanks.
pub(super) fn escape_json(json: &str) -> Cow<'_, str> {
    replace(json, |shown, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    })
}

fn replace(text: &str, dangerous: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.contains(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_dangerous(c) {
            true => dangerous(&mut shown, c),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dangerous_character_is_escaped_and_letters_are_not() {
        let mut escaped = 0;
        for c in '\0'..=char::MAX {
            let text = c.to_string();
            let shown = escape(&text);
            let json = escape_json(&text);
            match is_dangerous(c) {
                true => {
                    escaped += 1;
                    assert_eq!(shown, format!("\\u{{{:x}}}", u32::from(c)));
                    let back: String = serde_json::from_str(&format!("\"{json}\"")).unwrap();
                    assert_eq!(back, text);
                    assert!(!json.contains(is_dangerous) && !shown.contains(is_dangerous));
                }
                false => assert_eq!((shown, json), (text.as_str().into(), text.as_str().into())),
            }
        }
        // 65 controls, 2 separators, 4174 default ignorable, 3 annotation marks.
        assert_eq!(escaped, 65 + 2 + 4174 + 3);
    }

    #[test]
    fn what_attackers_use() {
        for text in [
            "\x1b",
            "\u{9b}",
            "\u{7f}",
            "\r",
            "\n",
            "\t",
            "\u{202e}",
            "\u{2066}",
            "\u{200b}",
            "\u{200d}",
            "\u{feff}",
            "\u{ad}",
            "\u{2063}",
            "\u{e0041}",
            "\u{e0100}",
            "\u{fe0f}",
            "\u{3164}",
            "\u{2028}",
        ] {
            assert!(text.contains(is_dangerous), "{text:?}");
        }
        assert_eq!(escape("a\x1b[1mb"), "a\\u{1b}[1mb");
        for text in ["grüße 喵 ä e\u{301} שלום नमस्ते 🦀", "\\u{1b} ~"] {
            assert_eq!(escape(text), text);
        }
    }
}
