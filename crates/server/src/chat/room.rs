//! Methods about rooms.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidegate::{Clients, Json, Session, State};

use super::error::ChatError;
use super::event::Event;
use super::input::{Input, Plain};
use super::member::Member;
use super::name::ChatName;
use super::people::{Listed, ListedRoom, Moved, People};
use super::{Name, place};

/// A body that is a room.
#[derive(Debug, Deserialize)]
pub(super) struct Room {
    room: String,
}

impl Plain for Room {
    fn plain(text: &str) -> Self {
        Self {
            room: text.to_owned(),
        }
    }
}

/// The answer to `join` and `leave`.
#[derive(Debug, Serialize)]
pub(super) struct Arrived {
    room: ChatName,
    people: Vec<String>,
    /// How many are in the room; not all need be listed.
    count: usize,
}

/// The answer to `rooms`.
#[derive(Debug, Serialize)]
pub(super) struct Rooms {
    rooms: Vec<ListedRoom>,
    /// How many there are; not all need be listed.
    count: usize,
}

/// No body is wanted, and none is looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

impl Plain for Nothing {
    fn plain(_: &str) -> Self {
        Self {}
    }
}

pub(super) async fn join(
    session: Member,
    State(people): State<People>,
    clients: Clients,
    Input(request): Input<Room>,
) -> Result<Json<Arrived>, ChatError> {
    let room = ChatName::new(&request.room)?;
    let moved = people.move_to(session.id(), &room)?;
    arrived(&session, &people, &clients, moved).await
}

pub(super) async fn leave(
    session: Member,
    State(people): State<People>,
    clients: Clients,
    Input(Nothing {}): Input<Nothing>,
) -> Result<Json<Arrived>, ChatError> {
    let moved = people.move_to(session.id(), &people.lobby())?;
    arrived(&session, &people, &clients, moved).await
}

/// Tells both rooms, and answers who is in the new one.
async fn arrived(
    session: &Session,
    people: &People,
    clients: &Clients,
    moved: Moved,
) -> Result<Json<Arrived>, ChatError> {
    let told = announce(clients, &moved).await;
    place::settle(people, session.id()).await?;
    told?;
    let Listed { list, count } = people.online(Some(&moved.to))?;
    Ok(Json(Arrived {
        room: moved.to,
        people: list.into_iter().map(|person| person.name).collect(),
        count,
    }))
}

/// Tells the room that was left and the one that was entered; who moved is still in the
/// first one's group and not yet in the second one's.
async fn announce(clients: &Clients, moved: &Moved) -> Result<(), ChatError> {
    let Moved {
        name,
        from,
        to,
        owner,
    } = moved;
    if from != to {
        Event::Left { room: from, name }
            .to_room(clients, from)
            .await?;
        Event::Joined { room: to, name }
            .to_room(clients, to)
            .await?;
    }
    owned(clients, from, owner.as_ref()).await
}

/// Tells a room whose it is now, where that has changed.
pub(super) async fn owned(
    clients: &Clients,
    room: &ChatName,
    owner: Option<&ChatName>,
) -> Result<(), ChatError> {
    if let Some(name) = owner {
        Event::Owner { room, name }.to_room(clients, room).await?;
    }
    Ok(())
}

/// The answer to `history`.
#[derive(Debug, Serialize)]
pub(super) struct History {
    room: ChatName,
    said: Vec<Box<RawValue>>,
}

pub(super) async fn history(
    session: Member,
    State(people): State<People>,
    Input(Nothing {}): Input<Nothing>,
) -> Result<Json<History>, ChatError> {
    let (room, said) = people.history(session.id())?;
    Ok(Json(History { room, said }))
}

pub(super) async fn rooms(
    _: Member,
    State(people): State<People>,
    Input(Nothing {}): Input<Nothing>,
) -> Result<Json<Rooms>, ChatError> {
    let Listed { list, count } = people.rooms();
    Ok(Json(Rooms { rooms: list, count }))
}

pub(super) async fn kick(
    session: Member,
    State(people): State<People>,
    clients: Clients,
    Input(request): Input<Name>,
) -> Result<(), ChatError> {
    let name = ChatName::new(&request.name)?;
    let by = people.name_of(session.id())?;
    let (kicked, moved) = people.kick(session.id(), &name)?;
    let told = Event::Kicked {
        room: &moved.from,
        by: &by,
    };
    // Whether or not there is room in the queue: the session is moved.
    let _ = told.to_session(&kicked).await;
    let told = announce(&clients, &moved).await;
    place::settle(&people, kicked.id()).await?;
    told
}
