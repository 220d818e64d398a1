//! What must hold between keys, and what is warned of.

use std::os::unix::fs::PermissionsExt;

use super::{Scratch, from_file, load, mistakes};
use crate::config::Sources;

/// Row by row: a configuration, and where and what its mistake is; none for a right one.
#[test]
fn keys_fit_together() {
    const TCP: &str = "[[tcp]]\naddress = \"a:1\"\n";
    const WS: &str = "[[websocket]]\naddress = \"a:2\"\n";
    const TLS: &str = "[tcp.tls]\ncert = \"c\"\nkey = \"k\"\n";
    const NATS: &str = "bus = \"nats\"\n[nats]\n";
    const REDIS: &str = "[store]\nkind = \"redis\"\n[store.redis]\n";
    const JWT: &str = "[auth.jwt]\n";
    let secret = format!("secret = \"{}\"\n", "s".repeat(32));
    for (text, mistake) in [
        // Ciphers.
        (
            format!("{TCP}cipher = \"aes-ecb\"\n"),
            "3: tcp[0].cipher: a cipher needs",
        ),
        (
            format!("{TCP}cipher = \"none\"\nencryption_key = \"k\"\n"),
            "4: tcp[0].encryption_key: a key without cipher",
        ),
        (
            format!("{TCP}cipher = \"aes-cbc\"\nencryption_key = \"k\"\n"),
            "4: tcp[0].encryption_key: found 1 bytes, expected 16, 24 or 32",
        ),
        (
            format!("{TCP}cipher = \"aes-ecb\"\nencryption_key = \"k\"\n"),
            "",
        ),
        (
            format!("{TCP}cipher = \"aes-cbc\"\nencryption_key = \"0123456789abcdef\"\n"),
            "",
        ),
        (
            format!(
                "{WS}cipher = \"aes-cbc\"\nencryption_key = \"{}\"\n",
                "k".repeat(24)
            ),
            "",
        ),
        // Proxies.
        (
            format!("{TCP}proxy_protocol = true\n"),
            "3: tcp[0].proxy_protocol: nobody is believed",
        ),
        (
            format!("trusted_proxies = [\"unix\"]\n{TCP}proxy_protocol = true\n"),
            "",
        ),
        (
            format!("{TCP}proxy_protocol = true\ntrusted_proxies = [\"10.0.0.1\"]\n"),
            "",
        ),
        (
            format!(
                "trusted_proxies = [\"unix\"]\n{TCP}proxy_protocol = true\ntrusted_proxies = []\n"
            ),
            "4: tcp[0].proxy_protocol: nobody",
        ),
        (
            format!("{WS}forwarded = \"forwarded\"\n"),
            "3: websocket[0].forwarded: nobody is believed",
        ),
        // Sockets.
        (
            format!("{TCP}ipv6_only = true\n"),
            "3: tcp[0].ipv6_only: the address is not",
        ),
        (
            "[[tcp]]\naddress = \"[::]:1\"\nipv6_only = true\n".to_owned(),
            "",
        ),
        (
            format!("{TCP}unix_mode = \"0600\"\n"),
            "3: tcp[0].unix_mode: the address is not",
        ),
        (
            "[[tcp]]\naddress = \"unix:/a\"\nunix_mode = \"0600\"\n".to_owned(),
            "",
        ),
        (
            format!("{TCP}keep_alive = {{ idle = \"1500ms\" }}\n"),
            "3: tcp[0].keep_alive.idle: found \"1500ms\", expected whole seconds",
        ),
        // TLS.
        (
            format!("{TCP}{TLS}client_auth = \"required\"\n"),
            "6: tcp[0].tls.client_auth: nothing to check",
        ),
        (
            format!("{TCP}{TLS}client_ca = \"ca\"\n"),
            "6: tcp[0].tls.client_ca: nobody is asked",
        ),
        (
            format!("{TCP}{TLS}client_auth = \"optional\"\nclient_ca = \"ca\"\n"),
            "",
        ),
        (
            format!("{TCP}tls = {{ cert = \"c\" }}\n"),
            "3: tcp[0].tls.key: missing; expected a path",
        ),
        // The same twice.
        (
            format!("{TCP}{TCP}"),
            "4: tcp[1].address: found \"a:1\", which tcp[0].address has already",
        ),
        (
            "[[tcp]]\naddress = \"a:0\"\n[[tcp]]\naddress = \"a:0\"\n".to_owned(),
            "",
        ),
        (
            format!("{WS}[admin]\naddress = \"a:2\"\n"),
            "4: admin.address: found \"a:2\", which websocket[0].address",
        ),
        (
            format!("{TCP}name = \"x\"\n{WS}name = \"x\"\n"),
            "6: websocket[0].name: found \"x\", which tcp[0].name",
        ),
        (
            "services = [\n\"echo\",\n\"echo\"]\n".to_owned(),
            "3: services[1]: found \"echo\" twice",
        ),
        (
            format!("{WS}origins = [\"*\", \"https://a.example\"]\n"),
            "3: websocket[0].origins: found \"*\" beside others",
        ),
        // What is exposed.
        (
            "expose = [\"chat\"]\n".to_owned(),
            "1: expose[0]: \"chat\" does not run here",
        ),
        (
            "expose = [\"chta/say\"]\n".to_owned(),
            "1: expose[0]: found \"chta\", expected a service that runs here; did you mean \"chat\"?",
        ),
        (
            "services = [\"chat\"]\nexpose = [\"chat/say\"]\n".to_owned(),
            "",
        ),
        ("expose = []\n".to_owned(), ""),
        // The store.
        (
            "[store]\nkind = \"embedded\"\n".to_owned(),
            "2: store.kind: \"embedded\" needs store.path",
        ),
        (
            "[store]\npath = \"p\"\n".to_owned(),
            "2: store.path: only kind = \"embedded\" has a path",
        ),
        (
            "[store]\nkind = \"embedded\"\npath = \"p\"\n".to_owned(),
            "",
        ),
        (
            "[store]\n[store.redis]\nservers = \"redis://a\"\n".to_owned(),
            "2: store.redis: only kind = \"redis\" uses it",
        ),
        (
            "[store]\nkind = \"nats\"\n[store.nats]\nreplicas = 2\n".to_owned(),
            "4: store.nats.replicas: found 2, expected 1, 3 or 5",
        ),
        (
            "[store.nats]\nreplicas = 3\n".to_owned(),
            "1: store.nats: only kind = \"nats\" uses it",
        ),
        (format!("{REDIS}user = \"u\"\npassword = \"p\"\n"), ""),
        (
            format!("{REDIS}user = \"u\"\n"),
            "4: store.redis.user: a user needs password or password_file",
        ),
        (
            format!("{REDIS}user = \"u\"\npassword_file = \"missing\"\n"),
            "5: store.redis.password_file: ",
        ),
        (
            format!("{REDIS}[store.redis.tls]\nca = \"c\"\n"),
            "4: store.redis.tls: a server is spoken with in plain text",
        ),
        (
            format!("{REDIS}servers = \"rediss://a\"\n[store.redis.tls]\ncert = \"c\"\n"),
            "6: store.redis.tls.cert: a certificate needs key",
        ),
        // The bus.
        ("bus = \"nats\"\n".to_owned(), ""),
        (
            "[nats]\nservers = \"nats://a\"\n".to_owned(),
            "1: nats: nothing is on NATS: expected bus = \"nats\"",
        ),
        (
            "[store]\nkind = \"nats\"\n[nats]\nservers = \"nats://a\"\n".to_owned(),
            "",
        ),
        (format!("{NATS}user = \"u\"\npassword = \"p\"\n"), ""),
        (format!("{NATS}token = \"t\"\n"), ""),
        (
            format!("{NATS}user = \"u\"\n"),
            "3: nats.user: a user needs password or password_file",
        ),
        (
            format!("{NATS}user = \"u\"\npassword_file = \"missing\"\n"),
            "4: nats.password_file: ",
        ),
        (
            format!("{NATS}password = \"p\"\n"),
            "3: nats.password: a password needs user",
        ),
        (
            format!("{NATS}user = \"u\"\npassword = \"p\"\ntoken = \"t\"\n"),
            "2: nats: found user and password and a token, expected one of them",
        ),
        (
            format!("{NATS}nkey_seed_file = \"missing\"\n"),
            "3: nats.nkey_seed_file: ",
        ),
        (
            format!("{NATS}lease = \"2500ms\"\n"),
            "3: nats.lease: found \"2500ms\", expected whole seconds",
        ),
        (
            format!("{NATS}replicas = 2\n"),
            "3: nats.replicas: found 2, expected 1, 3 or 5",
        ),
        (
            format!("{NATS}[nats.tls]\ncert = \"c\"\n"),
            "4: nats.tls.cert: a certificate needs key",
        ),
        (
            format!("{NATS}[nats.tls]\nkey = \"k\"\n"),
            "4: nats.tls.key: a private key needs cert",
        ),
        (
            format!("{NATS}tls = {{ cert = \"c\", key = \"k\", first = true }}\n"),
            "",
        ),
        // Services elsewhere have any name.
        ("bus = \"nats\"\nexpose = [\"shop/buy\"]\n".to_owned(), ""),
        // Who clients are.
        (
            "[auth]\nguests = false\n".to_owned(),
            "2: auth.guests: nobody could connect",
        ),
        (
            "[auth]\nclient_certificate = \"uri\"\n".to_owned(),
            "2: auth.client_certificate: no listener asks",
        ),
        (
            "services = [\"auth\"]\n".to_owned(),
            "1: services: \"auth\" has no tokens",
        ),
        (JWT.to_owned(), "1: auth.jwt: found 0 keys, expected one"),
        (
            format!("{JWT}{secret}jwks_file = \"j\"\n"),
            "1: auth.jwt: found 2 keys, expected one",
        ),
        (format!("{JWT}{secret}"), ""),
        (
            format!("{JWT}{secret}algorithms = [\"RS256\"]\n"),
            "3: auth.jwt.algorithms: the key does not fit",
        ),
        (
            format!("{JWT}{secret}algorithms = [\"HS512\"]\n"),
            "3: auth.jwt.algorithms: the secret is too short: at least 64",
        ),
        (
            format!("{JWT}public_key_file = \"k\"\nalgorithms = [\"HS256\"]\n"),
            "3: auth.jwt.algorithms: the key does not fit",
        ),
        (
            format!("{JWT}jwks_file = \"j\"\n"),
            "1: auth.jwt.algorithms: a set of keys does not tell",
        ),
        (
            format!("{JWT}{secret}sources = []\n"),
            "3: auth.jwt.sources: found none",
        ),
    ] {
        let found = mistakes(from_file(&text));
        match mistake {
            "" => assert_eq!(found, [""; 0], "{text}"),
            mistake => {
                assert_eq!(found.len(), 1, "{text}{found:#?}");
                assert!(
                    found[0].starts_with(mistake),
                    "{text}{found:?} is not {mistake}"
                );
            }
        }
    }
}

