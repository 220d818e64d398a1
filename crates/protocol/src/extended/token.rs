//! Resume tokens: which one is good, and which one was stolen.
//!
//! A token is good for one resume. With the `$welcome` that answers it the client gets its
//! successor; the old one stays good until the client's first packet shows that the
//! `$welcome` arrived, so that a connection cut at any byte leaves the client with one that
//! works. The old one may be presented several times before that, and connections overtake
//! each other: any of its successors may be the one that arrived. From then on the old one
//! is spent: whoever presents it has stolen it, or the client that now holds its successor
//! has.

use std::fmt;

use subtle::ConstantTimeEq;

/// A token's SHA-256: tokens themselves are not kept.
#[derive(Clone, Copy, Eq)]
pub struct TokenHash(pub [u8; 32]);

impl PartialEq for TokenHash {
    /// Takes the same time wherever they differ.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// Successors of a token that are good at a time: as many attempts may be given up, and come
/// late, behind the one that arrived.
const OFFERED: usize = 16;
/// Spent tokens that are known again.
const REMEMBERED: usize = 4;
/// As much of a spent token's hash as it takes to know it again: one that nobody was given is
/// taken for it once in 2^128 times.
type Trace = [u8; 16];

/// The tokens of one session.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// The one that the client is known to have.
    current: TokenHash,
    /// Given in a `$welcome` or `$token` and not confirmed, the newest last. Nothing is kept
    /// once one is.
    offered: Vec<TokenHash>,
    /// The last ones that were replaced, the newest first.
    spent: [Option<Trace>; REMEMBERED],
}

/// What a presented token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// Good.
    Good,
    /// Was good once, before its successor was confirmed: theft.
    Spent,
    /// Never was one of the session's, or long ago.
    Unknown,
}

impl Tokens {
    /// The first token of a session.
    pub fn new(first: TokenHash) -> Self {
        Self {
            current: first,
            offered: Vec::new(),
            spent: [None; REMEMBERED],
        }
    }

    /// Looks at a token. One that is good and was not confirmed yet is confirmed by that.
    pub fn present(&mut self, token: &TokenHash) -> Presented {
        if let Some(i) = self.offered.iter().position(|offered| offered == token) {
            self.confirm_at(i);
            return Presented::Good;
        }
        if self.current == *token {
            return Presented::Good;
        }
        let trace = trace(token);
        let mut spent = self.spent.iter().flatten();
        match spent.any(|spent| spent.ct_eq(&trace).into()) {
            true => Presented::Spent,
            false => Presented::Unknown,
        }
    }

    /// Gives the client a successor. Those that were given before and not confirmed most
    /// likely never arrived; the last few of them stay good too.
    pub fn offer(&mut self, next: TokenHash) {
        if self.offered.len() >= OFFERED {
            self.offered.remove(0);
        }
        self.offered.push(next);
    }

    /// The client's first packet behind its last `$welcome` came: it has the successor that
    /// was in it.
    pub fn confirm(&mut self) {
        if let Some(newest) = self.offered.len().checked_sub(1) {
            self.confirm_at(newest);
        }
    }

    fn confirm_at(&mut self, i: usize) {
        let next = self.offered.remove(i);
        // Of the others none has arrived.
        self.offered = Vec::new();
        self.spent.rotate_right(1);
        self.spent[0] = Some(trace(&std::mem::replace(&mut self.current, next)));
    }
}

fn trace(token: &TokenHash) -> Trace {
    std::array::from_fn(|i| token.0[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use Presented::{Good, Spent, Unknown};

    fn token(n: u8) -> TokenHash {
        TokenHash([n; 32])
    }

    #[test]
    fn a_token_stays_good_until_its_successor_is_confirmed() {
        let mut tokens = Tokens::new(token(1));
        assert_eq!(tokens.present(&token(9)), Unknown);
        for lost in 2..5 {
            // The welcome never arrives.
            assert_eq!(tokens.present(&token(1)), Good);
            tokens.offer(token(lost));
        }
        tokens.confirm();
        assert_eq!(tokens.present(&token(1)), Spent);
        assert_eq!(tokens.present(&token(3)), Unknown, "never arrived");
        assert_eq!(tokens.present(&token(4)), Good);
    }

    #[test]
    fn connections_may_overtake_each_other() {
        // The client gave the first attempt up; the gate hears of it behind the second,
        // whose answer is on its way.
        let mut tokens = Tokens::new(token(1));
        for late in 2..4 {
            assert_eq!(tokens.present(&token(1)), Good);
            tokens.offer(token(late));
        }
        assert_eq!(tokens.present(&token(2)), Good);
        assert_eq!(tokens.present(&token(1)), Spent);
        assert_eq!(tokens.present(&token(3)), Unknown);
        for n in 10..40 {
            tokens.offer(token(n));
        }
        assert_eq!(tokens.offered.len(), OFFERED);
    }

    #[test]
    fn presenting_the_successor_confirms_it() {
        let mut tokens = Tokens::new(token(1));
        tokens.offer(token(2));
        assert_eq!(tokens.present(&token(2)), Good);
        assert_eq!(tokens.present(&token(1)), Spent);
    }

    #[test]
    fn confirming_nothing_changes_nothing() {
        let mut tokens = Tokens::new(token(1));
        tokens.confirm();
        assert_eq!(tokens.present(&token(1)), Good);
    }

    #[test]
    fn the_last_ones_are_remembered() {
        let mut tokens = Tokens::new(token(0));
        for n in 1..=10 {
            tokens.offer(token(n));
            tokens.confirm();
        }
        for n in 0..=10 {
            let expected = match n {
                10 => Good,
                6.. => Spent,
                _ => Unknown,
            };
            assert_eq!(tokens.present(&token(n)), expected, "{n}");
        }
    }
}
