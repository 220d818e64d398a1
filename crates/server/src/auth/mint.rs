//! `tidegate token`: makes a token as the gate of a configuration accepts it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header, encode};
use serde_json::{Map, Value};
use thiserror::Error;
use tidegate::{Settings, UserId};

use super::keys::{Keys, read_file};
use super::material::{self, Material};
use super::provider;
use super::settings::{AuthError, JwtSettings, KeySource};
use super::verify::{TokenError, Verifier, now};
use crate::cli::ConfigArgs;
use crate::config::Loaded;
use crate::config::value::time::Time;
use crate::run::RunError;

/// Tokens that live longer are not made.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    from: ConfigArgs,

    /// Whom the token is for
    #[arg(long, value_name = "USER")]
    user: String,

    /// How long it lives: 90s, 10m, 1h, 7d
    #[arg(long, value_name = "TIME", default_value = "1h")]
    ttl: Ttl,

    /// One more claim; a value that is JSON is taken as that, any other as text. May be given
    /// several times
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    claims: Vec<Pair>,

    /// A setting of the session, where the configuration has a settings_claim
    #[arg(long = "setting", value_name = "NAME=VALUE")]
    settings: Vec<Pair>,

    /// Private key (PEM), where the gate has only the public one
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// The id of the key, where the gate has several
    #[arg(long, value_name = "ID")]
    kid: Option<String>,

    /// How it is signed; by default the first way that gate and key allow
    #[arg(long, value_name = "ALGORITHM")]
    algorithm: Option<Algorithm>,
}

#[derive(Debug, Clone, Copy)]
struct Ttl(Duration);

impl FromStr for Ttl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(Time(time)) = Time::parse(text) else {
            return Err("a time such as 90s, 10m, 1h or 7d is wanted");
        };
        match time.as_secs() {
            0 => Err("a token lives for a second at least"),
            _ if time > LONGEST => Err("a token lives for a year at most"),
            _ => Ok(Self(time)),
        }
    }
}

/// `NAME=VALUE`
#[derive(Debug, Clone)]
struct Pair(String, String);

impl FromStr for Pair {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self(name.into(), value.into())),
            _ => Err("NAME=VALUE is wanted"),
        }
    }
}