#[test]
fn secrets_come_from_files() {
    let files = Scratch::new();
    let token = "0123456789abcdef";
    let config = |text: &str| {
        load(Sources {
            file: Some(files.write("tidegate.toml", text)),
            ..Sources::default()
        })
    };
    for (content, read) in [
        (format!("{token}\n"), token.to_owned()),
        (format!("{token}\r\n"), token.to_owned()),
        (token.to_owned(), token.to_owned()),
        (format!("{token}\n\n"), format!("{token}\n")),
        (format!(" {token}"), format!(" {token}")),
    ] {
        files.write("token", &content);
        let loaded = config("[admin]\ntoken_file = \"token\"\n").unwrap();
        assert_eq!(loaded.config.admin.token.unwrap().expose(), read);
    }
    for (content, text, message) in [
        (
            token,
            "[admin]\ntoken = \"0123456789abcdef\"\ntoken_file = \"token\"\n",
            "3: admin.token_file: token is given too",
        ),
        (
            "short",
            "[admin]\ntoken_file = \"token\"\n",
            "token: found 5 bytes, expected a secret of 16 to 1024 bytes",
        ),
        (
            "",
            "[admin]\ntoken_file = \"token\"\n",
            "token: found nothing",
        ),
        (
            token,
            "[admin]\ntoken_file = \"missing\"\n",
            "missing: cannot be read: No such file",
        ),
        (
            token,
            "[admin]\ntoken_file = \".\"\n",
            "cannot be read: Is a directory",
        ),
    ] {
        files.write("token", content);
        let found = mistakes(config(text));
        assert!(
            found.len() == 1 && found[0].contains(message),
            "{message}: {found:?}"
        );
    }
}

