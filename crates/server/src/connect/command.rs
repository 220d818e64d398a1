//! What may be typed.

use std::time::Duration;

use thiserror::Error;
use tidegate_client::{RouteError, Topic, TopicError};
use tidegate_protocol::Route;

use super::body::{Body, BodyError, is_unfinished_json};

/// What `help` says.
pub(super) const HELP: &str = "\
request SERVICE/METHOD [BODY]   ask and wait for the answer (short: r)
SERVICE/METHOD [BODY]           the same
send TOPIC [BODY]               send without an answer (short: s)
watch [PREFIX]                  show only pushes whose topic begins so; all without PREFIX
unwatch                         show no pushes
wait SECONDS                    do nothing but show pushes
wait-for PREFIX [SECONDS]       wait for a push whose topic begins so, at most --timeout
                                where no time is given; fails where none comes. A push
                                that came before counts too, once
state                           show how it stands: session, counts, what waits
cut                             lose the connection as if the network had gone; the
                                session goes on with the next one, where it can
help                            this
quit                            say goodbye, close the connection and leave (short: bye;
                                also Ctrl-D). The session ends at once

A BODY is the rest of the line, or one of:
  hex:00ff 1b     bytes
  @FILE           what is in a file
  text:...        what follows as it is, where it would begin like one of these
What begins with { must be JSON.

Keys: Tab completes commands and topics seen, Up and Ctrl-R find what was typed before,
Ctrl-C gives up waiting. Of lines with a word such as login or token the history keeps the
topic only, of lines that begin with a blank nothing. What is pasted waits for Enter; each
of its lines is a command, and JSON may go on over several.";

/// Every command, for completion.
pub(super) const NAMES: &[&str] = &[
    "bye", "cut", "help", "quit", "request", "send", "state", "unwatch", "wait", "wait-for",
    "watch",
];

/// A line, understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    Request {
        method: String,
        body: Body,
    },
    Send {
        topic: String,
        body: Body,
    },
    /// Shows pushes whose topic has this prefix; the empty one shows all.
    Watch(String),
    Unwatch,
    Wait(Duration),
    /// Waits for a push of this prefix; how long, where it is said.
    WaitFor {
        prefix: String,
        limit: Option<Duration>,
    },
    /// Shows how it stands with connection and session.
    State,
    /// Loses the connection on purpose.
    Cut,
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
    #[error(transparent)]
    Body(#[from] BodyError),
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
                    body: Body::parse(body)?,
                }
            }
            "watch" => Self::Watch(rest.trim_end().to_owned()),
            "unwatch" => alone("unwatch", rest, Self::Unwatch)?,
            "wait" => match rest.trim_end() {
                "" => return Err(CommandError::Missing("wait", "SECONDS")),
                time => Self::Wait(seconds(time)?),
            },
            "wait-for" => Self::wait_for(rest)?,
            "help" | "?" => alone("help", rest, Self::Help)?,
            "state" => alone("state", rest, Self::State)?,
            "cut" => alone("cut", rest, Self::Cut)?,
            "quit" | "bye" | "exit" => alone("quit", rest, Self::Quit)?,
            // No command has a slash in it.
            _ if word.contains('/') => Self::request(line)?,
            _ => return Err(CommandError::Unknown),
        }))
    }

    fn wait_for(rest: &str) -> Result<Self, CommandError> {
        let (prefix, limit) = split(rest.trim_end());
        if prefix.is_empty() {
            return Err(CommandError::Missing("wait-for", "PREFIX"));
        }
        Ok(Self::WaitFor {
            prefix: prefix.to_owned(),
            limit: match limit {
                "" => None,
                time => Some(seconds(time)?),
            },
        })
    }

    /// What it is about, in a word.
    pub(super) fn subject(&self) -> &str {
        match self {
            Self::Request { method, .. } => method,
            Self::Send { topic, .. } => topic,
            Self::WaitFor { prefix, .. } => prefix,
            _ => "",
        }
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
            body: Body::parse(body)?,
        })
    }
}

