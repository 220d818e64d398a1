//! Bodies: a JSON object, or what someone types.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tidegate::bus::CallError;
use tidegate::service::{CallContext, FromCall, Requirements};

/// What a body that is not a JSON object means.
pub(super) trait Plain: DeserializeOwned {
    /// Takes the text for the main part of what is wanted.
    fn plain(text: &str) -> Self;
}

/// A body: a JSON object as it is, anything else as plain text, so that `chat/say hello`
/// can be typed.
#[derive(Debug)]
pub(super) struct Input<T>(pub(super) T);

impl<T: Plain> FromCall for Input<T> {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        let text = String::from_call(call)?;
        if serde_json::from_str::<Map<String, Value>>(&text).is_err() {
            return Ok(Self(T::plain(&text)));
        }
        let tidegate::Json(input) = tidegate::Json::from_call(call)?;
        Ok(Self(input))
    }

    fn requires(needs: &mut Requirements) {
        needs.body();
    }
}
