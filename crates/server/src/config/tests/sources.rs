//! Files, environment and flags, and which of them wins.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{Scratch, from_file, from_set, from_variables, load, mistakes};
use crate::config::model::BuiltIn;
use crate::config::{Config, Given, Sources, print};
use crate::secret::Secret;

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(from_file("").unwrap().config, Config::default());
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let files = Scratch::new();
    let text = "id = \"file\"\nshards = 1\nservices = [\"echo\"]\n[log]\nlevel = \"warn\"\n\
        [[tcp]]\naddress = \"a:1\"\nname = \"one\"\n";
    let variables = [
        ("TIDEGATE__ID", "variable"),
        ("TIDEGATE__SHARDS", "2"),
        ("TIDEGATE__TCP__0__ADDRESS", "b:2"),
        ("TIDEGATE__TCP__1__ADDRESS", "c:3"),
        ("TIDEGATE__ADMIN__HOSTS", "a.example, b.example"),
    ];
    let loaded = load(Sources {
        file: Some(files.write("tidegate.toml", text)),
        environment: variables
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        flags: vec![
            Given::new("--id", "id", "flag"),
            Given::set(&Secret::new("tcp[1].name=two")).unwrap(),
        ],
    });
    let config = loaded.unwrap().config;
    assert_eq!(config.id.unwrap().as_str(), "flag");
    assert_eq!(config.shards, Some(2));
    assert_eq!(config.services, [BuiltIn::Echo]);
    let tcp: Vec<_> = config
        .tcp
        .iter()
        .map(|tcp| (tcp.address.as_str(), tcp.name.as_ref().unwrap().as_str()))
        .collect();
    assert_eq!(tcp, [("b:2", "one"), ("c:3", "two")]);
    assert_eq!(config.admin.hosts.len(), 2);
}

/// Row by row: a variable, and the same in a file.
#[test]
fn variables_are_read_by_the_type_of_their_key() {
    for (name, value, text) in [
        ("TIDEGATE__ID", "5", "id = \"5\""),
        ("TIDEGATE__ID", "\"5\"", "id = \"5\""),
        ("TIDEGATE__ID", "true", "id = \"true\""),
        (
            "TIDEGATE__SERVICES",
            "echo,chat",
            "services = [\"echo\", \"chat\"]",
        ),
        ("TIDEGATE__SERVICES", "[\"echo\"]", "services = [\"echo\"]"),
        ("TIDEGATE__SERVICES__0", "chat", "services = [\"chat\"]"),
        (
            "TIDEGATE__LIMITS__READ_BUFFER",
            "0x1000",
            "limits.read_buffer = 4096",
        ),
        (
            "TIDEGATE__LIMITS__PACKET_RATE",
            "5",
            "limits.packet_rate = 5",
        ),
        (
            "TIDEGATE__LIMITS__PACKET_RATE",
            "off",
            "limits.packet_rate = \"off\"",
        ),
        (
            "TIDEGATE__LIMITS__PACKET_RATE__PER_SECOND",
            "5",
            "limits.packet_rate = { per_second = 5 }",
        ),
        (
            "TIDEGATE__LIMITS",
            "{ read_buffer = 4096 }",
            "limits.read_buffer = 4096",
        ),
        (
            "TIDEGATE__TCP",
            "[{ address = \"a:1\" }]",
            "tcp = [{ address = \"a:1\" }]",
        ),
        (
            "TIDEGATE__LIMITS__BIND_DEADLINE",
            "30s",
            "limits.bind_deadline = \"30s\"",
        ),
        ("TIDEGATE__AUTH__GUESTS", "true", "auth.guests = true"),
        (
            "TIDEGATE__ADMIN__TOKEN",
            "12345678901234567890",
            "admin.token = \"12345678901234567890\"",
        ),
    ] {
        let by_variable = from_variables(&[(name, value)]).expect(name).config;
        let by_file = from_file(text).expect(text).config;
        assert_eq!(by_variable, by_file, "{name}={value}");
    }
}

