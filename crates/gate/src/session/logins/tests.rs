use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use proptest::prelude::*;

use super::*;

const LIVE: u8 = 0;
const DORMANT: u8 = 1;
const OVER: u8 = 2;

/// A session without a gate.
#[derive(Debug, Clone)]
struct Fake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    standing: AtomicU8,
    replaced: AtomicUsize,
}

impl Fake {
    fn new() -> Self {
        Self(Arc::new(Inner {
            standing: AtomicU8::new(LIVE),
            replaced: AtomicUsize::new(0),
        }))
    }

    fn set(&self, from: u8, to: u8) -> bool {
        let standing = &self.0.standing;
        let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
        standing.compare_exchange(from, to, set, get).is_ok()
    }

    fn was_replaced(&self) -> bool {
        self.0.replaced.load(Ordering::SeqCst) > 0
    }
}

impl Login for Fake {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn standing(&self) -> Standing {
        match self.0.standing.load(Ordering::SeqCst) {
            LIVE => Standing::Attached,
            DORMANT => Standing::Dormant,
            _ => Standing::Over,
        }
    }

    fn give_way(&self, standing: Standing) -> bool {
        let closed = match standing {
            Standing::Dormant => self.set(DORMANT, OVER),
            _ => self.set(LIVE, OVER) || self.set(DORMANT, OVER),
        };
        if closed {
            self.0.replaced.fetch_add(1, Ordering::SeqCst);
        }
        closed
    }
}

fn logins(limit: u32, per: LoginsPer, over: LoginsOver) -> Logins {
    Logins {
        limit: NonZeroU32::new(limit),
        per,
        over,
    }
}

fn user(n: usize) -> UserId {
    UserId::from(n as u64)
}

fn device(n: usize) -> Option<DeviceId> {
    (n > 0).then(|| DeviceId::new(&n.to_string()).unwrap())
}

#[test]
fn without_a_limit_nothing_is_kept() {
    assert!(Places::<Fake>::new(Logins::unlimited()).is_none());
}

#[test]
fn who_goes_is_decided_in_this_order() {
    let limit = NonZeroU32::new(3).unwrap();
    let held = |standing, same_device| Held {
        standing,
        same_device,
    };
    use LoginsOver::{Refuse, Replace};
    use Standing::{Attached, Dormant, Over};
    for (held, refuse, replace) in [
        (vec![], Verdict::Free, Verdict::Free),
        (vec![held(Attached, true); 2], Verdict::Free, Verdict::Free),
        // The oldest.
        (
            vec![held(Attached, true); 3],
            Verdict::Refuse,
            Verdict::Replace(0),
        ),
        // What waits on another device may come back, and is as good as any.
        (
            vec![
                held(Attached, true),
                held(Dormant, false),
                held(Dormant, false),
            ],
            Verdict::Refuse,
            Verdict::Replace(0),
        ),
        // What waits on this one does not.
        (
            vec![
                held(Attached, true),
                held(Dormant, false),
                held(Dormant, true),
            ],
            Verdict::Replace(2),
            Verdict::Replace(2),
        ),
        // What is over has no place at all.
        (
            vec![held(Dormant, true), held(Attached, true), held(Over, false)],
            Verdict::Replace(2),
            Verdict::Replace(2),
        ),
    ] {
        assert_eq!(judge(limit, Refuse, &held), refuse, "{held:?}");
        assert_eq!(judge(limit, Replace, &held), replace, "{held:?}");
    }
}

