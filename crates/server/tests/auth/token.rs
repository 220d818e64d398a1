//! `tidegate token`, judged by PyJWT and by the gate.

use serde_json::{Value, json};

use crate::support::jwt_tool;
use crate::support::server::{Ended, Scratch, Server, run};
use crate::ws::Ws;
use crate::{KINDS, Keys, config};

/// Runs it with a configuration and these arguments.
fn mint(config: &str, arguments: &[&str]) -> Ended {
    let files = Scratch::new();
    let file = files.write("tidegate.toml", config);
    let all = [&["token", "--config", &file], arguments].concat();
    run(&all)
}

/// The token, alone on standard output.
fn minted(config: &str, arguments: &[&str]) -> String {
    let ended = mint(config, arguments);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
    let token = ended.stdout.strip_suffix('\n').unwrap();
    assert!(!token.contains(char::is_whitespace), "{token}");
    token.to_owned()
}

#[test]
fn another_library_and_the_gate_accept_it() {
    let keys = Keys::new();
    for (kind, algorithms) in KINDS {
        let auth = format!(
            "[auth.jwt]\nalgorithms = {algorithms:?}\nissuer = \"https://a\"\naudience = \"gate\"\n\
             settings_claim = \"set\"\n{}",
            keys.setting(kind)
        );
        let config = config("", &auth);
        let key = keys.signing(kind);
        let own: &[&str] = if kind == "secret" {
            &[]
        } else {
            &["--key", &key]
        };
        let server = Server::start(&config, &[]);
        let mut jobs = Vec::new();
        for algorithm in algorithms {
            let arguments = [
                own,
                &["--user", "ada", "--ttl", "10m", "--algorithm", algorithm],
                &[
                    "--setting",
                    "role=admin",
                    "--claim",
                    "level=3",
                    "--claim",
                    "note=a b=c",
                ],
                &["--kid", "any"],
            ];
            let token = minted(&config, &arguments.concat());
            let header = format!("Authorization: Bearer {token}");
            let mut client = Ws::open(server.listeners[1], "/", &[header]);
            client.ask("chat/who/1", b"");
            jobs.push(json!({
                "alg": algorithm, "key": keys.checking(kind), "token": token,
                "audience": "gate", "issuer": "https://a",
            }));
        }
        for claims in jwt_tool("verify", &json!(jobs)) {
            let claims: Value = serde_json::from_str(&claims).unwrap();
            assert_eq!(claims["sub"], "ada");
            assert_eq!(claims["level"], 3);
            assert_eq!(claims["note"], "a b=c");
            assert_eq!(claims["set"], json!({ "role": "admin" }));
            let (iat, exp) = (&claims["iat"], &claims["exp"]);
            assert_eq!(exp.as_u64().unwrap() - iat.as_u64().unwrap(), 600);
        }
    }
}

