//! A client and a gate that number what they send each other, with a proxy between them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tidegate::bus::GateError;
use tidegate::{Gate, Guests, RunningGate, Service, Session, State, Tcp, WebSocket};
use tidegate_client::{Backoff, Client, Error, Event};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::history::{Fault, History};
use super::meddle::Meddling;
use super::proxy::Proxy;

/// What nothing may need.
const LONG: Duration = Duration::from_secs(300);
/// How long packets and answers may be on their way before they are lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// How far a sender may be ahead of what has arrived.
const AHEAD: u64 = 48;
/// Requests that wait for their answers, at most: below what the gate serves at a time.
const ASKED: usize = 12;

/// What became of one client.
pub struct Outcome {
    /// What the service got: one-way packets and requests in one series.
    pub up: Result<(), Fault>,
    /// The pushes that the client got.
    pub down: Result<(), Fault>,
    /// Packets sent, both ways.
    pub sent: (u64, u64),
}

/// The gate's side of each client, by number.
#[derive(Clone, Default)]
struct Sides(Arc<Mutex<HashMap<u32, Arc<Side>>>>);

impl Sides {
    fn side(&self, client: u32) -> Arc<Side> {
        self.0.lock().entry(client).or_default().clone()
    }
}

/// What service and client know of each other, beside what they send.
struct Side {
    taken: Mutex<History>,
    /// How many packets the service took; how many pushes the client got.
    up: watch::Sender<u64>,
    down: watch::Sender<u64>,
    /// Nothing more is to be sent.
    over: watch::Sender<bool>,
    /// Something is wrong: what is on its way need not arrive.
    broken: watch::Sender<bool>,
    /// How many pushes were sent, in the end.
    pushed: watch::Sender<Option<u64>>,
}

impl Default for Side {
    fn default() -> Self {
        Self {
            taken: Mutex::default(),
            up: watch::Sender::new(0),
            down: watch::Sender::new(0),
            over: watch::Sender::new(false),
            broken: watch::Sender::new(false),
            pushed: watch::Sender::new(None),
        }
    }
}

impl Side {
    /// Something is wrong.
    fn fault(&self, fault: Fault) {
        self.taken.lock().note(fault);
        self.break_off();
    }

    fn break_off(&self) {
        self.broken.send_replace(true);
        self.over.send_replace(true);
    }

    /// Waits until all of them have arrived, unless something is wrong: what is lost does
    /// not arrive.
    async fn all_arrived(&self, arrived: &watch::Sender<u64>, n: u64) {
        let (mut arrived, mut broken) = (arrived.subscribe(), self.broken.subscribe());
        let settled = async {
            tokio::select! {
                _ = broken.wait_for(|broken| *broken) => {}
                _ = arrived.wait_for(|arrived| *arrived >= n) => {}
            }
        };
        let _ = timeout(PATIENCE, settled).await;
    }

    /// Waits until this many have arrived, or nothing more is to be sent.
    async fn arrived(&self, arrived: &watch::Sender<u64>, n: u64) -> bool {
        let mut arrived = arrived.subscribe();
        let mut over = self.over.subscribe();
        tokio::select! {
            biased;
            _ = over.wait_for(|over| *over) => false,
            _ = arrived.wait_for(|arrived| *arrived >= n) => true,
            () = sleep(PATIENCE) => {
                self.fault(Fault::Lost(n));
                false
            }
        }
    }

    fn take(&self, n: u64) {
        let mut taken = self.taken.lock();
        let count = taken.record(n);
        if taken.fault().is_some() {
            self.break_off();
        }
        drop(taken);
        self.up.send_replace(count);
    }
}

fn read(body: &[u8]) -> (u32, u64) {
    let text = std::str::from_utf8(body).unwrap();
    let (client, n) = text.split_once(' ').unwrap();
    (client.parse().unwrap(), n.parse().unwrap())
}

