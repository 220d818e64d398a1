//! What a token says about its user.

use std::time::Duration;

use super::*;

const HEADER: &str = r#"{"alg":"HS256"}"#;

/// The outcome for good claims with these in place of, or beside, the good ones.
fn with(changes: Value, settings: &JwtSettings) -> Result<Verified, TokenError> {
    let mut claims = good_claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    check(HEADER, &claims.to_string(), settings.clone())
}

fn without(name: &str, settings: &JwtSettings) -> Result<Verified, TokenError> {
    let mut claims = good_claims();
    claims.as_object_mut().unwrap().remove(name);
    check(HEADER, &claims.to_string(), settings.clone())
}

#[test]
fn times() {
    let settings = settings();
    let t = now();
    let exp = TokenError::Claim("exp");
    assert_eq!(without("exp", &settings), Err(exp));
    for (claims, expected) in [
        (json!({ "exp": t + 5 }), Ok(())),
        (json!({ "exp": (t + 5) as f64 + 0.5 }), Ok(())),
        (json!({ "exp": u64::MAX }), Ok(())),
        // Within the leeway, and not.
        (json!({ "exp": t - 10 }), Ok(())),
        (json!({ "exp": t - 40 }), Err(TokenError::Expired)),
        (json!({ "exp": 0 }), Err(TokenError::Expired)),
        (json!({ "exp": 0.0 }), Err(TokenError::Expired)),
        (json!({ "exp": (t + 600).to_string() }), Err(exp)),
        (json!({ "exp": -1 }), Err(exp)),
        (json!({ "exp": -1.5 }), Err(exp)),
        (json!({ "exp": 1e300 }), Err(exp)),
        (json!({ "exp": null }), Err(exp)),
        (json!({ "exp": true }), Err(exp)),
        (json!({ "nbf": t }), Ok(())),
        (json!({ "nbf": t + 10 }), Ok(())),
        (json!({ "nbf": t + 60 }), Err(TokenError::NotYet)),
        (json!({ "nbf": u64::MAX }), Err(TokenError::NotYet)),
        (json!({ "nbf": "0" }), Err(TokenError::Claim("nbf"))),
        (json!({ "nbf": -1 }), Err(TokenError::Claim("nbf"))),
        (json!({ "iat": t }), Ok(())),
        (json!({ "iat": t + 10 }), Ok(())),
        (json!({ "iat": t as f64 - 0.5 }), Ok(())),
        (json!({ "iat": t + 60 }), Err(TokenError::NotYet)),
        (json!({ "iat": "0" }), Err(TokenError::Claim("iat"))),
        (json!({ "iat": -1 }), Err(TokenError::Claim("iat"))),
        (json!({ "iat": null }), Err(TokenError::Claim("iat"))),
    ] {
        assert_eq!(
            with(claims.clone(), &settings).map(|_| ()),
            expected,
            "{claims}"
        );
    }
    for exp in [json!([t + 600]), json!({ "at": t + 600 })] {
        assert!(with(json!({ "exp": exp }), &settings).is_err());
    }
    let strict = JwtSettings {
        leeway: Duration::ZERO,
        ..settings
    };
    assert_eq!(
        with(json!({ "exp": t - 10 }), &strict),
        Err(TokenError::Expired)
    );
    assert_eq!(
        with(json!({ "iat": t + 10 }), &strict),
        Err(TokenError::NotYet)
    );
    assert_eq!(
        with(json!({ "exp": t + 77 }), &strict).unwrap().expires,
        t + 77
    );
}

