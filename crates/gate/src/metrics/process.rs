//! What the system knows of this process, under the names that all Prometheus clients
//! use. What cannot be found out is left out.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::catalogue as the;
use super::page::Page;

pub(super) fn write(page: &mut Page) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    page.number(&the::PROCESS_CPU, &[], cpu);
    let max_fds = getrlimit(Resource::Nofile).current;
    for (metric, value) in [
        (&the::PROCESS_MEMORY, resident_memory()),
        (&the::PROCESS_FDS, open_fds().map(|n| n as f64)),
        (&the::PROCESS_MAX_FDS, max_fds.map(|n| n as f64)),
        (&the::PROCESS_START, start_time()),
    ] {
        if let Some(value) = value {
            page.number(metric, &[], value);
        }
    }
}

fn resident_memory() -> Option<f64> {
    // proc(5): /proc/pid/statm, in pages: size, resident, ...
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * page_size() as f64)
}

fn open_fds() -> Option<u64> {
    // Since Linux 6.2 the directory's size is their number; before, it is 0.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        n => Some(n),
    }
}

fn start_time() -> Option<f64> {
    // proc(5): /proc/pid/stat, field 22 in clock ticks after boot. The second field, a name
    // in parentheses, may hold anything.
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: f64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    let boot: f64 = boot.trim().parse().ok()?;
    Some(boot + ticks / clock_ticks_per_second() as f64)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn this_process_is_as_it_should_be() {
        assert!(resident_memory().unwrap() > 100_000.0);
        assert!(open_fds().unwrap() >= 3);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - start_time().unwrap();
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
