//! No secret is ever shown, whatever is done with it.

mod support;

use std::process::Output;

use support::keys::{Key, keys};
use support::server::{Scratch, tidegate};

/// Threat row 41: a secret in every place where one can be, and nowhere in what is printed.
#[test]
fn no_secret_is_ever_shown() {
    const CANARY: &str = "canary-0123456789-0123456789-canary";
    const NUMBER: &str = "7483920174839201";
    const NATS: &str = "[nats]\nservers = \"nats://127.0.0.1:1\"\n";
    const REDIS: &str =
        "[store]\nkind = \"redis\"\n[store.redis]\nservers = \"redis://127.0.0.1:1\"\n";
    let files = Scratch::new();
    files.write("secret", CANARY);
    let secrets: Vec<Key> = keys()
        .into_iter()
        .filter(|key| key.takes.starts_with("a secret"))
        .collect();
    assert_eq!(secrets.len(), 6, "tcp, jwt, admin, redis, nats twice");
    let mut shown = String::new();
    let mut keep = |output: Output, wanted: Option<i32>| {
        assert_eq!(output.status.code(), wanted, "{output:?}");
        shown += &String::from_utf8_lossy(&output.stdout);
        shown += &String::from_utf8_lossy(&output.stderr);
        assert!(
            !shown.contains("canary") && !shown.contains(NUMBER),
            "{shown}"
        );
    };
    let tidegate = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = tidegate();
        command.args(arguments).envs(variables.iter().copied());
        command.output().unwrap()
    };
    for key in &secrets {
        let (table, name) = key.table();
        let listener = match table {
            "nats" => "bus = \"nats\"\n[[tcp]]\naddress = \"192.0.2.1:1\"\n",
            _ => "[[tcp]]\naddress = \"192.0.2.1:1\"\n",
        };
        let header = match (table, name) {
            ("tcp", _) => "cipher = \"aes-ecb\"\n".to_owned(),
            // Servers that are not there.
            ("nats", "password") => NATS.to_owned() + "user = \"gate\"\n",
            ("nats", _) => NATS.to_owned(),
            ("store.redis", _) => REDIS.to_owned(),
            (table, _) => format!("[{table}]\n"),
        };
        let config = |line: &str| format!("{listener}{header}{line}\n");
        let variable: &str = &key.variable;
        let path = key.shown();
        let by_set = format!("{path}={CANARY}");
        for (text, arguments, variables) in [
            (config(&format!("{name} = \"{CANARY}\"")), vec![], vec![]),
            (config(&format!("{name}_file = \"secret\"")), vec![], vec![]),
            (config(""), vec!["--set", &by_set], vec![]),
            (config(""), vec![], vec![(variable, CANARY)]),
        ] {
            let file = files.write("tidegate.toml", &text);
            let from = [&["--config", &file][..], &arguments].concat();
            for command in [
                &["config", "print"][..],
                &["config", "print", "--format", "json"],
                &["config", "check"],
            ] {
                keep(tidegate(&[command, &from].concat(), &variables), Some(0));
            }
            // An address that is not of this machine: it reads everything, logs, and ends.
            let trace = ["serve", "--log-level", "trace"];
            keep(tidegate(&[&trace[..], &from].concat(), &variables), Some(1));
        }
        // Of a wrong type, twice, without quotes, in a table that is none, in a wrong place.
        let too_long = CANARY.repeat(40);
        for text in [
            config(&format!("{name} = {NUMBER}")),
            config(&format!("{name} = {NUMBER}.5")),
            config(&format!("{name} = {NUMBER}{NUMBER}")),
            config(&format!("{name} = [\"{CANARY}\"]")),
            config(&format!("{name} = {{ {CANARY} = \"{CANARY}\" }}")),
            config(&format!("{name} = {CANARY}")),
            config(&format!("{name} = \"{CANARY}")),
            config(&format!("{name} = '''{CANARY}\n")),
            config(&format!("{name} = \"{CANARY}\\q\"")),
            config(&format!("{name} = \"{CANARY}\"\n{name} = \"{CANARY}\"")),
            config(&format!("{name} = \"{too_long}\"")),
            config(&format!("{name} = \"{CANARY}\"\n{name}_file = \"secret\"")),
            config(&format!("{name}x = \"{CANARY}\"")),
            format!("{} = \"{CANARY}\"\n", table.split('.').next().unwrap()),
            format!("{listener}{header}{name} = \"{CANARY}\"\n[log]\nlevel = 1\n"),
        ] {
            let file = files.write("tidegate.toml", &text);
            keep(tidegate(&["serve", "--config", &file], &[]), Some(2));
            keep(
                tidegate(&["config", "check", "--config", &file], &[]),
                Some(2),
            );
        }
        let top = variable.split("__").nth(1).unwrap();
        for (name, value) in [
            (variable, &*too_long),
            (&*format!("{variable}X"), CANARY),
            (&format!("{variable}__0"), CANARY),
            (&format!("TIDEGATE__{top}"), CANARY),
            (&format!("TIDEGATE__{top}"), &format!("[{{ {CANARY}")),
        ] {
            keep(tidegate(&["serve"], &[(name, value)]), Some(2));
        }
        for set in [
            CANARY,
            &format!("{path}={too_long}"),
            &format!("{path}x={CANARY}"),
            &format!("{top}={CANARY}"),
        ] {
            keep(tidegate(&["serve", "--set", set], &[]), Some(2));
        }
        keep(tidegate(&["--help"], &[(variable, CANARY)]), Some(0));
        keep(
            tidegate(&["serve", "--help"], &[(variable, CANARY)]),
            Some(0),
        );
        keep(
            tidegate(&["serve", "--set", &by_set, "--nonsense"], &[]),
            Some(2),
        );
    }
}
