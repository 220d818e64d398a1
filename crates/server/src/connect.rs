//! `tidegate connect URL`: talk to a gate by hand, or from a script.
//!
//! - [`options`]: what can be said on the command line.
//! - [`session`]: obeys commands and shows what comes.
//! - [`command`], [`body`]: what may be typed.
//! - [`console`]: where lines come from and where output goes; on a terminal the [`editor`]
//!   with its [`completion`] and [`history`].
//! - [`screen`]: what is shown: [`show`] to people, [`report`] to scripts. [`escape`] makes
//!   other people's text harmless, [`json`] makes theirs readable.

mod body;
mod command;
mod completion;
mod console;
mod editor;
mod escape;
mod history;
mod json;
mod options;
mod report;
mod screen;
mod session;
mod show;

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use tidegate_client::ErrorKind;

use command::Command;
use completion::Topics;
use console::{Console, Output};
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
    let builder = match args.builder() {
        Ok(builder) => builder,
        Err(e) => return fail(USAGE, &e.to_string()),
    };
    let client = match builder.connect().await {
        Ok(client) => client,
        Err(e) => {
            let code = match e.kind() {
                ErrorKind::InvalidUrl | ErrorKind::InvalidOption | ErrorKind::InvalidTopic => USAGE,
                _ => CANNOT_CONNECT,
            };
            return fail(code, &format!("{}: {e}", args.url));
        }
    };
    let topics = Topics::default();
    let (source, output, remark) = if args.execute.is_empty() {
        match Console::open(&topics, !args.no_history) {
            Ok((console, remark)) => (Source::Lines(console.lines), console.output, remark),
            Err(e) => return fail(FAILED, &e.to_string()),
        }
    } else {
        (Source::Script(script), Output::Plain, None)
    };
    let scripted = !args.execute.is_empty() || !io::stdin().is_terminal();
    let mut session = Session {
        pushes: client.pushes(),
        client,
        screen: Screen {
            output,
            form: match args.json {
                true => Form::Json,
                false => Form::human(args.compact, args.full),
            },
        },
        topics,
        watch: Some(String::new()),
        unclaimed: VecDeque::new(),
        error_topic: args.error_topic,
        timeout: args.timeout,
        failed: false,
    };
    if !scripted {
        let hello = format!("connected to {}; help tells what can be typed", args.url);
        session.screen.remark(&hello);
    }
    if let Some(remark) = remark {
        session.screen.remark(&remark);
    }
    let mut ended = session.run(source).await;
    if ended.is_ok() {
        session.client.close().await;
        ended = session.show_arrived().map_err(Stop::Output);
    }
    let done = u8::from(scripted && session.failed) * FAILED;
    let code = match ended {
        Ok(()) => done,
        Err(Stop::Closed(closed)) => {
            // Whether it can be told or not.
            let _ = session.screen.closed(&closed);
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

fn fail(code: u8, message: &str) -> ExitCode {
    Output::Plain.remark(&format!("tidegate: {}", escape::escape(message)));
    ExitCode::from(code)
}
