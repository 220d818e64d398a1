//! The listeners that a configuration stands for.

use tidegate::{
    Cipher, ClientAuth, ForwardedHeader, KeepAlive, Tcp, Tls, TrustedNetwork, WebSocket,
};

use super::gate::Unusable;
use super::model::listener::{
    CipherKind, ClientAuthKind, ForwardedBy, KeepAliveConfig, TcpConfig, TlsConfig, WebSocketConfig,
};
use super::value::text::Network;

/// What both kinds of listeners have.
macro_rules! common {
    ($listener:expr, $config:expr, $trusted:expr) => {{
        let trusted = $config.trusted_proxies.as_deref().unwrap_or($trusted);
        let mut listener = $listener
            .limits($config.limits.limits())
            .proxy_protocol($config.proxy_protocol)
            .trusted_proxies(networks(trusted)?)
            .keep_alive($config.keep_alive.on().map(KeepAlive::from))
            .notsent_lowat($config.notsent_lowat);
        if let Some(name) = &$config.name {
            listener = listener.name(name.as_str());
        }
        if let Some(tls) = &$config.tls {
            listener = listener.tls_with(tls.tls()?);
        }
        if $config.cipher != CipherKind::None {
            let key = $config.encryption_key.as_ref().map(|key| key.expose());
            listener = listener.cipher(cipher($config.cipher, key.unwrap_or_default())?);
        }
        if let Some(topic) = &$config.v1_error_topic {
            listener = listener.v1_error_topic(topic.as_str());
        }
        if let Some(only) = $config.ipv6_only {
            listener = listener.ipv6_only(only);
        }
        if let Some(mode) = &$config.unix_mode {
            listener = listener.unix_mode(mode.0);
        }
        listener
    }};
}

impl TcpConfig {
    /// `trusted` are the proxies that are trusted where the listener says nothing.
    pub(crate) fn listener(&self, trusted: &[Network]) -> Result<Tcp, Unusable> {
        Ok(common!(Tcp::bind(self.address.as_str()), self, trusted))
    }
}

impl WebSocketConfig {
    /// As above. `own` is a subprotocol that is agreed on where none of the configured ones
    /// is.
    pub(crate) fn listener(
        &self,
        trusted: &[Network],
        own: Option<&str>,
    ) -> Result<WebSocket, Unusable> {
        let names = self.subprotocols.iter().map(|name| name.as_str());
        let listener = common!(WebSocket::bind(self.address.as_str()), self, trusted)
            .path(self.path.as_str())
            .subprotocols(names.chain(own))
            .allow_text(self.allow_text)
            .forwarded(match self.forwarded {
                ForwardedBy::Off => ForwardedHeader::Off,
                ForwardedBy::XForwardedFor => ForwardedHeader::XForwardedFor,
                ForwardedBy::Forwarded => ForwardedHeader::Forwarded,
            });
        Ok(match self.origins.as_deref() {
            None => listener,
            Some([all]) if all.as_str() == "*" => listener.any_origin(),
            Some(list) => listener.origins(list.iter().map(|origin| origin.as_str())),
        })
    }
}

impl TlsConfig {
    fn tls(&self) -> Result<Tls, Unusable> {
        let mut tls = Tls::new(&self.cert.0, &self.key.0);
        for more in &self.certificates {
            tls = tls.certificate(&more.cert.0, &more.key.0);
        }
        let ca = || match &self.client_ca {
            Some(ca) => Ok(ca.0.clone()),
            None => Err(Unusable::NoClientCa),
        };
        Ok(tls.client_auth(match self.client_auth {
            ClientAuthKind::Off => ClientAuth::Off,
            ClientAuthKind::Optional => ClientAuth::Optional { ca: ca()? },
            ClientAuthKind::Required => ClientAuth::Required { ca: ca()? },
        }))
    }
}

impl From<&KeepAliveConfig> for KeepAlive {
    fn from(config: &KeepAliveConfig) -> Self {
        Self {
            idle: config.idle.into(),
            interval: config.interval.into(),
            retries: config.retries,
        }
    }
}

fn networks(list: &[Network]) -> Result<Vec<TrustedNetwork>, Unusable> {
    let networks = list.iter().map(|network| network.as_str().parse());
    Ok(networks.collect::<Result<_, _>>()?)
}

fn cipher(kind: CipherKind, key: &str) -> Result<Cipher, Unusable> {
    Ok(match kind {
        CipherKind::AesEcb => Cipher::aes_ecb(key)?,
        CipherKind::AesCbc | CipherKind::None => Cipher::aes_cbc(key)?,
    })
}