/// Begins to push to the client, until all is over.
async fn begin(State(sides): State<Sides>, session: Session, body: Bytes) -> Bytes {
    let (client, _) = read(&body);
    let side = sides.side(client);
    let session = session.handle();
    tokio::spawn(async move {
        let mut n = 0;
        while side
            .arrived(&side.down, (n + 1u64).saturating_sub(AHEAD))
            .await
        {
            let body = (n + 1).to_string();
            match session.send("push/n", body).await {
                Ok(()) => n += 1,
                Err(GateError::QueueFull) => sleep(Duration::from_millis(1)).await,
                Err(error) => {
                    let fault = Fault::Session(format!("push {n}: {error}"));
                    side.fault(fault);
                }
            }
        }
        side.pushed.send_replace(Some(n));
    });
    body
}

async fn tell(State(sides): State<Sides>, body: Bytes) {
    let (client, n) = read(&body);
    sides.side(client).take(n);
}

async fn ask(State(sides): State<Sides>, body: Bytes) -> Bytes {
    let (client, n) = read(&body);
    sides.side(client).take(n);
    body
}

/// A gate with the service, on TCP and WebSocket.
pub struct Rig {
    gate: RunningGate,
    sides: Sides,
}

impl Rig {
    pub async fn start() -> Self {
        let sides = Sides::default();
        let service = Service::new("n")
            .state(sides.clone())
            .request("begin", begin)
            .open_to(Guests)
            .one_way("tell", tell)
            .open_to(Guests)
            .request("ask", ask)
            .open_to(Guests);
        let gate = Gate::builder()
            .listen(Tcp::bind("127.0.0.1:0").resume_over_plaintext(true))
            .listen(WebSocket::bind("127.0.0.1:0").resume_over_plaintext(true))
            .service(service)
            .shards(2)
            .start()
            .await
            .unwrap();
        Self { gate, sides }
    }

    pub async fn stop(self) {
        self.gate.stop().await;
    }

    /// Lets a client and the service send each other packets while a proxy cuts.
    pub async fn run(
        &self,
        number: u32,
        websocket: bool,
        seed: u64,
        cuts: u32,
        meddling: Option<Meddling>,
    ) -> Outcome {
        let address = self.gate.address(usize::from(websocket)).unwrap();
        let proxy = Proxy::start(address, seed, cuts, meddling).await;
        let url = match websocket {
            true => format!("ws://{}/", proxy.address),
            false => format!("tcp://{}", proxy.address),
        };
        let side = self.sides.side(number);
        let client = Client::builder(&url)
            .backoff(Backoff {
                base: Duration::from_millis(1),
                cap: Duration::from_millis(8),
            })
            .request_timeout(PATIENCE)
            .push_buffer(1024)
            .start()
            .unwrap();
        let down = tokio::spawn(receive(client.clone(), side.clone()));
        let watching = tokio::spawn(watch_session(client.clone(), side.clone()));

        let up = timeout(LONG, send(&client, number, &side, &proxy)).await;
        let up = up.expect("something hangs");
        let mut pushed = side.pushed.subscribe();
        let pushed = pushed.wait_for(Option::is_some).await;
        let pushed = pushed.map_or(0, |n| n.unwrap_or_default());
        side.all_arrived(&side.down, pushed).await;
        client.close().await;
        watching.await.unwrap();
        let taken = side.taken.lock().finish(up);
        Outcome {
            up: taken,
            down: down.await.unwrap().finish(pushed),
            sent: (up, pushed),
        }
    }
}

