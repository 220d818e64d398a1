//! The log of all gates of this process.

use std::fmt::Write;
use std::sync::{Mutex, OnceLock};
use std::thread::{self, ThreadId};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::until;

static LINES: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

/// Begins to keep the log. Its lines are told apart by what is in them.
pub fn keep() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| tracing::subscriber::set_global_default(Keep).unwrap());
}

/// The lines so far that contain all of these.
pub fn lines_with(parts: &[&str]) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    let lines = lines.iter().map(|(_, line)| line);
    let has_all = |line: &&String| parts.iter().all(|part| line.contains(part));
    lines.filter(has_all).cloned().collect()
}

/// The lines of this thread, and so of this test, that contain this.
pub fn own_lines_with(part: &str) -> Vec<String> {
    let here = thread::current().id();
    let lines = LINES.lock().unwrap();
    let own = lines.iter().filter(|(thread, _)| *thread == here);
    let own = own.map(|(_, line)| line);
    own.filter(|line| line.contains(part)).cloned().collect()
}

pub async fn line_with(parts: &[&str]) -> String {
    until(&format!("the log says {parts:?}"), || {
        !lines_with(parts).is_empty()
    })
    .await;
    lines_with(parts).remove(0)
}

struct Keep;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Keep {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tidegate")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        let line = (thread::current().id(), line.0);
        LINES.lock().unwrap().push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
