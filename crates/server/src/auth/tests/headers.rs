//! What a token says about itself.

use super::*;

#[test]
fn forged_headers() {
    use TokenError::*;
    let claims = good_claims().to_string();
    let not_json = Malformed("its header is not JSON");
    for (header, expected) in [
        (r#"{"alg":"HS256"}"#, Ok(())),
        (
            r#"{"typ":"JWT","alg":"HS256","kid":"any","x5u":"http://x","jku":"http://x"}"#,
            Ok(()),
        ),
        (r#"{"alg":"HS256","typ":"jwt"}"#, Ok(())),
        (r#"{"alg":"HS256","typ":"at+JWT"}"#, Ok(())),
        (r#"{"alg":"HS256","typ":"application/at+jwt"}"#, Ok(())),
        (r#"{"alg":"none"}"#, Err(Algorithm)),
        (r#"{"alg":"None"}"#, Err(Algorithm)),
        (r#"{"alg":"NONE"}"#, Err(Algorithm)),
        (r#"{"alg":""}"#, Err(Algorithm)),
        (r#"{"alg":null}"#, Err(Algorithm)),
        (r#"{"alg":256}"#, Err(Algorithm)),
        (r#"{"alg":["HS256"]}"#, Err(Algorithm)),
        (r#"{"alg":"hs256"}"#, Err(Algorithm)),
        (r#"{"alg":"HS256 "}"#, Err(Algorithm)),
        (r#"{"alg":"HS384"}"#, Err(Algorithm)),
        (r#"{"alg":"RS256"}"#, Err(Algorithm)),
        (r#"{"alg":"ES512"}"#, Err(Algorithm)),
        (r#"{}"#, Err(Algorithm)),
        (r#"{"alg":"HS256","crit":["exp"]}"#, Err(Extension)),
        (r#"{"alg":"HS256","crit":[]}"#, Err(Extension)),
        (r#"{"alg":"HS256","crit":null}"#, Err(Extension)),
        (
            r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#,
            Err(Extension),
        ),
        (r#"{"alg":"HS256","b64":false}"#, Err(Extension)),
        (r#"{"alg":"HS256","b64":true}"#, Err(Extension)),
        (r#"{"alg":"HS256","zip":"DEF"}"#, Err(Extension)),
        (r#"{"alg":"HS256","enc":"A128GCM"}"#, Err(Extension)),
        (r#"{"alg":"HS256","typ":"secevent+jwt"}"#, Err(Type)),
        (r#"{"alg":"HS256","typ":"logout+jwt"}"#, Err(Type)),
        (r#"{"alg":"HS256","typ":1}"#, Err(Type)),
        (r#"{"alg":"HS256","typ":""}"#, Err(Type)),
        (r#"{"alg":"HS256","kid":1}"#, Err(UnknownKey)),
        (r#"{"alg":"HS256","kid":null}"#, Err(UnknownKey)),
        (r#"{"alg":"HS256","alg":"HS256"}"#, Err(not_json)),
        (r#"{"alg":"none","alg":"HS256"}"#, Err(not_json)),
        (r#"{"alg":"HS256","\u0061lg":"none"}"#, Err(not_json)),
        (r#"{"alg":"HS256","x":1,"x":2}"#, Err(not_json)),
        (r#"{"alg":"HS256"}{"#, Err(not_json)),
        (r#"{"alg":"HS256",}"#, Err(not_json)),
        (r#"["HS256"]"#, Err(not_json)),
        (r#""HS256""#, Err(not_json)),
        ("", Err(not_json)),
        ("\u{feff}{\"alg\":\"HS256\"}", Err(not_json)),
    ] {
        let got = check(header, &claims, settings()).map(|_| ());
        assert_eq!(got, expected, "{header}");
    }
    let deep = format!(
        "{{\"alg\":\"HS256\",\"x\":{}{}}}",
        "[".repeat(2000),
        "]".repeat(2000)
    );
    assert_eq!(check(&deep, &claims, settings()), Err(not_json));
}

#[test]
fn a_token_without_a_signature() {
    let verifier = verifier(settings());
    let claims = URL_SAFE_NO_PAD.encode(good_claims().to_string());
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#] {
        let header = URL_SAFE_NO_PAD.encode(header);
        for forged in [
            format!("{header}.{claims}."),
            format!("{header}.{claims}"),
            format!("{header}.{claims}.AA"),
        ] {
            assert!(verifier.verify(&forged).is_err(), "{forged}");
        }
    }
}

fn set(keys: Vec<Key>) -> Verifier {
    verifier_with(keys, &[Algorithm::HS256, Algorithm::ES256], true)
}

fn signed(kid: Option<&str>, algorithm: Algorithm, pair: &Pair) -> String {
    let mut header = json!({ "alg": format!("{algorithm:?}") });
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    token(
        &header.to_string(),
        &good_claims().to_string(),
        algorithm,
        &pair.signing,
    )
}

#[test]
fn the_key_is_the_one_that_the_token_names() {
    use Algorithm::*;
    let (a, b, ec) = (pair(HS256, false), pair(HS256, true), pair(ES256, false));
    let key = |pair: &Pair, id: Option<&str>, only| {
        Key::new(pair.material.clone(), id.map(str::to_owned), only)
    };
    let named = set(vec![
        key(&a, Some("a"), None),
        key(&b, Some("b"), None),
        key(&ec, Some("ec"), None),
    ]);
    let check = |verifier: &Verifier, kid, algorithm, pair| {
        verifier.verify(&signed(kid, algorithm, pair)).map(|_| ())
    };
    assert_eq!(check(&named, Some("a"), HS256, &a), Ok(()));
    assert_eq!(check(&named, Some("b"), HS256, &b), Ok(()));
    assert_eq!(check(&named, Some("ec"), ES256, &ec), Ok(()));
    // Signed with another key of the set than the one named.
    assert_eq!(
        check(&named, Some("b"), HS256, &a),
        Err(TokenError::Signature)
    );
    assert_eq!(
        check(&named, Some("ec"), HS256, &a),
        Err(TokenError::WrongKey)
    );
    let long = "a".repeat(4000);
    for unknown in ["", "A", "c", "a ", "../a", "a\0", "' OR 1=1", &long] {
        assert_eq!(
            check(&named, Some(unknown), HS256, &a),
            Err(TokenError::UnknownKey)
        );
    }
    // No name: all that fit are tried.
    for (algorithm, pair) in [(HS256, &a), (HS256, &b), (ES256, &ec)] {
        assert_eq!(check(&named, None, algorithm, pair), Ok(()));
    }
    let unnamed = set(vec![
        key(&a, None, None),
        key(&b, None, None),
        key(&ec, None, None),
    ]);
    for (algorithm, pair) in [(HS256, &a), (HS256, &b), (ES256, &ec)] {
        assert_eq!(check(&unnamed, None, algorithm, pair), Ok(()));
    }
    assert_eq!(
        check(&unnamed, Some("a"), HS256, &a),
        Err(TokenError::UnknownKey)
    );
    let stranger = pair(ES256, false);
    assert_eq!(
        check(&unnamed, None, ES256, &stranger),
        Err(TokenError::Signature)
    );
    // A key that is for another algorithm only.
    let only = set(vec![
        key(&a, Some("a"), Some(HS512)),
        key(&ec, Some("ec"), None),
    ]);
    assert_eq!(
        check(&only, Some("a"), HS256, &a),
        Err(TokenError::WrongKey)
    );
    assert_eq!(check(&only, None, HS256, &a), Err(TokenError::NoKey));
}
