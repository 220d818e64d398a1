//! The `auth` service: logging in and out with a token in a session that has begun, for
//! clients whose connection has no place for one.
//!
//! | Method | Body | |
//! | --- | --- | --- |
//! | `login` | the token | binds the session; answers `{"user", "expires"}`, seconds since 1970 |
//! | `logout` | – | makes the session a guest |

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use thiserror::Error;
use tidegate::bus::{CallError, GateError};
use tidegate::{Guests, Json, Service, Session, SessionId, State, UserId};

use super::Auth;
use super::verify::TokenError;

/// Tokens that a session may have refused; after that it is closed.
const ATTEMPTS: u32 = 5;

/// The service's state.
#[derive(Clone)]
struct Logins {
    auth: Arc<Auth>,
    /// Refused tokens since the last one that was accepted, of sessions that live.
    refused: Arc<Mutex<HashMap<SessionId, u32>>>,
}

pub(super) fn service(auth: Arc<Auth>) -> Service {
    let logins = Logins {
        auth,
        refused: Arc::default(),
    };
    Service::new("auth")
        .version(env!("CARGO_PKG_VERSION"))
        .state(logins)
        .request("login", login)
        .open_to(Guests)
        .request("logout", logout)
        .on_disconnect(left)
}

/// Why nobody was logged in. The number is for clients, the rest of it is logged.
#[derive(Debug, Error)]
enum LoginError {
    #[error("the token is not accepted")]
    NotAccepted,
    #[error("the token has expired")]
    Expired,
    #[error("logged in as another user; auth/logout comes first")]
    Another,
    #[error(transparent)]
    Gate(#[from] GateError),
}

impl From<LoginError> for CallError {
    fn from(error: LoginError) -> Self {
        let number = match error {
            LoginError::NotAccepted => 1001,
            LoginError::Expired => 1002,
            LoginError::Another | LoginError::Gate(GateError::BoundToAnother) => 1003,
            LoginError::Gate(GateError::TooManyLogins) => 1004,
            LoginError::Gate(error) => return error.into(),
        };
        CallError::service(number, error.to_string())
    }
}

#[derive(Debug, Serialize)]
struct LoggedIn {
    user: UserId,
    expires: u64,
}

async fn login(
    session: Session,
    State(logins): State<Logins>,
    body: Bytes,
) -> Result<Json<LoggedIn>, LoginError> {
    let auth = &logins.auth;
    let so_far = logins.refused.lock().get(&session.id()).copied();
    if so_far.unwrap_or(0) >= ATTEMPTS {
        auth.close(&session).await?;
        return Err(LoginError::NotAccepted);
    }
    let token = std::str::from_utf8(&body).map_err(|_| TokenError::Malformed("it is not text"));
    let verified = match token.and_then(|token| auth.verify(token.trim())) {
        Ok(verified) => verified,
        Err(error) => {
            *logins.refused.lock().entry(session.id()).or_default() += 1;
            auth.log_refusal(&session, error);
            return Err(match error {
                TokenError::Expired => LoginError::Expired,
                _ => LoginError::NotAccepted,
            });
        }
    };
    let was_guest = match session.user() {
        None => true,
        Some(user) if user == verified.user => false,
        Some(_) => return Err(LoginError::Another),
    };
    match &verified.device {
        Some(device) => session.bind_device(&verified.user, device).await?,
        None => session.bind(&verified.user).await?,
    }
    if !verified.settings.is_empty()
        && let Err(error) = session.set_batch(pairs(&verified.settings)).await
    {
        if was_guest {
            // As it was, if it is still there.
            let _ = session.unbind().await;
        }
        return Err(error.into());
    }
    logins.refused.lock().remove(&session.id());
    auth.expires(session.id(), Some(verified.expires));
    Ok(Json(LoggedIn {
        user: verified.user,
        expires: verified.expires,
    }))
}

fn pairs(settings: &tidegate::Settings) -> Vec<(String, String)> {
    let pairs = settings.iter();
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

async fn logout(session: Session, State(logins): State<Logins>) -> Result<(), LoginError> {
    session.unbind().await?;
    logins.auth.expires(session.id(), None);
    Ok(())
}

async fn left(session: Session, State(logins): State<Logins>) {
    logins.refused.lock().remove(&session.id());
    logins.auth.expires(session.id(), None);
}
