//! Bounds and order, without a gate.

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
