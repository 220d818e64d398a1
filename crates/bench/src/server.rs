//! The gate under test.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The demo, on free ports. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) tcp: String,
    pub(crate) ws: String,
}

/// A process's memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Resident and anonymous: heap and stacks.
    pub(crate) anonymous: u64,
}

impl Server {
    /// Starts `tidegate demo` from beside this program, building it if need be.
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        let binary = binary()?;
        let mut child = Command::new(&binary)
            .arg("demo")
            .args(["--tcp", "127.0.0.1:0", "--ws", "127.0.0.1:0"])
            .args(["--page", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        println!("server: {} demo", binary.display());
        let (mut tcp, mut ws) = (None, None);
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        while tcp.is_none() || ws.is_none() {
            let line = lines.next().ok_or("the server stopped at once")??;
            for word in line.split_whitespace() {
                let found = |scheme| word.strip_prefix(scheme).map(str::to_owned);
                tcp = tcp.or_else(|| found("tcp://"));
                ws = ws.or_else(|| found("ws://"));
            }
        }
        // Nobody reads on: the pipe must not fill and stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        let trim = |a: Option<String>| a.unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Self {
            child,
            tcp: trim(tcp),
            ws: trim(ws),
        })
    }

    pub(crate) fn memory(&self) -> Result<Memory, Box<dyn Error>> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(path)?;
        let line = text.lines().find(|l| l.starts_with("Anonymous:"));
        let number = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
        Ok(Memory {
            anonymous: number.ok_or("no Anonymous line")? * 1024,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> Result<PathBuf, Box<dyn Error>> {
    let path = std::env::current_exe()?.with_file_name("tidegate");
    if !path.exists() || cfg!(debug_assertions) {
        println!("building the release binary");
        let built = Command::new("cargo")
            .args(["build", "--release", "-p", "tidegate-server"])
            .status()?;
        if !built.success() {
            return Err("the build failed".into());
        }
    }
    match path.exists() {
        true => Ok(path),
        false => Err(format!("{} is missing", path.display()).into()),
    }
}
