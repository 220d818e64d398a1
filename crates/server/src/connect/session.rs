//! A connection, and who looks at it.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use tidegate_client::{
    Bytes, Client, Closed, Error, Event, Missed, Packet, PacketError, Pushes, State, Topic,
};
use tokio::time::sleep;

use super::body::{Body, FileError};
use super::command::{Command, CommandError, HELP};
use super::completion::Topics;
use super::console::Lines;
use super::happenings::{Happened, Happenings};
use super::screen::Screen;

/// Pushes shown before a result that came after them, at most.
const PUSHES_BEFORE_RESULT: usize = 128;
/// Pushes that `wait-for` can still find.
const UNCLAIMED: usize = 128;

/// Where commands come from.
pub(super) enum Source {
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
                    // What was entered before Ctrl-C is what that is meant for.
                    biased;
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

/// Why it is over before the commands are.
pub(super) enum Stop {
    Closed(Closed),
    /// The gate drains, and there will be no other connection.
    Left,
    /// Results cannot be written.
    Output(io::Error),
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Self {
        Self::Output(e)
    }
}

/// What came of a command that takes its time.
enum Outcome {
    Answer(Packet, Duration),
    Done,
    Failed(Error, Duration),
    NoBody(FileError),
    NoPush(Duration),
    Interrupted,
}

pub(super) struct Session {
    pub(super) client: Client,
    pub(super) pushes: Pushes,
    pub(super) happenings: Happenings,
    pub(super) screen: Screen,
    /// What is said of the first connection.
    pub(super) greeting: String,
    /// Whether the connection is made again when it is lost.
    pub(super) reconnects: bool,
    /// Whether connections that are made and lost are shown.
    pub(super) tells_states: bool,
    /// That it is over, found out while there still was a result to show.
    pub(super) stop: Option<Stop>,
    /// Whether there has been a connection.
    pub(super) connected: bool,
    pub(super) topics: Topics,
    /// The prefix of the topics whose pushes are shown; none: no pushes.
    pub(super) watch: Option<String>,
    /// Pushes that no `wait-for` has found, and whether they were shown.
    pub(super) unclaimed: VecDeque<(Packet, bool)>,
    pub(super) error_topic: String,
    pub(super) timeout: Duration,
    /// Whether a command has failed.
    pub(super) failed: bool,
}

impl Session {
    /// Obeys until told to quit.
    pub(super) async fn run(&mut self, mut source: Source) -> Result<(), Stop> {
        loop {
            match self.meanwhile(source.next()).await? {
                Next::Command(None) => {}
                Next::Command(Some(Command::Quit)) | Next::End => return Ok(()),
                Next::Command(Some(command)) => self.obey(command, &source).await?,
                Next::Mistake(e) => self.mistake("", "usage", &e.to_string())?,
                Next::Unreadable(e) => self.mistake("", "input", &e.to_string())?,
                Next::Interrupted => self.screen.remark("quit or Ctrl-D leaves"),
            }
        }
    }

    async fn obey(&mut self, command: Command, source: &Source) -> Result<(), Stop> {
        let subject = command.subject().to_owned();
        let timeout = self.timeout;
        let outcome = match command {
            Command::Request { method, body } => {
                self.topics.seen(&method);
                let work = request(self.client.clone(), method, body, timeout);
                self.unless_interrupted(work, source).await?
            }
            Command::Send { topic, body } => {
                self.topics.seen(&topic);
                let work = send(self.client.clone(), topic, body);
                self.unless_interrupted(work, source).await?
            }
            Command::Wait(time) => {
                let work = async {
                    sleep(time).await;
                    Outcome::Done
                };
                self.unless_interrupted(work, source).await?
            }
            Command::WaitFor { prefix, limit } => {
                let limit = limit.unwrap_or(timeout);
                self.wait_for(&prefix, limit, source).await?
            }
            Command::Watch(prefix) => {
                self.watch = Some(prefix);
                Outcome::Done
            }
            Command::Unwatch => {
                self.watch = None;
                Outcome::Done
            }
            Command::State => {
                let (state, stats) = (self.client.state(), self.client.stats());
                self.screen.tell_state(&state, &stats)?;
                Outcome::Done
            }
            Command::Cut if !self.screen.extended => {
                let text = "version 1 has nothing to go on with after its connection";
                self.mistake("cut", "usage", text)?;
                Outcome::Done
            }
            Command::Cut => self.cut(source).await?,
            Command::Help => {
                self.screen.help(HELP)?;
                Outcome::Done
            }
            // Quitting is not up to a command.
            Command::Quit => Outcome::Done,
        };
        match outcome {
            Outcome::Answer(packet, took) => self.screen.answer(&packet, took)?,
            Outcome::Done => {}
            Outcome::Failed(Error::Closed(closed), _) => return Err(Stop::Closed(closed)),
            Outcome::Failed(error, took) => {
                self.failed = true;
                self.screen.failed(&subject, &error, took)?;
            }
            Outcome::NoBody(e) => self.mistake(&subject, "file", &e.to_string())?,
            Outcome::NoPush(limit) => {
                let text = format!("no push whose topic begins with {subject} after {limit:?}");
                self.mistake(&subject, "timeout", &text)?;
            }
            Outcome::Interrupted => self.mistake(&subject, "interrupted", "given up")?,
        }
        Ok(())
    }

