//! Where the programs are.

use std::path::{Path, PathBuf};

/// The file that an environment variable names, as `scripts/test` sets them; without the variable,
/// where `scripts/install-test-tools` puts it: `default`, under `target/tools`.
///
/// | Variable | Default |
/// | --- | --- |
/// | `TIDEGATE_TEST_NATS_SERVER` | `venv/bin/nats-server` |
/// | `TIDEGATE_TEST_REDIS_SERVER` | `bin/redis-server` |
/// | `TIDEGATE_TEST_PYTHON` | `venv/bin/python` |
/// | `TIDEGATE_TEST_NODE_MODULES` | `node/node_modules` |
/// | `TIDEGATE_TEST_GO` | `bin/go` |
/// | `TIDEGATE_TEST_FAKETIME` | `lib/libfaketime.so.1` |
///
/// # Panics
/// If there is no such file.
pub fn tool(variable: &str, default: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(
        || workspace().join("target/tools").join(default),
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "{} is missing; scripts/install-test-tools installs it",
        path.display(),
    );
    path
}

/// The directory of the repository.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}
