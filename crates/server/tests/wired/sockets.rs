//! `unix:` addresses and `unix_mode`, `ipv6_only`, `keep_alive`, `notsent_lowat`.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use crate::echo;
use crate::support::frame;
use crate::support::server::{Scratch, Server, client};

#[test]
fn unix_sockets_have_their_mode_and_go_with_the_gate() {
    let files = Scratch::new();
    let paths = ["default.sock", "open.sock"].map(|name| files.path().join(name));
    let config = format!(
        "services = [\"echo\"]\n[[tcp]]\naddress = \"unix:{}\"\n\
         [[tcp]]\naddress = \"unix:{}\"\nunix_mode = \"0606\"\n",
        paths[0].display(),
        paths[1].display()
    );
    let mut server = Server::start_in(files, &config, &[]);
    for (path, mode) in [(&paths[0], 0o660), (&paths[1], 0o606)] {
        let permissions = std::fs::metadata(path).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, mode);
        echo(&mut UnixStream::connect(path).unwrap());
    }
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    assert!(paths.iter().all(|path| !path.exists()));
}

#[test]
fn ipv4_clients_of_an_ipv6_listener() {
    let config = "services = [\"echo\"]\n[[tcp]]\naddress = \"[::]:0\"\nipv6_only = true\n\
                  [[tcp]]\naddress = \"[::]:0\"\nipv6_only = false\n";
    let server = Server::start(config, &[]);
    for (i, only) in [(0, true), (1, false)] {
        let port = server.listeners[i].port();
        echo(&mut TcpStream::connect(("::1", port)).unwrap());
        let ipv4 = TcpStream::connect(("127.0.0.1", port));
        assert_eq!(ipv4.is_err(), only, "{ipv4:?}");
    }
}

/// What `ss` says of the gate's side of connections to this port.
fn ss(options: &str, port: u16) -> String {
    let output = Command::new("ss")
        .args([
            options,
            "state",
            "established",
            "sport",
            "=",
            &port.to_string(),
        ])
        .output()
        .unwrap_or_else(|e| panic!("ss: {e}; scripts/install-test-tools installs it"));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_the_kernel_does_for_a_connection() {
    let config = r#"
services = ["echo"]
[[tcp]]
address = "127.0.0.1:0"
keep_alive = { idle = "1h", interval = "10s", retries = 3 }
[[tcp]]
address = "127.0.0.1:0"
keep_alive = "off"
notsent_lowat = 2147483647
"#;
    let server = Server::start(config, &[]);
    let [probed, silent] = server.listeners[..] else {
        panic!("two listeners")
    };
    let mut streams = [probed, silent].map(client);
    streams.iter_mut().for_each(echo);
    let (with, without) = (ss("-tno", probed.port()), ss("-tno", silent.port()));
    assert!(
        with.contains("timer:(keepalive,59min") || with.contains("timer:(keepalive,60min"),
        "{with}"
    );
    assert!(!without.contains("keepalive"), "{without}");

    // Whoever does not read: what is not sent yet waits here or there.
    let unsent = streams.map(|mut stream| {
        let port = stream.peer_addr().unwrap().port();
        let quiet = Some(Duration::from_millis(500));
        stream.set_write_timeout(quiet).unwrap();
        let call = frame("echo/echo/1", &[b'x'; 60_000]);
        while stream.write_all(&call).is_ok() {}
        let said = ss("-tni", port);
        let (_, after) = said.split_once("notsent:").expect(&said);
        let number = after.split_whitespace().next().unwrap();
        number.parse::<u64>().unwrap()
    });
    // One write of the gate's goes beyond the mark.
    assert!(unsent[0] < 200_000 && unsent[1] > 500_000, "{unsent:?}");
}
