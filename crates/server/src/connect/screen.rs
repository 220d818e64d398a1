//! What is shown, how, and where.

use std::env;
use std::io::{self, IsTerminal};
use std::time::Duration;

use tidegate_client::{Closed, Error, Event, Opened, Packet, PacketError, State, Stats, Topic};

use super::console::Output;
use super::escape::escape;
use super::report;
use super::show::Style;
use super::words;

/// What is shown, how, and where. Errors are those of standard output.
pub(super) struct Screen {
    pub(super) output: Output,
    pub(super) form: Form,
    /// Whether the extended protocol is spoken.
    pub(super) extended: bool,
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
                let text = format!("{of}: {}", words::error(error));
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
                self.output
                    .remark(&remarks.end(&words::closed(closed, self.extended)));
                Ok(())
            }
            Form::Json => self.output.result(&report::closed(closed)),
        }
    }

    /// How it stands with the connection, where that is other than before.
    pub(super) fn state(&mut self, state: &State, again: bool) -> io::Result<()> {
        let text = match (self.form, state) {
            (Form::Json, _) => return self.output.result(&report::state(state)),
            (_, State::Waiting { delay, why }) => vec![words::waiting(why, *delay)],
            (_, State::Open(opened)) if again => words::connected_again(opened),
            _ => return Ok(()),
        };
        self.news(&text);
        Ok(())
    }

    /// The first connection.
    pub(super) fn connected(&mut self, greeting: &str, opened: Option<&Opened>) -> io::Result<()> {
        match (self.form, opened) {
            (Form::Json, Some(opened)) => {
                let state = State::Open(opened.clone());
                self.output.result(&report::state(&state))
            }
            (Form::Json, None) => Ok(()),
            _ => {
                self.news(&[greeting.to_owned()]);
                if let Some(opened) = opened {
                    self.news(&words::described(opened));
                }
                Ok(())
            }
        }
    }

    /// What concerns no request.
    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        let (Form::Human { remarks, .. }, Some(text)) = (self.form, words::event(event)) else {
            return match (self.form, report::event(event)) {
                (Form::Json, Some(line)) => self.output.result(&line),
                _ => Ok(()),
            };
        };
        let shown = match event {
            Event::Draining(_) => remarks.news(&text),
            _ => remarks.mistake(&text, None),
        };
        self.output.remark(&shown);
        Ok(())
    }

    /// What `state` asks for: a result.
    pub(super) fn tell_state(&mut self, state: &State, stats: &Stats) -> io::Result<()> {
        let shown = match self.form {
            Form::Human { .. } => {
                let text = words::state(state, stats, self.extended);
                let lines: Vec<_> = text.iter().map(|line| escape(line)).collect();
                lines.join("\n")
            }
            Form::Json => report::asked_state(state, stats),
        };
        self.output.result(&shown)
    }

    fn news(&mut self, texts: &[String]) {
        if let Form::Human { remarks, .. } = self.form {
            let lines: Vec<_> = texts.iter().map(|text| remarks.news(text)).collect();
            self.output.remark(&lines.join("\n"));
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
