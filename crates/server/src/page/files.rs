//! What is served as it is, the JavaScript client among it.

/// The chat; with marks to fill in.
pub(super) const CHAT_HTML: &str = include_str!("chat/chat.html");
/// What the gate is doing; likewise.
pub(super) const GATE_HTML: &str = include_str!("gate.html");

pub(super) const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file.
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) text: &'static str,
}

macro_rules! files {
    ($($content_type:ident $from:literal $($name:literal)+ => $to:literal;)+) => {
        &[$($(File {
            path: concat!($to, $name),
            content_type: $content_type,
            text: include_str!(concat!($from, $name)),
        },)+)+]
    };
}

pub(super) const FILES: &[File] = files! {
    CSS "" "gate.css" => "/";
    JS "" "gate.js" => "/";
    CSS "chat/" "chat.css" => "/chat/";
    SVG "chat/" "icon.svg" => "/chat/";
    JS "chat/" "app.js" "chat.js" "dialogs.js" "line.js" "log.js" "page.js" "people.js" "words.js"
        => "/chat/";
    JS "../../../../clients/js/src/"
        "backoff.js" "client.js" "codec.js" "codes.js" "connector.js" "control.js" "errors.js"
        "events.js" "index.js" "link.js" "network.js" "options.js" "outbox.js" "requests.js"
        "session.js" "storage.js"
        => "/client/";
};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// What stands in quotes behind `word`, in all lines that have it.
    fn quoted<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
        let behind = text.split(word).skip(1);
        behind.filter_map(|rest| rest.split('"').next())
    }

    fn file(path: &str) -> Option<&'static File> {
        FILES.iter().find(|file| file.path == path)
    }

    /// A module that is imported and not served would leave the page blank.
    #[test]
    fn everything_that_is_asked_for_is_there() {
        let mut wanted = Vec::new();
        for html in [CHAT_HTML, GATE_HTML] {
            wanted.extend(quoted(html, "src=\"").map(str::to_owned));
            wanted.extend(quoted(html, "href=\"").map(str::to_owned));
        }
        let mut seen = HashSet::new();
        while let Some(path) = wanted.pop() {
            if path.starts_with('#')
                || ["/", "/gate"].contains(&&*path)
                || !seen.insert(path.clone())
            {
                continue;
            }
            let file = file(&path).unwrap_or_else(|| panic!("{path} is not served"));
            let (folder, _) = path.rsplit_once('/').unwrap();
            for import in quoted(file.text, "from \"") {
                wanted.push(match import.strip_prefix("./") {
                    Some(name) => format!("{folder}/{name}"),
                    None => import.to_owned(),
                });
            }
        }
        let served: HashSet<_> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(seen, served, "nothing is served that nobody asks for");
    }

    /// The policy forbids them; and what arrives must not become HTML.
    #[test]
    fn nothing_is_inline() {
        for html in [CHAT_HTML, GATE_HTML] {
            for word in [
                "<style",
                " style=",
                "<script>",
                " onclick=",
                " onload=",
                "//cdn",
            ] {
                assert!(!html.contains(word), "{word}");
            }
        }
        for file in FILES.iter().filter(|file| file.content_type == JS) {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "createContextualFragment",
                "setHTMLUnsafe",
            ] {
                assert!(!file.text.contains(word), "{word} in {}", file.path);
            }
        }
    }
}