/// What orchestrators put into the environment of a service of our name is none of ours.
#[test]
fn a_hostile_environment_is_ignored() {
    let hostile = [
        ("TIDEGATE_PORT", "tcp://10.0.0.1:3653"),
        ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
        ("TIDEGATE_SERVICE_PORT", "3653"),
        ("TIDEGATE_PORT_3653_TCP", "tcp://10.0.0.1:3653"),
        ("TIDEGATE_PORT_3653_TCP_PROTO", "tcp"),
        ("TIDEGATE_CONFIG", "/nonexistent"),
        ("TIDEGATE_ADMIN_TOKEN", "x"),
        ("TIDEGATE", "x"),
        ("TIDEGATE_", "x"),
        ("tidegate__id", "x y"),
        ("XTIDEGATE__ID", "x y"),
        ("", ""),
    ];
    let mut environment: Vec<(OsString, OsString)> = hostile
        .map(|(name, value)| (name.into(), value.into()))
        .into();
    let bytes = || OsString::from_vec(vec![0xff, 0xfe, b'=']);
    environment.push((bytes(), bytes()));
    environment.push(("TIDEGATE_PORT".into(), bytes()));
    environment.push(("PATH".into(), bytes()));
    let loaded = load(Sources {
        environment,
        ..Sources::default()
    });
    assert_eq!(loaded.unwrap().config, Config::default());
}

#[test]
fn a_variable_of_ours_is_never_ignored() {
    let bytes = || OsString::from_vec(b"TIDEGATE__ID\xff".to_vec());
    for (name, value, message) in [
        (
            "TIDEGATE__".into(),
            "x".into(),
            "TIDEGATE__: \"\": unknown key",
        ),
        ("TIDEGATE__ID__X".into(), "x".into(), "id has none below it"),
        (
            "TIDEGATE__TCP__X".into(),
            "x".into(),
            "found \"x\", expected the number of an element",
        ),
        (
            "TIDEGATE__TCP__1__ADDRESS".into(),
            "a:1".into(),
            "there is no tcp[0]",
        ),
        (
            "TIDEGATE__TCP__99999999999__NAME".into(),
            "a".into(),
            "there is no tcp[99999999998]",
        ),
        ("TIDEGATE__ID".into(), bytes(), "bytes that are not UTF-8"),
        (bytes(), "x".into(), "bytes that are not UTF-8"),
        (
            "TIDEGATE__READ_BUFFER".into(),
            "1".into(),
            "did you mean TIDEGATE__LIMITS__READ_BUFFER?",
        ),
    ] {
        let found = mistakes(load(Sources {
            environment: vec![(name, value)],
            ..Sources::default()
        }));
        assert!(
            found.len() == 1 && found[0].contains(message),
            "{message}: {found:?}"
        );
    }
}

#[test]
fn set_needs_a_key_and_a_value() {
    let problem = Given::set(&Secret::new("canary")).unwrap_err().to_string();
    assert!(
        problem.starts_with("--set: found no =, expected KEY=VALUE"),
        "{problem}"
    );
    assert!(!problem.contains("canary"));
    for (text, message) in [
        ("=x", "unknown key"),
        ("limits=1", "found a number, expected a table"),
        ("limits.=1", "unknown key"),
        ("tcp.0.address=", "found \"\", expected host:port"),
        ("tcp.-1.address=a:1", "expected the number of an element"),
    ] {
        let found = mistakes(from_set(&[text]));
        assert!(
            found.len() == 1 && found[0].contains(message),
            "{text}: {found:?}"
        );
    }
}

/// Marks, line ends and tabs of editors.
#[test]
fn files_of_any_editor_are_read() {
    for text in [
        "\u{feff}id = \"a\"\r\n\r\n[limits]\r\n\tread_buffer = 4096\r\n",
        "\tid\t=\t\"a\"\t# text\n[limits]\nread_buffer = 4096",
    ] {
        let config = from_file(text).unwrap().config;
        assert_eq!(config.id.unwrap().as_str(), "a");
        assert_eq!(config.limits.read_buffer, 4096);
    }
    let found = mistakes(from_file("\u{feff}\r\n\r\nidd = 1\r\n"));
    assert!(found[0].starts_with("3: idd: unknown key"), "{found:?}");
}

