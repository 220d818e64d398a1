//! `tidegate connect` in scripts: what it prints, and how it ends.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use support::hostile::{Hostile, canaries};
use support::server::{Scratch, Server, run, run_with, tidegate};
use support::{Gate, frame};

/// Every line is an object.
fn objects(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn results_on_standard_output_and_remarks_on_standard_error() {
    let gate = Gate::start(&[]);
    let input =
        b"echo/echo hello\n\nchat/login ada\nunknown\necho/nope x\nhelp\n\xff\nquit\nr no/more";
    let ended = run_with(&["connect", &gate.tcp_url], input);
    assert_eq!(ended.code, Some(1), "commands failed");
    let (first, rest) = ended.stdout.split_once('\n').unwrap();
    assert!(
        first.starts_with("<- echo/echo/1 (") && first.ends_with(" ms) hello"),
        "{first}"
    );
    assert!(rest.contains("\"room\": \"lobby\""), "{rest}");
    assert!(
        rest.contains("wait-for PREFIX [SECONDS]"),
        "help is a result: {rest}"
    );
    let mistakes: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(mistakes[0], "!! unknown command; try help");
    let refused = "!! echo/nope: no such method for this client (3 NOT_FOUND) (";
    assert!(mistakes[1].starts_with(refused), "{}", ended.stderr);
    assert!(mistakes[2].contains("UTF-8"), "{}", ended.stderr);
    assert_eq!(mistakes.len(), 3, "{}", ended.stderr);
    assert!(
        !ended.stdout.contains('\x1b') && !ended.stderr.contains('\x1b'),
        "no colours"
    );
}

#[test]
fn exit_codes() {
    let gate = Gate::start(&[]);
    let url = &*gate.tcp_url;
    let closed_port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("tcp://{}", listener.local_addr().unwrap())
    };
    for (arguments, code) in [
        (&[url, "-e", "echo/echo x"][..], 0),
        (&[url], 0),
        (&[url, "-e", "echo/nope x"], 1),
        (&[url, "-e", "echo/nope x", "-e", "echo/echo x"], 1),
        (&[url, "-e", "echo/after 5s x", "--timeout", "0.05"], 1),
        (&[url, "-e", "wait-for nothing 0.05"], 1),
        (&[url, "-e", "echo/echo @/nonexistent"], 1),
        (&[url, "-e", "nonsense"], 2),
        (&[url, "-e", "echo/echo hex:0"], 2),
        (&[url, "-e", "echo/echo {"], 2),
        (&[url, "--timeout", "0"], 2),
        (&[url, "--protocol", "v1", "--token", "x"], 2),
        (&[url, "--protocol", "v1", "--auth", "x"], 2),
        (&[url, "--protocol", "v1", "--reconnect"], 2),
        (&[url, "--reconnect", "--no-reconnect"], 2),
        (&[url, "--token", "x", "--auth", "y"], 2),
        (&[url, "--auth-file", "/nonexistent"], 2),
        (&[url, "--token", "not looked at here"], 0),
        (&[url, "--protocol", "v1", "-e", "cut"], 1),
        (&[url, "-e", "cut", "-e", "wait 600"], 4),
        (&[url, "--ca", "/nonexistent"], 2),
        (&["ws://127.0.0.1:1/", "--server-name", "x"], 2),
        (&["tls://127.0.0.1:1", "--ca", "/nonexistent"], 2),
        (&["tls://127.0.0.1:1", "--cert", "/nonexistent"], 2),
        (&["ws://127.0.0.1:1/", "--header", "no colon"], 2),
        (&["ws://127.0.0.1:1/", "--header", "a b: c"], 2),
        (&["ws://127.0.0.1:1/", "--token-file", "/dev/null"], 2),
        (
            &["ws://127.0.0.1:1/", "--token-file", "/x", "--token", "y"],
            2,
        ),
        (&[url, "--cipher", "aes-cbc"], 2),
        (&[url, "--key", "x"], 2),
        (&[url, "--cipher", "aes-cbc", "--key", "short"], 2),
        (&[url, "--cipher", "aes-ecb", "--key", ""], 2),
        (
            &[url, "--cipher", "aes-ecb", "--key-file", "/nonexistent"],
            2,
        ),
        (&[url, "--cipher", "rot13", "--key", "x"], 2),
        (&[url, "--json", "--compact"], 2),
        (&["http://127.0.0.1:1/"], 2),
        (&["127.0.0.1:1"], 2),
        (&[&closed_port], 3),
    ] {
        let ended = run(&[&["connect"], arguments].concat());
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
        assert_eq!(
            code == 0,
            ended.stderr.is_empty(),
            "{arguments:?}: {}",
            ended.stderr
        );
    }
    let late = run(&["connect", url, "-e", "echo/after 5s x", "--timeout", "0.05"]);
    assert!(
        late.stderr
            .starts_with("!! echo/after: no answer after 50ms ("),
        "{}",
        late.stderr
    );
    // Closed by the gate.
    let mut child = tidegate()
        .args([
            "connect",
            &gate.ws_url,
            "-e",
            "echo/echo x",
            "-e",
            "wait 600",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0; 4])
        .unwrap();
    gate.terminate();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert_eq!(
        error,
        "closed by the gate: the gate is shutting down (4000 Shutdown)\n"
    );
}