/// The commands of what is entered at once: typed, or pasted. Each line is one; a body that
/// begins as JSON goes on until it is whole, on one line then.
pub(super) fn commands(entered: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut lines = entered.lines();
    while let Some(line) = lines.next() {
        let mut command = line.to_owned();
        let mut ahead = lines.clone();
        while unfinished(&command)
            && let Some(more) = ahead.next()
        {
            command.push(' ');
            command.push_str(more.trim());
        }
        if Command::parse(&command).is_ok() {
            lines = ahead;
            commands.push(command);
        } else {
            // Never whole: the line stands for itself, and is a mistake.
            commands.push(line.to_owned());
        }
    }
    commands
}

/// Whether the body is JSON that is not whole.
fn unfinished(command: &str) -> bool {
    let (word, rest) = split(command.trim_start());
    let body = match word {
        "request" | "r" | "send" | "s" => split(rest).1,
        _ => rest,
    };
    is_unfinished_json(body)
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
            body: Body::Bytes(body.to_owned().into()),
        }))
    }

    fn send(topic: &str, body: &str) -> Result<Option<Command>, CommandError> {
        Ok(Some(Command::Send {
            topic: topic.to_owned(),
            body: Body::Bytes(body.to_owned().into()),
        }))
    }

    #[test]
    fn lines() {
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
        assert_eq!(
            parse("wait-for chat/ 0.5 "),
            Ok(Some(Command::WaitFor {
                prefix: "chat/".to_owned(),
                limit: Some(Duration::from_millis(500)),
            }))
        );
        assert_eq!(
            parse("wait-for x"),
            Ok(Some(Command::WaitFor {
                prefix: "x".to_owned(),
                limit: None,
            }))
        );
        assert_eq!(
            parse("s any @file"),
            Ok(Some(Command::Send {
                topic: "any".to_owned(),
                body: Body::File("file".into()),
            }))
        );
        assert_eq!(parse("help"), Ok(Some(Command::Help)));
        assert_eq!(parse("quit"), Ok(Some(Command::Quit)));
        assert_eq!(parse("bye"), Ok(Some(Command::Quit)));
        assert_eq!(parse("state "), Ok(Some(Command::State)));
        assert_eq!(parse("cut"), Ok(Some(Command::Cut)));
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
        assert_eq!(
            parse("wait-for"),
            Err(CommandError::Missing("wait-for", "PREFIX"))
        );
        assert_eq!(parse("wait-for a b"), Err(SecondsError.into()));
        assert_eq!(parse("a/b hex:0"), Err(BodyError::Hex.into()));
        assert_eq!(parse("wait"), Err(CommandError::Missing("wait", "SECONDS")));
        for time in ["x", "0", "-1", "NaN", "inf", "1e9"] {
            assert_eq!(
                parse(&format!("wait {time}")),
                Err(SecondsError.into()),
                "{time}"
            );
        }
    }

    #[test]
    fn each_pasted_line_is_a_command_and_json_goes_on() {
        for (entered, wanted) in [
            ("a/b x", &["a/b x"][..]),
            ("a/b x\ns c y\n", &["a/b x", "s c y"]),
            (
                "s c {\n  \"a\": [\n 1]\n}\na/b x",
                &["s c { \"a\": [ 1] }", "a/b x"],
            ),
            ("a/b {\"a\":\nc/d x", &["a/b {\"a\":", "c/d x"]),
            ("a/b so {\nc/d }", &["a/b so {", "c/d }"]),
            ("a/b {} x\nc/d", &["a/b {} x", "c/d"]),
        ] {
            assert_eq!(commands(entered), wanted, "{entered}");
        }
    }

    #[test]
    fn help_names_every_command() {
        for name in NAMES {
            let at_first = |line: &str| line.starts_with(name);
            let short = |line: &str| line.contains(&format!("(short: {name}"));
            assert!(HELP.lines().any(|l| at_first(l) || short(l)), "{name}");
        }
    }
}
