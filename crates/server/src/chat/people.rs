//! Who is there, and in which room.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tidegate::SessionId;
use tidegate::service::SessionHandle;

use super::error::ChatError;
use super::name::{ChatName, Fold};

/// Most people at a time.
const MAX_PEOPLE: usize = 10_000;
/// Most rooms at a time.
const MAX_ROOMS: usize = 1_000;
/// Most that one answer lists: it must fit a frame.
const MAX_LISTED: usize = 200;
/// Where everyone begins. It is always there and has no owner.
const LOBBY: &str = "lobby";

/// Everyone who is there. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub(super) struct People(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    people: HashMap<SessionId, Person>,
    by_name: BTreeMap<Fold, SessionId>,
    rooms: BTreeMap<Fold, Room>,
    lobby: ChatName,
}

#[derive(Debug)]
struct Person {
    name: ChatName,
    session: SessionHandle,
    /// Where the person is.
    room: ChatName,
    /// The room whose group the session is in.
    settled: Option<ChatName>,
    /// Whether someone is putting the session into the right group.
    settling: bool,
}

#[derive(Debug)]
struct Room {
    name: ChatName,
    /// Who opened it; nobody once they have left.
    owner: Option<SessionId>,
    people: usize,
}

/// The beginning of a list, and how long it would be.
#[derive(Debug)]
pub(super) struct Listed<T> {
    pub(super) list: Vec<T>,
    pub(super) count: usize,
}

/// A person in a list.
#[derive(Debug, Serialize)]
pub(super) struct ListedPerson {
    pub(super) name: String,
    room: String,
}

/// A room in a list.
#[derive(Debug, Serialize)]
pub(super) struct ListedRoom {
    room: String,
    people: usize,
    owner: Option<String>,
}

/// Someone went from one room to another.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) name: ChatName,
    pub(super) from: ChatName,
    pub(super) to: ChatName,
}

/// What there is to do for a session to be settled: leave a group, join another.
pub(super) type Step = (SessionHandle, Option<ChatName>, ChatName);

impl People {
    /// The lobby.
    pub(super) fn lobby(&self) -> ChatName {
        self.0.lock().lobby.clone()
    }

    /// Takes a name and goes to the lobby.
    pub(super) fn enter(&self, session: SessionHandle, name: &ChatName) -> Result<(), ChatError> {
        let mut state = self.0.lock();
        let id = session.id();
        if state.people.contains_key(&id) {
            return Err(ChatError::LoggedIn);
        }
        if state.by_name.contains_key(name.folded()) {
            return Err(ChatError::NameTaken);
        }
        if state.people.len() >= MAX_PEOPLE {
            return Err(ChatError::Full);
        }
        let room = state.lobby.clone();
        state.enter_room(&room, id)?;
        state.by_name.insert(name.folded().clone(), id);
        let person = Person {
            name: name.clone(),
            session,
            room,
            settled: None,
            settling: false,
        };
        state.people.insert(id, person);
        Ok(())
    }

    /// Is there no more. Answers name and room of who was.
    pub(super) fn leave(&self, id: SessionId) -> Option<(ChatName, ChatName)> {
        let mut state = self.0.lock();
        let person = state.people.remove(&id)?;
        state.by_name.remove(person.name.folded());
        state.leave_room(&person.room, id);
        Some((person.name, person.room))
    }

    /// Takes another name; answers the one before.
    pub(super) fn rename(&self, id: SessionId, name: &ChatName) -> Result<ChatName, ChatError> {
        let mut state = self.0.lock();
        if !state.people.contains_key(&id) {
            return Err(ChatError::NotLoggedIn);
        }
        if state
            .by_name
            .get(name.folded())
            .is_some_and(|other| *other != id)
        {
            return Err(ChatError::NameTaken);
        }
        let person = state.person_mut(id)?;
        let was = std::mem::replace(&mut person.name, name.clone());
        state.by_name.remove(was.folded());
        state.by_name.insert(name.folded().clone(), id);
        Ok(was)
    }

    /// Goes to a room; who comes first opens it.
    pub(super) fn move_to(&self, id: SessionId, room: &ChatName) -> Result<Moved, ChatError> {
        self.0.lock().move_to(id, room)
    }

