//! Names of people and rooms.

use std::fmt;

use serde::Serialize;

use super::error::ChatError;

/// Longest name, in characters.
const MAX_CHARS: usize = 32;
/// Longest name, in bytes of UTF-8: with its prefix it is the name of a group.
const MAX_BYTES: usize = 100;

/// A checked name of a person or a room. Names that differ only in case are the same one.
#[derive(Debug, Clone, Serialize)]
#[serde(into = "String")]
pub(super) struct ChatName {
    shown: String,
    folded: Fold,
}

/// A name without its case: what names are compared by.
pub(super) type Fold = String;

impl ChatName {
    /// White space around the name is dropped.
    pub(super) fn new(text: &str) -> Result<Self, ChatError> {
        let shown = text.trim();
        let folded = shown.to_lowercase();
        let fits = |text: &str| text.len() <= MAX_BYTES;
        let chars = shown.chars().take(MAX_CHARS + 1).count();
        if !(1..=MAX_CHARS).contains(&chars)
            || !fits(shown)
            || !fits(&folded)
            || shown.contains(is_refused)
        {
            return Err(ChatError::BadName);
        }
        Ok(Self {
            shown: shown.to_owned(),
            folded,
        })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.shown
    }

    pub(super) fn folded(&self) -> &Fold {
        &self.folded
    }
}

impl PartialEq for ChatName {
    /// The same letters in the same case.
    fn eq(&self, other: &Self) -> bool {
        self.shown == other.shown
    }
}

impl Eq for ChatName {}

impl fmt::Display for ChatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl From<ChatName> for String {
    fn from(name: ChatName) -> Self {
        name.shown
    }
}

/// White space, control characters, and what is invisible or turns text around: with them
/// one name could look like another.
fn is_refused(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for right in [
            "ada",
            "Ada",
            "ada.lovelace",
            "喵",
            "Grüße",
            &"x".repeat(32),
            &"喵".repeat(32),
        ] {
            assert!(ChatName::new(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            " ",
            "a b",
            "a\tb",
            "a\nb",
            "a\u{1b}[31mb",
            "a\u{202e}b",
            "a\u{200b}",
            "\u{2066}a",
            "a\u{9b}",
            "a\u{7f}",
            &"x".repeat(33),
            &"😀".repeat(26),
        ] {
            assert!(ChatName::new(wrong).is_err(), "{wrong:?}");
        }
        let padded = ChatName::new(" Ada ").unwrap();
        assert_eq!(padded.as_str(), "Ada");
        assert_eq!(padded.folded(), "ada");
    }
}