#[test]
fn what_cannot_be_made_is_said_in_one_line() {
    let keys = Keys::new();
    let with = |jwt: &str| config("", &format!("[auth.jwt]\n{jwt}"));
    let secret = with(&keys.setting("secret"));
    let rsa = with(&keys.setting("rsa"));
    let several = with(&format!(
        "algorithms = [\"PS256\", \"RS512\"]\n{}",
        keys.setting("rsa")
    ));
    let user = ["--user", "ada"];
    let (rsa_key, rsa_pub) = (keys.signing("rsa"), keys.checking("rsa"));
    let (p256, other) = (keys.signing("p256"), Keys::new());
    let other_p256 = other.signing("p256");
    let ec = with(&keys.setting("p256"));
    for (config, arguments, code, expected) in [
        (
            &rsa,
            &[][..],
            2,
            "only public keys, which sign nothing; name the private one with --key",
        ),
        (
            &rsa,
            &["--key", &rsa_pub],
            1,
            "a public key, which signs nothing",
        ),
        (&rsa, &["--key", &p256], 1, "not a key for [RS256]"),
        (
            &rsa,
            &["--key", "/nowhere"],
            1,
            "--key: /nowhere: No such file",
        ),
        (
            &rsa,
            &["--key", &rsa_key, "--algorithm", "RS384"],
            2,
            "RS384 is not among the algorithms",
        ),
        (&rsa, &["--key", &rsa_key, "--algorithm", "none"], 2, "none"),
        (
            &several,
            &["--key", &rsa_key, "--algorithm", "RS256"],
            2,
            "RS256 is not among",
        ),
        (
            &ec,
            &["--key", &other_p256],
            1,
            "the gate would not accept it: the token's signature is wrong",
        ),
        (
            &secret,
            &["--key", &rsa_key],
            2,
            "has a secret to sign with",
        ),
        (&secret, &["--algorithm", "HS512"], 2, "HS512 is not among"),
        (
            &secret,
            &["--setting", "a=b"],
            2,
            "no auth.jwt.settings_claim",
        ),
        (
            &secret,
            &["--claim", "exp=9"],
            2,
            "--claim exp: --ttl sets it",
        ),
        (
            &secret,
            &["--claim", "sub=eve"],
            2,
            "--claim sub: --user sets it",
        ),
        (&secret, &["--claim", "novalue"], 2, "NAME=VALUE is wanted"),
        (
            &secret,
            &["--claim", "nbf=99999999999"],
            1,
            "would not accept it: the token is not valid yet",
        ),
        (
            &secret,
            &["--claim", "aud=x"],
            1,
            "would not accept it: the token is for another audience",
        ),
        (&secret, &["--ttl", "0s"], 2, "for a second at least"),
        (&secret, &["--ttl", "1000d"], 2, "for a year at most"),
        (&secret, &["--ttl", "soon"], 2, "a time such as"),
        (
            &config("", "").replace(", \"auth\"", ""),
            &[],
            2,
            "no [auth.jwt]",
        ),
    ] {
        let ended = mint(config, &[&user, arguments].concat());
        assert!(
            ended.stderr.contains(expected),
            "{expected} in {}",
            ended.stderr
        );
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
    let nobody = mint(&secret, &["--user", ""]);
    assert!(
        nobody.stderr.contains("--user: a user id must be"),
        "{}",
        nobody.stderr
    );
}

#[test]
fn a_gate_does_not_start_with_keys_that_cannot_be_used() {
    let keys = Keys::new();
    let files = Scratch::new();
    let weak = files.write(
        "weak.pub",
        include_str!("../data/rsa-1024.test-only.pub.pem"),
    );
    let short = files.write("short", "less than 32 bytes");
    let jwks = files.write("jwks.json", "{\"keys\": []}");
    let (private, public) = (keys.signing("rsa"), keys.checking("rsa"));
    for (jwt, expected) in [
        (
            format!("public_key_file = {weak:?}"),
            "an RSA key of 1024 bits",
        ),
        (format!("public_key_file = {private:?}"), "a private key"),
        (
            format!("public_key_file = {public:?}\nalgorithms = [\"HS256\"]"),
            "HS",
        ),
        (format!("secret_file = {short:?}"), "32"),
        (
            format!("secret_file = {public:?}"),
            "a PEM file is no secret",
        ),
        ("secret_file = \"/nowhere\"".into(), "/nowhere"),
        (
            format!("jwks_file = {jwks:?}\nalgorithms = [\"RS256\"]"),
            "no key in it is for [RS256]",
        ),
    ] {
        let text = config("", &format!("[auth.jwt]\n{jwt}"));
        let file = files.write("tidegate.toml", &text);
        let ended = run(&["serve", "--config", &file]);
        assert!(
            ended.stderr.contains(expected),
            "{expected} in {}",
            ended.stderr
        );
        assert!(matches!(ended.code, Some(1 | 2)), "{:?}", ended.code);
    }
}
