//! The claim of an instance's id: nobody else answers under it, and those who do under
//! others of the service declare it in the same way.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use tidegate::bus::{BusError, InstanceInfo};
use tokio::task::{self, AbortHandle};
use tokio::time::{Instant, timeout, timeout_at};

use crate::bus::Inner;
use crate::link::Link;
use crate::micro::Verb;
use crate::micro::describe::Described;
use crate::micro::read::{self, Found};
use crate::mux::AskError;

/// For the answer of one that has the same id. One that says nothing for so long has lost it.
const PING: Duration = Duration::from_secs(1);
/// Others of the service that have not answered after this silence are not heard.
const SILENCE: Duration = Duration::from_millis(200);
/// For the answers of all others of the service.
const LONGEST: Duration = Duration::from_secs(3);

/// Answers `$SRV` for an instance, until dropped.
pub(super) struct Claim(AbortHandle);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Claims the id, or tells who has it.
pub(super) async fn claim(bus: &Inner, described: Arc<Described>) -> Result<Claim, BusError> {
    let info = described.info();
    let subject = Verb::Ping.instance(&info.service, &info.instance);
    match bus.home.ask(subject, None, Bytes::new(), PING).await {
        Ok(_) => return Err(taken(info)),
        Err(AskError::NoResponders) => {}
        Err(AskError::OutcomeUnknown) if bus.home.link.is_up() => {
            let (service, instance) = (&*info.service, &*info.instance);
            tracing::warn!(
                service,
                instance,
                "one with this id listens and says nothing"
            );
        }
        Err(error) => return Err(BusError::Unavailable(error.to_string())),
    }
    // From here on whoever claims the same id hears of this one.
    let claim = answer(bus, described.clone()).await?;
    bus.home.link.fence().await?;
    let mine = described.claim();
    let mut heard_self = false;
    for other in others(bus, &described).await {
        let same = other.info.instance == info.instance;
        if same && other.claim == Some(mine) {
            heard_self = true;
            continue;
        }
        // Of several that claim at once the smallest number goes first.
        let goes_first = other.claim.is_none_or(|claim| claim < mine);
        if same && goes_first {
            return Err(taken(info));
        }
        if let Some(what) = read::disagreement(info, &other.info)
            && other.keeps_spec
            && goes_first
        {
            let service = info.service.clone();
            return Err(BusError::Disagrees { service, what });
        }
    }
    match heard_self {
        true if described.wins() => Ok(claim),
        true => Err(taken(info)),
        false => Err(BusError::Unavailable(
            "no answer to $SRV.INFO comes back: may this process ask, and answer?".to_owned(),
        )),
    }
}

fn taken(info: &InstanceInfo) -> BusError {
    BusError::Taken(format!("instance {} of {}", info.instance, info.service))
}

/// The instances of the service that answer, this one too.
async fn others(bus: &Inner, described: &Described) -> Vec<Found> {
    let info = described.info();
    let subject = Verb::Info.service(&info.service);
    // Of two that claim one id each hears the other's question, or has its own heard by it.
    let question = described.question().into();
    let mut answers = bus.home.gather(subject, None, question, LONGEST);
    let until = Instant::now() + LONGEST;
    let mut found = Vec::new();
    loop {
        // Its own answer is to be expected; others' come at about the same time.
        let silence = if found.is_empty() { LONGEST } else { SILENCE };
        let next = timeout_at(until, timeout(silence, answers.next())).await;
        let Ok(Ok(Some(Ok(message)))) = next else {
            return found;
        };
        match read::read_info(&bus.prefix, &message.payload) {
            Ok(Some(other)) if other.info.service == info.service => found.push(other),
            Ok(_) => {}
            Err(malformed) => {
                bus.malformed(&message.subject, &malformed);
            }
        }
    }
}

/// Subscribes to everything that is asked of the instance, and answers.
async fn answer(bus: &Inner, described: Arc<Described>) -> Result<Claim, BusError> {
    let (link, prefix) = (&bus.home.link, bus.prefix.clone());
    let info = described.info();
    let mut asked = Vec::new();
    for verb in Verb::ALL {
        for subject in [
            verb.all(),
            verb.service(&info.service),
            verb.instance(&info.service, &info.instance),
        ] {
            let subscriber = link.subscribe(subject, None).await?;
            asked.push(subscriber.map(move |message| (verb, message)));
        }
    }
    let link = link.clone();
    let task = task::spawn(async move {
        let mut asked = select_all(asked);
        while let Some((verb, message)) = asked.next().await {
            if verb == Verb::Info {
                described.asked_by(&message.payload);
            }
            if message
                .reply
                .as_deref()
                .is_some_and(|to| prefix.takes_replies(to))
            {
                reply(&link, message, described.answer(verb));
            }
        }
    });
    Ok(Claim(task.abort_handle()))
}

/// Who asks gets no answer where there is no room for it, and asks again.
fn reply(link: &Link, message: Message, body: Bytes) {
    if let Some(to) = message.reply
        && let Err(error) = link.publish(to, None, None, body)
    {
        tracing::debug!(%error, "an answer to $SRV was not sent");
    }
}