    async fn unless_interrupted(
        &mut self,
        work: impl Future<Output = Outcome>,
        source: &Source,
    ) -> Result<Outcome, Stop> {
        self.meanwhile(async {
            tokio::select! {
                outcome = work => outcome,
                () = source.interrupted() => Outcome::Interrupted,
            }
        })
        .await
    }

    /// Shows pushes while work is done.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let mut work = pin!(work);
        let done = loop {
            tokio::select! {
                // An answer that came is not lost for what came after it.
                biased;
                done = &mut work => break done,
                () = std::future::ready(()), if self.stop.is_some() => {}
                happened = self.happenings.next() => self.happened(happened)?,
                push = self.pushes.recv() => self.pushed(push).await?,
            }
            self.stop.take().map_or(Ok(()), Err)?;
        };
        // A session that goes on is told before the answer that it brought.
        match self.show_happened() {
            Err(Stop::Output(error)) => return Err(error.into()),
            ended => self.stop = ended.err().or(self.stop.take()),
        }
        self.show_arrived()?;
        Ok(done)
    }

    /// What was read of the pushes, while there may be more.
    async fn pushed(&mut self, push: Option<Result<Packet, Missed>>) -> Result<(), Stop> {
        match push {
            Some(push) => {
                // A session that goes on is told before what it brings.
                if let State::Open(_) = self.client.state() {
                    self.show_happened()?;
                }
                Ok(self.arrived(push)?)
            }
            // All has been shown that came.
            None => {
                let closed = self.client.closed().await;
                self.show_happened()?;
                Err(Stop::Closed(closed))
            }
        }
    }

    fn show_happened(&mut self) -> Result<(), Stop> {
        while let Some(happened) = self.happenings.already() {
            self.happened(happened)?;
        }
        Ok(())
    }

    /// Tells what happened to connection and session. An error: that is the end.
    fn happened(&mut self, happened: Happened) -> Result<(), Stop> {
        let state = match happened {
            Happened::State(state) => state,
            Happened::Event(Event::NotServed { topic, error }) => {
                self.arrived(Ok(self.told(&topic, &error)?))?;
                return Ok(());
            }
            // Of a request its answer or its failure was told.
            Happened::Event(Event::OutcomeUnknown(packet)) if is_request(&packet) => return Ok(()),
            Happened::Event(event) => return Ok(self.screen.event(&event)?),
            Happened::Missed(Missed(events)) => return Ok(self.screen.missed(events)?),
        };
        match state {
            State::Open(opened) if !self.connected => {
                self.connected = true;
                if self.tells_states {
                    let opened = self.screen.extended.then_some(&opened);
                    self.screen.connected(&self.greeting, opened)?;
                }
            }
            State::Closed(closed) => {
                // What came before it is shown before it.
                self.show_arrived()?;
                return Err(Stop::Closed(closed));
            }
            State::Waiting { why, .. } if self.connected && !self.reconnects => {
                self.show_arrived()?;
                return Err(Stop::Closed(why));
            }
            _ if self.connected && !self.reconnects => return Err(Stop::Left),
            state => {
                if let State::Waiting { .. } = state {
                    self.show_arrived()?;
                }
                if self.tells_states {
                    self.screen.state(&state, self.connected)?;
                }
            }
        }
        Ok(())
    }

    /// An error about a one-way packet, as version 1 has it.
    fn told(&self, of: &str, error: &PacketError) -> io::Result<Packet> {
        let body = serde_json::json!({
            "topic": of,
            "code": error.code.0,
            "message": error.message,
        });
        Packet::try_new(self.error_topic.as_str(), body.to_string()).map_err(io::Error::other)
    }

    /// Loses the connection, and waits until it is lost.
    async fn cut(&mut self, source: &Source) -> Result<Outcome, Stop> {
        let State::Open(_) = self.client.state() else {
            self.mistake("cut", "usage", "there is no connection")?;
            return Ok(Outcome::Done);
        };
        let mut states = self.client.states();
        self.client.cut();
        let lost = async {
            while let Some(State::Open(_)) = states.recv().await {}
            Outcome::Done
        };
        self.unless_interrupted(lost, source).await
    }

