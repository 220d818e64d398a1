//! The configuration as the binary takes it: mistakes end it with code 2 before anything is
//! opened.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use support::keys::keys;
use support::server::{Scratch, Server, run, tidegate};

fn serve(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    tidegate()
        .arg("serve")
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

/// One line, at that place, with code 2; nothing on standard output.
fn assert_refused(output: &Output, start: &str) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{start}: {text}");
    assert!(output.stdout.is_empty());
    let its = text.lines().find(|line| line.starts_with(start));
    let its = its.unwrap_or_else(|| panic!("no {start} in {text}"));
    assert!(its.contains("found ") && its.contains("expected "), "{its}");
}

#[test]
fn each_wrong_key_of_a_file_stops_the_start() {
    let files = Scratch::new();
    for key in keys() {
        let (text, line) = key.file();
        let file = files.write("wrong.toml", &text);
        let start = format!("tidegate: {file}:{line}: {}: ", key.shown());
        assert_refused(&serve(&["--config", &file], &[]), &start);
    }
}

#[test]
fn each_wrong_variable_stops_the_start() {
    for key in keys() {
        let (value, at) = key.wrong_text();
        let name = &*key.variable;
        let start = format!("tidegate: {name}: {at}: ");
        assert_refused(&serve(&[], &[(name, value)]), &start);
        let misspelt = format!("{name}X");
        let output = serve(&[], &[(&misspelt, "1")]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(&format!("did you mean {name}?")), "{text}");
    }
}

#[test]
fn each_wrong_set_stops_the_start() {
    for key in keys() {
        let (value, at) = key.wrong_text();
        let output = serve(&["--set", &format!("{}={value}", key.shown())], &[]);
        assert_refused(&output, &format!("tidegate: --set: {at}: "));
    }
}

#[test]
fn check_says_ok_or_all_mistakes() {
    let files = Scratch::new();
    let right = files.write("right.toml", "[[tcp]]\naddress = \"127.0.0.1:0\"\n");
    let ended = run(&["config", "check", "--config", &right]);
    assert_eq!(
        (ended.code, &*ended.stdout, &*ended.stderr),
        (Some(0), "ok\n", "")
    );
    let wrong = files.write(
        "wrong.toml",
        "idd = \"a\"\n[[tcp]]\naddress = \"127.0.0.1:0\"\n[limits]\nread_bufer = 1\nwrite_timeout = 10\n[log]\nlevel = \"inf\"\n",
    );
    let ended = run(&["config", "check", "--config", &wrong, "--set", "shards=0"]);
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""));
    let expected = [
        format!("{wrong}:1: idd: unknown key; did you mean id?"),
        format!("{wrong}:5: limits.read_bufer: unknown key; did you mean read_buffer?"),
        format!(
            "{wrong}:6: limits.write_timeout: found 10, expected a time from 100ms to 365d with its unit (ms, s, m, h, d), such as \"10s\""
        ),
        format!(
            "{wrong}:8: log.level: found \"inf\", expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\"; did you mean \"info\"?"
        ),
        "--set: shards: found 0, expected a whole number from 1 to 1024".to_owned(),
    ];
    assert_eq!(ended.stderr.lines().collect::<Vec<_>>(), expected);
    let nothing = run(&["config", "check"]);
    assert_eq!((nothing.code, &*nothing.stdout), (Some(2), ""));
    assert!(
        nothing.stderr.starts_with("no listener: "),
        "{}",
        nothing.stderr
    );
    let tls = files.write(
        "tls.toml",
        "[[tcp]]\naddress = \"127.0.0.1:0\"\n\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\n",
    );
    let ended = run(&["config", "check", "--config", &tls]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let start = format!("{tls}:4: tcp[0].tls: ");
    assert!(ended.stderr.starts_with(&start), "{}", ended.stderr);
    assert!(ended.stderr.contains("cert.pem"), "{}", ended.stderr);
}

