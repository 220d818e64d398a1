//! `tidegate connect URL`: talk to a gate by hand, or from a script.
//!
//! - [`options`]: what can be said on the command line.
//! - [`session`]: obeys commands and shows what comes.
//! - [`command`], [`body`]: what may be typed.
//! - [`console`]: where lines come from and where output goes; on a terminal the [`editor`]
//!   with its [`completion`] and [`history`].
//! - [`happenings`]: what becomes of the connection.
//! - [`screen`]: what is shown: [`show`] and [`words`] to people, [`report`] to scripts.
//!   [`escape`] makes other people's text harmless, [`json`] makes theirs readable.

mod body;
mod command;
mod completion;
mod console;
mod editor;
mod escape;
mod happenings;
mod history;
mod json;
mod options;
mod report;
mod screen;
mod session;
mod show;
mod words;

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use tidegate_client::State;

use command::Command;
use completion::Topics;
use console::{Console, Output};
use happenings::Happenings;
pub(crate) use options::ConnectArgs;
use screen::{Form, Screen};
use session::{Session, Source, Stop};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CANNOT_CONNECT: u8 = 3;
const CLOSED: u8 = 4;

/// Connects, obeys, and tells by the exit code how it went.
pub(crate) async fn run(args: ConnectArgs) -> ExitCode {
    let mut script = VecDeque::new();
    for line in &args.execute {
        match Command::parse(line) {
            Ok(command) => script.extend(command),
            Err(e) => return fail(USAGE, &format!("{line}: {e}")),
        }
    }
    let scripted = !args.execute.is_empty() || !io::stdin().is_terminal();
    let (extended, reconnects) = (args.extended(), args.reconnects(scripted));
    let builder = match args.builder(reconnects) {
        Ok(builder) => builder,
        Err(e) => return fail(USAGE, &e.to_string()),
    };
    let client = match builder.connect().await {
        Ok(client) => client,
        Err(e) => {
            let code = match words::is_usage(&e) {
                true => USAGE,
                false => CANNOT_CONNECT,
            };
            let text = format!("{}: {}", args.url, words::error(&e));
            return fail(code, &hinted(text, words::hint(&e, extended)));
        }
    };
    // From the beginning on.
    let happenings = Happenings::of(&client);
    let topics = Topics::default();
    let (source, output, remark) = if args.execute.is_empty() {
        match Console::open(&topics, !args.no_history) {
            Ok((console, remark)) => (Source::Lines(console.lines), console.output, remark),
            Err(e) => return fail(FAILED, &e.to_string()),
        }
    } else {
        (Source::Script(script), Output::Plain, None)
    };
    let mut session = Session {
        pushes: client.pushes(),
        happenings,
        client,
        greeting: match scripted {
            true => format!("connected to {}", args.url),
            false => format!("connected to {}; help tells what can be typed", args.url),
        },
        reconnects,
        tells_states: !scripted || reconnects,
        stop: None,
        connected: false,
        screen: Screen {
            output,
            form: match args.json {
                true => Form::Json,
                false => Form::human(args.compact, args.full),
            },
            extended,
        },
        topics,
        watch: Some(String::new()),
        unclaimed: VecDeque::new(),
        error_topic: args.error_topic,
        timeout: args.timeout,
        failed: false,
    };
    if let Some(remark) = remark {
        session.screen.remark(&remark);
    }
    let mut ended = session.run(source).await;
    if ended.is_ok() {
        if extended && !matches!(session.client.state(), State::Open(_) | State::Closed(_)) {
            let text = "there is no connection to say goodbye on: the gate may keep the session";
            session.screen.remark(text);
        }
        let closed = session.client.close().await;
        ended = session.show_last().map_err(Stop::Output);
        if extended && closed.unsent > 0 && ended.is_ok() {
            ended = Err(Stop::Closed(closed));
        }
    }
    let done = u8::from(scripted && session.failed) * FAILED;
    let code = match ended {
        Ok(()) => done,
        Err(Stop::Closed(closed)) => {
            // Whether it can be told or not.
            let _ = session.screen.closed(&closed);
            let heard = session.client.stats().received > 0;
            if let Some(hint) = words::hint_of_end(&closed, extended, heard) {
                session.screen.remark(hint);
            }
            CLOSED
        }
        Err(Stop::Left) => {
            session.screen.remark("the gate is going to close: left it");
            CLOSED
        }
        // Whoever read has seen enough.
        Err(Stop::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => {
            session.client.close().await;
            done
        }
        Err(Stop::Output(e)) => {
            session.client.close().await;
            session.screen.remark(&format!("!! standard output: {e}"));
            FAILED
        }
    };
    session.screen.output.finish().await;
    ExitCode::from(code)
}

fn hinted(text: String, hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("{text}; {hint}"),
        None => text,
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    Output::Plain.remark(&format!("tidegate: {}", escape::escape(message)));
    ExitCode::from(code)
}