/// Row by row: a configuration that is right, and what is odd about it.
#[test]
fn odd_settings_are_warned_of() {
    let jwt = format!("[auth.jwt]\nsecret = \"{}\"\n", "s".repeat(32));
    let tcp = |address: &str| format!("[[tcp]]\naddress = \"{address}\"\n{jwt}");
    for (text, warning) in [
        (tcp("127.0.0.1:1"), ""),
        (tcp("[::1]:1"), ""),
        (tcp("unix:/a"), ""),
        (
            tcp("0.0.0.0:1"),
            "tcp[0].address: tokens come here in plain text",
        ),
        (
            tcp("gate.example:1"),
            "tcp[0].address: tokens come here in plain text",
        ),
        ("[admin]\naddress = \"127.0.0.1:1\"\n".to_owned(), ""),
        (
            "[admin]\naddress = \"[::]:1\"\n".to_owned(),
            "admin.address: the admin interface can be reached",
        ),
        ("services = [\"chat\"]\n".to_owned(), ""),
        (
            "bus = \"nats\"\nservices = [\"echo\", \"chat\"]\n".to_owned(),
            "services: each gate with \"chat\" has people and rooms of its own",
        ),
        ("[logins]\nlimit = 1\n".to_owned(), ""),
        ("[logins]\nper = \"device\"\n".to_owned(), ""),
        (
            "[logins]\nlimit = 1\nper = \"device\"\n".to_owned(),
            "logins.per: the device is what the client says",
        ),
        (
            format!("[logins]\nlimit = 1\nper = \"device\"\n{jwt}device_claim = \"dev\"\n"),
            "",
        ),
    ] {
        let files = Scratch::new();
        let file = files.write("tidegate.toml", &text);
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let loaded = load(Sources {
            file: Some(file),
            ..Sources::default()
        });
        let warnings: Vec<_> = loaded
            .ok()
            .unwrap()
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect();
        match warning {
            "" => assert_eq!(warnings, [""; 0], "{text}"),
            warning => assert!(
                warnings.len() == 1 && warnings[0].contains(warning),
                "{warnings:?}"
            ),
        }
    }
}

#[test]
fn secrets_that_all_can_read_are_warned_of() {
    let files = Scratch::new();
    let token = files.write("token", "0123456789abcdef");
    let own = files.write("own.toml", "[admin]\ntoken = \"0123456789abcdef\"\n");
    let other = files.write("other.toml", "[admin]\ntoken_file = \"token\"\n");
    // These are read later, at each connect.
    let nats = "bus = \"nats\"\n[nats]\n";
    let creds = files.write("creds.toml", format!("{nats}creds_file = \"token\"\n"));
    let seed = files.write("seed.toml", format!("{nats}nkey_seed_file = \"token\"\n"));
    for (mode, number) in [(0o644, 1), (0o604, 1), (0o640, 0), (0o600, 0)] {
        for path in [&token, &own] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }
        for file in [&own, &other, &creds, &seed] {
            let loaded = load(Sources {
                file: Some(file.clone()),
                ..Sources::default()
            });
            let warnings = loaded.unwrap().warnings;
            assert_eq!(warnings.len(), number, "{mode:o} {warnings:?}");
        }
    }
}
