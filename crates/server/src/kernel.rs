//! Whether the system can carry what the gate is configured for: its limits and settings,
//! compared at the start.
//!
//! What is too small is logged, one line each, with what to change. What cannot be read, as
//! in many containers, is taken to be enough.

use std::fs;
use std::path::{Path, PathBuf};

use tidegate::GateLimits;

use crate::descriptors;

/// What listeners ask the kernel to queue for them.
const BACKLOG: u64 = 4096;
/// Descriptors for everything that is no connection: listeners, runtimes, logs, the store,
/// the admin interface and who asks it.
const SPARE_DESCRIPTORS: u64 = 256;
/// Memory of the gate and of the kernel for an idle connection without TLS, about.
const BYTES_PER_CONNECTION: u64 = 4096;
/// Memory of a gate without connections, about.
const BYTES_OF_PROCESS: u64 = 64 << 20;
/// Socket buffers of the kernel, for each connection: half of them have a page in use.
const BUFFER_PER_CONNECTION: u64 = 2048;

/// What the gate is configured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    connections: u64,
    listeners: u64,
    memory: u64,
}

impl Needs {
    pub(crate) fn new(limits: &GateLimits, listeners: usize) -> Self {
        let connections = limits.max_connections as u64;
        let idle = connections.saturating_mul(BYTES_PER_CONNECTION);
        Self {
            connections,
            listeners: listeners as u64,
            memory: limits
                .memory_budget
                .saturating_add(idle)
                .saturating_add(BYTES_OF_PROCESS),
        }
    }

    fn descriptors(&self) -> u64 {
        self.connections
            .saturating_add(self.listeners)
            .saturating_add(SPARE_DESCRIPTORS)
    }
}

/// Something that is too small.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shortage {
    /// What it is.
    name: &'static str,
    is: u64,
    wanted: u64,
    /// What comes of it.
    so: &'static str,
    /// What to do.
    fix: String,
}

/// Compares and logs.
pub(crate) fn check(needs: Needs) {
    let found = System::new(Path::new("/")).shortages(needs, descriptors::limit());
    for Shortage {
        name,
        is,
        wanted,
        so,
        fix,
    } in found
    {
        tracing::warn!(name, is, wanted, fix, "too small: {so}");
    }
}

/// Where settings are read.
struct System {
    root: PathBuf,
}

impl System {
    fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    fn shortages(&self, needs: Needs, descriptors: Option<u64>) -> Vec<Shortage> {
        let mut found = Vec::new();
        found.extend(self.descriptors(needs, descriptors));
        let settings = [
            (
                "net.core.somaxconn",
                BACKLOG.min(needs.connections),
                "connections that come in a burst are dropped",
            ),
            (
                "fs.file-max",
                needs.descriptors(),
                "the system runs out of files before the gate is full",
            ),
            (
                // Not there where the module is not loaded: then nothing is tracked.
                "net.netfilter.nf_conntrack_max",
                needs.connections,
                "the firewall drops new connections before the gate is full",
            ),
        ];
        for (name, wanted, so) in settings {
            found.extend(self.setting(name, wanted, so));
        }
        // With SYN cookies a queue that is full does no harm.
        if self.number("net.ipv4.tcp_syncookies") == Some(0) {
            let so = "connections that come in a burst are dropped";
            let wanted = BACKLOG.min(needs.connections);
            found.extend(self.setting("net.ipv4.tcp_max_syn_backlog", wanted, so));
        }
        found.extend(self.tcp_memory(needs));
        found.extend(self.memory(needs));
        found
    }

    fn descriptors(&self, needs: Needs, limit: Option<u64>) -> Option<Shortage> {
        let wanted = needs.descriptors();
        let is = limit.filter(|limit| *limit < wanted)?;
        let mut fix = format!("LimitNOFILE={wanted} in the systemd unit, or ulimit -n {wanted}");
        // What nobody may have more of, whatever the limit says.
        if self.number("fs.nr_open").is_some_and(|most| most < wanted) {
            fix.push_str(&format!(", after sysctl -w fs.nr_open={wanted}"));
        }
        fix.push_str("; or a smaller gate.max_connections");
        Some(Shortage {
            name: "file descriptors",
            is,
            wanted,
            so: "clients are turned away before the gate is full",
            fix,
        })
    }

    fn setting(&self, name: &'static str, wanted: u64, so: &'static str) -> Option<Shortage> {
        let is = self.number(name).filter(|is| *is < wanted)?;
        Some(Shortage {
            name,
            is,
            wanted,
            so,
            fix: format!("sysctl -w {name}={wanted}"),
        })
    }

    /// In pages, as the kernel counts them.
    fn tcp_memory(&self, needs: Needs) -> Option<Shortage> {
        let name = "net.ipv4.tcp_mem";
        let page = rustix::param::page_size() as u64;
        let text = self.sysctl(name)?;
        let mut pages = text.split_whitespace().map_while(|n| n.parse::<u64>().ok());
        let (low, pressure, is) = (pages.next()?, pages.next()?, pages.next()?);
        let wanted = needs.connections.saturating_mul(BUFFER_PER_CONNECTION) / page;
        if is >= wanted {
            return None;
        }
        let (low, pressure) = (low.max(wanted / 2), pressure.max(wanted / 4 * 3));
        Some(Shortage {
            name,
            is,
            wanted,
            so: "the kernel is short of socket buffers before the gate is full",
            fix: format!("sysctl -w {name}='{low} {pressure} {wanted}'"),
        })
    }

