//! The `chat` service: rooms, names, who is on-line, private messages.
//!
//! It is written as any service is: with the kit, and nothing of the gate it runs in. It
//! could run in a process of its own.
//!
//! - This file: the methods. [`room`]: those about rooms.
//! - [`people`]: who is there, and in which room. [`open_room`]: one room.
//! - [`place`]: puts a session where its person is: group and settings.
//! - [`member`]: sessions of who is there. [`input`]: bodies, JSON or what someone types. [`event`]: what is pushed.
//!   [`error`]: what can go wrong.
//!
//! A person has a name, which is in the session's settings, and is in exactly one room;
//! everyone begins in the lobby. Who takes another name keeps the one they logged in with, as
//! the session's user: nobody else gets it meanwhile. A room is there as long as someone is in
//! it, and remembers what was said last. Whoever opened it may send others out of it; when they
//! leave, that passes to who has been there for longest. Members of a room are a group of
//! sessions. Who is there is kept in memory, so there is one instance of this service. One that
//! is started anew learns from people's sessions who and where they are, as they come by; what
//! was said is forgotten. People who were there by way of a gate that has died have left.
//!
//! A person whose connection is lost stays where they are while the session waits for them;
//! the others see them away, and what is said meanwhile is kept for them.
//!
//! | Method | Body | Plain body | |
//! | --- | --- | --- | --- |
//! | `login` | `{"name"}` | the name | answers `{"name", "room", "online", "count"}` |
//! | `rename` | `{"name"}` | the name | answers `{"name"}` |
//! | `join` | `{"room"}` | the room | answers `{"room", "people", "count"}` |
//! | `leave` | – | – | back to the lobby; answers as `join` does |
//! | `rooms` | – | – | answers `{"rooms": [{"room", "people", "owner"}], "count"}` |
//! | `who` | `{"room"}` or – | a room or nothing | answers `{"people": [{"name", "room", "away"}], "count"}` |
//! | `me` | – | – | answers `{"name", "room"}` |
//! | `history` | – | – | what was said last in the room: answers `{"room", "said"}`, a list of `chat/said` |
//! | `say` | `{"text"}` | the text | one-way; to the room |
//! | `tell` | `{"to", "text"}` | name, space, text | one-way; to one person |
//! | `kick` | `{"name"}` | the name | one-way; into the lobby |
//!
//! Pushed: `chat/said` `{"room", "from", "text", "at"}` (also to who said it), `chat/told`
//! `{"from", "text", "at"}`, `chat/joined` and `chat/left` `{"room", "name"}`,
//! `chat/renamed` `{"room", "name", "was"}`, `chat/kicked` `{"room", "by"}`, `chat/owner`
//! `{"room", "name"}`, `chat/away` `{"room", "name", "away"}`. `at` is in milliseconds since
//! 1970; no two messages of a room have the same. `chat/away` is the latest word about someone,
//! all others are critical.

mod error;
mod event;
mod input;
mod member;
mod name;
mod open_room;
mod people;
mod place;
mod room;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate::bus::{Connected, GateGone};
use tidegate::{Clients, Guests, Json, Service, Session, SessionId, State};

use error::ChatError;
use event::{Event, SAID, now};
use input::{Input, Plain};
use member::Member;
use name::ChatName;
use people::{Gone, Listed, ListedPerson, People};

/// Longest text, in characters.
const MAX_TEXT: usize = 2_000;

/// The service, with nobody in it.
pub(crate) fn service() -> Service {
    Service::new("chat")
        .version(env!("CARGO_PKG_VERSION"))
        .state(People::default())
        .request("login", login)
        .open_to(Guests)
        .request("rename", rename)
        .request("join", room::join)
        .request("leave", room::leave)
        .request("rooms", room::rooms)
        .request("who", who)
        .request("me", me)
        .request("history", room::history)
        .one_way("say", say)
        .one_way("tell", tell)
        .one_way("kick", room::kick)
        .on_dormant(away)
        .on_resumed(back)
        .on_disconnect(left)
        .on_gate_gone(left_behind)
}

/// A body that is one name.
#[derive(Debug, Deserialize)]
struct Name {
    name: String,
}