/// Why there is no token.
#[derive(Debug, Error)]
pub(crate) enum MintError {
    #[error("the configuration has no [auth.jwt]: its gate accepts no tokens")]
    NoTokens,
    #[error(transparent)]
    Settings(#[from] AuthError),
    #[error(
        "the configuration has only public keys, which sign nothing; name the private one with --key"
    )]
    PublicOnly,
    #[error(
        "the configuration has a secret to sign with; --key is for gates that have a public key"
    )]
    HasSecret,
    #[error("several keys could sign; choose one with --kid")]
    WhichKey,
    #[error("no key that could sign has this --kid")]
    NoSuchKey,
    #[error("{0:?} is not among the algorithms that the gate accepts ({1:?})")]
    Algorithm(Algorithm, Vec<Algorithm>),
    #[error("--key: {0}")]
    Key(String),
    #[error("--user: {0}")]
    User(tidegate::protocol::InvalidName),
    #[error("--claim {0}: {1}")]
    Claim(String, &'static str),
    #[error("--setting: the configuration has no auth.jwt.settings_claim")]
    NoSettingsClaim,
    #[error("--setting: {0}")]
    SettingsTooLarge(#[from] tidegate::protocol::SettingsError),
    #[error("signing: {0}")]
    Sign(jsonwebtoken::errors::Error),
    #[error("the gate would not accept it: {0}")]
    NotAccepted(TokenError),
}

impl MintError {
    /// Whether the command line or the configuration is at fault, and not a key.
    pub(crate) fn is_usage(&self) -> bool {
        !matches!(
            self,
            Self::Settings(_) | Self::Key(_) | Self::Sign(_) | Self::NotAccepted(_)
        )
    }
}

/// `tidegate token`.
pub(crate) fn run(args: TokenArgs) -> Result<(), RunError> {
    let config = Loaded::load(&args.from.clone().sources(Vec::new())?)?.config;
    let jwt = config.auth.settings().and_then(|auth| auth.jwt);
    let token = mint(&args, &jwt.ok_or(MintError::NoTokens)?)?;
    // Whoever closed standard output does not want it.
    let _ = writeln!(io::stdout(), "{token}");
    Ok(())
}

/// Makes a token, and checks that the gate accepts it.
pub(crate) fn mint(args: &TokenArgs, settings: &JwtSettings) -> Result<String, MintError> {
    settings.check()?;
    provider::install();
    let content = Keys::read(&settings.key)?;
    let keys = Keys::parse(&settings.key, &content, &settings.algorithms)?;
    let (algorithm, key) = signing_key(args, settings, &keys)?;
    let mut header = Header::new(algorithm);
    header.kid = args.kid.clone();
    let token = encode(&header, &claims(args, settings)?, &key).map_err(MintError::Sign)?;
    let verifier = Verifier::new(settings.clone(), keys);
    verifier.verify(&token).map_err(MintError::NotAccepted)?;
    Ok(token)
}

fn signing_key(
    args: &TokenArgs,
    settings: &JwtSettings,
    keys: &Keys,
) -> Result<(Algorithm, EncodingKey), MintError> {
    let accepted = &keys.algorithms;
    let wanted: Vec<Algorithm> = match args.algorithm {
        None => accepted.clone(),
        Some(algorithm) if accepted.contains(&algorithm) => vec![algorithm],
        Some(algorithm) => return Err(MintError::Algorithm(algorithm, accepted.clone())),
    };
    if let Some(file) = &args.key {
        if matches!(
            settings.key,
            KeySource::Secret(_) | KeySource::SecretFile(_)
        ) {
            return Err(MintError::HasSecret);
        }
        let pem = read_file(file).map_err(MintError::Key)?;
        return private_key(&pem, &wanted)
            .map_err(|why| MintError::Key(format!("{}: {why}", file.display())));
    }
    let is_set = matches!(settings.key, KeySource::JwksFile(_));
    let mut secrets = keys.keys.iter().filter_map(|key| {
        let Material::Secret(secret) = &key.material else {
            return None;
        };
        let named = !is_set || args.kid.is_none() || args.kid.as_deref() == key.id();
        let algorithm = wanted.iter().find(|a| key.is_for(**a))?;
        named.then(|| (*algorithm, EncodingKey::from_secret(secret)))
    });
    match (secrets.next(), secrets.next()) {
        (Some(_), Some(_)) => Err(MintError::WhichKey),
        (Some(only), None) => Ok(only),
        (None, _) => Err(
            match keys
                .keys
                .iter()
                .any(|k| matches!(k.material, Material::Secret(_)))
            {
                true => MintError::NoSuchKey,
                false => MintError::PublicOnly,
            },
        ),
    }
}

/// The key, for the first of the algorithms that it can sign with.
fn private_key(pem: &[u8], wanted: &[Algorithm]) -> Result<(Algorithm, EncodingKey), String> {
    let mut why = String::new();
    for algorithm in wanted {
        if algorithm.family() == AlgorithmFamily::Hmac {
            continue;
        }
        match material::private_key(pem, *algorithm) {
            Ok(key) => match provider::check_signing_key(*algorithm, &key) {
                Ok(()) => return Ok((*algorithm, key)),
                Err(error) => why = format!("not a key for {wanted:?} ({error})"),
            },
            Err(error) => why = error,
        }
    }
    match why.is_empty() {
        true => Err(format!(
            "the gate accepts only {wanted:?}, which sign with a secret"
        )),
        false => Err(why),
    }
}

fn claims(args: &TokenArgs, settings: &JwtSettings) -> Result<Map<String, Value>, MintError> {
    UserId::new(&args.user).map_err(MintError::User)?;
    let mut claims = Map::new();
    if let Some(issuer) = settings.issuer.first() {
        claims.insert("iss".into(), issuer.clone().into());
    }
    if let Some(audience) = settings.audience.first() {
        claims.insert("aud".into(), audience.clone().into());
    }
    for Pair(name, value) in &args.claims {
        let own = match name.as_str() {
            "exp" => Some("--ttl sets it"),
            "iat" => Some("it is the time of making"),
            _ if *name == settings.user_claim => Some("--user sets it"),
            _ if Some(name) == settings.settings_claim.as_ref() => Some("--setting sets it"),
            _ => None,
        };
        if let Some(why) = own {
            return Err(MintError::Claim(name.clone(), why));
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.clone().into());
        claims.insert(name.clone(), value);
    }
    claims.insert(settings.user_claim.clone(), args.user.clone().into());
    if !args.settings.is_empty() {
        let claim = settings.settings_claim.clone();
        let claim = claim.ok_or(MintError::NoSettingsClaim)?;
        let pairs = args.settings.iter().cloned();
        let pairs: BTreeMap<_, _> = pairs.map(|Pair(name, value)| (name, value)).collect();
        Settings::try_from(pairs.clone())?;
        let pairs: Map<_, _> = pairs.into_iter().map(|(k, v)| (k, v.into())).collect();
        claims.insert(claim, pairs.into());
    }
    let now = now();
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), (now + args.ttl.0.as_secs()).into());
    Ok(claims)
}