    /// Sends someone out of `by`'s own room into the lobby.
    pub(super) fn kick(
        &self,
        by: SessionId,
        name: &ChatName,
    ) -> Result<(SessionHandle, Moved), ChatError> {
        let mut state = self.0.lock();
        let room = state.person(by)?.room.clone();
        let owner = state.rooms.get(room.folded()).and_then(|room| room.owner);
        if owner != Some(by) {
            return Err(ChatError::NotOwner);
        }
        let id = state.by_name.get(name.folded()).copied();
        let id = id.ok_or(ChatError::NoSuchUser)?;
        let kicked = state.person(id)?;
        if kicked.room.folded() != room.folded() {
            return Err(ChatError::NoSuchUser);
        }
        let session = kicked.session.clone();
        let lobby = state.lobby.clone();
        Ok((session, state.move_to(id, &lobby)?))
    }

    /// The session of who has this name.
    pub(super) fn find(&self, name: &ChatName) -> Result<SessionHandle, ChatError> {
        let state = self.0.lock();
        let id = state.by_name.get(name.folded());
        let person = id.and_then(|id| state.people.get(id));
        person
            .map(|p| p.session.clone())
            .ok_or(ChatError::NoSuchUser)
    }

    pub(super) fn name_of(&self, id: SessionId) -> Result<ChatName, ChatError> {
        Ok(self.0.lock().person(id)?.name.clone())
    }

    pub(super) fn room_of(&self, id: SessionId) -> Result<ChatName, ChatError> {
        Ok(self.0.lock().person(id)?.room.clone())
    }

    /// Who is in a room, or everyone, by name.
    pub(super) fn online(
        &self,
        room: Option<&ChatName>,
    ) -> Result<Listed<ListedPerson>, ChatError> {
        let state = self.0.lock();
        let count = match room {
            None => state.people.len(),
            Some(room) => match state.rooms.get(room.folded()) {
                Some(room) => room.people,
                None => return Err(ChatError::NoSuchRoom),
            },
        };
        let people = state.by_name.values().filter_map(|id| state.people.get(id));
        let here = people.filter(|p| room.is_none_or(|room| p.room.folded() == room.folded()));
        let list = here.take(MAX_LISTED).map(|person| ListedPerson {
            name: person.name.to_string(),
            room: person.room.to_string(),
        });
        Ok(Listed {
            list: list.collect(),
            count,
        })
    }

    /// The rooms, by name.
    pub(super) fn rooms(&self) -> Listed<ListedRoom> {
        let state = self.0.lock();
        let owner = |room: &Room| Some(state.people.get(&room.owner?)?.name.to_string());
        let list = state
            .rooms
            .values()
            .take(MAX_LISTED)
            .map(|room| ListedRoom {
                room: room.name.to_string(),
                people: room.people,
                owner: owner(room),
            });
        Listed {
            list: list.collect(),
            count: state.rooms.len(),
        }
    }

    // --- settling

    /// What there is to do for a session; none where nothing is, or someone is at it.
    pub(super) fn begin_settling(&self, id: SessionId) -> Option<Step> {
        let mut state = self.0.lock();
        let person = state.people.get_mut(&id)?;
        if person.settling {
            return None;
        }
        let step = person.step()?;
        person.settling = true;
        Some(step)
    }

    /// The session is in that room's group; answers what there is to do now.
    pub(super) fn settled(&self, id: SessionId, room: ChatName) -> Option<Step> {
        let mut state = self.0.lock();
        let person = state.people.get_mut(&id)?;
        person.settled = Some(room);
        let step = person.step();
        person.settling = step.is_some();
        step
    }

    /// The session could not be settled.
    pub(super) fn give_up_settling(&self, id: SessionId) {
        if let Some(person) = self.0.lock().people.get_mut(&id) {
            person.settling = false;
        }
    }
}

impl Default for People {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a constant, which the tests check")]
        let lobby = ChatName::new(LOBBY).expect("a name");
        let room = Room {
            name: lobby.clone(),
            owner: None,
            people: 0,
        };
        Self(Arc::new(Mutex::new(State {
            people: HashMap::new(),
            by_name: BTreeMap::new(),
            rooms: BTreeMap::from([(lobby.folded().clone(), room)]),
            lobby,
        })))
    }
}

impl Person {
    fn step(&self) -> Option<Step> {
        let there = |settled: &ChatName| settled.folded() == self.room.folded();
        if self.settled.as_ref().is_some_and(there) {
            return None;
        }
        Some((
            self.session.clone(),
            self.settled.clone(),
            self.room.clone(),
        ))
    }
}