#[test]
fn a_certificate_that_is_not_trusted_is_3_and_one_that_is_works() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap();
    let files = Scratch::new();
    let ca = files.write("cert.pem", &cert.pem());
    files.write("key.pem", &key.serialize_pem());
    let tls = "tls = { cert = \"cert.pem\", key = \"key.pem\" }";
    let config = format!(
        "services = [\"echo\"]\n[[tcp]]\naddress = \"127.0.0.1:0\"\n{tls}\n\
         [[websocket]]\naddress = \"127.0.0.1:0\"\n{tls}\n"
    );
    let server = Server::start_in(files, &config, &[]);
    let ask = ["-e", "echo/echo hello"];
    for (scheme, address) in [("tls", server.listeners[0]), ("wss", server.listeners[1])] {
        let url = format!("{scheme}://{address}");
        let stranger = run(&[&["connect", &url][..], &ask].concat());
        assert_eq!(stranger.code, Some(3), "{}", stranger.stderr);
        let trusted = ["--ca", &ca, "--server-name", "localhost"];
        let friend = run(&[&["connect", &url], &trusted[..], &ask].concat());
        assert_eq!(friend.code, Some(0), "{}", friend.stderr);
        assert!(friend.stdout.ends_with(") hello\n"), "{}", friend.stdout);
        let wrong = ["--ca", &ca, "--server-name", "other.test"];
        assert_eq!(
            run(&[&["connect", &url], &wrong[..], &ask].concat()).code,
            Some(3)
        );
    }
}

