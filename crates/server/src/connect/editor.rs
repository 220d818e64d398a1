//! The line editor: a thread that reads what is typed.

use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, ExternalPrinter};

use super::command::{self, Command};
use super::completion::{Completion, Topics};
use super::console::Typed;
use super::escape::escape;
use super::history::{self, History};

/// A line editor, before its thread runs.
pub(super) struct Editor {
    pub(super) reader: Reader,
    pub(super) printer: Box<dyn ExternalPrinter + Send>,
    /// Why the history is not kept.
    pub(super) remark: Option<String>,
}

/// What the thread needs.
pub(super) struct Reader {
    editor: rustyline::Editor<Completion, DefaultHistory>,
    history: Option<History>,
}

impl Editor {
    /// `None` where the terminal cannot do what line editing needs.
    pub(super) fn new(topics: &Topics, keep_history: bool) -> Option<Self> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(1000)
            .ok()?
            .build();
        let mut editor = rustyline::Editor::with_config(config).ok()?;
        editor.set_helper(Some(Completion(topics.clone())));
        let printer = editor.create_external_printer().ok()?;
        let (mut history, mut remark) = (None, None);
        if keep_history && let Some(path) = history::path() {
            let shown = path.display().to_string();
            match History::open(path) {
                Ok((file, lines)) => {
                    history = Some(file);
                    for line in lines {
                        let _ = editor.add_history_entry(line);
                    }
                }
                Err(e) => {
                    remark = Some(format!("the history is not kept: {}: {e}", escape(&shown)))
                }
            }
        }
        Some(Self {
            reader: Reader { editor, history },
            printer: Box::new(printer),
            remark,
        })
    }
}

impl Reader {
    /// Reads until the end: Ctrl-D, `quit`, or nobody wants to know any more.
    pub(super) fn run(mut self, typed: &Typed) {
        loop {
            match self.editor.readline("> ") {
                Ok(entered) => {
                    for line in command::commands(&entered) {
                        self.remember(&line);
                        // Not read on: the terminal is as it was when the connection closes.
                        let last = Command::parse(&line) == Ok(Some(Command::Quit));
                        if typed.lines.blocking_send(Ok(line)).is_err() || last {
                            return;
                        }
                    }
                }
                Err(ReadlineError::Interrupted) => typed.interrupt.notify_one(),
                Err(ReadlineError::Io(e)) => {
                    let _ = typed.lines.blocking_send(Err(e));
                    return;
                }
                // Ctrl-D, or the terminal is gone.
                Err(_) => return,
            }
        }
    }

    fn remember(&mut self, line: &str) {
        let _ = self.editor.add_history_entry(line);
        // A disk that is full is no reason to stop.
        if let Some(history) = &mut self.history {
            let _ = history.add(line);
        }
    }
}