impl Plain for Name {
    fn plain(text: &str) -> Self {
        Self {
            name: text.to_owned(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Welcome {
    name: String,
    room: String,
    online: Vec<String>,
    /// How many are on-line; not all need be listed.
    count: usize,
}

async fn login(
    session: Session,
    State(people): State<People>,
    clients: Clients,
    Input(request): Input<Name>,
) -> Result<Json<Welcome>, ChatError> {
    if !session.is_guest() {
        return Err(ChatError::LoggedIn);
    }
    let name = ChatName::new(&request.name)?;
    // The name is taken before the session has it: of two who want it, one gets it.
    people.enter(session.handle(), &name)?;
    if let Err(error) = settle_in(&session, &people, &clients, &name).await {
        people.leave(session.id());
        // As it was, if it is still there.
        let _ = session.unbind().await;
        return Err(error);
    }
    let Listed { list, count } = people.online(None)?;
    Ok(Json(Welcome {
        name: name.to_string(),
        room: people.room_of(session.id())?.to_string(),
        online: list.into_iter().map(|person| person.name).collect(),
        count,
    }))
}

async fn settle_in(
    session: &Session,
    people: &People,
    clients: &Clients,
    name: &ChatName,
) -> Result<(), ChatError> {
    session.bind(name.as_str()).await?;
    session.set("name", name.as_str()).await?;
    let lobby = people.room_of(session.id())?;
    let joined = Event::Joined { room: &lobby, name };
    joined.to_room(clients, &lobby).await?;
    place::settle(people, session.id()).await
}

async fn rename(
    session: Member,
    State(people): State<People>,
    clients: Clients,
    Input(request): Input<Name>,
) -> Result<Json<serde_json::Value>, ChatError> {
    let name = ChatName::new(&request.name)?;
    let was = people.rename(session.id(), &name)?;
    if was != name {
        // Not the user: who is bound anew would have to log in again after a lost connection.
        if let Err(error) = session.set("name", name.as_str()).await {
            let _ = people.rename(session.id(), &was);
            return Err(error.into());
        }
        let room = people.room_of(session.id())?;
        let renamed = Event::Renamed {
            room: &room,
            name: &name,
            was: &was,
        };
        renamed.to_room(&clients, &room).await?;
    }
    Ok(Json(json!({ "name": name })))
}

/// A body that may name a room.
#[derive(Debug, Deserialize)]
struct MaybeRoom {
    room: Option<String>,
}

impl Plain for MaybeRoom {
    fn plain(text: &str) -> Self {
        Self {
            room: (!text.is_empty()).then(|| text.to_owned()),
        }
    }
}

/// The answer to `who`.
#[derive(Debug, Serialize)]
struct Online {
    people: Vec<ListedPerson>,
    /// How many there are; not all need be listed.
    count: usize,
}

async fn who(
    _: Member,
    State(people): State<People>,
    Input(request): Input<MaybeRoom>,
) -> Result<Json<Online>, ChatError> {
    let room = request.room.map(|room| ChatName::new(&room)).transpose()?;
    let Listed { list, count } = people.online(room.as_ref())?;
    Ok(Json(Online {
        people: list,
        count,
    }))
}

async fn me(
    session: Member,
    State(people): State<People>,
) -> Result<Json<serde_json::Value>, ChatError> {
    let name = people.name_of(session.id())?;
    let room = people.room_of(session.id())?;
    Ok(Json(json!({ "name": name, "room": room })))
}

/// A body that is a text.
#[derive(Debug, Deserialize)]
struct Said {
    text: String,
}

impl Plain for Said {
    fn plain(text: &str) -> Self {
        Self {
            text: text.to_owned(),
        }
    }
}

async fn say(
    session: Member,
    State(people): State<People>,
    clients: Clients,
    Input(said): Input<Said>,
) -> Result<(), ChatError> {
    check_text(&said.text)?;
    let (room, body) = people.say(session.id(), &said.text)?;
    let group = clients.to_group(place::group(&room));
    match group.send(SAID, body).await?.taken() {
        0 => Err(ChatError::NotDelivered),
        _ => Ok(()),
    }
}

/// A body that is a text for someone.
#[derive(Debug, Deserialize)]
struct Told {
    to: String,
    text: String,
}

impl Plain for Told {
    fn plain(text: &str) -> Self {
        let (to, text) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        Self {
            to: to.to_owned(),
            text: text.trim_start().to_owned(),
        }
    }
}

async fn tell(
    session: Member,
    State(people): State<People>,
    Input(told): Input<Told>,
) -> Result<(), ChatError> {
    check_text(&told.text)?;
    let from = people.name_of(session.id())?;
    let to = people.find(&ChatName::new(&told.to)?)?;
    let told = Event::Told {
        from: &from,
        text: &told.text,
        at: now(),
    };
    told.to_session(&to).await
}

async fn left(
    session: Session,
    State(people): State<People>,
    clients: Clients,
) -> Result<(), ChatError> {
    is_gone(session.id(), &people, &clients).await
}

/// A gate died, and the sessions that it had. Those that it has now that it is back live.
async fn left_behind(
    gone: GateGone,
    State(people): State<People>,
    clients: Clients,
) -> Result<(), ChatError> {
    let mut done = Ok(());
    for session in people.by_way_of(&gone.gate) {
        if !matches!(
            session.connected().await,
            Ok(Connected::Attached | Connected::Dormant)
        ) {
            // The others are told nevertheless.
            done = done.and(is_gone(session.id(), &people, &clients).await);
        }
    }
    done
}

async fn is_gone(id: SessionId, people: &People, clients: &Clients) -> Result<(), ChatError> {
    // A guest who never logged in is not there.
    let Some(Gone { name, room, owner }) = people.leave(id) else {
        return Ok(());
    };
    let left = Event::Left {
        room: &room,
        name: &name,
    };
    left.to_room(clients, &room).await?;
    room::owned(clients, &room, owner.as_ref()).await
}

async fn away(
    session: Member,
    State(people): State<People>,
    clients: Clients,
) -> Result<(), ChatError> {
    show_away(&session, &people, &clients, true).await
}

async fn back(
    session: Member,
    State(people): State<People>,
    clients: Clients,
) -> Result<(), ChatError> {
    show_away(&session, &people, &clients, false).await
}

async fn show_away(
    session: &Session,
    people: &People,
    clients: &Clients,
    away: bool,
) -> Result<(), ChatError> {
    let Some((name, room)) = people.set_away(session.id(), away) else {
        return Ok(());
    };
    let event = Event::Away {
        room: &room,
        name: &name,
        away,
        session: session.id(),
    };
    event.to_room(clients, &room).await?;
    Ok(())
}

fn check_text(text: &str) -> Result<(), ChatError> {
    match text.chars().take(MAX_TEXT + 1).count() {
        1..=MAX_TEXT => Ok(()),
        _ => Err(ChatError::BadText),
    }
}
