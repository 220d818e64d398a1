//! What a handler's result becomes.

use bytes::Bytes;
use serde::Serialize;
use tidegate_protocol::ErrorCode;

use super::extract::Json;
use crate::bus::{CallError, GateError};

/// What a handler may return: an answer's body, or an error.
///
/// `Result<T, E>` is one where `T` is and `E: Into<CallError>`. An error type of your own
/// needs one impl:
///
/// ```
/// # use tidegate::bus::CallError;
/// enum Refused { Banned, UnknownToken }
///
/// impl From<Refused> for CallError {
///     fn from(refused: Refused) -> Self {
///         match refused {
///             Refused::Banned => CallError::service(1001, "banned"),
///             Refused::UnknownToken => CallError::service(1002, "unknown token"),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's answer",
    note = "return (), Bytes, Vec<u8>, String, &'static str or Json<T>, \
            or a Result of one of these whose error is Into<CallError>"
)]
pub trait IntoAnswer {
    /// The answer's body; an error goes to the caller as it is.
    fn into_answer(self) -> Result<Bytes, CallError>;
}

impl IntoAnswer for () {
    fn into_answer(self) -> Result<Bytes, CallError> {
        Ok(Bytes::new())
    }
}

impl IntoAnswer for Bytes {
    fn into_answer(self) -> Result<Bytes, CallError> {
        Ok(self)
    }
}

impl IntoAnswer for Vec<u8> {
    fn into_answer(self) -> Result<Bytes, CallError> {
        Ok(self.into())
    }
}

impl IntoAnswer for String {
    fn into_answer(self) -> Result<Bytes, CallError> {
        Ok(self.into())
    }
}

impl IntoAnswer for &'static str {
    fn into_answer(self) -> Result<Bytes, CallError> {
        Ok(Bytes::from_static(self.as_bytes()))
    }
}

impl<T: Serialize> IntoAnswer for Json<T> {
    fn into_answer(self) -> Result<Bytes, CallError> {
        match serde_json::to_vec(&self.0) {
            Ok(body) => Ok(body.into()),
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written as JSON");
                Err(CallError::from(ErrorCode::INTERNAL))
            }
        }
    }
}

impl<T: IntoAnswer, E: Into<CallError>> IntoAnswer for Result<T, E> {
    fn into_answer(self) -> Result<Bytes, CallError> {
        self.map_err(Into::into)?.into_answer()
    }
}

/// A gate's refusal that a handler passes on with `?`. The caller's packet *was*
/// delivered, so no code that says otherwise is used.
impl From<GateError> for CallError {
    fn from(error: GateError) -> Self {
        let code = match error {
            GateError::OutcomeUnknown => ErrorCode::OUTCOME_UNKNOWN,
            GateError::Refused | GateError::BoundToAnother | GateError::TooManyLogins => {
                ErrorCode::REFUSED
            }
            _ => ErrorCode::INTERNAL,
        };
        // A store's error may name hosts: it is for the log, not for clients.
        if let GateError::Store(detail) = &error {
            // The gate has logged it, and not more often than it should.
            tracing::debug!(?detail, "the store failed");
            return Self::new(code, "the store failed");
        }
        Self::new(code, error.to_string())
    }
}