#[test]
fn bodies_from_files_bytes_and_text() {
    let (gate, files) = (Gate::start(&[]), Scratch::new());
    let path = files.path().join("body");
    std::fs::write(&path, [0xff, 0, b'A']).unwrap();
    let from_file = format!("echo/echo @{}", path.display());
    let arguments = ["connect", &gate.tcp_url, "--compact"];
    let commands = [
        "-e",
        &from_file,
        "-e",
        "echo/echo hex:00 fe",
        "-e",
        "echo/echo text:{",
    ];
    let ended = run(&[&arguments[..], &commands].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let bodies: Vec<_> = ended
        .stdout
        .lines()
        .map(|l| l.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(bodies, ["0xff0041", "0x00fe", "{"]);
    // One byte more than what a frame with this topic holds.
    std::fs::write(&path, vec![b'x'; 65_535]).unwrap();
    let ended = run(&["connect", &gate.tcp_url, "-e", &from_file]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("65535"), "{}", ended.stderr);
}

#[test]
fn what_is_long_is_cut_unless_all_is_wanted() {
    let (gate, files) = (Gate::start(&[]), Scratch::new());
    let body = files.write("body", &"x".repeat(60_000));
    let ask = format!("echo/echo @{body}");
    let cut = run(&["connect", &gate.tcp_url, "-e", &ask]).stdout;
    assert!(cut.len() < 5000, "{}", cut.len());
    assert!(cut.contains("the body has 60000 bytes"), "{cut}");
    let full = run(&["connect", &gate.tcp_url, "--full", "-e", &ask]).stdout;
    assert!(full.len() > 60_000);
    let json = run(&["connect", &gate.tcp_url, "--json", "-e", &ask]).stdout;
    assert_eq!(objects(&json)[0]["body"].as_str().unwrap().len(), 60_000);
}

#[test]
fn scripts_read_json() {
    let gate = Gate::start(&[]);
    let input = b"echo/echo {\"a\": [1]}\necho/echo hi\necho/echo hex:ff00\necho/nope\n\
        send no/such\nwait-for error\nwhat\nwait-for none 0.01\n";
    let ended = run_with(&["connect", &gate.tcp_url, "--json"], input);
    assert_eq!((ended.code, &*ended.stderr), (Some(1), ""));
    let mut events = objects(&ended.stdout);
    let mut next = || events.remove(0);
    for (encoding, body) in [
        ("json", serde_json::json!({"a": [1]})),
        ("text", "hi".into()),
        ("base64", "/wA=".into()),
    ] {
        let answer = next();
        assert_eq!(answer["event"], "answer");
        assert_eq!(
            (&answer["encoding"], &answer["body"]),
            (&encoding.into(), &body)
        );
        assert!(answer["topic"].as_str().unwrap().starts_with("echo/echo/"));
        assert!(answer["elapsed_ms"].as_f64().unwrap() > 0.0);
    }
    let failed = next();
    assert_eq!(
        (&failed["event"], &failed["topic"]),
        (&"failed".into(), &"echo/nope".into())
    );
    assert_eq!(failed["error"]["kind"], "not-served");
    assert_eq!(failed["error"]["name"], "NOT_FOUND");
    let push = next();
    assert_eq!(
        (&push["event"], &push["topic"]),
        (&"push".into(), &"error".into())
    );
    assert_eq!(push["error"]["topic"], "no/such");
    assert_eq!(next()["error"]["kind"], "usage");
    assert_eq!(next()["error"]["kind"], "timeout");
    assert!(events.is_empty());
}

#[test]
fn wait_for_finds_what_came_and_what_comes_each_once() {
    let gate = Gate::start(&[]);
    let tell = "chat/tell ada hi";
    let script = [
        "-e",
        "chat/login ada",
        "-e",
        tell,
        "-e",
        "wait-for chat/told",
    ];
    let arguments = [&["connect", &gate.tcp_url][..], &script].concat();
    let ended = run(&arguments);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let again = [&arguments[..], &["-e", "wait-for chat/told 0.05"]].concat();
    let ended = run(&again);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    let why = "!! no push whose topic begins with chat/told after 50ms\n";
    assert_eq!(ended.stderr, why);
    // One that is not watched is shown when it is found.
    let quiet = [&["connect", &gate.tcp_url, "-e", "unwatch"][..], &script].concat();
    assert!(run(&quiet).stdout.contains("<< chat/told"));
    // One that comes while it waits: who waits is there before who speaks.
    let mut waits = tidegate()
        .args([
            "connect",
            &gate.tcp_url,
            "-e",
            "chat/login bob",
            "-e",
            "wait-for chat/said 600",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    waits
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0; 4])
        .unwrap();
    let speaks = [
        "connect",
        &gate.ws_url,
        "-e",
        "chat/login eve",
        "-e",
        "chat/say hi",
    ];
    assert_eq!(run(&speaks).code, Some(0));
    assert!(waits.wait().unwrap().success());
}

/// What a terminal or a reader could be fooled with, apart from our own line ends.
fn is_dangerous(c: char) -> bool {
    c != '\n' && (c.is_control() || canaries().contains(c) && !c.is_ascii())
}

#[test]
fn nothing_that_a_gate_sends_is_printed_as_it_is() {
    let gate = Hostile::start();
    for form in [&[][..], &["--full"], &["--compact"], &["--json"]] {
        let commands = [
            "-e",
            "a/b x",
            "-e",
            "wait-for error",
            "-e",
            "send bye",
            "-e",
            "wait 600",
        ];
        let v1 = ["connect", &gate.url, "--protocol", "v1"];
        let ended = run(&[&v1[..], form, &commands].concat());
        assert_eq!(ended.code, Some(4), "{}", ended.stderr);
        let shown = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!shown.contains(is_dangerous), "{form:?}: {shown:?}");
        assert!(!shown.contains("\n<< fake"), "{form:?}: {shown}");
        if form == ["--json"] {
            let events = objects(&ended.stdout);
            let answer = events.iter().find(|e| e["event"] == "answer").unwrap();
            assert_eq!(answer["body"], canaries(), "scripts get what was sent");
            assert_eq!(events.last().unwrap()["text"], "\u{1b}[2J\u{202e}\u{200b}");
        } else {
            assert!(shown.contains("<< push/\\u{202e}"), "{shown}");
            assert!(shown.contains("1234 SERVICE"), "{shown}");
            assert!(ended.stderr.contains("(4504 Kicked)"), "{}", ended.stderr);
        }
    }
    // A topic with control characters is none: the connection ends.
    for (protocol, code) in [("v1", 4), ("extended", 3)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.write_all(&frame("a\x1b[2Jb", b"")).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let ended = run(&["connect", &url, "--protocol", protocol, "-e", "wait 600"]);
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(!ended.stderr.contains('\x1b'), "{}", ended.stderr);
    }
    // What it is called with is other people's text too.
    let ended = run(&["connect", "tcp://\x1b[2J\u{202e}", "-e", "wait 1"]);
    assert!(
        !ended.stderr.contains(['\x1b', '\u{202e}']),
        "{}",
        ended.stderr
    );
}

/// The extended protocol has many more places for a text: each with all that is dangerous.
#[test]
fn nothing_that_a_gate_says_of_the_session_is_printed_as_it_is() {
    let gate = Hostile::start();
    for form in [&[][..], &["--compact"], &["--json"]] {
        let commands = [
            "send hang-up",
            "a/b x",
            "state",
            "send one/way",
            "wait-for error",
            "send bye",
            "wait 600",
        ];
        let commands = commands.iter().flat_map(|command| ["-e", command]);
        let commands: Vec<_> = commands.collect();
        let ended = run(&[&["connect", &gate.url, "--reconnect"], form, &commands].concat());
        assert_eq!(ended.code, Some(4), "{}", ended.stderr);
        let shown = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!shown.contains(is_dangerous), "{form:?}: {shown:?}");
        assert!(!shown.contains("\n<< fake"), "{form:?}: {shown}");
        if form == ["--json"] {
            let events = objects(&ended.stdout);
            let has = |name: &str, key: &str, value: Value| {
                let found = events.iter().any(|e| e["event"] == name && e[key] == value);
                assert!(found, "{name}: {}", ended.stdout);
            };
            let said = |code: u16| json!({ "code": code, "text": canaries() });
            has("open", "gate", canaries().into());
            has("state", "session", canaries().into());
            has("gap", "packets", 3.into());
            has("gap", "reason", "dropped".into());
            has("draining", "deadline_ms", 3_600_000.into());
            has("closed", "text", canaries().into());
            has("closed", "may_reconnect", false.into());
            for (event, name, mut refused) in [
                ("open", "Expired", said(2)),
                ("not-resumable", "Overflowed", said(3)),
            ] {
                refused["name"] = name.into();
                has(event, "refused", refused);
            }
            continue;
        }
        for words in [
            "extended protocol 1, gate \\u{1b}]0;canary",
            "session \\u{1b}]0;canary",
            "of user \\u{1b}]0;canary",
            // The system may call it a reset.
            "connection lost: ",
            "; trying again in ",
            "connected again, not resumed: \\u{1b}",
            " (2 Expired)\nnew session",
            "3 packets of the gate will not come: dropped, there was no room for more\n",
            "cannot be resumed any more: \\u{1b}",
            "the gate is going to close within 3600 s",
            "!! one/way: \\u{1b}",
            "(4504 Kicked); connecting again does not help",
        ] {
            assert!(shown.contains(words), "{words}\n{shown}");
        }
    }
}