/// Sends numbered packets until the proxy is done, and all have been taken. Answers how
/// many.
async fn send(client: &Client, number: u32, side: &Arc<Side>, proxy: &Proxy) -> u64 {
    type Asking<'a> = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>>;
    let mut broken = side.broken.subscribe();
    let begun = tokio::select! {
        begun = client.request("n/begin", format!("{number} 0")) => begun,
        _ = broken.wait_for(|broken| *broken) => Err(Error::OutcomeUnknown),
    };
    if let Err(error) = begun {
        side.fault(Fault::Session(error.to_string()));
        side.pushed.send_replace(Some(0));
        return 0;
    }
    let mut asking = FuturesUnordered::<Asking<'_>>::new();
    let mut n = 0;
    let fault = loop {
        if !side
            .arrived(&side.up, (n + 1u64).saturating_sub(AHEAD))
            .await
        {
            break None;
        }
        let done = proxy.is_done() && n > 200;
        if asking.len() >= ASKED || (done && !asking.is_empty()) {
            // What is lost is not answered.
            let mut broken = side.broken.subscribe();
            tokio::select! {
                answered = asking.next() => match answered {
                    Some(Err(fault)) => break Some(fault),
                    _ => continue,
                },
                _ = broken.wait_for(|broken| *broken) => break None,
            }
        }
        if done {
            side.all_arrived(&side.up, n).await;
            break None;
        }
        n += 1;
        let body = format!("{number} {n}");
        if n % 3 > 0 {
            if let Err(error) = client.send("n/tell", body).await {
                break Some(Fault::Session(error.to_string()));
            }
            continue;
        }
        let mut ask: Asking<'_> = Box::pin(async move {
            let answer = client.request("n/ask", body.clone()).await;
            match answer {
                Ok(answer) if answer == body => Ok(()),
                Ok(_) => Err(Fault::Again(n)),
                Err(Error::Closed(closed)) => Err(Fault::Session(closed.to_string())),
                Err(error) => Err(Fault::Session(error.to_string())),
            }
        });
        // Queued now, in its turn.
        let polled = std::future::poll_fn(|cx| Poll::Ready(ask.as_mut().poll(cx)));
        if polled.await.is_pending() {
            asking.push(ask);
        }
    };
    if let Some(fault) = fault {
        side.fault(fault);
    }
    side.over.send_replace(true);
    n
}

/// Looks at the pushes.
async fn receive(client: Client, side: Arc<Side>) -> History {
    let mut pushes = client.pushes();
    let mut history = History::default();
    let mut stray = None;
    while let Some(push) = pushes.recv().await {
        match push {
            Ok(packet) if packet.topic.as_str() == "push/n" => {
                let n = std::str::from_utf8(&packet.body).unwrap();
                side.down.send_replace(history.record(n.parse().unwrap()));
            }
            // An answer that nobody waits for: it came before.
            Ok(packet) => {
                stray.get_or_insert(Fault::Session(format!("{} again", packet.topic)));
            }
            Err(missed) => history.note(Fault::Session(missed.to_string())),
        }
        if history.fault().is_some() {
            side.break_off();
        }
    }
    if let Some(stray) = stray {
        history.note(stray);
    }
    history
}

/// Looks whether the session goes on.
async fn watch_session(client: Client, side: Arc<Side>) {
    let (mut states, mut events) = (client.states(), client.events());
    let mut session = None;
    loop {
        let fault = tokio::select! {
            state = states.recv() => match state {
                Some(tidegate_client::State::Open(open)) => {
                    let first = session.get_or_insert_with(|| open.session.clone());
                    // The first may begin again, when its welcome never arrived.
                    (*first != open.session).then(|| match open.refused {
                        Some(refused) => Fault::Session(refused.to_string()),
                        None => Fault::Session("another session".to_owned()),
                    })
                }
                Some(tidegate_client::State::Closed(closed)) => {
                    let by_us = closed.cause == tidegate_client::Cause::Client;
                    if !by_us {
                        side.fault(Fault::Session(closed.to_string()));
                    }
                    return;
                }
                Some(tidegate_client::State::Waiting { why, .. }) => {
                    let broken = why.cause == tidegate_client::Cause::Protocol;
                    broken.then(|| Fault::Session(why.to_string()))
                }
                Some(_) => None,
                None => return,
            },
            event = events.recv() => match event {
                // Which session it was, and why, is said next.
                Some(Ok(Event::OutcomeUnknown(_))) => None,
                Some(event) => Some(Fault::Session(format!("{event:?}"))),
                None => None,
            },
        };
        if let Some(fault) = fault {
            side.fault(fault);
        }
    }
}