#[test]
fn a_new_file_is_private_and_never_in_the_way() {
    let files = Scratch::new();
    let path = files.path().join("new.toml");
    let name = path.to_str().unwrap();
    let init = |more: &[&str]| run(&[&["config", "init", name], more].concat());
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(init(&[]).code, Some(0));
    assert_eq!(mode(), 0o600);
    let first = fs::read_to_string(&path).unwrap();
    let again = init(&[]);
    assert_eq!((again.code, &*again.stdout), (Some(1), ""));
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), first);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(init(&["--force"]).code, Some(0));
    assert_eq!(mode(), 0o600, "that of the old file does not stay");
    let second = fs::read_to_string(&path).unwrap();
    assert_ne!(first, second, "secrets are new each time");
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(files.path()).unwrap().count(), 1);
    // It is not written through a link to something else.
    let other = files.write("other", "other");
    let link = files.path().join("link");
    std::os::unix::fs::symlink(&other, &link).unwrap();
    let link = link.to_str().unwrap();
    assert_eq!(run(&["config", "init", link]).code, Some(1));
    assert_eq!(run(&["config", "init", "--force", link]).code, Some(0));
    assert_eq!(fs::read_to_string(&other).unwrap(), "other");
    let nowhere = run(&["config", "init", "/nonexistent/new.toml"]);
    assert_eq!(nowhere.code, Some(1), "{}", nowhere.stderr);
    let checked = run(&["config", "check", "--config", name]);
    assert_eq!(
        (checked.code, &*checked.stdout, &*checked.stderr),
        (Some(0), "ok\n", "")
    );
    // It is what it says: a gate, and nothing is printed of its secrets.
    let text = second
        .replace(":3653", ":0")
        .replace(":3654", ":0")
        .replace(":3656", ":0");
    let mut server = Server::start(&text, &[]);
    assert_eq!(server.admin("/readyz").unwrap().0, 200);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let token = second
        .lines()
        .find_map(|line| line.strip_prefix("token = \""))
        .unwrap();
    let token = token.split('"').next().unwrap();
    assert_eq!(token.len(), 64);
    assert!(!server.log().contains(token));
}

#[test]
fn print_tells_where_each_value_came_from() {
    let files = Scratch::new();
    let file = files.write(
        "tidegate.toml",
        "id = \"a\"\n[limits]\nread_buffer = 4096\npacket_rate = { per_second = 5 }\n[[tcp]]\naddress = \"127.0.0.1:0\"\n[admin]\ntoken = \"0123456789abcdef\"\n",
    );
    let print = |more: &[&str]| {
        let output = tidegate()
            .args(["config", "print", "--config", &file, "--set", "shards=2"])
            .args(more)
            .env("TIDEGATE__LOG__LEVEL", "warn")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = print(&[]);
    for line in [
        &*format!("id = \"a\"  # {file}:1"),
        "shards = 2  # --set",
        &format!("read_buffer = 4096  # {file}:3"),
        "write_timeout = \"10s\"  # default",
        "level = \"warn\"  # TIDEGATE__LOG__LEVEL",
        &format!("token = \"[redacted]\"  # {file}:8"),
        "# name: the address",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no {line} in\n{text}"
        );
    }
    // It is TOML, and all of it is right but for the secrets.
    let again = files.write("again.toml", &text);
    let checked = run(&["config", "check", "--config", &again]);
    assert_eq!(checked.stderr.lines().count(), 1, "{}", checked.stderr);
    assert!(
        checked.stderr.contains("admin.token: found [redacted]"),
        "{}",
        checked.stderr
    );
    let json: serde_json::Value = serde_json::from_str(&print(&["--format", "json"])).unwrap();
    assert_eq!(json["limits"]["read_buffer"]["value"], 4096);
    assert_eq!(json["limits"]["read_buffer"]["from"], format!("{file}:3"));
    assert_eq!(json["tcp"][0]["address"]["value"], "127.0.0.1:0");
    assert_eq!(json["expose"]["value"], serde_json::Value::Null);
    assert_eq!(json["admin"]["token"]["value"], "[redacted]");
}

/// Threat row 47: with everything that an orchestrator may put there, and worse.
#[test]
fn a_gate_starts_in_a_hostile_environment() {
    let files = Scratch::new();
    let file = files.write("tidegate.toml", "[[tcp]]\naddress = \"127.0.0.1:0\"\n");
    let bytes = || std::ffi::OsString::from_vec(vec![b'T', 0xff, 0xfe]);
    let output = tidegate()
        .args(["config", "check", "--config", &file])
        .env("TIDEGATE_PORT", "tcp://10.0.0.1:3653")
        .env("TIDEGATE_SERVICE_HOST", "10.0.0.1")
        .env("TIDEGATE_PORT_3653_TCP_ADDR", "10.0.0.1")
        .env("TIDEGATE_CONFIG", "/nonexistent")
        .env("TIDEGATE_LOG", bytes())
        .env(bytes(), bytes())
        .env("RUST_LOG", bytes())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut taken = std::ffi::OsString::from("TIDEGATE__ID");
    let with = |name: &std::ffi::OsStr, value: std::ffi::OsString| {
        let mut command = tidegate();
        command
            .args(["config", "check", "--config", &file])
            .env(name, value);
        command.output().unwrap()
    };
    assert_eq!(with(&taken, bytes()).status.code(), Some(2));
    taken.push(bytes());
    assert_eq!(with(&taken, "a".into()).status.code(), Some(2));
}
