//! Buffers that the connections of a thread share: none of its own costs one.

use std::cell::Cell;

thread_local! {
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static WRITE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends the thread's read buffer, at least `len` bytes long, to `f`.
pub(crate) fn with_read<T>(len: usize, f: impl FnOnce(&mut [u8]) -> T) -> T {
    // Taken out for the time of the call: a nested one would find an empty buffer.
    let mut buffer = READ.take();
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    let result = f(&mut buffer[..len]);
    READ.set(buffer);
    result
}

/// Lends the thread's write buffer, empty, to `f`.
pub(super) fn with_write<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = WRITE.take();
    buffer.clear();
    let result = f(&mut buffer);
    WRITE.set(buffer);
    result
}
