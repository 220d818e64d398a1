//! A PROXY header, read as a gate reads it (what it asks for, in one go or in pieces): the same
//! answer, within the limits, and never a byte behind the header.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_protocol::proxy::{MAX_V2, Parsed, ProxyError, parse};

fuzz_target!(|data: &[u8]| {
    let Some((&step, bytes)) = data.split_first() else {
        return;
    };
    let whole = read(bytes, usize::MAX);
    let pieces = read(bytes, usize::from(step).max(1));
    assert_eq!(whole, pieces);
    if let Some(Ok((used, _))) = whole {
        // It needs all of its bytes.
        assert!(matches!(parse(&bytes[..used - 1]), Ok(Parsed::More(_))));
    }
});

type Answer = Result<(usize, Parsed), ProxyError>;

/// `None` if the bytes end before the answer is clear.
fn read(bytes: &[u8], step: usize) -> Option<Answer> {
    let mut len = 0;
    loop {
        match parse(&bytes[..len]) {
            Ok(Parsed::More(n)) => {
                assert!(n > 0 && len + n <= MAX_V2);
                if len == bytes.len() {
                    return None;
                }
                len = bytes.len().min(len + n.min(step));
            }
            Ok(header) => return Some(Ok((len, header))),
            Err(error) => return Some(Err(error)),
        }
    }
}
