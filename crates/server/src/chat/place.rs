//! Puts a session where its person is: into the room's group, and into its settings.

use tidegate::SessionId;
use tidegate::bus::GateError;

use super::error::ChatError;
use super::name::ChatName;
use super::people::People;

/// The group of a room's members.
pub(super) fn group(room: &ChatName) -> String {
    format!("chat.{}", room.folded())
}

/// Makes the session's group and settings say what [`People`] say.
///
/// The person's own calls and someone's kick can move a session at the same time. Whoever
/// comes first does the work, goes on until nothing has changed meanwhile, and the other
/// leaves it to them: so the two never put the session into two rooms.
pub(super) async fn settle(people: &People, id: SessionId) -> Result<(), ChatError> {
    let Some(step) = people.begin_settling(id) else {
        return Ok(());
    };
    let mut guard = Settling {
        people,
        id,
        done: false,
    };
    let mut next = Some(step);
    while let Some((session, from, to)) = next {
        if let Some(from) = &from {
            session.leave(group(from)).await?;
        }
        session.join(group(&to)).await?;
        let mut settings = tidegate::Settings::new();
        settings
            .merge([("room", to.as_str())])
            .map_err(GateError::from)?;
        session.set(settings).await?;
        next = people.settled(id, to);
    }
    guard.done = true;
    Ok(())
}

/// Ends the settling when it fails or is cut off.
struct Settling<'a> {
    people: &'a People,
    id: SessionId,
    done: bool,
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.people.give_up_settling(self.id);
        }
    }
}
