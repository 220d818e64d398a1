//! Logins that are known beyond one gate: who is logged in where, and who has to go.
//!
//! On a bus of one process a gate keeps the logins of its users itself. A bus that joins
//! several gates may keep them for all: [`Bus::users`](super::Bus::users).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tidegate_protocol::{DeviceId, GateId, SessionId, UserId};
use tokio::sync::watch;

use super::GateError;

/// Logins of one user that can be kept beyond a gate.
pub const MAX_KEPT_LOGINS: usize = 64;

/// One login, as it is known beyond its gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLogin {
    /// The gate it is on.
    pub gate: GateId,
    /// Its session.
    pub session: SessionId,
    /// The session's device.
    pub device: Option<DeviceId>,
}

/// Decides on one more login: sees those there are, of gates that live, the oldest first, and
/// answers which of them go for it, by their places in the list. Asked anew each time that the
/// list turns out to have changed meanwhile.
///
/// An error ([`GateError::TooManyLogins`]) refuses the one more.
pub type JudgeLogins = Arc<
    dyn Fn(Arc<[KeptLogin]>) -> BoxFuture<'static, Result<Vec<usize>, GateError>> + Send + Sync,
>;

/// The logins of one gate, kept beyond it.
pub trait KeptLogins: Send + Sync + 'static {
    /// Enters a login of this gate. Judged and written in one step: of several that enter at the
    /// same time each sees those that entered before it. Answers those who lost their places:
    /// who entered closes them.
    ///
    /// One that is entered already stays, without being judged. Runs to its end though the
    /// future be dropped; [`leave`](Self::leave) undoes it then.
    ///
    /// Errors: what `judge` says; [`GateError::TooManyLogins`] where there is no room;
    /// [`GateError::SessionGone`] where it was entered before, and another has its place;
    /// [`GateError::Unavailable`] in a bounded time where the logins cannot be reached.
    fn enter(
        &self,
        user: UserId,
        session: SessionId,
        device: Option<DeviceId>,
        judge: JudgeLogins,
    ) -> BoxFuture<'static, Result<Vec<KeptLogin>, GateError>>;

    /// Takes a login of this gate out, after all that was asked for before. Never blocks, and
    /// does not fail: what is left behind is found out when the gate is asked about it.
    fn leave(&self, user: &UserId, session: SessionId);

    /// How the gate stands with the others.
    fn standing(&self) -> watch::Receiver<GateStanding>;
}

/// How a gate stands with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GateStanding {
    /// How often the others may have taken the gate for dead. When this grows the gate enters
    /// all its logins again; some may have lost their places.
    pub lapses: u64,
    /// Another gate has its id now. This one must serve nobody any more.
    pub superseded: bool,
}

/// What is asked of a login by a gate where the user logs in once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GiveWay {
    /// To say how it stands.
    No,
    /// To close if it is dormant.
    IfDormant,
    /// To close: another has its place.
    Yes,
}
