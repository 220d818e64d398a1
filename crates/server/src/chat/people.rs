//! Who is there, and in which room.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use tidegate::service::SessionHandle;
use tidegate::{GateId, SessionId};

use super::error::ChatError;
use super::event::{Event, now};
use super::name::{ChatName, Fold};
use super::open_room::OpenRoom;

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
    /// The names that people logged in with: theirs as long as they are there, whatever
    /// they call themselves now.
    accounts: HashMap<Fold, SessionId>,
    rooms: BTreeMap<Fold, OpenRoom>,
    lobby: ChatName,
    /// Counts who enters a room.
    turns: u64,
    /// When something was said last.
    last_at: u64,
}

#[derive(Debug)]
struct Person {
    name: ChatName,
    /// What they logged in with.
    account: Fold,
    session: SessionHandle,
    /// Where the person is.
    room: ChatName,
    /// When they came there.
    turn: u64,
    /// Whether they have no connection now.
    away: bool,
    /// The room whose group the session is in.
    settled: Option<ChatName>,
    /// Whether someone is putting the session into the right group.
    settling: bool,
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
    /// Without a connection, and expected back.
    away: bool,
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
    /// Whose the room that was left is now, where that has changed.
    pub(super) owner: Option<ChatName>,
}

/// Someone is there no more.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) name: ChatName,
    pub(super) room: ChatName,
    /// As in [`Moved`].
    pub(super) owner: Option<ChatName>,
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
        let lobby = state.lobby.clone();
        state.admit(session, name, name.folded().clone(), &lobby, None)
    }

    /// Someone who was let in before this instance began, and whose session is still in the
    /// group of that room.
    pub(super) fn bring_back(
        &self,
        session: SessionHandle,
        name: &ChatName,
        account: Fold,
        room: &ChatName,
    ) -> Result<(), ChatError> {
        let mut state = self.0.lock();
        state.admit(session, name, account, room, Some(room.clone()))
    }

    /// Whether someone is there.
    pub(super) fn knows(&self, id: SessionId) -> bool {
        self.0.lock().people.contains_key(&id)
    }

    /// The sessions of who is there by way of a gate.
    pub(super) fn by_way_of(&self, gate: &GateId) -> Vec<SessionHandle> {
        let state = self.0.lock();
        let sessions = state.people.values().map(|person| &person.session);
        sessions.filter(|s| s.gate() == gate).cloned().collect()
    }

    /// Is there no more.
    pub(super) fn leave(&self, id: SessionId) -> Option<Gone> {
        let mut state = self.0.lock();
        let person = state.people.remove(&id)?;
        state.by_name.remove(person.name.folded());
        state.accounts.remove(&person.account);
        let owner = state.leave_room(&person.room, person.turn);
        Some(Gone {
            name: person.name,
            room: person.room,
            owner,
        })
    }

    /// Has lost their connection, or is back. Answers name and room.
    pub(super) fn set_away(&self, id: SessionId, away: bool) -> Option<(ChatName, ChatName)> {
        let mut state = self.0.lock();
        let person = state.people.get_mut(&id)?;
        person.away = away;
        Some((person.name.clone(), person.room.clone()))
    }

    /// Takes another name; answers the one before.
    pub(super) fn rename(&self, id: SessionId, name: &ChatName) -> Result<ChatName, ChatError> {
        let mut state = self.0.lock();
        if !state.people.contains_key(&id) {
            return Err(ChatError::NotLoggedIn);
        }
        if state.is_taken(name.folded(), id) {
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
        let owner = state.rooms.get(room.folded()).and_then(OpenRoom::owner);
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

    /// Says something in the room that someone is in: the event is remembered there, and
    /// `at` is later than that of everything said before.
    pub(super) fn say(&self, id: SessionId, text: &str) -> Result<(ChatName, Vec<u8>), ChatError> {
        let mut state = self.0.lock();
        let at = now().max(state.last_at + 1);
        let person = state.person(id)?;
        let (from, room) = (person.name.clone(), person.room.clone());
        let said = Event::Said {
            room: &room,
            from: &from,
            text,
            at,
        };
        let raw = said.raw()?;
        let body = raw.get().as_bytes().to_vec();
        state.last_at = at;
        if let Some(room) = state.rooms.get_mut(room.folded()) {
            room.keep(raw);
        }
        Ok((room, body))
    }

    /// What was said last in the room that someone is in.
    pub(super) fn history(
        &self,
        id: SessionId,
    ) -> Result<(ChatName, Vec<Box<RawValue>>), ChatError> {
        let state = self.0.lock();
        let room = &state.person(id)?.room;
        let said = state.rooms.get(room.folded()).map(OpenRoom::said);
        Ok((room.clone(), said.unwrap_or_default()))
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
                Some(room) => room.len(),
                None => return Err(ChatError::NoSuchRoom),
            },
        };
        let people = state.by_name.values().filter_map(|id| state.people.get(id));
        let here = people.filter(|p| room.is_none_or(|room| p.room.folded() == room.folded()));
        let list = here.take(MAX_LISTED).map(|person| ListedPerson {
            name: person.name.to_string(),
            room: person.room.to_string(),
            away: person.away,
        });
        Ok(Listed {
            list: list.collect(),
            count,
        })
    }

    /// The rooms, by name.
    pub(super) fn rooms(&self) -> Listed<ListedRoom> {
        let state = self.0.lock();
        let owner = |room: &OpenRoom| Some(state.people.get(&room.owner()?)?.name.to_string());
        let list = state
            .rooms
            .values()
            .take(MAX_LISTED)
            .map(|room| ListedRoom {
                room: room.name.to_string(),
                people: room.len(),
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
        let room = OpenRoom::common(lobby.clone());
        Self(Arc::new(Mutex::new(State {
            people: HashMap::new(),
            by_name: BTreeMap::new(),
            accounts: HashMap::new(),
            rooms: BTreeMap::from([(lobby.folded().clone(), room)]),
            lobby,
            turns: 0,
            last_at: 0,
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
    fn admit(
        &mut self,
        session: SessionHandle,
        name: &ChatName,
        account: Fold,
        room: &ChatName,
        settled: Option<ChatName>,
    ) -> Result<(), ChatError> {
        let id = session.id();
        if self.people.contains_key(&id) {
            return Err(ChatError::LoggedIn);
        }
        if self.is_taken(name.folded(), id) || self.is_taken(&account, id) {
            return Err(ChatError::NameTaken);
        }
        if self.people.len() >= MAX_PEOPLE {
            return Err(ChatError::Full);
        }
        let (room, turn) = self.enter_room(room, id)?;
        self.by_name.insert(name.folded().clone(), id);
        self.accounts.insert(account.clone(), id);
        let person = Person {
            name: name.clone(),
            account,
            session,
            room,
            turn,
            away: false,
            settled,
            settling: false,
        };
        self.people.insert(id, person);
        Ok(())
    }

    fn person(&self, id: SessionId) -> Result<&Person, ChatError> {
        self.people.get(&id).ok_or(ChatError::NotLoggedIn)
    }

    fn person_mut(&mut self, id: SessionId) -> Result<&mut Person, ChatError> {
        self.people.get_mut(&id).ok_or(ChatError::NotLoggedIn)
    }

    /// Whether a name is someone else's.
    fn is_taken(&self, name: &Fold, by_other_than: SessionId) -> bool {
        let holders = [self.by_name.get(name), self.accounts.get(name)];
        holders.into_iter().flatten().any(|id| *id != by_other_than)
    }

    fn move_to(&mut self, id: SessionId, room: &ChatName) -> Result<Moved, ChatError> {
        let person = self.person(id)?;
        let (name, from, turn) = (person.name.clone(), person.room.clone(), person.turn);
        let (mut to, mut owner) = (from.clone(), None);
        if room.folded() != from.folded() {
            // First the new one: when it is refused, nothing has changed.
            let (entered, next_turn) = self.enter_room(room, id)?;
            owner = self.leave_room(&from, turn);
            let person = self.person_mut(id)?;
            person.room = entered.clone();
            person.turn = next_turn;
            to = entered;
        }
        Ok(Moved {
            name,
            from,
            to,
            owner,
        })
    }

    /// Answers the room's name as whoever opened it wrote it, and the turn.
    fn enter_room(&mut self, room: &ChatName, id: SessionId) -> Result<(ChatName, u64), ChatError> {
        self.turns += 1;
        let turn = self.turns;
        if let Some(room) = self.rooms.get_mut(room.folded()) {
            room.enter(turn, id);
            return Ok((room.name.clone(), turn));
        }
        if self.rooms.len() >= MAX_ROOMS {
            return Err(ChatError::Full);
        }
        let mut opened = OpenRoom::opened_by(id, room.clone());
        opened.enter(turn, id);
        self.rooms.insert(room.folded().clone(), opened);
        Ok((room.clone(), turn))
    }

    /// Answers who owns the room now, if that has changed.
    fn leave_room(&mut self, room: &ChatName, turn: u64) -> Option<ChatName> {
        let left = self.rooms.get_mut(room.folded())?;
        let owner = left.leave(turn);
        // The lobby stays.
        if left.is_empty() && room.folded() != self.lobby.folded() {
            self.rooms.remove(room.folded());
        }
        Some(self.people.get(&owner?)?.name.clone())
    }
}

#[cfg(test)]
mod tests;
