//! What may be typed.

use std::time::Duration;

use thiserror::Error;
use tidegate_client::{RouteError, Topic, TopicError};
use tidegate_protocol::Route;

/// What `help` says.
pub(super) const HELP: &str = "\
request SERVICE/METHOD [BODY]   ask and wait for the answer (short: r)
SERVICE/METHOD [BODY]           the same
send TOPIC [BODY]               send without an answer (short: s)
watch [PREFIX]                  show only pushes whose topic begins so; all without PREFIX
unwatch                         show no pushes
wait SECONDS                    do nothing but show pushes
help                            this
quit                            close the connection and leave (also Ctrl-D)";

/// A line, understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    Request {
        method: String,
        body: String,
    },
    Send {
        topic: String,
        body: String,
    },
    /// Shows pushes whose topic has this prefix; the empty one shows all.
    Watch(String),
    Unwatch,
    Wait(Duration),
    Help,
    Quit,
}

/// A line, not understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum CommandError {
    #[error("unknown command; try help")]
    Unknown,
    #[error("{0} needs {1}")]
    Missing(&'static str, &'static str),
    #[error("{0} takes nothing more")]
    TooMuch(&'static str),
    #[error("a request goes to SERVICE/METHOD: {0}")]
    Method(#[from] RouteError),
    #[error("not a topic: {0}")]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Seconds(#[from] SecondsError),
}

/// Text that is not a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a number of seconds from 0.001 to 86400")]
pub(super) struct SecondsError;

impl Command {
    /// Reads a line; `None` for an empty one. The body is the rest of the line as it is,
    /// after the spaces that set it off.
    pub(super) fn parse(line: &str) -> Result<Option<Self>, CommandError> {
        let line = line.trim_start().trim_end_matches(['\r', '\n']);
        let (word, rest) = split(line);
        Ok(Some(match word {
            "" => return Ok(None),
            "request" | "r" => Self::request(rest)?,
            "send" | "s" => {
                let (topic, body) = split(rest);
                if topic.is_empty() {
                    return Err(CommandError::Missing("send", "TOPIC"));
                }
                Topic::new(topic)?;
                Self::Send {
                    topic: topic.to_owned(),
                    body: body.to_owned(),
                }
            }
            "watch" => Self::Watch(rest.trim_end().to_owned()),
            "unwatch" => alone("unwatch", rest, Self::Unwatch)?,
            "wait" => match rest.trim_end() {
                "" => return Err(CommandError::Missing("wait", "SECONDS")),
                time => Self::Wait(seconds(time)?),
            },
            "help" | "?" => alone("help", rest, Self::Help)?,
            "quit" | "exit" => alone("quit", rest, Self::Quit)?,
            // No command has a slash in it.
            _ if word.contains('/') => Self::request(line)?,
            _ => return Err(CommandError::Unknown),
        }))
    }

    fn request(rest: &str) -> Result<Self, CommandError> {
        let (method, body) = split(rest);
        if method.is_empty() {
            return Err(CommandError::Missing("request", "SERVICE/METHOD"));
        }
        if Route::parse(method)?.request_id.is_some() {
            // The id is the client's to choose.
            return Err(RouteError::Segments.into());
        }
        Ok(Self::Request {
            method: method.to_owned(),
            body: body.to_owned(),
        })
    }
}

/// The first word, and the rest after the white space behind it.
fn split(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

fn alone(name: &'static str, rest: &str, command: Command) -> Result<Command, CommandError> {
    match rest.is_empty() {
        true => Ok(command),
        false => Err(CommandError::TooMuch(name)),
    }
}

/// Reads a duration in seconds, fractions allowed.
pub(super) fn seconds(text: &str) -> Result<Duration, SecondsError> {
    let number: f64 = text.parse().map_err(|_| SecondsError)?;
    if !(0.001..=86_400.0).contains(&number) {
        return Err(SecondsError);
    }
    Duration::try_from_secs_f64(number).map_err(|_| SecondsError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Command>, CommandError> {
        Command::parse(line)
    }

    fn request(method: &str, body: &str) -> Result<Option<Command>, CommandError> {
        Ok(Some(Command::Request {
            method: method.to_owned(),
            body: body.to_owned(),
        }))
    }

    fn send(topic: &str, body: &str) -> Result<Option<Command>, CommandError> {
        Ok(Some(Command::Send {
            topic: topic.to_owned(),
            body: body.to_owned(),
        }))
    }

    #[test]
    fn commands() {
        assert_eq!(
            parse("request echo/echo hello  world "),
            request("echo/echo", "hello  world ")
        );
        assert_eq!(parse("  r echo/echo\r\n"), request("echo/echo", ""));
        assert_eq!(
            parse("echo/echo {\"a\": 1}"),
            request("echo/echo", "{\"a\": 1}")
        );
        assert_eq!(parse("send chat/wave"), send("chat/wave", ""));
        assert_eq!(parse("s any 喵 喵"), send("any", "喵 喵"));
        assert_eq!(parse("watch"), Ok(Some(Command::Watch(String::new()))));
        assert_eq!(
            parse("watch chat/ "),
            Ok(Some(Command::Watch("chat/".to_owned())))
        );
        assert_eq!(parse("unwatch"), Ok(Some(Command::Unwatch)));
        assert_eq!(
            parse("wait 0.5"),
            Ok(Some(Command::Wait(Duration::from_millis(500))))
        );
        assert_eq!(parse("help"), Ok(Some(Command::Help)));
        assert_eq!(parse("quit"), Ok(Some(Command::Quit)));
        assert_eq!(parse(" \t\n"), Ok(None));
    }

    #[test]
    fn mistakes() {
        assert_eq!(parse("hello"), Err(CommandError::Unknown));
        assert_eq!(
            parse("r"),
            Err(CommandError::Missing("request", "SERVICE/METHOD"))
        );
        assert_eq!(parse("s "), Err(CommandError::Missing("send", "TOPIC")));
        assert_eq!(parse("r echo x"), Err(RouteError::Segments.into()));
        assert_eq!(parse("a/b/c x"), Err(RouteError::Segments.into()));
        assert_eq!(parse("a/ x"), Err(RouteError::Name.into()));
        assert_eq!(parse("r $a/b"), Err(RouteError::Reserved.into()));
        assert_eq!(parse("s a\u{7}b"), Err(TopicError::Control.into()));
        assert_eq!(parse("quit now"), Err(CommandError::TooMuch("quit")));
        assert_eq!(parse("wait"), Err(CommandError::Missing("wait", "SECONDS")));
        for time in ["x", "0", "-1", "NaN", "inf", "1e9"] {
            assert_eq!(
                parse(&format!("wait {time}")),
                Err(SecondsError.into()),
                "{time}"
            );
        }
    }
}
