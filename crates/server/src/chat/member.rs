//! The session of someone who is in the chat.

use std::ops::Deref;

use tidegate::Session;
use tidegate::bus::CallError;
use tidegate::service::{CallContext, FromCall, Requirements};

use super::name::ChatName;
use super::people::People;

/// A session. Of someone who was in the chat when this instance of the service began, as the
/// session's user and settings say, the chat knows again who and where they are.
pub(super) struct Member(Session);

impl Deref for Member {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl FromCall for Member {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        let session = Session::from_call(call)?;
        if let Some(people) = call.state::<People>() {
            bring_back(&session, people);
        }
        Ok(Self(session))
    }

    fn requires(needs: &mut Requirements) {
        Session::requires(needs);
        needs.state::<People>();
    }
}

fn bring_back(session: &Session, people: &People) {
    if session.is_guest() || people.knows(session.id()) {
        return;
    }
    let named = |text: Option<String>| ChatName::new(&text?).ok();
    let account = named(session.user().map(|user| user.to_string()));
    let (name, room) = (named(session.get("name")), named(session.get("room")));
    if let (Some(account), Some(name), Some(room)) = (account, name, room) {
        // Who finds the name taken meanwhile is not there, and hears so.
        let _ = people.bring_back(session.handle(), &name, account.folded().clone(), &room);
    }
}
