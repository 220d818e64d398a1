//! What may be found at a store's path.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use redb::{Database, TableDefinition};
use tidegate::store::Store;

use super::record::{Record, change, name};
use super::{DAY, TempDir, settings, user};
use crate::embedded::database::{FORMAT, META};
use crate::{Embedded, EmbeddedOptions, OpenError};

fn open(path: &Path) -> Result<Embedded, OpenError> {
    Embedded::open(path, EmbeddedOptions::default())
}

/// Asserts that the error is of the kind and names the path.
macro_rules! refused {
    ($path:expr, $kind:pat) => {{
        let path: &Path = &$path;
        let error = open(path).expect_err("it opened");
        assert!(matches!(error, $kind), "{error}");
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()), "{text}");
    }};
}

#[tokio::test]
async fn a_new_file_is_for_its_owner_only_and_stays() {
    let directory = TempDir::new();
    let path = directory.file();
    let store = open(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let own = settings("a", "1");
    store.save(&user("a"), &own, DAY).await.unwrap();
    drop(store);
    let store = open(&path).unwrap();
    assert_eq!(store.query(&user("a")).await, Ok(Some(own)));
    let files = fs::read_dir(&directory).unwrap().count();
    assert_eq!(files, 1, "nothing is left beside it");
}

#[test]
fn it_belongs_to_one_store() {
    let directory = TempDir::new();
    let store = open(&directory.file()).unwrap();
    refused!(directory.file(), OpenError::Locked { .. });
    drop(store);
    open(&directory.file()).unwrap();
}

/// Of many that find no file one makes it and has it.
#[test]
fn made_by_many_at_once() {
    for _ in 0..10 {
        let directory = TempDir::new();
        let path = directory.file();
        let opened: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| open(&path))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(opened.iter().filter(|opened| opened.is_ok()).count() <= 1);
        for error in opened.iter().filter_map(|opened| opened.as_ref().err()) {
            assert!(matches!(error, OpenError::Locked { .. }), "{error}");
        }
        drop(opened);
        open(&path).unwrap();
    }
}

#[test]
fn where_there_is_no_directory() {
    let directory = TempDir::new();
    refused!(
        directory.0.join("missing/settings.db"),
        OpenError::NoDirectory { .. }
    );
    assert!(!directory.0.join("missing").exists());
    refused!(
        directory.0,
        OpenError::Io { .. } | OpenError::NotAStore { .. }
    );
}

/// What is left of a store that was not finished is not in the way.
#[test]
fn after_an_end_in_the_middle_of_making_it() {
    let directory = TempDir::new();
    let unfinished = directory.0.join("settings.db.new");
    fs::write(&unfinished, [7; 10_000]).unwrap();
    open(&directory.file()).unwrap();
    assert!(!unfinished.exists());
}

#[test]
fn other_files_are_left_alone() {
    let directory = TempDir::new();
    for (i, bytes) in [
        Vec::new(),
        b"x".to_vec(),
        b"a text file\n".repeat(10_000),
        vec![0; 1 << 20],
    ]
    .into_iter()
    .enumerate()
    {
        let path = directory.0.join(format!("other-{i}"));
        fs::write(&path, &bytes).unwrap();
        refused!(
            path,
            OpenError::NotAStore { .. } | OpenError::Corrupt { .. }
        );
        assert!(fs::read(&path).unwrap() == bytes, "file {i} was changed");
    }
}

#[test]
fn a_database_of_something_else() {
    let directory = TempDir::new();
    let path = directory.file();
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let other: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
    transaction.open_table(other).unwrap();
    transaction.commit().unwrap();
    drop(database);
    refused!(path, OpenError::NotAStore { .. });
}

#[test]
fn a_later_format_is_refused() {
    let directory = TempDir::new();
    let path = directory.file();
    drop(open(&path).unwrap());
    let set_format = |format| {
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("format", format).unwrap();
        drop(meta);
        transaction.commit().unwrap();
    };
    set_format(FORMAT + 1);
    refused!(path, OpenError::NewerFormat { .. });
    set_format(FORMAT);
    open(&path).unwrap();
}

#[test]
fn a_file_that_may_not_be_read() {
    let directory = TempDir::new();
    let path = directory.file();
    drop(open(&path).unwrap());
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    // Root may read everything; anyone else is told.
    match open(&path) {
        Ok(_) => assert!(fs::File::open(&path).is_ok()),
        Err(error) => assert!(matches!(error, OpenError::Io { .. }), "{error}"),
    }
}

/// Damage is found when the store opens, wherever it is; or it is where nothing is.
#[tokio::test]
async fn damage_is_found() {
    let directory = TempDir::new();
    let path = directory.file();
    let store = open(&path).unwrap();
    let mut record = Record::default();
    for who in 0..20 {
        for number in 1..=4 {
            change(&store, &name(who), number).await.unwrap();
            record.asked(who, number);
            record.acknowledged(who, number);
        }
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    let damaged = directory.0.join("damaged.db");
    let (mut found, mut harmless) = (0, 0);
    let cuts = (0..whole.len()).step_by(1500).map(|at| (at, true));
    let flips = (0..whole.len()).step_by(1000).map(|at| (at, false));
    for (at, cut) in cuts.chain(flips) {
        fs::write(&damaged, if cut { &whole[..at] } else { &whole }).unwrap();
        if !cut {
            flip(&damaged, at as u64);
        }
        match open(&damaged) {
            Ok(store) => {
                harmless += 1;
                let wrong = record.clone().check(&store).await;
                assert_eq!(wrong, Ok(()), "at {at}, cut: {cut}");
            }
            Err(
                OpenError::Corrupt { .. }
                | OpenError::NotAStore { .. }
                | OpenError::Io { .. }
                | OpenError::NewerFormat { .. },
            ) => found += 1,
            Err(other) => panic!("at {at}: {other}"),
        }
    }
    assert!(found > 50, "{found} found, {harmless} harmless");
}

fn flip(path: &Path, at: u64) {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 0x10]).unwrap();
}
