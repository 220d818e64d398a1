//! Places that can be cut off.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::{Process, Proxy, eventually};

/// Set in a test program that was started in namespaces of its own.
const INSIDE: &str = "TIDEGATE_TEST_NAMESPACE";

/// Runs the named test of this test program once more in namespaces of its own, where [`Site`]s
/// are network namespaces.
///
/// Answers true to whoever shall do the test: that other program; or this one where the system
/// gives no namespaces to users, and a site is a [`Proxy`].
///
/// # Panics
/// If the test fails in there.
pub fn with_namespaces(test: &str) -> bool {
    if inside() {
        run("ip", &["link", "set", "lo", "up"]);
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--fork"]);
        command.args(["--kill-child", "--"]);
        command
    };
    // Both are needed: a place in which to make links, and the right to make them.
    let mut probe = unshare();
    probe.args([
        "ip", "link", "add", "test0", "type", "veth", "peer", "name", "test1",
    ]);
    let probe = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        println!("{test}: no network namespaces here, a proxy stands in for them");
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let mut command = unshare();
    command
        .arg(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1");
    let output = command.output().unwrap();
    // Printed by us, so that it belongs to this test's output.
    println!("{}", String::from_utf8_lossy(&output.stdout));
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test}, in namespaces of its own");
    let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(ran, "no test has the name {test}");
    false
}

pub(crate) fn inside() -> bool {
    static INSIDE_IS: OnceLock<bool> = OnceLock::new();
    *INSIDE_IS.get_or_init(|| std::env::var_os(INSIDE).is_some())
}

/// A place where programs run that reach servers over a line which can be cut; the test reaches
/// them over another line that stays.
#[derive(Debug)]
pub struct Site {
    way: Way,
}

#[derive(Debug)]
enum Way {
    Namespace { number: u8, holder: Process },
    Proxies(Vec<Proxy>),
}

impl Site {
    /// Makes one: a network namespace in a test that runs [`with_namespaces`], otherwise one whose
    /// line is a proxy for each server.
    pub async fn new() -> Self {
        if !inside() {
            return Self {
                way: Way::Proxies(Vec::new()),
            };
        }
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sleep", "infinity"]);
        let holder = Process::start(&format!("site {number}"), command);
        let namespace = |id: String| std::fs::read_link(format!("/proc/{id}/ns/net")).ok();
        eventually("the namespace is there", async || {
            let own = namespace("self".to_owned());
            (namespace(holder.id().to_string())? != own?).then_some(())
        })
        .await;
        let id = holder.id().to_string();
        for (line, net) in [("server", 1), ("test", 2)] {
            let outer = format!("{line}{number}");
            let address = |host| format!("10.{net}.{number}.{host}/24");
            #[rustfmt::skip]
            run("ip", &["link", "add", &outer, "type", "veth", "peer", "name", line, "netns", &id]);
            run("ip", &["address", "add", &address(1), "dev", &outer]);
            run("ip", &["link", "set", &outer, "up"]);
            let there = ["-t", &id, "-n", "ip"];
            let run_there = |arguments: &[&str]| run("nsenter", &[&there, arguments].concat());
            run_there(&["address", "add", &address(2), "dev", line]);
            run_there(&["link", "set", line, "up"]);
            run_there(&["link", "set", "lo", "up"]);
        }
        Self {
            way: Way::Namespace { number, holder },
        }
    }

    /// A command that runs there.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match &self.way {
            Way::Namespace { holder, .. } => {
                let mut command = Command::new("nsenter");
                command.args(["-t", &holder.id().to_string(), "-n", "--"]);
                command.arg(program);
                command
            }
            Way::Proxies(_) => Command::new(program),
        }
    }

    /// The address at which programs there listen for the test.
    pub fn address(&self) -> IpAddr {
        match &self.way {
            Way::Namespace { number, .. } => Ipv4Addr::new(10, 2, *number, 2).into(),
            Way::Proxies(_) => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// Where programs there find a server of the test's.
    pub fn way_to(&mut self, server: SocketAddr) -> SocketAddr {
        match &mut self.way {
            Way::Namespace { number, .. } => {
                SocketAddr::new(Ipv4Addr::new(10, 1, *number, 1).into(), server.port())
            }
            Way::Proxies(proxies) => {
                let proxy = Proxy::start(server);
                let address = proxy.address();
                proxies.push(proxy);
                address
            }
        }
    }

    /// Cuts the line to the servers: nothing gets through, nobody is told.
    pub fn cut(&self) {
        match &self.way {
            Way::Namespace { number, .. } => set_link(*number, "down"),
            Way::Proxies(proxies) => proxies.iter().for_each(Proxy::hold),
        }
    }

    /// Mends it.
    pub fn mend(&self) {
        match &self.way {
            Way::Namespace { number, .. } => set_link(*number, "up"),
            Way::Proxies(proxies) => proxies.iter().for_each(Proxy::release),
        }
    }
}

fn set_link(number: u8, state: &str) {
    run("ip", &["link", "set", &format!("server{number}"), state]);
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr),
    );
}
