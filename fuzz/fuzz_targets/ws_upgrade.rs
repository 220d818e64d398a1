//! A WebSocket upgrade request: what is accepted is accepted at one length only and keeps every
//! promise of its types, and what is refused is refused however much of it has come.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_protocol::ws::policy::{Origins, Policy};
use tidegate_protocol::ws::upgrade::{UpgradeLimits, parse};

fuzz_target!(|data: &[u8]| {
    let limits = UpgradeLimits { max_head: 1024 };
    let whole = parse(data, &limits);
    match &whole {
        Ok(Some((request, used))) => {
            assert!(*used <= data.len() && *used <= limits.max_head);
            assert!(data[..*used].ends_with(b"\r\n\r\n"));
            assert!(request.path().starts_with('/') && !request.host().is_empty());
            for origins in [
                Origins::SameHost,
                Origins::Any,
                Origins::List(vec!["a://b".into()]),
            ] {
                let policy = Policy {
                    path: request.path().to_owned(),
                    origins,
                    subprotocols: request.subprotocols().to_vec(),
                };
                match policy.check(request) {
                    Ok(accept) => is_one_head(&accept.response()),
                    Err(error) => assert_eq!(error.status(), 403),
                }
            }
        }
        Ok(None) => assert!(data.len() < limits.max_head),
        Err(error) => assert!(error.response().starts_with(b"HTTP/1.1 4")),
    }
    // The first part that is not "more, please" is the answer, for the whole, too.
    let first = (0..=data.len()).find_map(|len| parse(&data[..len], &limits).transpose());
    match (&whole, first) {
        (Ok(None), None) => {}
        (Ok(Some(whole)), Some(Ok(first))) => assert_eq!(*whole, first),
        (Err(whole), Some(Err(first))) => assert_eq!(*whole, first),
        (whole, first) => panic!("{whole:?} as a whole, {first:?} in parts"),
    }
});

/// Nothing a client sent may end a header, or the head, of the response.
fn is_one_head(response: &[u8]) {
    let text = std::str::from_utf8(response).expect("a response is ASCII");
    assert_eq!(text.find("\r\n\r\n"), Some(text.len() - 4));
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
}
