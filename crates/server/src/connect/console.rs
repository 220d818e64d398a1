//! Where lines come from and where output goes.
//!
//! Reading blocks, so a thread of its own does it: it may be left behind at the end.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor, ExternalPrinter};
use tokio::sync::{Notify, mpsc};

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
    /// reads plain lines.
    pub(super) fn open() -> io::Result<Self> {
        if io::stdin().is_terminal()
            && io::stdout().is_terminal()
            && let Some(console) = Self::terminal()?
        {
            return Ok(console);
        }
        let (lines, sender) = Lines::new();
        thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || read_plain(&sender))?;
        Ok(Self {
            lines,
            output: Output::Plain,
        })
    }

    /// `None` where the terminal cannot do what line editing needs.
    fn terminal() -> io::Result<Option<Self>> {
        let restore = Restore::new();
        let config = Config::builder().auto_add_history(true).build();
        // The history stays in memory: lines may hold passwords.
        let Ok(mut editor) = DefaultEditor::with_config(config) else {
            return Ok(None);
        };
        let Ok(printer) = editor.create_external_printer() else {
            return Ok(None);
        };
        let (lines, sender) = Lines::new();
        let interrupt = lines.interrupt.clone();
        thread::Builder::new()
            .name("terminal".to_owned())
            .spawn(move || edit(&mut editor, &sender, &interrupt))?;
        Ok(Some(Self {
            lines,
            output: Output::Terminal {
                printer: Box::new(printer),
                _restore: restore,
            },
        }))
    }
}

impl Lines {
    fn new() -> (Self, mpsc::Sender<io::Result<String>>) {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let interrupt = Arc::new(Notify::new());
        (
            Self {
                receiver,
                interrupt,
            },
            sender,
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

fn edit(editor: &mut DefaultEditor, lines: &mpsc::Sender<io::Result<String>>, interrupt: &Notify) {
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => Ok(line),
            Err(ReadlineError::Interrupted) => {
                interrupt.notify_one();
                continue;
            }
            Err(ReadlineError::Io(e)) => Err(e),
            // Ctrl-D, or the terminal is gone.
            Err(_) => return,
        };
        let failed = line.is_err();
        if lines.blocking_send(line).is_err() || failed {
            return;
        }
    }
}

fn read_plain(lines: &mpsc::Sender<io::Result<String>>) {
    for line in io::stdin().lock().lines() {
        // A line that is not UTF-8 is read over; any other fault does not pass.
        let fatal = matches!(&line, Err(e) if e.kind() != io::ErrorKind::InvalidData);
        if lines.blocking_send(line).is_err() || fatal {
            return;
        }
    }
}

impl Output {
    /// A line of the result.
    pub(super) fn result(&mut self, line: &str) {
        match self {
            // Nobody reads: nobody to tell.
            Self::Plain => drop(writeln!(io::stdout(), "{line}")),
            Self::Terminal { printer, .. } => drop(printer.print(format!("{line}\n"))),
        }
    }

    /// A line about what happens.
    pub(super) fn remark(&mut self, line: &str) {
        match self {
            Self::Plain => drop(writeln!(io::stderr(), "{line}")),
            Self::Terminal { printer, .. } => drop(printer.print(format!("{line}\n"))),
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