#[test]
fn issuer_and_audience() {
    let mut settings = settings();
    let any = &settings.clone();
    assert!(with(json!({ "iss": "anyone" }), any).is_ok());
    // A token for somebody is not for us unless we are somebody.
    for aud in [json!("x"), json!(["x"])] {
        assert_eq!(with(json!({ "aud": aud }), any), Err(TokenError::Audience));
    }
    settings.issuer = vec!["https://a".into(), "https://b".into()];
    settings.audience = vec!["gate".into()];
    for (claims, expected) in [
        (json!({ "iss": "https://a", "aud": "gate" }), Ok(())),
        (
            json!({ "iss": "https://b", "aud": ["other", "gate"] }),
            Ok(()),
        ),
        (
            json!({ "iss": "https://c", "aud": "gate" }),
            Err(TokenError::Issuer),
        ),
        (
            json!({ "iss": "https://a/", "aud": "gate" }),
            Err(TokenError::Issuer),
        ),
        (
            json!({ "iss": "HTTPS://A", "aud": "gate" }),
            Err(TokenError::Issuer),
        ),
        (
            json!({ "iss": ["https://a"], "aud": "gate" }),
            Err(TokenError::Issuer),
        ),
        (json!({ "iss": 1, "aud": "gate" }), Err(TokenError::Issuer)),
        (
            json!({ "iss": null, "aud": "gate" }),
            Err(TokenError::Issuer),
        ),
        (json!({ "aud": "gate" }), Err(TokenError::Issuer)),
        (json!({ "iss": "https://a" }), Err(TokenError::Audience)),
        (
            json!({ "iss": "https://a", "aud": "gate2" }),
            Err(TokenError::Audience),
        ),
        (
            json!({ "iss": "https://a", "aud": [] }),
            Err(TokenError::Audience),
        ),
        (
            json!({ "iss": "https://a", "aud": ["x"] }),
            Err(TokenError::Audience),
        ),
        (
            json!({ "iss": "https://a", "aud": null }),
            Err(TokenError::Audience),
        ),
        (
            json!({ "iss": "https://a", "aud": { "gate": 1 } }),
            Err(TokenError::Audience),
        ),
        (
            json!({ "iss": "https://a", "aud": ["gate", 1] }),
            Err(TokenError::Audience),
        ),
    ] {
        assert_eq!(
            with(claims.clone(), &settings).map(|_| ()),
            expected,
            "{claims}"
        );
    }
}

#[test]
fn the_user() {
    let mut settings = settings();
    let wrong = Err(TokenError::Claim("of the user"));
    let longest = "u".repeat(256);
    for (sub, user) in [
        (json!("ada"), Some("ada")),
        (json!("ädä 喵"), Some("ädä 喵")),
        (json!(42), Some("42")),
        (json!(0), Some("0")),
        (json!(longest), Some(longest.as_str())),
        (json!("u".repeat(257)), None),
        (json!(""), None),
        (json!("a\nb"), None),
        (json!("a\u{0}"), None),
        (json!("\u{85}"), None),
        (json!(-1), None),
        (json!(1.5), None),
        (json!(1e30), None),
        (json!(null), None),
        (json!(true), None),
    ] {
        let got = with(json!({ "sub": sub }), &settings);
        match user {
            Some(user) => assert_eq!(got.unwrap().user, user),
            None => assert_eq!(got, wrong, "{sub}"),
        }
    }
    for sub in [json!(["ada"]), json!({ "id": "ada" })] {
        assert!(with(json!({ "sub": sub }), &settings).is_err());
    }
    assert_eq!(without("sub", &settings), wrong);
    settings.user_claim = "https://a.example/id".into();
    assert_eq!(with(json!({}), &settings), wrong);
    let named = with(json!({ "https://a.example/id": 7 }), &settings);
    assert_eq!(named.unwrap().user, "7");
}

