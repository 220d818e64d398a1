//! The certificate for a client: by the name it asks for, and by the signatures it knows.

use std::sync::Arc;

use hashbrown::HashMap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

/// Certificates by name; in each list the preferred one first.
#[derive(Debug, Default)]
pub(super) struct Choice {
    exact: HashMap<String, List>,
    /// By what follows `*.`.
    wildcard: HashMap<String, List>,
    /// For clients that ask for nothing that is here.
    default: List,
}

type List = Vec<Arc<CertifiedKey>>;

impl Choice {
    /// Of certificates with the DNS names they are for, the default one first.
    pub(super) fn new(certificates: Vec<(Arc<CertifiedKey>, Vec<String>)>) -> Self {
        let mut choice = Self::default();
        let first = certificates.first().map(|(_, names)| names.clone());
        let first = first.unwrap_or_default();
        for (i, (key, names)) in certificates.into_iter().enumerate() {
            // The same in another algorithm stands in for the first.
            if i == 0 || names.iter().any(|name| first.contains(name)) {
                choice.default.push(key.clone());
            }
            for name in names {
                let list = match name.strip_prefix("*.") {
                    Some(parent) => choice.wildcard.entry(parent.to_owned()),
                    None => choice.exact.entry(name),
                };
                list.or_default().push(key.clone());
            }
        }
        let lists = choice
            .exact
            .values_mut()
            .chain(choice.wildcard.values_mut());
        for list in lists.chain([&mut choice.default]) {
            list.sort_by_key(|key| key.key.algorithm() == SignatureAlgorithm::RSA);
        }
        choice
    }

    fn get(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let exact = name.as_ref().and_then(|name| self.exact.get(name));
        let parent = name.as_ref().and_then(|name| name.split_once('.'));
        let wildcard = parent.and_then(|(_, parent)| self.wildcard.get(parent));
        // One for another name would not help a client whose name is here.
        let lists = match exact.or(wildcard) {
            Some(_) => [exact, wildcard],
            None => [Some(&self.default), None],
        };
        let mut all = lists.into_iter().flatten().flatten();
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        // Where none fits, the first makes the handshake fail with the right alert.
        let first = all.clone().next();
        let found = all.find(usable).or(first);
        found.cloned()
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.get(client.server_name(), client.signature_schemes())
    }
}
