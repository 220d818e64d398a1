//! What the log says of a disk with little room. In a file of its own: the log is the
//! process's.

#![expect(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::UserId;
use tidegate::store::{Store as _, StoreError};
use tidegate_store::{Embedded, EmbeddedOptions};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn too_little_room_is_said_once() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .init();
    let directory = std::env::temp_dir().join(format!("tidegate-room-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    // No disk has that much.
    let options = EmbeddedOptions::default().keep_free(u64::MAX);
    let store = Embedded::open(directory.join("a.db"), options).unwrap();
    let mut settings = tidegate::Settings::new();
    settings.merge([("text", "x".repeat(16_000))]).unwrap();
    let mut refused = 0;
    for user in 0..200 {
        let user = UserId::new(&user.to_string()).unwrap();
        match store.save(&user, &settings, Duration::from_secs(60)).await {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, StoreError::Full);
                refused += 1;
            }
        }
    }
    assert!(refused > 1);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("too little room").count(), 1, "{log}");
    drop(store);
    std::fs::remove_dir_all(directory).unwrap();
}
