//! `tidegate connect URL`: talk to a gate by hand, or from a script.

mod command;
mod console;
mod show;

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tidegate_client::{Client, Closed, Error, ErrorKind, Missed, Packet, Protocol, Pushes};

use command::{Command, CommandError, HELP, SecondsError};
use console::{Console, Lines, Output};

/// Arguments of `tidegate connect`.
///
/// Exit codes: 0 done, 1 a command of a script failed, 2 wrong usage, 3 cannot connect,
/// 4 the connection was closed by the gate or lost.
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectArgs {
    /// Address of the gate: tcp://host:port, tls://host:port, ws://host:port/path or
    /// wss://host:port/path
    url: String,

    /// Trust the certificates of this PEM file too
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Run this command and exit; may be given several times, runs in order
    #[arg(short = 'e', long = "execute", value_name = "COMMAND")]
    execute: Vec<String>,

    /// Topic under which the gate tells errors, where its listener has one
    #[arg(long, value_name = "TOPIC", default_value = "error")]
    error_topic: String,

    /// How long to wait for the connection, and for each answer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    timeout: Duration,
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CANNOT_CONNECT: u8 = 3;
const CLOSED: u8 = 4;

/// Pushes shown before a result that came after them, at most.
const PUSHES_BEFORE_RESULT: usize = 128;

fn parse_seconds(text: &str) -> Result<Duration, SecondsError> {
    command::seconds(text)
}

/// Connects, obeys, and tells by the exit code how it went.
pub(crate) async fn run(args: ConnectArgs) -> ExitCode {
    let mut script = VecDeque::new();
    for line in &args.execute {
        match Command::parse(line) {
            Ok(command) => script.extend(command),
            Err(e) => return fail(USAGE, &format!("{line}: {e}")),
        }
    }
    let mut builder = Client::builder(&args.url)
        .protocol(Protocol::V1)
        .connect_timeout(args.timeout)
        .request_timeout(args.timeout)
        .error_topic(&args.error_topic);
    if let Some(path) = &args.ca {
        match std::fs::read(path) {
            Ok(pem) => builder = builder.ca_pem(pem),
            Err(e) => return fail(USAGE, &format!("{}: {e}", path.display())),
        }
    }
    let client = match builder.connect().await {
        Ok(client) => client,
        Err(e) => {
            let code = match e.kind() {
                ErrorKind::InvalidUrl | ErrorKind::InvalidOption => USAGE,
                _ => CANNOT_CONNECT,
            };
            return fail(code, &format!("{}: {e}", args.url));
        }
    };
    let (source, output) = if args.execute.is_empty() {
        match Console::open() {
            Ok(console) => (Source::Lines(console.lines), console.output),
            Err(e) => return fail(FAILED, &e.to_string()),
        }
    } else {
        (Source::Script(script), Output::Plain)
    };
    let scripted = !args.execute.is_empty() || !io::stdin().is_terminal();
    let mut session = Session {
        pushes: client.pushes(),
        client,
        screen: Screen {
            output,
            watch: Some(String::new()),
        },
        timeout: args.timeout,
        failed: false,
    };
    if !scripted {
        let url = show::escape(&args.url);
        session
            .screen
            .remark(&format!("connected to {url}; help tells what can be typed"));
    }
    let ended = session.run(source).await;
    let code = match ended {
        Ok(()) => {
            session.client.close().await;
            session.show_arrived();
            u8::from(scripted && session.failed) * FAILED
        }
        Err(closed) => {
            session.screen.remark(&show::closed(&closed));
            CLOSED
        }
    };
    session.screen.output.finish().await;
    ExitCode::from(code)
}

fn fail(code: u8, message: &str) -> ExitCode {
    Output::Plain.remark(&format!("tidegate: {}", show::escape(message)));
    ExitCode::from(code)
}

/// Where commands come from.
enum Source {
    Script(VecDeque<Command>),
    Lines(Lines),
}

/// What came of waiting for a command.
enum Next {
    Command(Option<Command>),
    Mistake(CommandError),
    Unreadable(io::Error),
    Interrupted,
    End,
}

impl Source {
    /// The next command. Cancel-safe.
    async fn next(&mut self) -> Next {
        match self {
            Self::Script(commands) => match commands.pop_front() {
                Some(command) => Next::Command(Some(command)),
                None => Next::End,
            },
            Self::Lines(lines) => {
                let interrupted = lines.interrupt();
                tokio::select! {
                    line = lines.next() => match line {
                        Some(Ok(line)) => match Command::parse(&line) {
                            Ok(command) => Next::Command(command),
                            Err(e) => Next::Mistake(e),
                        },
                        Some(Err(e)) => Next::Unreadable(e),
                        None => Next::End,
                    },
                    () = interrupted.notified() => Next::Interrupted,
                }
            }
        }
    }

    /// Waits for Ctrl-C.
    async fn interrupted(&self) {
        match self {
            Self::Script(_) => std::future::pending().await,
            Self::Lines(lines) => lines.interrupt().notified_owned().await,
        }
    }
}

/// A connection, and who looks at it.
struct Session {
    client: Client,
    pushes: Pushes,
    screen: Screen,
    timeout: Duration,
    /// Whether a command has failed.
    failed: bool,
}

/// What is shown, and where.
struct Screen {
    output: Output,
    /// The prefix of the topics whose pushes are shown; none: no pushes.
    watch: Option<String>,
}

impl Session {
    /// Obeys until told to quit; an error when the connection ended first.
    async fn run(&mut self, mut source: Source) -> Result<(), Closed> {
        loop {
            match self.meanwhile(source.next()).await? {
                Next::Command(None) => {}
                Next::Command(Some(Command::Quit)) | Next::End => return Ok(()),
                Next::Command(Some(command)) => {
                    let client = self.client.clone();
                    let work = obey(&client, command, self.timeout);
                    let work = async {
                        tokio::select! {
                            done = work => Some(done),
                            () = source.interrupted() => None,
                        }
                    };
                    match self.meanwhile(work).await? {
                        Some(done) => self.conclude(done).await?,
                        None => self.mistake("given up"),
                    }
                }
                Next::Mistake(e) => self.mistake(&e.to_string()),
                Next::Unreadable(e) => self.mistake(&e.to_string()),
                Next::Interrupted => self.screen.remark("quit or Ctrl-D leaves"),
            }
        }
    }

    /// Shows pushes while work is done.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Closed> {
        let mut work = pin!(work);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                push = self.pushes.recv() => match push {
                    Some(push) => self.screen.push(push),
                    // All has been shown that came.
                    None => return Err(self.client.closed().await),
                },
            }
        };
        self.show_arrived();
        Ok(done)
    }

    /// What came before a result is shown before it.
    fn show_arrived(&mut self) {
        for _ in 0..PUSHES_BEFORE_RESULT {
            match self.pushes.try_recv() {
                Some(push) => self.screen.push(push),
                None => return,
            }
        }
    }

    async fn conclude(&mut self, done: Result<Done, Error>) -> Result<(), Closed> {
        match done {
            Ok(Done::Answer(packet, took)) => self.screen.result(&show::answer(&packet, took)),
            Ok(Done::Watch(prefix)) => self.screen.watch = prefix,
            Ok(Done::Help) => self.screen.result(HELP),
            Ok(Done::Nothing) => {}
            Err(Error::Closed(closed)) => return Err(closed),
            Err(e) => self.mistake(&e.to_string()),
        }
        Ok(())
    }

    fn mistake(&mut self, what: &str) {
        self.failed = true;
        self.screen.remark(&format!("!! {}", show::escape(what)));
    }
}

