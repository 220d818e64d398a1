//! JSON Web Key Sets (RFC 7517).

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::keys::Key;
use super::material::Material;

/// Most keys in a set: a token without a key id may be tried with each.
const MAX_KEYS: usize = 64;

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// The members that matter. Others may be there; none may be there twice.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    /// Of a private key.
    d: Option<IgnoredAny>,
}

/// Reads a set. Keys for other purposes and of unknown kinds are left out, as the RFC has
/// it; one that is broken, weak or private is an error.
pub(super) fn read(json: &[u8]) -> Result<Vec<Key>, String> {
    let set: Set = serde_json::from_slice(json)
        // Serde's own text may quote the file.
        .map_err(|e| format!("not a JWKS file (line {}, column {})", e.line(), e.column()))?;
    if set.keys.len() > MAX_KEYS {
        return Err(format!("more than {MAX_KEYS} keys"));
    }
    let mut keys = Vec::new();
    let mut ids = HashSet::new();
    for (i, jwk) in set.keys.into_iter().enumerate() {
        let name = match &jwk.kid {
            Some(kid) => format!("key {kid:?}"),
            None => format!("key {}", i + 1),
        };
        if let Some(kid) = &jwk.kid
            && !ids.insert(kid.clone())
        {
            return Err(format!("two keys have the id {kid:?}"));
        }
        if jwk.d.is_some() {
            return Err(format!(
                "{name} is a private key; only public ones belong here"
            ));
        }
        if jwk.is_for_signatures()
            && let Some(key) = jwk.key().map_err(|why| format!("{name}: {why}"))?
        {
            keys.push(key);
        }
    }
    Ok(keys)
}

impl Jwk {
    fn is_for_signatures(&self) -> bool {
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(verifies)
    }

    /// `None` for what is not known here.
    fn key(self) -> Result<Option<Key>, String> {
        let algorithm = match &self.alg {
            None => None,
            Some(alg) => match alg.parse::<Algorithm>() {
                Ok(algorithm) => Some(algorithm),
                Err(_) => return Ok(None),
            },
        };
        let material = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Material::rsa(&bytes("n", &self.n)?, &bytes("e", &self.e)?)?,
            ("EC", Some(curve @ ("P-256" | "P-384"))) => {
                let size = if curve == "P-256" { 32 } else { 48 };
                let (x, y) = (bytes("x", &self.x)?, bytes("y", &self.y)?);
                if x.len() != size || y.len() != size {
                    return Err(format!("x and y of {curve} have {size} bytes each"));
                }
                Material::point(&[&[4][..], &x, &y].concat())?
            }
            ("OKP", Some("Ed25519")) => Material::ed25519(&bytes("x", &self.x)?)?,
            ("oct", _) => Material::Secret(bytes("k", &self.k)?),
            _ => return Ok(None),
        };
        if let Some(algorithm) = algorithm
            && !material.is_for(algorithm)
        {
            return Err(format!("{} is not for {algorithm:?}", material.name()));
        }
        Ok(Some(Key::new(material, self.kid, algorithm)))
    }
}

fn bytes(name: &str, text: &Option<String>) -> Result<Vec<u8>, String> {
    let text = text
        .as_deref()
        .ok_or_else(|| format!("{name} is missing"))?;
    match URL_SAFE_NO_PAD.decode(text) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(format!("{name} is not base64url without padding")),
    }
}
