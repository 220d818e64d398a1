//! What Tab completes: commands, and topics that were seen.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::command::NAMES;
use super::escape::is_dangerous;

/// Topics remembered; after that no new ones.
const TOPICS: usize = 1000;
/// Longer topics are not offered.
const TOPIC_LEN: usize = 200;

/// The topics seen so far: asked, sent, pushed.
#[derive(Debug, Clone, Default)]
pub(super) struct Topics(Arc<Mutex<BTreeSet<String>>>);

impl Topics {
    /// Remembers one. Gates choose the topics of pushes: what could not be typed as one
    /// word, or must not get to the terminal, is not offered.
    pub(super) fn seen(&self, topic: &str) {
        let untypable = |c: char| c.is_whitespace() || is_dangerous(c);
        if topic.is_empty() || topic.len() > TOPIC_LEN || topic.contains(untypable) {
            return;
        }
        let mut topics = self.0.lock();
        if topics.len() < TOPICS && !topics.contains(topic) {
            topics.insert(topic.to_owned());
        }
    }

    fn starting_with(&self, prefix: &str) -> Vec<String> {
        let topics = self.0.lock();
        let from = topics.range(prefix.to_owned()..);
        from.take_while(|topic| topic.starts_with(prefix))
            .cloned()
            .collect()
    }
}

/// What the line editor asks.
pub(super) struct Completion(pub(super) Topics);

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let before = &line[..at];
        let start = before.rfind(char::is_whitespace).map_or(0, |i| i + 1);
        let word = &before[start..];
        let mut words = before[..start].split_whitespace();
        let candidates = match (words.next(), words.next()) {
            (None, _) => {
                let names = NAMES.iter().filter(|name| name.starts_with(word));
                let mut all: Vec<_> = names.map(|name| format!("{name} ")).collect();
                all.extend(self.0.starting_with(word));
                all
            }
            (Some("request" | "r" | "send" | "s" | "watch" | "wait-for"), None) => {
                self.0.starting_with(word)
            }
            _ => Vec::new(),
        };
        Ok((start, candidates))
    }
}

impl Hinter for Completion {
    type Hint = String;
}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;
    use rustyline::history::DefaultHistory;

    #[test]
    fn commands_and_topics_where_they_can_stand() {
        let topics = Topics::default();
        for topic in [
            "chat/say",
            "chat/said",
            "echo/echo",
            "a b",
            "e\u{1b}[2J",
            "w\u{202e}",
            "",
        ] {
            topics.seen(topic);
        }
        topics.seen(&"x".repeat(TOPIC_LEN + 1));
        let completion = Completion(topics);
        let history = DefaultHistory::new();
        for (line, start, wanted) in [
            ("wa", 0, &["wait ", "wait-for ", "watch "][..]),
            ("cha", 0, &["chat/said", "chat/say"]),
            ("e", 0, &["echo/echo"]),
            ("send chat/s", 5, &["chat/said", "chat/say"]),
            ("  r e", 4, &["echo/echo"]),
            ("wait-for ", 9, &["chat/said", "chat/say", "echo/echo"]),
            ("echo/echo e", 10, &[]),
            ("send echo/echo e", 15, &[]),
            ("wait e", 5, &[]),
        ] {
            let context = Context::new(&history);
            let got = completion.complete(line, line.len(), &context).unwrap();
            assert_eq!(
                got,
                (start, wanted.iter().map(|s| s.to_string()).collect()),
                "{line}"
            );
        }
    }

    #[test]
    fn a_gate_that_invents_topics_fills_no_memory() {
        let topics = Topics::default();
        for i in 0..2 * TOPICS {
            topics.seen(&format!("a/{i}"));
        }
        assert_eq!(topics.0.lock().len(), TOPICS);
    }
}
