//! Instances of services in this process, made reachable: claim of the id, subscriptions,
//! and an end that loses nothing.
//!
//! - This file: registering, and its end.
//! - [`claim`]: whether the id is free, and whether the others of the service agree.
//! - [`intake`]: what came, in order and bounded.
//! - [`serve`]: what becomes of a message, and of its answer.

mod claim;
mod intake;
mod serve;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tidegate::bus::{Bus as _, BusError, Endpoint, InstanceInfo, Registration};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{self, JoinHandle};
use tokio::time::{sleep, timeout};

use crate::bus::Inner;
use crate::counters::LogLimit;
use crate::link::Subscription;
use crate::micro::describe::Described;
use crate::subject::{AllEvent, QUEUE};
use intake::{Intake, Sources};
use serve::Server;

/// Messages served in a row before others have their turn.
const TURN: usize = 64;
/// Lines a second about messages that could not be served.
const LINES: u32 = 1;
/// In a cluster, after how long without a call those that are bound to an instance know that
/// it is about to go. What is on its way between two servers when the subscription ends is
/// dropped by them.
const LEAVE: Duration = Duration::from_millis(250);
/// How often that is waited for.
const LEAVES: u32 = 8;
/// How long the client may take to accept the end of a subscription.
const UNSUBSCRIBE: Duration = Duration::from_secs(1);

/// Makes an instance reachable, for this process and for others. Calls come from when this
/// is done, and perhaps from a moment before, until the registration has ended.
pub(crate) async fn register(
    bus: Arc<Inner>,
    info: InstanceInfo,
    endpoint: Arc<dyn Endpoint>,
) -> Result<Registration, BusError> {
    let link = bus.home.link.clone();
    let described = Arc::new(Described::new(&bus.prefix, info.clone(), rand::random()));
    let claim = claim::claim(&bus, described.clone()).await?;
    let near = bus.near.register(info, endpoint.clone()).await?;
    let sources = subscribe(&bus, described.info()).await?;
    link.fence().await?;
    described.set_claimed();
    bus.learn_own(described.info());
    let server = Arc::new(Server {
        link,
        prefix: bus.prefix.clone(),
        counters: bus.counters.clone(),
        described,
        endpoint,
        runtime: Handle::current(),
        lines: LogLimit::new(LINES),
        leaving: AtomicBool::new(false),
        told: AtomicU64::new(0),
    });
    let (stop, stopped) = oneshot::channel();
    let intake = Intake::new(sources, bus.options.inbound);
    let served = task::spawn(task::unconstrained(serve(server, intake, stopped)));
    Ok(Registration::with_async_end(move || async move {
        // Nobody finds the instance any more; what was sent to it before is served.
        drop(claim);
        near.end().await;
        // It is gone only where its runtime is.
        let _ = stop.send(());
        let _ = served.await;
    }))
}

async fn subscribe(bus: &Inner, info: &InstanceInfo) -> Result<Sources, BusError> {
    let (link, prefix) = (&bus.home.link, &bus.prefix);
    let (service, instance) = (&info.service, &info.instance);
    let all = match (info.wants_started, info.wants_dormancy, info.wants_gates) {
        (false, false, false) => None,
        (true, false, false) => Some(prefix.all(AllEvent::Started)),
        (false, false, true) => Some(prefix.all(AllEvent::GateGone)),
        _ => Some(prefix.all_events()),
    };
    Ok(Sources {
        all: match all {
            // Each service gets one of each.
            Some(subject) => Some(link.subscribe(subject, Some(service)).await?),
            None => None,
        },
        own: link
            .subscribe(prefix.instance_calls_of(service, instance), None)
            .await?,
        calls: link
            .subscribe(prefix.calls_of(service), Some(QUEUE))
            .await?,
    })
}

/// Serves what comes, in its order, until told to stop and all that came is served.
///
/// Runs unconstrained: a subscription that seems to be empty because the task has used up its
/// turn would let a message overtake another.
async fn serve(server: Arc<Server>, mut intake: Intake, stopped: oneshot::Receiver<()>) {
    let mut stopped = Some(stopped);
    let mut leaving: Option<BoxFuture<'static, ()>> = None;
    let mut fence: Option<JoinHandle<()>> = None;
    let link = server.link.clone();
    let mut more = false;
    loop {
        tokio::select! {
            biased;
            _ = wait(&mut stopped) => {
                stopped = None;
                server.leave();
                leaving = Some(has_left(server.clone()).boxed());
            }
            () = elapsed(&mut leaving) => {
                leaving = None;
                intake.sources.unsubscribe().await;
                let link = link.clone();
                fence = Some(task::spawn(async move {
                    // Where the server cannot be reached nothing more comes of it.
                    let _ = link.fence().await;
                }));
            }
            () = joined(&mut fence) => break,
            // Looked at in each turn, however much there is to serve.
            () = poll_fn(|cx| {
                let taken = intake.poll_take(cx, |kind, message| server.refuse(kind, &message));
                if more { Poll::Ready(()) } else { taken }
            }) => {}
        }
        more = turn(&server, &mut intake);
        if more {
            task::yield_now().await;
        }
    }
    // The fence came after everything that the server had sent: it is here.
    intake.take(|kind, message| server.refuse(kind, &message));
    while turn(&server, &mut intake) {
        task::yield_now().await;
    }
}

/// Waits until those bound to the instance know that it goes.
async fn has_left(server: Arc<Server>) {
    if !server.link.is_clustered() {
        return;
    }
    let mut told = server.told();
    for _ in 0..LEAVES {
        sleep(LEAVE).await;
        if std::mem::replace(&mut told, server.told()) == told {
            return;
        }
    }
}

/// Serves some; answers whether there is more.
fn turn(server: &Arc<Server>, intake: &mut Intake) -> bool {
    for _ in 0..TURN {
        match intake.next() {
            Some(message) => server.serve(message),
            None => return false,
        }
    }
    true
}

async fn wait(stopped: &mut Option<oneshot::Receiver<()>>) {
    match stopped {
        // A sender that is gone has left its registration: the same.
        Some(stopped) => drop(stopped.await),
        None => std::future::pending().await,
    }
}

async fn elapsed(leaving: &mut Option<BoxFuture<'static, ()>>) {
    match leaving {
        Some(leaving) => leaving.await,
        None => std::future::pending().await,
    }
}

async fn joined(fence: &mut Option<JoinHandle<()>>) {
    match fence {
        Some(fence) => drop(fence.await),
        None => std::future::pending().await,
    }
}

impl Sources {
    async fn unsubscribe(&mut self) {
        for subscriber in [
            Some(&mut self.calls),
            Some(&mut self.own),
            self.all.as_mut(),
        ]
        .into_iter()
        .flatten()
        {
            end(subscriber).await;
        }
    }
}

/// Ends a subscription so that nothing is lost of what the server has sent, and will have
/// sent until it has read this. A [`fence`](crate::link::Link::fence) afterwards comes after
/// all of that.
///
/// The client's own `drain` and `unsubscribe` forget the subscription before the server has:
/// messages that come meanwhile are dropped. Told to end it after more messages than can
/// come, the client keeps it. The server ends it at once: the number is above its largest,
/// and to end after no number of messages is to end now.
pub(crate) async fn end(subscriber: &mut Subscription) {
    // While there is no connection the client takes in commands only up to a number.
    let _ = timeout(UNSUBSCRIBE, subscriber.unsubscribe_after(u64::MAX)).await;
}
