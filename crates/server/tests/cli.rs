//! What the binary says and refuses: usage, configuration, what keeps a gate from starting.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::net::TcpListener;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use support::server::{Scratch, Server, run};

#[test]
fn help_and_version() {
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for word in ["demo", "serve", "service", "config", "connect", "Examples:"] {
        assert!(help.stdout.contains(word), "no {word} in {}", help.stdout);
    }
    for command in ["demo", "serve", "service", "config", "connect"] {
        let help = run(&[command, "--help"]);
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    }
    let serve = run(&["serve", "--help"]).stdout;
    assert!(serve.contains("--nats <URL>"), "{serve}");
    let version = run(&["--version"]);
    let expected = format!("tidegate {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.code, version.stdout), (Some(0), expected));
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [
        &["serv"][..],
        &["serve"],
        &["serve", "--tcp"],
        &["serve", "--tcp", "127.0.0.1"],
        &["serve", "--tcp", "127.0.0.1:0", "--id", "a b"],
        &["serve", "--tcp", "127.0.0.1:0", "--shards", "0"],
        &["serve", "--tcp", "127.0.0.1:0", "--shards", "many"],
        &["serve", "--tcp", "127.0.0.1:0", "--service", "nats"],
        &["serve", "--tcp", "127.0.0.1:0", "--admin", "3656"],
        &["serve", "--tcp", "127.0.0.1:0", "--log-level", "loud"],
        &["serve", "--config", "/nonexistent/tidegate.toml"],
        &["serve", "--tcp", "127.0.0.1:0", "--nats", "127.0.0.1:4222"],
        &[
            "serve",
            "--tcp",
            "127.0.0.1:0",
            "--nats",
            "nats://a:b@127.0.0.1:4222",
        ],
        &["service"],
        &["service", "chat"],
        &["service", "auth", "--nats", "nats://127.0.0.1:1"],
        &[
            "service",
            "chat",
            "--nats",
            "nats://127.0.0.1:1",
            "--instance",
            "a b",
        ],
        &["demo", "--page", "x"],
        &["demo", "--ws-origin", "x"],
        &["demo", "--tcp", "127.0.0.1:0", "extra"],
    ] {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{arguments:?}");
        assert!(!ended.stderr.is_empty());
    }
}

/// File, line and key of each mistake, in one line. More of them are in the unit tests.
#[test]
fn a_wrong_configuration_names_file_line_and_key() {
    let files = Scratch::new();
    for (text, line, key) in [
        ("id = \"a\"\n\nsharts = 2\n", 3, "sharts"),
        (
            "[limits]\nwrite_timeout = \"soon\"\n",
            2,
            "limits.write_timeout",
        ),
        ("[limits]\nread_buffer = 1\n", 2, "limits.read_buffer"),
        ("[[tcp]]\naddress = \"127.0.0.1:0\"\nport = 1\n", 3, "port"),
        (
            "[[websocket]]\naddress = \"127.0.0.1:0\"\n\npath = \"a\"\n",
            4,
            "websocket[0].path",
        ),
        ("this is no configuration\n", 1, ""),
    ] {
        let file = files.write("wrong.toml", text);
        let ended = run(&["serve", "--config", &file]);
        assert_eq!(ended.code, Some(2), "{text}: {}", ended.stderr);
        let start = format!("tidegate: {file}:{line}: ");
        assert!(ended.stderr.starts_with(&start), "{}", ended.stderr);
        assert!(ended.stderr.contains(key), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn the_example_configuration_is_one() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("examples/tidegate.toml")).unwrap();
    // On free ports, for the tests beside this one.
    let text = text
        .replace(":3653", ":0")
        .replace(":3654", ":0")
        .replace(":3656", ":0");
    let mut server = Server::start(&text, &[]);
    assert_eq!(server.admin("/readyz").unwrap().0, 200);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn a_taken_port_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for arguments in [
        &["serve", "--tcp", &address][..],
        &["serve", "--ws", &address],
        &["serve", "--tcp", "127.0.0.1:0", "--ws", &address],
        &["serve", "--tcp", "127.0.0.1:0", "--admin", &address],
    ] {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(1), "{arguments:?}: {}", ended.stderr);
        let last = ended.stderr.lines().last().unwrap();
        assert!(last.starts_with("tidegate: cannot start: "), "{last}");
        assert!(last.contains(&address), "{last}");
    }
    for taken in ["--tcp", "--ws", "--page", "--admin"] {
        let mut arguments = vec!["demo"];
        for flag in ["--tcp", "--ws", "--page", "--admin"] {
            let free = "127.0.0.1:0";
            arguments.extend([flag, if flag == taken { &address } else { free }]);
        }
        let ended = run(&arguments);
        assert_eq!(
            (ended.code, &*ended.stdout),
            (Some(1), ""),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.lines().last().unwrap().contains(&address));
    }
    // A second gate on the port of a first one.
    let mut first = Server::start("[[tcp]]\naddress = \"127.0.0.1:0\"\n", &[]);
    let address = first.listeners[0].to_string();
    assert_eq!(run(&["serve", "--tcp", &address]).code, Some(1));
    first.signal("INT");
    assert_eq!(first.ended().code(), Some(0));
}

const TLS: &str =
    "[[tcp]]\naddress = \"127.0.0.1:0\"\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\n";

fn certificate(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    (cert.pem(), key.serialize_pem())
}

/// Row by row: what stands in the two files, and what the refusal names.
#[test]
fn tls_that_cannot_be_used_stops_the_start() {
    let (cert, key) = certificate(|_| {});
    let (_, other_key) = certificate(|_| {});
    let (expired, expired_key) = certificate(|params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let (early, early_key) = certificate(|params| params.not_before = date_time_ymd(3000, 1, 1));
    for (what, cert_file, key_file, named) in [
        ("no certificate", None, Some(&key), "cert.pem"),
        ("no key", Some(&cert), None, "key.pem"),
        ("expired", Some(&expired), Some(&expired_key), "cert.pem"),
        ("not valid yet", Some(&early), Some(&early_key), "cert.pem"),
        ("mismatched", Some(&cert), Some(&other_key), "key.pem"),
        ("key for certificate", Some(&key), Some(&key), "cert.pem"),
        ("certificate for key", Some(&cert), Some(&cert), "key.pem"),
        (
            "empty certificate",
            Some(&String::new()),
            Some(&key),
            "cert.pem",
        ),
    ] {
        let files = Scratch::new();
        for (name, text) in [("cert.pem", cert_file), ("key.pem", key_file)] {
            if let Some(text) = text {
                files.write(name, text);
            }
        }
        let file = files.write("tidegate.toml", TLS);
        let ended = run(&["serve", "--config", &file]);
        assert_eq!(ended.code, Some(1), "{what}: {}", ended.stderr);
        let last = ended.stderr.lines().last().unwrap();
        let path = files.path().join(named);
        assert!(last.contains(path.to_str().unwrap()), "{what}: {last}");
        assert!(!last.contains("PRIVATE KEY"), "{what}: {last}");
    }
    let files = Scratch::new();
    files.write("cert.pem", &cert);
    files.write("key.pem", &key);
    let mut server = Server::start_in(files, TLS, &[]);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0), "the right ones");
}

