//! A URL, taken apart and checked, and a stream to where it points.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::error::ConnectError;
use crate::options::{Password, RedisOptions, TlsFiles};

/// A Redis, and whom to be there.
pub(crate) struct Address {
    /// For errors and logs: without user and password.
    pub(crate) name: String,
    place: Place,
    login: RedisConnectionInfo,
    password_file: Option<PathBuf>,
}

enum Place {
    Tcp(String, u16),
    Tls(String, u16, TlsFiles),
    Unix(PathBuf),
}

/// What Redis is spoken on.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Address {
    /// All of the options' URLs.
    pub(crate) fn all(options: &RedisOptions) -> Result<Vec<Self>, ConnectError> {
        if options.urls.is_empty() {
            return Err(ConnectError::NoUrl);
        }
        let urls = options.urls.iter().enumerate();
        urls.map(|(i, url)| Self::new(url, i + 1, options))
            .collect()
    }

    fn new(url: &str, number: usize, options: &RedisOptions) -> Result<Self, ConnectError> {
        // `#insecure` would do without looking at the certificate.
        if url.contains('#') {
            return Err(ConnectError::Url { number });
        }
        // The library has TLS of its own, and could not read such a URL without it.
        let encrypted = ["rediss://", "valkeys://"]
            .into_iter()
            .find_map(|scheme| url.strip_prefix(scheme));
        let info = match encrypted {
            Some(rest) => format!("redis://{rest}").into_connection_info(),
            None => url.into_connection_info(),
        };
        let info = info.map_err(|_| ConnectError::Url { number })?;
        let (name, place) = match (info.addr(), encrypted) {
            (ConnectionAddr::Tcp(host, port), None) => (
                format!("redis://{host}:{port}"),
                Place::Tcp(host.clone(), *port),
            ),
            (ConnectionAddr::Tcp(host, port), Some(_)) => (
                format!("rediss://{host}:{port}"),
                Place::Tls(host.clone(), *port, options.tls.clone()),
            ),
            (ConnectionAddr::Unix(path), _) => (
                format!("unix://{}", path.display()),
                Place::Unix(path.clone()),
            ),
            _ => return Err(ConnectError::Url { number }),
        };
        let name: String = name.escape_debug().collect();
        let tls = &options.tls;
        if !matches!(place, Place::Tls(..)) && (tls.ca.is_some() || tls.identity.is_some()) {
            return Err(ConnectError::CertificatesWithoutTls { address: name });
        }
        let mut login = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(user) = &options.user {
            login = login.set_username(user);
        }
        if let Some(number) = options.database {
            login = login.set_db(number);
        }
        let password_file = match &options.password {
            Some(Password::Text(password)) => {
                login = login.set_password(password);
                None
            }
            Some(Password::File(path)) => Some(path.clone()),
            None => None,
        };
        Ok(Self {
            name,
            place,
            login,
            password_file,
        })
    }

    /// User, password and database, as of now.
    pub(crate) async fn login(&self) -> Result<RedisConnectionInfo, ConnectError> {
        let login = self.login.clone();
        let Some(path) = &self.password_file else {
            return Ok(login);
        };
        let text = String::from_utf8(read(path).await?).unwrap_or_default();
        match text.lines().next() {
            Some(password) if !password.is_empty() => Ok(login.set_password(password)),
            _ => Err(not_one(path, "a file with a password in its first line")),
        }
    }

    /// Opens a stream, encrypted where the URL says so and never else.
    pub(crate) async fn open(&self) -> Result<Box<dyn Stream>, ConnectError> {
        let unreachable = |error: io::Error| ConnectError::Unreachable {
            address: self.name.clone(),
            detail: error.to_string(),
        };
        match &self.place {
            Place::Unix(path) => Ok(Box::new(
                UnixStream::connect(path).await.map_err(unreachable)?,
            )),
            Place::Tcp(host, port) => Ok(Box::new(tcp(host, *port).await.map_err(unreachable)?)),
            Place::Tls(host, port, files) => {
                let connector = connector(files).await?;
                let name = ServerName::try_from(host.clone()).map_err(|error| {
                    unreachable(io::Error::new(io::ErrorKind::InvalidInput, error))
                })?;
                let stream = tcp(host, *port).await.map_err(unreachable)?;
                let stream = connector.connect(name, stream).await;
                let stream = stream.map_err(|source| ConnectError::Tls {
                    address: self.name.clone(),
                    source,
                })?;
                Ok(Box::new(stream))
            }
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    // The URL's brackets around an IPv6 address.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn connector(files: &TlsFiles) -> Result<TlsConnector, ConnectError> {
    let mut roots = RootCertStore::empty();
    match &files.ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            for certificate in certificates(path).await? {
                let added = roots.add(certificate);
                added.map_err(|_| not_one(path, "a file of PEM certificates"))?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    // The provider has versions that rustls has.
    let config = config
        .map_err(|error| ConnectError::Tls {
            address: String::new(),
            source: io::Error::other(error),
        })?
        .with_root_certificates(roots);
    let config = match &files.identity {
        None => config.with_no_client_auth(),
        Some((chain, key_path)) => {
            let key = PrivateKeyDer::from_pem_slice(&read(key_path).await?);
            let key = key.map_err(|_| not_one(key_path, "a private key as PEM"))?;
            let chain = certificates(chain).await?;
            let config = config.with_client_auth_cert(chain, key);
            config.map_err(|_| not_one(key_path, "the key of the client certificate"))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The certificates in a PEM file: one at least.
async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let pem = read(path).await?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(not_one(path, "a file of PEM certificates")),
    }
}

fn not_one(path: &Path, what: &'static str) -> ConnectError {
    let path = path.to_owned();
    ConnectError::NotOne { path, what }
}

async fn read(path: &Path) -> Result<Vec<u8>, ConnectError> {
    let reading = path.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read(reading)).await;
    read.unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|source| ConnectError::File {
            path: path.to_owned(),
            source,
        })
}
