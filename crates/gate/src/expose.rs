//! Which services and methods clients may call at all.

use std::fmt;

use hashbrown::HashMap;
use thiserror::Error;
use tidegate_protocol::{InvalidName, Name};

/// What clients may call, beyond what the services themselves say: see
/// [`GateBuilder::expose`](crate::GateBuilder::expose).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Exposure(Option<HashMap<Name, Methods>>);

/// The methods of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Methods {
    All,
    /// Few: looked through one by one.
    These(Vec<Name>),
}

/// An entry of an [`Exposure`] that names nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{entry:?} is not service or service/method: {why}")]
pub struct ExposureError {
    /// The entry.
    pub entry: String,
    /// What is wrong with it.
    pub why: InvalidName,
}

impl Exposure {
    /// Every method of every service, as far as it is open to the client. The default.
    pub fn all() -> Self {
        Self(None)
    }

    /// Only these: `service` for all its methods, `service/method` for one. None at all
    /// where there are none. They need not exist.
    ///
    /// # Errors
    /// The first entry that names nothing that could exist.
    pub fn only<T: AsRef<str>>(
        entries: impl IntoIterator<Item = T>,
    ) -> Result<Self, ExposureError> {
        let mut services = HashMap::new();
        for entry in entries {
            let entry = entry.as_ref();
            let wrong = |why| ExposureError {
                entry: entry.to_owned(),
                why,
            };
            let (service, method) = match entry.split_once('/') {
                Some((service, method)) => (service, Some(method)),
                None => (entry, None),
            };
            let service = Name::new(service).map_err(wrong)?;
            let method = method.map(Name::new).transpose().map_err(wrong)?;
            let none = || Methods::These(Vec::new());
            match (services.entry(service).or_insert_with(none), method) {
                (methods, None) => *methods = Methods::All,
                (Methods::These(methods), Some(method)) => methods.push(method),
                (Methods::All, Some(_)) => {}
            }
        }
        Ok(Self(Some(services)))
    }

    /// Whether clients may call it.
    pub(crate) fn admits(&self, service: &str, method: &str) -> bool {
        let Some(services) = &self.0 else {
            return true;
        };
        match services.get(service) {
            None => false,
            Some(Methods::All) => true,
            Some(Methods::These(methods)) => methods.iter().any(|known| *known == *method),
        }
    }
}

impl fmt::Debug for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("all"),
            Some(services) => f.debug_map().entries(services).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_and_methods() {
        let exposure = Exposure::only(["chat", "echo/echo", "echo/after", "chat/say"]).unwrap();
        for (service, method, admitted) in [
            ("chat", "login", true),
            ("chat", "say", true),
            ("echo", "echo", true),
            ("echo", "after", true),
            ("echo", "other", false),
            ("Echo", "echo", false),
            ("auth", "login", false),
            ("", "", false),
        ] {
            assert_eq!(
                exposure.admits(service, method),
                admitted,
                "{service}/{method}"
            );
        }
        let order = Exposure::only(["echo", "echo/echo"]).unwrap();
        assert!(order.admits("echo", "after"), "a whole service stays whole");
        let none = Exposure::only::<&str>([]).unwrap();
        assert!(!none.admits("echo", "echo"));
        assert!(Exposure::all().admits("echo", "echo"));
        assert_eq!(Exposure::default(), Exposure::all());
    }

    #[test]
    fn entries_that_name_nothing() {
        for entry in [
            "",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "a b",
            "*",
            "a/*",
            "$a",
            "ä",
            &"a".repeat(65),
        ] {
            let error = Exposure::only(["fine", entry]).unwrap_err();
            assert_eq!(error.entry, entry);
        }
        let error = Exposure::only(["a/*"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "\"a/*\" is not service or service/method: \
             a service or method name must be 1 to 64 of A-Z a-z 0-9 _ -"
        );
    }
}