impl Screen {
    fn push(&mut self, push: Result<Packet, Missed>) {
        let Some(prefix) = &self.watch else {
            return;
        };
        match push {
            Ok(packet) if packet.topic.as_str().starts_with(prefix.as_str()) => {
                self.output.result(&show::push(&packet));
            }
            Ok(_) => {}
            Err(missed) => self
                .output
                .remark(&format!("!! {missed}: too many at once")),
        }
    }

    fn result(&mut self, line: &str) {
        self.output.result(line);
    }

    fn remark(&mut self, line: &str) {
        self.output.remark(line);
    }
}

/// What came of a command.
enum Done {
    Answer(Packet, Duration),
    Watch(Option<String>),
    Help,
    Nothing,
}

async fn obey(client: &Client, command: Command, timeout: Duration) -> Result<Done, Error> {
    Ok(match command {
        Command::Request { method, body } => {
            let start = Instant::now();
            let answer = client.request_within(&method, body, timeout).await?;
            Done::Answer(answer, start.elapsed())
        }
        Command::Send { topic, body } => {
            client.send(&topic, body).await?;
            Done::Nothing
        }
        Command::Watch(prefix) => Done::Watch(Some(prefix)),
        Command::Unwatch => Done::Watch(None),
        Command::Wait(time) => {
            tokio::time::sleep(time).await;
            Done::Nothing
        }
        Command::Help => Done::Help,
        // Quitting is up to the session.
        Command::Quit => Done::Nothing,
    })
}
