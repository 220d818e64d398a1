//! Checks what one side was handed against what the other sent: the numbers from 1 on, each
//! once and in order.

use std::fmt;

/// What one side was handed so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The number that comes next.
    next: u64,
    fault: Option<Fault>,
}

/// The first thing that was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This number did not come, another did.
    Missing(u64),
    /// This one had come before.
    Again(u64),
    /// This one was never sent.
    Invented(u64),
    /// All that came was right, but from this number on nothing came.
    Lost(u64),
    /// The session did not go on, as far as a side was told why.
    Session(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Default for History {
    fn default() -> Self {
        Self {
            next: 1,
            fault: None,
        }
    }
}

impl History {
    /// This number has come. Answers how many have.
    pub fn record(&mut self, n: u64) -> u64 {
        if n == self.next {
            self.next += 1;
        } else {
            // One that comes late was missed before, and is known as missing then.
            self.note(match n < self.next {
                true => Fault::Again(n),
                false => Fault::Missing(self.next),
            });
        }
        self.next - 1
    }

    /// Notes what is wrong, if it is the first.
    pub fn note(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Looks whether so many, and no more, have come.
    pub fn finish(&self, sent: u64) -> Result<(), Fault> {
        match &self.fault {
            Some(fault) => Err(fault.clone()),
            None if self.next <= sent => Err(Fault::Lost(self.next)),
            None if self.next > sent + 1 => Err(Fault::Invented(sent + 1)),
            None => Ok(()),
        }
    }
}

#[test]
fn a_history_is_right_or_has_its_first_fault() {
    let check = |numbers: &[u64], sent| {
        let mut history = History::default();
        for n in numbers {
            history.record(*n);
        }
        history.finish(sent)
    };
    assert_eq!(check(&[], 0), Ok(()));
    assert_eq!(check(&[1, 2, 3], 3), Ok(()));
    assert_eq!(check(&[1, 3], 3), Err(Fault::Missing(2)));
    assert_eq!(check(&[2, 1], 2), Err(Fault::Missing(1)), "swapped");
    assert_eq!(check(&[1, 2, 2, 3], 3), Err(Fault::Again(2)));
    assert_eq!(check(&[1, 2, 1, 2], 2), Err(Fault::Again(1)));
    assert_eq!(check(&[1, 2], 3), Err(Fault::Lost(3)));
    assert_eq!(check(&[], 1), Err(Fault::Lost(1)));
    assert_eq!(check(&[1, 2, 3], 2), Err(Fault::Invented(3)));
    assert_eq!(check(&[0, 1], 1), Err(Fault::Again(0)));
}
