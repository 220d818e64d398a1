//! What is shown, how, and where.

use std::env;
use std::io::{self, IsTerminal};
use std::time::Duration;

use tidegate_client::{Closed, Error, Packet, PacketError, Topic};

use super::console::Output;
use super::escape::escape;
use super::report;
use super::show::{self, Style};

/// What is shown, how, and where. Errors are those of standard output.
pub(super) struct Screen {
    pub(super) output: Output,
    pub(super) form: Form,
}

/// For whom.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// For people: how results and remarks look.
    Human { results: Style, remarks: Style },
    /// For scripts: everything is a result, but for what only people read.
    Json,
}

impl Form {
    /// Of people; colours where it is a terminal and nobody minds.
    pub(super) fn human(compact: bool, full: bool) -> Self {
        let unset = |name| env::var_os(name).is_none_or(|value| value.is_empty());
        let wanted = unset("NO_COLOR") && env::var_os("TERM").is_some_and(|term| term != "dumb");
        let style = |terminal| Style {
            compact,
            full,
            colour: wanted && terminal,
        };
        Self::Human {
            results: style(io::stdout().is_terminal()),
            remarks: style(io::stderr().is_terminal()),
        }
    }
}

impl Screen {
    /// The answer to a request.
    pub(super) fn answer(&mut self, packet: &Packet, took: Duration) -> io::Result<()> {
        let shown = match self.form {
            Form::Human { results, .. } => results.answer(packet, took),
            Form::Json => report::answer(packet, took),
        };
        self.output.result(&shown)
    }

    /// A packet that answers nothing; it may tell of another one that was not served.
    pub(super) fn push(
        &mut self,
        packet: &Packet,
        error: Option<&(Topic, PacketError)>,
    ) -> io::Result<()> {
        let shown = match (self.form, error) {
            (Form::Human { results, .. }, Some((of, error))) => results.not_served(of, error),
            (Form::Human { results, .. }, None) => results.push(packet),
            (Form::Json, _) => report::push(packet, error),
        };
        self.output.result(&shown)
    }

    /// Pushes that were lost.
    pub(super) fn missed(&mut self, packets: u64) -> io::Result<()> {
        match self.form {
            Form::Human { remarks, .. } => {
                let text = format!("missed {packets} packets: too many at once");
                self.output.remark(&remarks.mistake(&text, None));
                Ok(())
            }
            Form::Json => self.output.result(&report::missed(packets)),
        }
    }

    /// A request or a packet that could not be sent or was not answered.
    pub(super) fn failed(&mut self, of: &str, error: &Error, took: Duration) -> io::Result<()> {
        match self.form {
            Form::Human { remarks, .. } => {
                let text = format!("{of}: {}", show::error(error));
                self.output.remark(&remarks.mistake(&text, Some(took)));
                Ok(())
            }
            Form::Json => self.output.result(&report::failed(of, error, took)),
        }
    }

    /// A command that was not understood or not obeyed.
    pub(super) fn mistake(&mut self, of: &str, kind: &'static str, text: &str) -> io::Result<()> {
        match self.form {
            Form::Human { remarks, .. } => {
                self.output.remark(&remarks.mistake(text, None));
                Ok(())
            }
            Form::Json => self.output.result(&report::mistake(of, kind, text)),
        }
    }

    /// How the connection ended.
    pub(super) fn closed(&mut self, closed: &Closed) -> io::Result<()> {
        match self.form {
            Form::Human { remarks, .. } => {
                self.output.remark(&remarks.closed(closed));
                Ok(())
            }
            Form::Json => self.output.result(&report::closed(closed)),
        }
    }

    /// What only people read. Line ends in it are line ends.
    pub(super) fn remark(&mut self, text: &str) {
        let lines: Vec<_> = text.lines().map(escape).collect();
        self.output.remark(&lines.join("\n"));
    }

    /// The help: a result for people.
    pub(super) fn help(&mut self, text: &str) -> io::Result<()> {
        match self.form {
            Form::Human { .. } => self.output.result(text),
            Form::Json => {
                self.remark(text);
                Ok(())
            }
        }
    }
}
