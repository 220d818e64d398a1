//! The `echo` service: answers what it is sent.

use std::time::Duration;

use bytes::Bytes;
use tidegate::bus::CallError;
use tidegate::{ErrorCode, Guests, Service};
use tokio::time::sleep;

use crate::config::value::Time;

/// Longest wait of `echo/after`.
const LONGEST: Duration = Duration::from_secs(5);

/// The service: `echo` answers the same body; `after`, called with a body such as
/// `500ms hello`, answers `hello` that much later, other packets overtaking it.
pub(crate) fn service() -> Service {
    Service::new("echo")
        .version(env!("CARGO_PKG_VERSION"))
        .request("echo", echo)
        .open_to(Guests)
        .request("after", after)
        .open_to(Guests)
        .concurrent()
}

async fn echo(body: Bytes) -> Bytes {
    body
}

async fn after(body: String) -> Result<String, CallError> {
    let (time, text) = body.split_once(' ').unwrap_or((&body, ""));
    match Time::parse(time) {
        Some(Time(time)) if time <= LONGEST => {
            sleep(time).await;
            Ok(text.to_owned())
        }
        _ => Err(CallError::new(
            ErrorCode::BAD_BODY,
            "a time of at most 5s is wanted, then a text: 500ms hello",
        )),
    }
}