    async fn wait_for(
        &mut self,
        prefix: &str,
        limit: Duration,
        source: &Source,
    ) -> Result<Outcome, Stop> {
        let mut over = pin!(sleep(limit));
        loop {
            if self.claim(prefix)? {
                return Ok(Outcome::Done);
            }
            self.stop.take().map_or(Ok(()), Err)?;
            tokio::select! {
                happened = self.happenings.next() => self.happened(happened)?,
                push = self.pushes.recv() => self.pushed(push).await?,
                () = &mut over => return Ok(Outcome::NoPush(limit)),
                () = source.interrupted() => return Ok(Outcome::Interrupted),
            }
        }
    }

    /// Takes the oldest push of this prefix that no `wait-for` has taken.
    fn claim(&mut self, prefix: &str) -> io::Result<bool> {
        let found = self
            .unclaimed
            .iter()
            .position(|(packet, _)| packet.topic.as_str().starts_with(prefix));
        let Some((packet, shown)) = found.and_then(|i| self.unclaimed.remove(i)) else {
            return Ok(false);
        };
        if !shown {
            let error = self.error_in(&packet);
            self.screen.push(&packet, error.as_ref())?;
        }
        Ok(true)
    }

    /// What came before a result is shown before it.
    pub(super) fn show_arrived(&mut self) -> io::Result<()> {
        for _ in 0..PUSHES_BEFORE_RESULT {
            match self.pushes.try_recv() {
                Some(push) => self.arrived(push)?,
                None => break,
            }
        }
        Ok(())
    }

    /// What came before the client ended.
    pub(super) fn show_last(&mut self) -> io::Result<()> {
        while let Some(happened) = self.happenings.already() {
            match self.happened(happened) {
                Ok(()) => {}
                Err(Stop::Output(error)) => return Err(error),
                // It ends anyway.
                Err(Stop::Closed(_) | Stop::Left) => break,
            }
        }
        self.show_arrived()
    }

    fn arrived(&mut self, push: Result<Packet, Missed>) -> io::Result<()> {
        let packet = match push {
            Ok(packet) => packet,
            Err(Missed(packets)) => return self.screen.missed(packets),
        };
        self.topics.seen(packet.topic.as_str());
        let topic = packet.topic.as_str();
        let watched = self.watch.as_deref();
        let shown = watched.is_some_and(|prefix| topic.starts_with(prefix));
        if shown {
            let error = self.error_in(&packet);
            self.screen.push(&packet, error.as_ref())?;
        }
        if self.unclaimed.len() == UNCLAIMED {
            self.unclaimed.pop_front();
        }
        self.unclaimed.push_back((packet, shown));
        Ok(())
    }

    /// Which packet was not served and why, where that is what this one tells.
    fn error_in(&self, packet: &Packet) -> Option<(Topic, PacketError)> {
        match packet.topic.as_str() == self.error_topic {
            true => PacketError::read(&packet.body),
            false => None,
        }
    }

    fn mistake(&mut self, of: &str, kind: &'static str, text: &str) -> io::Result<()> {
        self.failed = true;
        self.screen.mistake(of, kind, text)
    }
}

fn is_request(packet: &Packet) -> bool {
    let route = packet.topic.route();
    route.is_ok_and(|route| route.request_id.is_some())
}

async fn request(client: Client, method: String, body: Body, timeout: Duration) -> Outcome {
    let body = match bytes(body).await {
        Ok(body) => body,
        Err(e) => return Outcome::NoBody(e),
    };
    let start = Instant::now();
    let answer = client.request_within(&method, body, timeout).await;
    let took = start.elapsed();
    match answer {
        Ok(packet) => Outcome::Answer(packet, took),
        Err(e) => Outcome::Failed(e, took),
    }
}

async fn send(client: Client, topic: String, body: Body) -> Outcome {
    let body = match bytes(body).await {
        Ok(body) => body,
        Err(e) => return Outcome::NoBody(e),
    };
    let start = Instant::now();
    match client.send(&topic, body).await {
        Ok(()) => Outcome::Done,
        Err(e) => Outcome::Failed(e, start.elapsed()),
    }
}

/// Reading a file may block: a pipe is one too.
async fn bytes(body: Body) -> Result<Bytes, FileError> {
    match body {
        Body::Bytes(bytes) => Ok(bytes),
        file => match tokio::task::spawn_blocking(|| file.bytes()).await {
            Ok(read) => read,
            Err(e) => std::panic::resume_unwind(e.into_panic()),
        },
    }
}