#[test]
fn headers_and_tokens_reach_the_gate() {
    let (gate, files) = (Hostile::start(), Scratch::new());
    let file = files.write("token", "from-file\n");
    for (arguments, wanted) in [
        (&["--token", "abc"][..], ("authorization", "Bearer abc")),
        (
            &["--token-file", &file],
            ("authorization", "Bearer from-file"),
        ),
        (
            &["--header", "X-One: 1", "--header", "Cookie: a=b:c"],
            ("cookie", "a=b:c"),
        ),
    ] {
        let ended = run(&[&["connect", &gate.url], arguments].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let headers = gate.headers.recv().unwrap();
        let wanted = (wanted.0.to_owned(), wanted.1.to_owned());
        assert!(headers.contains(&wanted), "{headers:?}");
    }
}

/// `| head -1`: it ends, and says nothing.
#[test]
fn nobody_reads() {
    let gate = Gate::start(&[]);
    let mut child = tidegate()
        .args(["connect", &gate.tcp_url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    drop(child.stdout.take());
    // The input stays open: only the lack of readers ends it.
    stdin.write_all(b"echo/echo x\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    drop(stdin);
    let full = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "'{}' connect {} -e 'echo/echo x' > /dev/full",
            env!("CARGO_BIN_EXE_tidegate"),
            gate.tcp_url
        ))
        .output()
        .unwrap();
    assert_eq!(full.status.code(), Some(1));
    let error = String::from_utf8_lossy(&full.stderr);
    assert!(error.starts_with("!! standard output: "), "{error}");
    let address = gate.tcp_address();
    assert!(TcpStream::connect(address).is_ok(), "the gate lives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_ciphers() {
    use tidegate::{Cipher, Gate, Guests, Service, Tcp, WebSocket};
    async fn echo(body: bytes::Bytes) -> bytes::Bytes {
        body
    }
    let key = "0123456789abcdef";
    let gate = Gate::builder()
        .listen(Tcp::bind("127.0.0.1:0").cipher(Cipher::aes_ecb(key).unwrap()))
        .listen(WebSocket::bind("127.0.0.1:0").cipher(Cipher::aes_cbc(key).unwrap()))
        .service(Service::new("echo").request("echo", echo).open_to(Guests))
        .start()
        .await
        .unwrap();
    let tcp = format!("tcp://{}", gate.address(0).unwrap());
    let ws = format!("ws://{}/", gate.address(1).unwrap());
    let files = Scratch::new();
    let file = files.write("key", &format!("{key}\n"));
    tokio::task::spawn_blocking(move || {
        let ask = ["-e", "echo/echo hello"];
        for options in [
            [&*tcp, "--cipher", "aes-ecb", "--key", key],
            [&*tcp, "--cipher", "aes-ecb", "--key-file", &*file],
            [&*ws, "--cipher", "aes-cbc", "--key-file", &*file],
        ] {
            let ended = run(&[&["connect"], &options[..], &ask].concat());
            assert_eq!(ended.code, Some(0), "{options:?}: {}", ended.stderr);
            assert!(ended.stdout.ends_with(") hello\n"), "{}", ended.stdout);
        }
        let wrong = [
            "connect",
            &ws,
            "--cipher",
            "aes-cbc",
            "--key",
            "fedcba9876543210",
        ];
        let ended = run(&[&wrong[..], &ask].concat());
        assert_eq!(ended.code, Some(4), "{}", ended.stderr);
        assert!(!ended.stderr.contains("fedcba"), "{}", ended.stderr);
    })
    .await
    .unwrap();
    gate.stop().await;
}
