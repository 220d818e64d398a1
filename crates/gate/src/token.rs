//! Resume tokens as clients hold them: which session, and a secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tidegate_protocol::SessionId;
use tidegate_protocol::extended::TokenHash;

/// Random bytes in a token.
const SECRET: usize = 32;
/// Bytes of the session's id.
const ID: usize = 16;

/// A token that was just made. Its text goes to the client; only the hash is kept.
pub(crate) struct NewToken {
    pub(crate) text: String,
    pub(crate) hash: TokenHash,
}

impl NewToken {
    pub(crate) fn new(session: SessionId) -> Self {
        let secret: [u8; SECRET] = rand::random();
        let mut bytes = [0; ID + SECRET];
        bytes[..ID].copy_from_slice(&session.0.to_be_bytes());
        bytes[ID..].copy_from_slice(&secret);
        Self {
            text: URL_SAFE_NO_PAD.encode(bytes),
            hash: hash(&secret),
        }
    }
}

/// Which session a token is for, and its secret's hash; `None` if it is none of ours.
pub(crate) fn parse(text: &str) -> Option<(SessionId, TokenHash)> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (id, secret) = bytes.split_first_chunk::<ID>()?;
    let secret: &[u8; SECRET] = secret.try_into().ok()?;
    Some((SessionId(u128::from_be_bytes(*id)), hash(secret)))
}

fn hash(secret: &[u8; SECRET]) -> TokenHash {
    TokenHash(Sha256::digest(secret).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_session_and_no_two_are_alike() {
        let (a, b) = (NewToken::new(SessionId(7)), NewToken::new(SessionId(7)));
        assert_eq!(parse(&a.text), Some((SessionId(7), a.hash)));
        assert_ne!(a.text, b.text);
        assert_ne!(a.hash, b.hash);
        assert_eq!(a.text.len(), 64);
        assert!(a.text.len() <= tidegate_protocol::extended::MAX_TOKEN);
        let page = include_str!("../../../docs/protocol.md");
        let page: Vec<_> = page.split_whitespace().collect();
        let phrase = format!("text without a meaning, {} characters", a.text.len());
        assert!(page.join(" ").contains(&phrase));
    }

    #[test]
    fn what_is_no_token_is_none() {
        let token = NewToken::new(SessionId(7)).text;
        for text in [
            "",
            "AAAA",
            &token[1..],
            &format!("{token}AA"),
            &token.replace(['A', 'a'], "!"),
        ] {
            if text != token {
                assert!(parse(text).is_none(), "{text}");
            }
        }
    }

    /// Each bit of the secret is set about half the time.
    #[test]
    fn secrets_are_random() {
        const N: usize = 2000;
        let mut ones = [0u32; SECRET * 8];
        for _ in 0..N {
            let token = NewToken::new(SessionId(0)).text;
            let bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
            for (i, ones) in ones.iter_mut().enumerate() {
                *ones += u32::from(bytes[ID + i / 8] >> (i % 8) & 1);
            }
        }
        for (i, ones) in ones.iter().enumerate() {
            // Seven standard deviations: once in a hundred billion runs.
            assert!(
                (843..=1157).contains(ones),
                "bit {i} was set {ones} times of {N}"
            );
        }
    }
}
