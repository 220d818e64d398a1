//! `proxy_protocol`, `forwarded`, and `trusted_proxies` of the gate and of listeners.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use crate::echo;
use crate::support::server::{Server, client};
use crate::ws::Ws;

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 3653\r\n";

/// The address that the log gives for the session that has just ended.
fn logged(server: &Server) -> String {
    let line = server.line_with("session ended");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    line["ip"].as_str().unwrap().to_owned()
}

fn by_proxy_protocol(at: SocketAddr, believed: bool) {
    let mut stream = client(at);
    stream.write_all(HEADER).unwrap();
    if believed {
        echo(&mut stream);
    }
}

fn by_header(at: SocketAddr, header: &str) {
    let mut ws = Ws::open(at, "/", &[header.to_owned()]);
    assert_eq!(ws.ask("echo/echo/1", b"hi"), b"hi");
}

#[test]
fn addresses_are_believed_of_whom_the_gate_or_the_listener_trusts() {
    const US: &str = "127.0.0.0/8";
    const OTHERS: &str = "10.1.1.1";
    for (top, own) in [(US, OTHERS), (OTHERS, US)] {
        let listeners = |own: &str| {
            format!(
                "[[tcp]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n{own}\n\
                 [[websocket]]\naddress = \"127.0.0.1:0\"\nforwarded = \"x-forwarded-for\"\n{own}\n\
                 [[websocket]]\naddress = \"127.0.0.1:0\"\nforwarded = \"forwarded\"\n{own}\n"
            )
        };
        let config = format!(
            "services = [\"echo\"]\ntrusted_proxies = [\"{top}\"]\n{}{}",
            listeners(""),
            listeners(&format!("trusted_proxies = [\"{own}\"]")),
        );
        let server = Server::start(&config, &["--log-level", "debug"]);
        // All TCP listeners come first.
        let [tcp, own_tcp, xff, forwarded, own_xff, own_forwarded] = server.listeners[..] else {
            panic!("{:?}", server.listeners)
        };
        for (trusted, tcp, xff, forwarded) in [
            (top, tcp, xff, forwarded),
            (own, own_tcp, own_xff, own_forwarded),
        ] {
            let believed = trusted == US;
            let wanted = |told: &str| if believed { told } else { "127.0.0.1" }.to_owned();
            by_proxy_protocol(tcp, believed);
            assert_eq!(logged(&server), wanted("192.0.2.7"), "{config}");
            by_header(xff, "X-Forwarded-For: 192.0.2.8");
            assert_eq!(logged(&server), wanted("192.0.2.8"), "{config}");
            by_header(forwarded, "Forwarded: for=192.0.2.9");
            assert_eq!(logged(&server), wanted("192.0.2.9"), "{config}");
            // The header that is not the configured one counts for nothing.
            by_header(forwarded, "X-Forwarded-For: 192.0.2.8");
            assert_eq!(logged(&server), "127.0.0.1", "{config}");
        }
    }
}

#[test]
fn local_proxies_are_believed_where_unix_is_trusted() {
    let files = crate::support::server::Scratch::new();
    let socket = files.path().join("gate.sock");
    let config = format!(
        "services = [\"echo\"]\n[[tcp]]\naddress = \"unix:{}\"\nproxy_protocol = true\n\
         trusted_proxies = [\"unix\"]\n",
        socket.display()
    );
    let server = Server::start_in(files, &config, &["--log-level", "debug"]);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(HEADER).unwrap();
    echo(&mut stream);
    drop(stream);
    assert_eq!(logged(&server), "192.0.2.7");
}
