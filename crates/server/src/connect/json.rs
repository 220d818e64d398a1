//! JSON with new white space. Nothing else changes: order, doubled keys and the digits of
//! numbers are shown as they came.

use serde::de::IgnoredAny;

/// Objects and arrays up to this many characters stay on one line.
const WIDTH: usize = 80;
/// Below this depth everything stays on one line.
const MAX_INDENT: usize = 24;
const INDENT: &str = "  ";

/// Whether it is a JSON object or array. Numbers and strings are text as well.
pub(super) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Valid JSON on one line.
pub(super) fn on_one_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len() + json.len() / 8);
    for token in Tokens(json) {
        line.push_str(token);
        if matches!(token, ":" | ",") {
            line.push(' ');
        }
    }
    line
}

/// Valid JSON, indented. What fits a line stays on one.
pub(super) fn pretty(json: &str) -> String {
    let line = on_one_line(json);
    let widths = widths(&line);
    let mut widths = widths.iter();
    let mut shown = String::with_capacity(line.len() * 2);
    // Of the containers that are open, whether each is broken into lines.
    let mut open: Vec<bool> = Vec::new();
    let mut depth = 0;
    let new_line = |shown: &mut String, depth: usize| {
        shown.push('\n');
        (0..depth).for_each(|_| shown.push_str(INDENT));
    };
    for token in Tokens(&line) {
        match token {
            "{" | "[" => {
                let fits = widths.next().is_none_or(|width| *width <= WIDTH);
                let flat = fits || depth >= MAX_INDENT || open.last() == Some(&false);
                open.push(!flat);
                shown.push_str(token);
                if !flat {
                    depth += 1;
                    new_line(&mut shown, depth);
                }
            }
            "}" | "]" => {
                if open.pop() == Some(true) {
                    depth -= 1;
                    new_line(&mut shown, depth);
                }
                shown.push_str(token);
            }
            "," => {
                shown.push_str(token);
                match open.last() {
                    Some(true) => new_line(&mut shown, depth),
                    _ => shown.push(' '),
                }
            }
            ":" => shown.push_str(": "),
            _ => shown.push_str(token),
        }
    }
    shown
}

/// How long each object and array of this line is, in the order in which they begin.
fn widths(line: &str) -> Vec<usize> {
    let mut widths = Vec::new();
    let mut open = Vec::new();
    let mut at = 0;
    let mut in_string = false;
    let mut escaped = false;
    for c in line.chars() {
        at += 1;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = in_string,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '{' | '[' => {
                open.push((widths.len(), at));
                widths.push(0);
            }
            '}' | ']' => {
                if let Some((i, start)) = open.pop() {
                    widths[i] = at - start + 1;
                }
            }
            _ => {}
        }
    }
    widths
}

/// The tokens of valid JSON: punctuation, strings, and everything else as one.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.0 = self.0.trim_start_matches([' ', '\t', '\r', '\n']);
        let len = match self.0.as_bytes().first()? {
            b'{' | b'}' | b'[' | b']' | b':' | b',' => 1,
            b'"' => string_len(self.0),
            _ => self
                .0
                .find(|c| "{}[]:,\" \t\r\n".contains(c))
                .unwrap_or(self.0.len()),
        };
        let (token, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(token)
    }
}

/// Of a string in quotes.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (i, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_white_space_changes() {
        let json = "{\"b\":1.00,\n  \"a\" : [1,2 , {}],\"b\":\"x, y: \\\"z\\\\\"}\n";
        let line = "{\"b\": 1.00, \"a\": [1, 2, {}], \"b\": \"x, y: \\\"z\\\\\"}";
        assert_eq!(on_one_line(json), line);
        assert_eq!(pretty(json), line, "it fits");
        assert_eq!(on_one_line("[-1e9,true,null]"), "[-1e9, true, null]");
    }

    #[test]
    fn what_is_long_is_broken_and_what_fits_is_not() {
        let long = "x".repeat(66);
        let json = format!("{{\"a\":\"{long}\",\"b\":[1,2,{{}}],\"c\":[\"{long}\",\"[,:\"]}}");
        let wanted = format!(
            "{{\n  \"a\": \"{long}\",\n  \"b\": [1, 2, {{}}],\n  \"c\": [\"{long}\", \"[,:\"]\n}}"
        );
        assert_eq!(pretty(&json), wanted);
        let more = json.replace("[,:", &long);
        let wanted = format!("  \"c\": [\n    \"{long}\",\n    \"{long}\"\n  ]\n}}");
        assert!(pretty(&more).ends_with(&wanted), "{}", pretty(&more));
    }

    #[test]
    fn depth_does_not_multiply_the_size() {
        let deep = format!(
            "{}{}{}",
            "[".repeat(120),
            "1,".repeat(5000) + "1",
            "]".repeat(120)
        );
        assert!(is_json(&deep));
        let shown = pretty(&deep);
        assert!(shown.len() < 4 * deep.len(), "{}", shown.len());
        assert_eq!(on_one_line(&shown), on_one_line(&deep));
    }

    #[test]
    fn only_objects_and_arrays_are_taken_for_json() {
        assert!(is_json(" {} ") && is_json("[1]"));
        for text in ["", "1", "\"x\"", "[1,2", "{]", "{} x"] {
            assert!(!is_json(text), "{text}");
        }
        assert!(!is_json(&"[".repeat(60_000)));
    }
}