#[test]
fn what_is_no_file_of_ours_is_said_so() {
    let files = Scratch::new();
    let large = "#".repeat(1024 * 1024 + 1);
    for (path, message) in [
        (files.0.clone(), "directory"),
        (files.0.join("missing"), "No such file"),
        (files.write("large", large), "found more than 1 MiB"),
        (
            files.write("binary", b"id = \"a\"\n\n\xff\xfe"),
            "binary:3: found bytes that are not UTF-8",
        ),
        (
            files.write("utf16", b"\xff\xfei\0d\0"),
            "utf16:1: found bytes that are not UTF-8",
        ),
        (files.write("nul", b"id = \"a\"\n\0\n"), "nul:2: "),
        (files.write("json", b"{ \"id\": 1 }"), "json:1: "),
        ("/dev/zero".into(), "found more than 1 MiB"),
    ] {
        let found = mistakes(load(Sources {
            file: Some(path),
            ..Sources::default()
        }));
        assert!(
            found.len() == 1 && found[0].contains(message),
            "{message}: {found:?}"
        );
    }
}

/// All mistakes at once, in the order of the file; each once.
#[test]
fn all_mistakes_are_told() {
    let text = "idd = \"a\"\nshards = 0\n[limits]\nread_buffer = 1\nwrite_timeout = 10\n\
        [[tcp]]\nname = \"x\"\n[[tcp]]\naddress = \"a\"\n[[websocket]]\naddress = \"a:1\"\n\
        [[websocket]]\naddress = \"a:1\"\n";
    let found = mistakes(from_file(text));
    let starts = [
        "1: idd: unknown key; did you mean id?",
        "2: shards: found 0",
        "4: limits.read_buffer: found 1",
        "5: limits.write_timeout: found 10",
        "6: tcp[0].address: missing; expected host:port",
        "9: tcp[1].address: found \"a\"",
        "13: websocket[1].address: found \"a:1\", which websocket[0].address has already",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found} is not {start}");
    }
    let broken = mistakes(from_file("id = \n[limits\nread_buffer = = 1\n"));
    let lines: Vec<&str> = broken.iter().map(|line| &line[..2]).collect();
    assert_eq!(lines, ["1:", "2:", "3:"], "{broken:?}");
}

#[test]
fn a_listeners_limits_win() {
    let text = "[limits]\npacket_rate = 5\nbind_deadline = \"1s\"\n[[tcp]]\naddress = \"a:1\"\n\
        [tcp.limits]\npacket_rate = \"off\"\nbyte_rate = { per_second = 2 }\n\
        [[websocket]]\naddress = \"a:2\"\n";
    let loaded = from_file(text).unwrap();
    let [all, tcp, ws] = [
        &loaded.config.limits,
        &loaded.config.tcp[0].limits,
        &loaded.config.websocket[0].limits,
    ]
    .map(|limits| limits.limits());
    assert_eq!(all.packet_rate, Some(tidegate::Rate::per_second(5)));
    assert_eq!(
        (tcp.packet_rate, tcp.byte_rate),
        (None, Some(tidegate::Rate::per_second(2)))
    );
    assert_eq!((tcp.bind_deadline, &ws), (all.bind_deadline, &all));
    // Of a listener only its own are printed.
    let printed = print::toml(&loaded);
    assert!(
        printed.contains("[tcp.limits]\npacket_rate = \"off\"  # "),
        "{printed}"
    );
    assert!(!printed.contains("[websocket.limits]"), "{printed}");
}

/// Paths start where the file is that names them, and nowhere else.
#[test]
fn relative_paths() {
    let files = Scratch::new();
    let text = "[[tcp]]\naddress = \"a:1\"\ntls = { cert = \"c\", key = \"/k\" }\n";
    let loaded = load(Sources {
        file: Some(files.write("tidegate.toml", text)),
        flags: vec![
            Given::set(&Secret::new("tcp[0].tls.client_ca=ca"))
                .and_then(|_| Given::set(&Secret::new("store.path=s")))
                .unwrap(),
            Given::new("--set", "store.kind", "embedded"),
        ],
        ..Sources::default()
    });
    let config = loaded.unwrap().config;
    let tls = config.tcp[0].tls.as_ref().unwrap();
    assert_eq!(tls.cert.0, files.0.join("c"));
    assert_eq!(tls.key.0.to_str(), Some("/k"));
    assert_eq!(config.store.path.unwrap().0.to_str(), Some("s"));
}