#[test]
fn the_soft_limit_of_descriptors_is_raised() {
    let binary = env!("CARGO_BIN_EXE_tidegate");
    // It logs the limit before it finds that the port is not one of this machine.
    let command =
        format!("ulimit -Sn 60; exec '{binary}' serve --tcp 192.0.2.1:1 --log-format json");
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let line = log.lines().find(|line| line.contains("file descriptors"));
    let line: serde_json::Value = serde_json::from_str(line.expect(&log)).unwrap();
    assert_eq!(line["before"], "60");
    let limit = line["limit"].as_str().unwrap();
    assert!(
        limit.parse::<u64>().is_ok_and(|n| n > 60) || limit == "unlimited",
        "{limit}"
    );
}

/// With fewer descriptors than connections are allowed, it says so, and lives without them.
#[test]
fn too_few_descriptors_are_said_and_survived() {
    use std::io::{BufRead, BufReader, Read, Write};
    let binary = env!("CARGO_BIN_EXE_tidegate");
    let command = format!(
        "ulimit -n 64; exec '{binary}' serve --tcp 127.0.0.1:0 --service echo --shards 1 \
         --log-format json"
    );
    let mut child = Command::new("sh")
        .args(["-c", &command])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut log =
        log.map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
    let listening = log.find(|line| line["message"] == "listening").unwrap();
    let warning = log.find(|line| line["name"] == "file descriptors").unwrap();
    assert_eq!(warning["level"], "WARN");
    assert_eq!(
        (&warning["is"], &warning["wanted"]),
        (&64.into(), &100_257.into())
    );
    assert!(
        warning["fix"]
            .as_str()
            .unwrap()
            .contains("LimitNOFILE=100257")
    );
    log.find(|line| line["message"] == "ready").unwrap();
    // It is told once; connections are refused by the system, and the gate lives.
    let log = std::thread::spawn(move || log.filter(|l| l["name"] == "file descriptors").count());
    let address: std::net::SocketAddr = listening["address"].as_str().unwrap().parse().unwrap();
    let mut first = support::server::client(address);
    let mut many: Vec<_> = (0..100).map(|_| support::server::client(address)).collect();
    let hello = support::frame("echo/echo/1", b"x");
    let mut answer = vec![0; hello.len()];
    first.write_all(&hello).unwrap();
    first.read_exact(&mut answer).unwrap();
    // Who could not be taken is taken when others have gone.
    let mut last = many.pop().unwrap();
    drop(many);
    last.write_all(&hello).unwrap();
    last.read_exact(&mut answer).unwrap();
    support::server::signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(log.join().unwrap(), 0);
}
