//! File descriptors: each connection needs one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, and logs what there is.
pub(crate) fn raise_limit() {
    let before = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let raised = match before.current == before.maximum {
        true => Ok(()),
        false => setrlimit(Resource::Nofile, wanted),
    };
    let shown =
        |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    let limit = shown(limit());
    match raised {
        Ok(()) => tracing::info!(limit, before = shown(before.current), "file descriptors"),
        Err(error) => tracing::warn!(
            limit,
            %error,
            "the limit of file descriptors cannot be raised"
        ),
    }
}

/// How many this process may have; `None` without a limit.
pub(crate) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}
