//! Where lines come from and where output goes.
//!
//! Reading blocks, so a thread of its own does it: it may be left behind at the end.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustyline::ExternalPrinter;
use tokio::sync::{Notify, mpsc};

use super::completion::Topics;
use super::editor;

/// Lines read ahead.
const AHEAD: usize = 64;

/// The two ends of a dialogue.
pub(super) struct Console {
    pub(super) lines: Lines,
    pub(super) output: Output,
}

/// Lines as they are typed or piped.
pub(super) struct Lines {
    receiver: mpsc::Receiver<io::Result<String>>,
    interrupt: Arc<Notify>,
}

/// Where a thread that reads puts what it has read.
pub(super) struct Typed {
    pub(super) lines: mpsc::Sender<io::Result<String>>,
    /// Told of Ctrl-C.
    pub(super) interrupt: Arc<Notify>,
}

/// Where output goes.
pub(super) enum Output {
    /// Results to standard output, remarks to standard error.
    Plain,
    /// Above the line that is being edited.
    Terminal {
        printer: Box<dyn ExternalPrinter + Send>,
        /// Gives the terminal back as it was.
        _restore: Restore,
    },
}

impl Console {
    /// Edits lines where standard input and output are a terminal that can do it, else
    /// reads plain lines. Comes with what there is to remark on the history.
    pub(super) fn open(topics: &Topics, history: bool) -> io::Result<(Self, Option<String>)> {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            let restore = Restore::new();
            if let Some(editor) = editor::Editor::new(topics, history) {
                let (lines, typed) = Lines::new();
                // Between two lines Ctrl-C is a signal.
                let interrupt = lines.interrupt();
                tokio::spawn(async move {
                    while tokio::signal::ctrl_c().await.is_ok() {
                        interrupt.notify_one();
                    }
                });
                let console = Self {
                    lines,
                    output: Output::Terminal {
                        printer: editor.printer,
                        _restore: restore,
                    },
                };
                let remark = editor.remark;
                thread::Builder::new()
                    .name("terminal".to_owned())
                    .spawn(move || editor.reader.run(&typed))?;
                return Ok((console, remark));
            }
        }
        let (lines, typed) = Lines::new();
        thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || read_plain(&typed))?;
        let output = Output::Plain;
        Ok((Self { lines, output }, None))
    }
}

impl Lines {
    fn new() -> (Self, Typed) {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let interrupt = Arc::new(Notify::new());
        let typed = Typed {
            lines: sender,
            interrupt: interrupt.clone(),
        };
        (
            Self {
                receiver,
                interrupt,
            },
            typed,
        )
    }

    /// The next line; `None` at the end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<io::Result<String>> {
        self.receiver.recv().await
    }

    /// Notified by Ctrl-C in the line editor.
    pub(super) fn interrupt(&self) -> Arc<Notify> {
        self.interrupt.clone()
    }
}

fn read_plain(typed: &Typed) {
    for line in io::stdin().lock().lines() {
        // A line that is not UTF-8 is read over; any other fault does not pass.
        let fatal = matches!(&line, Err(e) if e.kind() != io::ErrorKind::InvalidData);
        if typed.lines.blocking_send(line).is_err() || fatal {
            return;
        }
    }
}

impl Output {
    /// A line of the result, or several.
    pub(super) fn result(&mut self, text: &str) -> io::Result<()> {
        match self {
            Self::Plain => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(format!("{text}\n").as_bytes())?;
                stdout.flush()
            }
            Self::Terminal { printer, .. } => {
                printer.print(format!("{text}\n")).map_err(io::Error::other)
            }
        }
    }

    /// A line about what happens. Whoever closed standard error does not want to know.
    pub(super) fn remark(&mut self, text: &str) {
        match self {
            Self::Plain => drop(io::stderr().write_all(format!("{text}\n").as_bytes())),
            Self::Terminal { printer, .. } => drop(printer.print(format!("{text}\n"))),
        }
    }

    /// Gives the terminal back. What was printed last may still be on its way to the
    /// editor's thread, which cannot be waited for: it may sit in a read for ever.
    pub(super) async fn finish(self) {
        if let Self::Terminal { .. } = self {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The terminal's mode before line editing, restored when dropped: at the end the editor
/// may still wait for a key.
pub(super) struct Restore {
    #[cfg(unix)]
    mode: Option<rustix::termios::Termios>,
}

impl Restore {
    fn new() -> Self {
        Self {
            #[cfg(unix)]
            mode: rustix::termios::tcgetattr(io::stdin()).ok(),
        }
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(mode) = &self.mode {
            use rustix::termios::{OptionalActions, tcsetattr};
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, mode);
            // Bracketed paste off; the prompt that is left behind goes.
            let _ = write!(io::stdout(), "\x1b[?2004l\r\x1b[K");
            let _ = io::stdout().flush();
        }
    }
}
