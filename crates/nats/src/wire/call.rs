//! Calls of services, and their answers.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use tidegate::bus::{Answer, CallError, CallResult};
use tidegate_protocol::{ErrorCode, Snapshot};

use super::Envelope;
use crate::header::{self, Headers, Malformed};

/// The headers of a call. `session` is the snapshot as ASCII JSON, with its trace.
pub(crate) fn head(session: Option<(&str, u128)>, span: u64, wants_answer: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some((session, trace)) = session {
        header::put(&mut headers, header::SESSION, session);
        header::put_trace(&mut headers, trace, span);
    }
    if !wants_answer {
        header::put(&mut headers, header::ANSWER, "0");
    }
    headers
}

/// What the headers of a call tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) session: Option<Arc<Snapshot>>,
    pub(crate) wants_answer: bool,
    pub(crate) span: Option<u64>,
}

pub(crate) fn read_head(headers: Headers<'_>) -> Result<Head, Malformed> {
    Ok(Head {
        session: headers.session()?,
        wants_answer: headers.wants_answer()?,
        span: headers.span(),
    })
}

/// The answer that an instance gives.
pub(crate) fn answer(result: CallResult) -> Envelope {
    let mut headers = HeaderMap::new();
    match result {
        Ok(Answer { body, instance }) => {
            if let Some(instance) = instance {
                header::put(&mut headers, header::INSTANCE, &instance);
            }
            Envelope::new(headers, body)
        }
        Err(error) => {
            if let Some(name) = not_served(error.code) {
                header::put(&mut headers, header::ERROR, name);
            }
            header::put_error(&mut headers, error.code.0, &error.message);
            Envelope::new(headers, Bytes::new())
        }
    }
}

/// Reads what an instance answered.
///
/// That a call was *not* served is believed only where `Tidegate-Error` says it: an error
/// that a service got from a call of its own, and passes on, does not make its caller try again.
pub(crate) fn read_answer(headers: Headers<'_>, body: Bytes) -> Result<CallResult, Malformed> {
    let named = headers.error()?;
    let Some((code, text)) = headers.service_error()? else {
        return match named {
            Some(name) => Ok(Err(of_name(name).unwrap_or(ErrorCode::INTERNAL).into())),
            None => Ok(Ok(Answer {
                body,
                instance: headers.instance()?,
            })),
        };
    };
    let code = match named.and_then(of_name) {
        Some(not_served) => not_served,
        None => of_service(ErrorCode(code)),
    };
    Ok(Err(match text.is_empty() {
        true => code.into(),
        false => CallError::new(code, text),
    }))
}

/// Names for "this call was not served", for [`header::ERROR`] in an answer.
pub(crate) const NOT_SERVED: &[(&str, ErrorCode)] = &[
    ("not-found", ErrorCode::NOT_FOUND),
    ("id-required", ErrorCode::ID_REQUIRED),
    ("unavailable", ErrorCode::UNAVAILABLE),
    ("instance-gone", ErrorCode::INSTANCE_GONE),
    ("overloaded", ErrorCode::OVERLOADED),
];

fn not_served(code: ErrorCode) -> Option<&'static str> {
    let found = NOT_SERVED.iter().find(|(_, c)| *c == code);
    found.map(|(name, _)| *name)
}

fn of_name(name: &str) -> Option<ErrorCode> {
    let found = NOT_SERVED.iter().find(|(n, _)| *n == name);
    found.map(|(_, code)| *code)
}

/// The codes that a service may give for a call that it served: its own, and those of the
/// gate's that do not say that nothing was done.
fn of_service(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::OUTCOME_UNKNOWN
        | ErrorCode::INTERNAL
        | ErrorCode::REFUSED
        | ErrorCode::BAD_BODY
        | ErrorCode::ANSWER_TOO_LARGE => code,
        code if code.is_service() => code,
        _ => ErrorCode::INTERNAL,
    }
}
