//! Under which addresses browsers find the page, and from it the gate.

use std::net::{IpAddr, SocketAddr};

use hyper::Uri;

use crate::config::value::text::PageOrigin;

/// Who may open the page where, and where the page connects to.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Origins of the page: those that browsers on this machine use, and those that were given.
    origins: Vec<String>,
    /// The gate's URL, where it was given.
    url: Option<String>,
}

impl Reach {
    /// A page at `page`. `url` is where browsers find the gate, if that is somewhere else than
    /// where it listens; [`check`](Self::check) has seen it.
    pub(crate) fn new(page: SocketAddr, url: Option<String>) -> Self {
        let port = page.port();
        let own = hosts(page.ip()).into_iter();
        Self {
            origins: own.map(|host| format!("http://{host}:{port}")).collect(),
            url,
        }
    }

    /// Checks a URL of the gate; answers what is expected.
    pub(crate) fn check(url: &str) -> Result<(), &'static str> {
        match origin_of(url).is_some() && !url.contains(['#', '\\', '"']) {
            true => Ok(()),
            false => Err("a URL such as \"ws://192.168.1.5:3654/\" or \"wss://gate.example/\""),
        }
    }

    /// Lets the page connect, beside those that are let in already. A page that someone
    /// else's name leads to (DNS rebinding) is not among them.
    pub(crate) fn let_in(&mut self, origins: &mut Vec<PageOrigin>) {
        for origin in &*origins {
            self.origins.push(origin.as_str().to_owned());
        }
        if origins.iter().any(|origin| origin.as_str() == "*") {
            return;
        }
        let own = self.origins.iter();
        *origins = own.filter_map(|own| PageOrigin::new(own).ok()).collect();
    }

    /// The gate's URL, where it was given, and else its port: then it is at the page's host.
    pub(crate) fn gate(&self, ws: Option<SocketAddr>) -> (String, String) {
        match (&self.url, ws) {
            (Some(url), _) => (url.clone(), String::new()),
            (None, Some(ws)) if is_here(ws.ip()) => (String::new(), ws.port().to_string()),
            (None, Some(ws)) => (format!("ws://{ws}/"), String::new()),
            (None, None) => <_>::default(),
        }
    }

    /// The origins that the page may connect to.
    pub(crate) fn connect_to(&self, ws: Option<SocketAddr>) -> Vec<String> {
        let (url, port) = self.gate(ws);
        if !url.is_empty() {
            return origin_of(&url).into_iter().collect();
        }
        let hosts = self.origins.iter().filter_map(|origin| {
            let uri: Uri = origin.parse().ok()?;
            Some(uri.host()?.to_owned())
        });
        let mut all: Vec<_> = hosts
            .filter(|host| is_plain(host))
            .map(|host| format!("ws://{host}:{port}"))
            .collect();
        all.dedup();
        all
    }
}

/// Whether one finds it under the names of the page's host.
fn is_here(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

/// How browsers on this machine write it in a URL.
fn hosts(ip: IpAddr) -> Vec<String> {
    let number = match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(ip) if ip.is_unspecified() => return both(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    match is_here(ip) {
        true => vec![number, "localhost".to_owned()],
        false => vec![number],
    }
}

fn both() -> Vec<String> {
    ["[::1]", "127.0.0.1", "localhost"]
        .map(str::to_owned)
        .to_vec()
}

/// `ws://host:port` of a gate's URL.
fn origin_of(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|s| ["ws", "wss"].contains(s))?;
    let authority = uri.authority()?.as_str();
    is_plain(authority).then(|| format!("{scheme}://{authority}"))
}

/// Whether it can stand in a policy: names and numbers, no wildcard, no password.
fn is_plain(host: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    !host.is_empty() && host.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(page: &str, more: &[&str], url: Option<&str>) -> (Reach, Vec<String>) {
        let mut reach = Reach::new(page.parse().unwrap(), url.map(str::to_owned));
        let more = more.iter().map(|more| PageOrigin::new(*more).unwrap());
        let mut origins: Vec<_> = more.collect();
        reach.let_in(&mut origins);
        let origins = origins.iter().map(|o| o.as_str().to_owned()).collect();
        (reach, origins)
    }

    #[test]
    fn the_page_of_this_machine_connects_to_its_own_host() {
        let (page, origins) = reach("127.0.0.1:80", &[], None);
        assert_eq!(origins, ["http://127.0.0.1:80", "http://localhost:80"]);
        let ws = Some("127.0.0.1:7".parse().unwrap());
        assert_eq!(page.gate(ws), (String::new(), "7".to_owned()));
        let hosts = ["ws://127.0.0.1:7", "ws://localhost:7"];
        assert_eq!(page.connect_to(ws), hosts);

        let (_, origins) = reach("[::1]:80", &[], None);
        assert_eq!(origins, ["http://[::1]:80", "http://localhost:80"]);
    }

    #[test]
    fn others_are_let_in_and_connect_where_they_are() {
        let lan = "http://192.168.1.5:80";
        let (page, origins) = reach("0.0.0.0:80", &[lan], None);
        let all = ["http://127.0.0.1:80", "http://localhost:80", lan];
        assert_eq!(origins, all);
        let ws = Some("0.0.0.0:7".parse().unwrap());
        let hosts = ["ws://127.0.0.1:7", "ws://localhost:7", "ws://192.168.1.5:7"];
        assert_eq!(page.connect_to(ws), hosts);
        // What is everywhere stays everywhere, and opens no hole in the page's own policy.
        let (page, origins) = reach("127.0.0.1:80", &["*"], None);
        assert_eq!(origins, ["*"]);
        assert_eq!(page.connect_to(ws), hosts[..2]);
    }

    #[test]
    fn a_gate_elsewhere() {
        let url = "wss://gate.example/chat";
        let (page, _) = reach("127.0.0.1:80", &[], Some(url));
        let ws = Some("127.0.0.1:7".parse().unwrap());
        assert_eq!(page.gate(ws), (url.to_owned(), String::new()));
        assert_eq!(page.connect_to(ws), ["wss://gate.example"]);
        let (page, _) = reach("127.0.0.1:80", &[], None);
        let ws = Some("192.0.2.1:7".parse().unwrap());
        assert_eq!(page.connect_to(ws), ["ws://192.0.2.1:7"]);
        for wrong in [
            "",
            "gate.example",
            "http://gate.example/",
            "ws://",
            "ws://*/",
            "ws://a@b/",
            "ws://a;script-src/",
            "ws://a/#b",
            "ws://a b/",
        ] {
            assert!(Reach::check(wrong).is_err(), "{wrong}");
        }
        assert!(Reach::check("ws://[::1]:3654/").is_ok());
    }
}