#[derive(Debug, Clone)]
enum Op {
    /// A session logs in: user, device, and whether it yields.
    Take(usize, usize, bool),
    /// The session of so many logins ago does something.
    Leave(usize),
    Lose(usize),
    ComeBack(usize),
    Close(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let take = (0..2usize, 0..3usize, any::<bool>()).prop_map(|(u, d, y)| Op::Take(u, d, y));
    let ago = 0..8usize;
    let op = prop_oneof![
        5 => take,
        1 => ago.clone().prop_map(Op::Leave),
        2 => ago.clone().prop_map(Op::Lose),
        1 => ago.clone().prop_map(Op::ComeBack),
        1 => ago.prop_map(Op::Close),
    ];
    proptest::collection::vec(op, 1..60)
}

/// One login as the model has it: a list of these, in the order of the logins, is all.
struct Entry {
    login: Fake,
    user: usize,
    device: usize,
}

proptest! {
    /// The places against a list that is looked through.
    #[test]
    fn places_are_those_of_a_plain_list(
        ops in ops(),
        limit in 1..4u32,
        per_device in any::<bool>(),
        refuse in any::<bool>(),
    ) {
        let per = if per_device { LoginsPer::UserAndDevice } else { LoginsPer::User };
        let over = if refuse { LoginsOver::Refuse } else { LoginsOver::Replace };
        let places = Places::new(logins(limit, per, over)).unwrap();
        let mut model: Vec<Entry> = Vec::new();
        let mut all: Vec<(Fake, usize, usize)> = Vec::new();
        for op in ops {
            let at = |ago: usize| all.len().checked_sub(ago + 1).and_then(|i| all.get(i)).cloned();
            match op {
                Op::Take(u, d, yields) => {
                    let login = Fake::new();
                    let over = if yields { LoginsOver::Refuse } else { over };
                    let mine: Vec<(usize, Standing, bool)> = model
                        .iter()
                        .enumerate()
                        .filter(|(_, e)| e.user == u && (!per_device || e.device == d))
                        .map(|(i, e)| (i, e.login.standing(), e.device == d))
                        .collect();
                    let first = |is: fn(Standing, bool) -> bool| {
                        mine.iter().find(|(_, standing, own)| is(*standing, *own))
                    };
                    // Who goes, or nobody; or the login is refused.
                    let expected = if mine.len() < limit as usize {
                        Some(None)
                    } else if let Some(over) = first(|standing, _| standing == Standing::Over) {
                        Some(Some(over.0))
                    } else if let Some(own) =
                        first(|standing, own| standing == Standing::Dormant && own)
                    {
                        Some(Some(own.0))
                    } else if over == LoginsOver::Replace {
                        Some(Some(mine[0].0))
                    } else {
                        None
                    };
                    let mut out = Vec::new();
                    let (u_id, d_id) = (user(u), device(d));
                    let taken = places.take((&u_id, d_id.as_ref()), &login, over, |gone| {
                        out.extend(gone.iter().cloned());
                    });
                    match expected {
                        None => {
                            prop_assert_eq!(taken.err(), Some(NoPlace));
                            prop_assert!(out.is_empty());
                        }
                        Some(gone) => {
                            prop_assert!(taken.is_ok());
                            let expected = gone.map(|i| model[i].login.clone());
                            prop_assert_eq!(out.len(), usize::from(expected.is_some()));
                            if let (Some(gone), Some(i)) = (expected, gone) {
                                prop_assert!(out[0].is(&gone));
                                model.remove(i);
                            }
                            model.push(Entry { login: login.clone(), user: u, device: d });
                            all.push((login, u, d));
                        }
                    }
                }
                Op::Leave(ago) => if let Some((login, u, d)) = at(ago) {
                    // Also one that has lost its place, or left before.
                    places.leave(&user(u), device(d).as_ref(), &login);
                    model.retain(|e| !e.login.is(&login));
                },
                Op::Lose(ago) => if let Some((login, ..)) = at(ago) {
                    login.set(LIVE, DORMANT);
                },
                Op::ComeBack(ago) => if let Some((login, ..)) = at(ago) {
                    login.set(DORMANT, LIVE);
                },
                Op::Close(ago) => if let Some((login, ..)) = at(ago) {
                    login.set(LIVE, OVER);
                },
            }
        }
        for (login, u, d) in &all {
            places.leave(&user(*u), device(*d).as_ref(), login);
        }
        prop_assert_eq!(places.accounts(), 0);
    }
}

/// Many threads log in as one user while the others' sessions lose their clients, get them
/// back and leave. Who holds a place is never more than are allowed, whenever anybody looks.
#[test]
fn threads_that_race_never_hold_more_places_than_there_are() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 2_000;
    for (limit, over) in [
        (1, LoginsOver::Refuse),
        (1, LoginsOver::Replace),
        (3, LoginsOver::Refuse),
        (3, LoginsOver::Replace),
    ] {
        let places = Places::new(logins(limit, LoginsPer::User, over)).unwrap();
        // What stands open and has a place: counted under the places' lock only.
        let open = AtomicUsize::new(0);
        let (most, taken, refused) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for t in 0..THREADS {
                let (places, open, most) = (&places, &open, &most);
                let (taken, refused, start) = (&taken, &refused, &start);
                scope.spawn(move || {
                    start.wait();
                    for round in 0..ROUNDS {
                        let login = Fake::new();
                        let got = places.take((&user(1), None), &login, over, |gone| {
                            open.fetch_sub(gone.len(), Ordering::SeqCst);
                            let now = open.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(now, Ordering::SeqCst);
                        });
                        if got.is_err() {
                            refused.fetch_add(1, Ordering::SeqCst);
                            continue;
                        }
                        taken.fetch_add(1, Ordering::SeqCst);
                        if (t + round) % 3 == 0 && login.set(LIVE, DORMANT) && round % 2 == 0 {
                            login.set(DORMANT, LIVE);
                        }
                        if login.set(LIVE, OVER) {
                            assert!(!login.was_replaced());
                        }
                    }
                });
            }
        });
        let most = most.into_inner();
        assert!(most <= limit as usize, "{most} of {limit}, {over:?}");
        assert!(taken.into_inner() > 0);
        if over == LoginsOver::Replace {
            assert_eq!(refused.into_inner(), 0);
        }
        assert_eq!(places.accounts(), 1);
        places.clear();
        assert_eq!(places.accounts(), 0);
    }
}