    /// Of the control group this process is in, and those around it.
    fn memory(&self, needs: Needs) -> Option<Shortage> {
        let groups = fs::read_to_string(self.root.join("proc/self/cgroup")).ok()?;
        let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let top = self.root.join("sys/fs/cgroup");
        let within = Path::new(path.trim_end());
        let limits = within.ancestors().filter_map(|group| {
            let file = top.join(group).join("memory.max");
            fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
        });
        let is = limits.min().filter(|is| *is < needs.memory)?;
        Some(Shortage {
            name: "memory.max",
            is,
            wanted: needs.memory,
            so: "the gate is killed for its memory before its own limits hold",
            fix: format!(
                "MemoryMax={} in the systemd unit, or as much for the container; or a smaller \
                 gate.memory_budget or gate.max_connections",
                needs.memory
            ),
        })
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.sysctl(name)?.trim().parse().ok()
    }

    fn sysctl(&self, name: &str) -> Option<String> {
        let path = self.root.join("proc/sys").join(name.replace('.', "/"));
        fs::read_to_string(path).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        connections: 100_000,
        listeners: 2,
        memory: 1 << 30,
    };

    /// A tree of settings; removed when dropped.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = format!("tidegate-kernel-{}-{name}", std::process::id());
            let root = std::env::temp_dir().join(root);
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }

        fn shortages(&self, descriptors: Option<u64>) -> Vec<Shortage> {
            System::new(&self.0).shortages(NEEDS, descriptors)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_cannot_be_read_is_enough() {
        let tree = Tree::new("none", &[]);
        assert_eq!(tree.shortages(None), []);
        let odd = Tree::new(
            "odd",
            &[
                ("proc/sys/net/core/somaxconn", "many\n"),
                ("proc/sys/net/ipv4/tcp_mem", "1 2\n"),
                ("proc/self/cgroup", "1:memory:/old\n"),
            ],
        );
        assert_eq!(odd.shortages(None), []);
    }

    #[test]
    fn what_suffices_is_not_said() {
        let tree = Tree::new(
            "enough",
            &[
                ("proc/sys/net/core/somaxconn", "4096\n"),
                ("proc/sys/net/ipv4/tcp_syncookies", "1\n"),
                ("proc/sys/net/ipv4/tcp_max_syn_backlog", "128\n"),
                ("proc/sys/fs/file-max", "9223372036854775807\n"),
                ("proc/sys/net/ipv4/tcp_mem", "190000\t250000\t380000\n"),
                ("proc/self/cgroup", "0::/a/b\n"),
                ("sys/fs/cgroup/memory.max", "max\n"),
                ("sys/fs/cgroup/a/b/memory.max", "2147483648\n"),
            ],
        );
        assert_eq!(tree.shortages(Some(100_258)), []);
    }

    #[test]
    fn what_is_too_small_is_said_with_what_to_do() {
        let tree = Tree::new(
            "little",
            &[
                ("proc/sys/net/core/somaxconn", "128\n"),
                ("proc/sys/net/ipv4/tcp_syncookies", "0\n"),
                ("proc/sys/net/ipv4/tcp_max_syn_backlog", "512\n"),
                ("proc/sys/fs/file-max", "65536\n"),
                ("proc/sys/fs/nr_open", "4096\n"),
                ("proc/sys/net/netfilter/nf_conntrack_max", "65536\n"),
                ("proc/sys/net/ipv4/tcp_mem", "10 20 30\n"),
                ("proc/self/cgroup", "9:name=systemd:/\n0::/a/b\n"),
                ("sys/fs/cgroup/a/memory.max", "536870912\n"),
                ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ],
        );
        let found = tree.shortages(Some(1024));
        let said: Vec<_> = found.iter().map(|s| (s.name, s.is, s.wanted)).collect();
        let pages = 100_000 * BUFFER_PER_CONNECTION / rustix::param::page_size() as u64;
        assert_eq!(
            said,
            [
                ("file descriptors", 1024, 100_258),
                ("net.core.somaxconn", 128, 4096),
                ("fs.file-max", 65_536, 100_258),
                ("net.netfilter.nf_conntrack_max", 65_536, 100_000),
                ("net.ipv4.tcp_max_syn_backlog", 512, 4096),
                ("net.ipv4.tcp_mem", 30, pages),
                ("memory.max", 536_870_912, 1 << 30),
            ]
        );
        let fixes: Vec<_> = found.iter().map(|s| &*s.fix).collect();
        assert!(fixes[0].contains("LimitNOFILE=100258") && fixes[0].contains("fs.nr_open=100258"));
        assert_eq!(fixes[1], "sysctl -w net.core.somaxconn=4096");
        assert!(
            fixes[5].starts_with("sysctl -w net.ipv4.tcp_mem='"),
            "{}",
            fixes[5]
        );
        assert!(fixes[6].contains("MemoryMax=1073741824"), "{}", fixes[6]);
    }

    #[test]
    fn needs_come_from_the_limits_and_never_overflow() {
        let mut limits = GateLimits::default();
        limits.max_connections = 1000;
        limits.memory_budget = 1 << 20;
        let needs = Needs::new(&limits, 2);
        assert_eq!(needs.descriptors(), 1000 + 2 + SPARE_DESCRIPTORS);
        assert_eq!(needs.memory, (1 << 20) + 1000 * 4096 + BYTES_OF_PROCESS);
        limits.max_connections = usize::MAX;
        limits.memory_budget = u64::MAX;
        assert_eq!(Needs::new(&limits, 1).descriptors(), u64::MAX);
    }
}
