//! From files to what a handshake needs, with every check.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use ring::digest;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};

use super::choose::Choice;
use super::{ClientAuth, Pair, Tls, TlsError, chain};

/// Tickets that a TLS 1.3 client gets after a handshake: two, so that it may come back
/// over two connections at once.
const TICKETS: usize = 2;

/// The SHA-256 of contents.
pub(super) type Digest = [u8; 32];

/// What a listener serves, from its files at one moment.
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    /// Where clients may show a certificate.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Of all files.
    pub(super) digest: Digest,
    /// When the first certificate expires, and its file.
    pub(super) expires: (SystemTime, PathBuf),
    authorities: Option<Digest>,
    ticketer: Arc<dyn ProducesTickets>,
}

/// The contents of the files, read once: what is checked is what is used.
pub(super) struct Files {
    /// Certificate and key of each pair.
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    authorities: Option<Vec<u8>>,
}

impl Files {
    pub(super) fn read(tls: &Tls) -> Result<Self, TlsError> {
        let read = |pair: &Pair| {
            let cert = read_file("certificate", &pair.cert)?;
            Ok((cert, read_file("private key", &pair.key)?))
        };
        let pairs = tls
            .pairs
            .iter()
            .map(read)
            .collect::<Result<_, TlsError>>()?;
        let authorities = tls.client_auth.ca().map(|ca| read_file("client CA", ca));
        let authorities = authorities.transpose()?;
        Ok(Self { pairs, authorities })
    }

    pub(super) fn digest(&self) -> Digest {
        let pairs = self.pairs.iter().flat_map(|(cert, key)| [cert, key]);
        let mut all = digest::Context::new(&digest::SHA256);
        for file in pairs.chain(&self.authorities) {
            all.update(&sha256(file));
        }
        to_array(all.finish())
    }
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    to_array(digest::digest(&digest::SHA256, bytes))
}

fn to_array(digest: digest::Digest) -> Digest {
    let mut array = Digest::default();
    array.copy_from_slice(digest.as_ref());
    array
}

/// Loads and checks what `tls` names. `web` for listeners whose clients speak HTTP first;
/// `before` is what is served so far.
pub(super) fn load(tls: &Tls, web: bool, before: Option<&Loaded>) -> Result<Loaded, TlsError> {
    let files = Files::read(tls)?;
    let provider = Arc::new(default_provider());
    let mut certificates = Vec::new();
    let mut expires: Option<(SystemTime, PathBuf)> = None;
    for (pair, (cert, key)) in tls.pairs.iter().zip(&files.pairs) {
        let (key, facts) = certified_key(pair, cert, key, &provider)?;
        if facts.names.is_empty() && !certificates.is_empty() {
            return Err(TlsError::Chain {
                path: pair.cert.clone(),
                why: "no DNS name in its subjectAltName, so no client could ask for it".into(),
            });
        }
        certificates.push((Arc::new(key), facts.names));
        if expires
            .as_ref()
            .is_none_or(|(first, _)| facts.expires < *first)
        {
            expires = Some((facts.expires, pair.cert.clone()));
        }
    }
    let verifier = verifier(tls, files.authorities.as_deref(), &provider)?;
    // Tickets carry who the client was: none that other authorities let in may be used.
    let authorities = files.authorities.as_deref().map(sha256);
    let ticketer = match before {
        Some(before) if before.authorities == authorities => before.ticketer.clone(),
        _ => Ticketer::new().map_err(|e| unusable(&tls.pairs[0], &e))?,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|e| unusable(&tls.pairs[0], &e))?
        .with_client_cert_verifier(match &verifier {
            Some(verifier) => verifier.clone(),
            None => WebPkiClientVerifier::no_client_auth(),
        })
        .with_cert_resolver(Arc::new(Choice::new(certificates)));
    config.ignore_client_order = true;
    // Clients keep their tickets; the gate keeps nothing for those that are gone.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ticketer.clone();
    config.send_tls13_tickets = TICKETS;
    config.max_early_data_size = 0;
    if web {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    Ok(Loaded {
        config: Arc::new(config),
        verifier,
        digest: files.digest(),
        expires: expires.unwrap_or((SystemTime::UNIX_EPOCH, PathBuf::new())),
        authorities,
        ticketer,
    })
}

fn certified_key(
    pair: &Pair,
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, chain::Facts), TlsError> {
    let chain = chain::read("certificate", &pair.cert, cert)?;
    let key = private_key(&pair.key, key)?;
    let facts = chain::check(&chain, &pair.cert)?;
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|_| TlsError::File {
        what: "private key",
        path: pair.key.clone(),
        why: "not a key that can be used; RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, \
              and Ed25519 can"
            .into(),
    })?;
    let key = CertifiedKey::new(chain, key);
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(unusable(pair, &"the key is not that of the certificate"));
        }
        Err(error) => return Err(unusable(pair, &error)),
    }
    Ok((key, facts))
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let contains = |wanted: &[u8]| pem.windows(wanted.len()).any(|part| part == wanted);
    let encrypted =
        contains(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains(b"Proc-Type: 4,ENCRYPTED");
    let why = match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) if !encrypted => return Ok(key),
        _ if encrypted => "it is encrypted; write it without a passphrase, with `openssl pkey`, \
                           and let only the gate's user read it"
            .to_owned(),
        Err(pem::Error::NoItemsFound) => "no private key in it".to_owned(),
        Err(error) => error.to_string(),
        Ok(_) => "it cannot be used".to_owned(),
    };
    Err(TlsError::File {
        what: "private key",
        path: path.to_owned(),
        why,
    })
}

fn verifier(
    tls: &Tls,
    pem: Option<&[u8]>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let (Some(path), Some(pem)) = (tls.client_auth.ca(), pem) else {
        return Ok(None);
    };
    let error = |why: String| TlsError::File {
        what: "client CA",
        path: path.to_owned(),
        why,
    };
    let certificates = chain::read("client CA", path, pem)?;
    chain::check_authorities(&certificates, path)?;
    let mut roots = RootCertStore::empty();
    for (i, certificate) in certificates.into_iter().enumerate() {
        let added = roots.add(certificate);
        added.map_err(|e| error(format!("certificate {} in it: {e}", i + 1)))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let builder = match tls.client_auth {
        ClientAuth::Required { .. } => builder,
        _ => builder.allow_unauthenticated(),
    };
    builder.build().map(Some).map_err(|e| error(e.to_string()))
}

fn read_file(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|e| TlsError::File {
        what,
        path: path.to_owned(),
        why: e.to_string(),
    })
}

fn unusable(pair: &Pair, why: &impl ToString) -> TlsError {
    TlsError::Unusable {
        cert: pair.cert.clone(),
        key: pair.key.clone(),
        why: why.to_string(),
    }
}