impl State {
    fn person(&self, id: SessionId) -> Result<&Person, ChatError> {
        self.people.get(&id).ok_or(ChatError::NotLoggedIn)
    }

    fn person_mut(&mut self, id: SessionId) -> Result<&mut Person, ChatError> {
        self.people.get_mut(&id).ok_or(ChatError::NotLoggedIn)
    }

    fn move_to(&mut self, id: SessionId, room: &ChatName) -> Result<Moved, ChatError> {
        let person = self.person(id)?;
        let (name, from) = (person.name.clone(), person.room.clone());
        let mut to = from.clone();
        if room.folded() != from.folded() {
            // First the new one: when it is refused, nothing has changed.
            to = self.enter_room(room, id)?;
            self.leave_room(&from, id);
            self.person_mut(id)?.room = to.clone();
        }
        Ok(Moved { name, from, to })
    }

    /// Answers the room's name as whoever opened it wrote it.
    fn enter_room(&mut self, room: &ChatName, id: SessionId) -> Result<ChatName, ChatError> {
        if let Some(room) = self.rooms.get_mut(room.folded()) {
            room.people += 1;
            return Ok(room.name.clone());
        }
        if self.rooms.len() >= MAX_ROOMS {
            return Err(ChatError::Full);
        }
        let opened = Room {
            name: room.clone(),
            owner: Some(id),
            people: 1,
        };
        self.rooms.insert(room.folded().clone(), opened);
        Ok(room.clone())
    }

    fn leave_room(&mut self, room: &ChatName, id: SessionId) {
        let Some(left) = self.rooms.get_mut(room.folded()) else {
            return;
        };
        left.people -= 1;
        if left.owner == Some(id) {
            left.owner = None;
        }
        // The lobby stays.
        if left.people == 0 && room.folded() != self.lobby.folded() {
            self.rooms.remove(room.folded());
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate::GateId;
    use tidegate::bus::LocalBus;

    use super::*;

    fn name(text: &str) -> ChatName {
        ChatName::new(text).unwrap()
    }

    fn session(id: usize) -> SessionHandle {
        let bus = Arc::new(LocalBus::new());
        SessionHandle::new(bus, GateId::new("g").unwrap(), SessionId(id as u128))
    }

    #[test]
    fn people_and_rooms_are_bounded() {
        let people = People::default();
        for i in 0..MAX_PEOPLE {
            people.enter(session(i), &name(&format!("n{i}"))).unwrap();
        }
        let one_more = people.enter(session(MAX_PEOPLE), &name("x"));
        assert!(matches!(one_more, Err(ChatError::Full)));
        // The lobby is one of them.
        for i in 1..MAX_ROOMS {
            let room = name(&format!("r{i}"));
            people.move_to(SessionId(i as u128), &room).unwrap();
        }
        let one_more = people.move_to(SessionId(0), &name("x"));
        assert!(matches!(one_more, Err(ChatError::Full)));
        assert_eq!(people.room_of(SessionId(0)).unwrap(), people.lobby());
        assert!(
            people.move_to(SessionId(0), &name("r1")).is_ok(),
            "one that is there"
        );

        assert_eq!(people.online(None).unwrap().count, MAX_PEOPLE);
        assert_eq!(people.online(None).unwrap().list.len(), MAX_LISTED);
        assert_eq!(people.rooms().list.len(), MAX_LISTED);
        for i in 0..MAX_PEOPLE {
            people.leave(SessionId(i as u128)).unwrap();
        }
        let state = people.0.lock();
        assert!(state.people.is_empty() && state.by_name.is_empty());
        assert_eq!(state.rooms.len(), 1, "the lobby");
    }

    #[test]
    fn only_one_settles_and_goes_on_until_nothing_has_changed() {
        let people = People::default();
        let id = SessionId(1);
        people.enter(session(1), &name("ada")).unwrap();
        let (_, from, to) = people.begin_settling(id).unwrap();
        assert_eq!((from, to.as_str()), (None, "lobby"));
        people.move_to(id, &name("tea")).unwrap();
        assert!(people.begin_settling(id).is_none(), "someone is at it");
        let (_, from, next) = people.settled(id, to).unwrap();
        assert_eq!(from.unwrap().as_str(), "lobby");
        assert_eq!(next.as_str(), "tea");
        people.give_up_settling(id);
        let (_, _, next) = people.begin_settling(id).unwrap();
        assert!(people.settled(id, next).is_none());
        assert!(people.begin_settling(id).is_none(), "nothing is left to do");
    }
}