#[test]
fn settings_of_the_session() {
    let mut settings = settings();
    let given = json!({ "set": { "role": "admin", "": "" } });
    assert!(with(given.clone(), &settings).unwrap().settings.is_empty());
    settings.settings_claim = Some("set".into());
    let got = with(given, &settings).unwrap().settings;
    let got: Vec<_> = got.iter().collect();
    assert_eq!(got, [("", ""), ("role", "admin")]);
    assert!(with(json!({}), &settings).unwrap().settings.is_empty());
    assert!(
        with(json!({ "set": {} }), &settings)
            .unwrap()
            .settings
            .is_empty()
    );
    for set in [
        json!(null),
        json!("a"),
        json!([]),
        json!({ "a": 1 }),
        json!({ "a": null }),
        json!({ "a": { "b": "c" } }),
    ] {
        let got = with(json!({ "set": set }), &settings);
        assert_eq!(got, Err(TokenError::Claim("of the settings")), "{set}");
    }
}

#[test]
fn the_device() {
    let mut settings = settings();
    let given = json!({ "dev": "phone 7" });
    assert_eq!(with(given.clone(), &settings).unwrap().device, None);
    settings.device_claim = Some("dev".into());
    let device = with(given, &settings).unwrap().device;
    assert_eq!(device.unwrap(), "phone 7");
    // A token without one would leave it to the client.
    let none = Err(TokenError::Claim("of the device"));
    assert_eq!(with(json!({}), &settings), none);
    for device in [
        json!(null),
        json!(""),
        json!(7),
        json!(["a"]),
        json!("a\nb"),
        json!("x".repeat(129)),
    ] {
        assert_eq!(with(json!({ "dev": device }), &settings), none, "{device}");
    }
}

#[test]
fn claims_that_two_readers_could_understand_differently() {
    let mut settings = settings();
    settings.settings_claim = Some("set".into());
    let t = now() + 600;
    let good = format!(r#"{{"sub":"ada","exp":{t},"set":{{"a":"b"}}}}"#);
    assert!(check(HEADER, &good, settings.clone()).is_ok());
    for claims in [
        format!(r#"{{"sub":"ada","sub":"bob","exp":{t}}}"#),
        format!(r#"{{"sub":"ada","sub":"ada","exp":{t}}}"#),
        format!(r#"{{"sub":"ada","s\u0075b":"bob","exp":{t}}}"#),
        format!(r#"{{"sub":"ada","exp":1,"exp":{t}}}"#),
        format!(r#"{{"sub":"ada","exp":{t},"exp":1}}"#),
        format!(r#"{{"sub":"ada","exp":{t},"x":1,"x":1}}"#),
        format!(r#"{{"sub":"ada","exp":{t},"set":{{"a":"b","a":"c"}}}}"#),
        format!(r#"{{"sub":"ada","exp":{t}}}{{}}"#),
        format!(r#"{{"sub":"ada","exp":{t},}}"#),
        format!(r#"["ada",{t}]"#),
        format!(r#"{{"sub":"ada","exp":{t},"x":NaN}}"#),
        format!(r#"{{"sub":"\ud800","exp":{t}}}"#),
        "null".into(),
        "\"ada\"".into(),
        String::new(),
    ] {
        assert!(
            check(HEADER, &claims, settings.clone()).is_err(),
            "{claims}"
        );
    }
    let utf8 = [
        &b"{\"sub\":\"\xff\",\"exp\":"[..],
        t.to_string().as_bytes(),
        b"}",
    ]
    .concat();
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(HEADER),
        URL_SAFE_NO_PAD.encode(utf8)
    );
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    assert!(
        verifier(settings.clone())
            .verify(&format!("{message}.{signature}"))
            .is_err()
    );
    // What is not looked at may be as deep as it likes, and costs no stack.
    let deep = format!(
        r#"{{"sub":"ada","exp":{t},"x":{}{}}}"#,
        "[".repeat(2500),
        "]".repeat(2500)
    );
    let _ = check(HEADER, &deep, settings.clone());
    let deep = format!(
        r#"{{"sub":{}{},"exp":{t}}}"#,
        "[".repeat(2500),
        "]".repeat(2500)
    );
    assert!(check(HEADER, &deep, settings).is_err());
}
