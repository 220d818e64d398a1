//! Which cipher, its key, and AES over whole blocks.

use std::fmt;

use aes::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit,
    KeyInit,
};
use aes::{Aes128, Aes192, Aes256, Block};
use cbc::{Decryptor, Encryptor};
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of a block.
pub(super) const BLOCK: usize = 16;

/// How the frames of a listener for old clients are encrypted, and with which key.
///
/// Neither form is authenticated, both are deterministic, and neither stops replay. Values
/// show nothing of their key, and wipe it when they are dropped.
#[derive(Debug, Clone)]
pub enum Cipher {
    /// AES-128 in ECB mode, as base64.
    AesEcb(EcbKey),
    /// AES in CBC mode under one fixed initialisation vector, which is part of the key.
    AesCbc(CbcKey),
}

impl Cipher {
    /// `aes-ecb`. The key has one byte or more; they are folded into the 16 of AES-128.
    pub fn aes_ecb(key: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        EcbKey::new(key.as_ref()).map(Self::AesEcb)
    }

    /// `aes-cbc`. The key has 16, 24 or 32 bytes, for AES-128, AES-192 or AES-256.
    pub fn aes_cbc(key: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        CbcKey::new(key.as_ref()).map(Self::AesCbc)
    }

    /// `aes-ecb` or `aes-cbc`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AesEcb(_) => "aes-ecb",
            Self::AesCbc(_) => "aes-cbc",
        }
    }
}

/// A key that no cipher can use. Says nothing of the key but its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// For `aes-ecb`: there is none.
    #[error("aes-ecb needs a key of at least 1 byte")]
    Empty,
    /// For `aes-cbc`: not a length of AES.
    #[error("aes-cbc needs a key of 16, 24 or 32 bytes, this one has {0}")]
    Length(usize),
}

/// The key of [`Cipher::AesEcb`].
#[derive(Clone)]
pub struct EcbKey(Zeroizing<[u8; 16]>);

impl EcbKey {
    /// Folds a key of any length but 0: byte `i` goes by XOR into byte `i mod 16`.
    pub fn new(key: &[u8]) -> Result<Self, KeyError> {
        if key.is_empty() {
            return Err(KeyError::Empty);
        }
        let mut folded = Zeroizing::new([0; 16]);
        for (i, byte) in key.iter().enumerate() {
            folded[i % 16] ^= byte;
        }
        Ok(Self(folded))
    }
}

/// The key of [`Cipher::AesCbc`].
#[derive(Clone)]
pub struct CbcKey {
    key: AesKey,
    /// The key's last 16 bytes.
    iv: Zeroizing<[u8; BLOCK]>,
}

/// A key of one of AES's lengths.
#[derive(Clone)]
enum AesKey {
    Aes128(Zeroizing<[u8; 16]>),
    Aes192(Zeroizing<[u8; 24]>),
    Aes256(Zeroizing<[u8; 32]>),
}

impl CbcKey {
    /// Takes a key of 16, 24 or 32 bytes.
    pub fn new(key: &[u8]) -> Result<Self, KeyError> {
        let wrong = KeyError::Length(key.len());
        let iv = *key.last_chunk().ok_or(wrong)?;
        let key = if let Ok(key) = key.try_into() {
            AesKey::Aes128(Zeroizing::new(key))
        } else if let Ok(key) = key.try_into() {
            AesKey::Aes192(Zeroizing::new(key))
        } else {
            AesKey::Aes256(Zeroizing::new(key.try_into().map_err(|_| wrong)?))
        };
        let iv = Zeroizing::new(iv);
        Ok(Self { key, iv })
    }
}

impl fmt::Debug for EcbKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

impl fmt::Debug for CbcKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// A cipher with its key expanded.
pub(super) enum Blocks {
    Ecb(Aes128),
    Cbc128(Aes128, Block),
    Cbc192(Aes192, Block),
    Cbc256(Aes256, Block),
}

impl Blocks {
    pub(super) fn new(cipher: &Cipher) -> Self {
        let CbcKey { key, iv } = match cipher {
            Cipher::AesEcb(key) => return Self::Ecb(Aes128::new(&Array(*key.0))),
            Cipher::AesCbc(key) => key,
        };
        let iv = Array(**iv);
        match key {
            AesKey::Aes128(key) => Self::Cbc128(Aes128::new(&Array(**key)), iv),
            AesKey::Aes192(key) => Self::Cbc192(Aes192::new(&Array(**key)), iv),
            AesKey::Aes256(key) => Self::Cbc256(Aes256::new(&Array(**key)), iv),
        }
    }

    /// Encrypts whole blocks.
    pub(super) fn encrypt(&self, bytes: &mut [u8]) {
        let (blocks, _) = Block::slice_as_chunks_mut(bytes);
        match self {
            Self::Ecb(aes) => aes.encrypt_blocks(blocks),
            Self::Cbc128(aes, iv) => Encryptor::inner_iv_init(aes, iv).encrypt_blocks(blocks),
            Self::Cbc192(aes, iv) => Encryptor::inner_iv_init(aes, iv).encrypt_blocks(blocks),
            Self::Cbc256(aes, iv) => Encryptor::inner_iv_init(aes, iv).encrypt_blocks(blocks),
        }
    }

    /// Decrypts whole blocks.
    pub(super) fn decrypt(&self, bytes: &mut [u8]) {
        let (blocks, _) = Block::slice_as_chunks_mut(bytes);
        match self {
            Self::Ecb(aes) => aes.decrypt_blocks(blocks),
            Self::Cbc128(aes, iv) => Decryptor::inner_iv_init(aes, iv).decrypt_blocks(blocks),
            Self::Cbc192(aes, iv) => Decryptor::inner_iv_init(aes, iv).decrypt_blocks(blocks),
            Self::Cbc256(aes, iv) => Decryptor::inner_iv_init(aes, iv).decrypt_blocks(blocks),
        }
    }
}
