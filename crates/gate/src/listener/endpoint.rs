//! What the connections of a listener share.

use std::sync::Arc;

use tidegate_protocol::ws::policy::Policy;
use tidegate_protocol::ws::upgrade::UpgradeLimits;
use tidegate_protocol::{Codec, ForwardedHeader, Network, Topic, ws};

use super::{ListenErrorKind, Listener, Protocol};
use crate::limits::Limits;
use crate::proxy::Proxies;
use crate::tls::served::Served;

/// What the connections of one listener share.
pub(crate) struct Endpoint {
    pub(crate) name: Arc<str>,
    pub(crate) codec: Arc<dyn Codec>,
    /// The legacy cipher's name, where the codec is one.
    pub(crate) cipher: Option<&'static str>,
    pub(crate) limits: Limits,
    pub(crate) v1_error_topic: Option<Topic>,
    pub(crate) protocol: Protocol,
    pub(crate) resume_over_plaintext: bool,
    pub(crate) ws: Option<WsEndpoint>,
    pub(crate) tls: Option<Arc<Served>>,
    pub(crate) proxies: Proxies,
}

pub(crate) struct WsEndpoint {
    pub(crate) policy: Policy,
    pub(crate) upgrade: UpgradeLimits,
    pub(crate) decode: ws::Limits,
}

impl Endpoint {
    pub(crate) fn network(&self) -> Network {
        match self.ws {
            Some(_) => Network::Ws,
            None => Network::Tcp,
        }
    }
}

impl Listener {
    /// What connections of this listener need to know, without a socket.
    pub(super) fn endpoint(self, default: &Limits) -> Result<Endpoint, ListenErrorKind> {
        let limits = self.limits.unwrap_or_else(|| default.clone());
        limits.check()?;
        if let Some(policy) = &self.ws {
            policy.validate()?;
        }
        self.socket.check(&self.address)?;
        if self.proxies.trusted.is_empty() {
            if self.proxies.protocol {
                return Err(ListenErrorKind::NobodyTrusted("proxy_protocol"));
            }
            if self.proxies.forwarded != ForwardedHeader::Off {
                return Err(ListenErrorKind::NobodyTrusted("forwarded"));
            }
        }
        let v1_error_topic = self.v1_error_topic.map(Topic::try_from).transpose()?;
        if v1_error_topic.as_ref().is_some_and(Topic::is_reserved) {
            return Err(ListenErrorKind::ReservedErrorTopic);
        }
        let name: Arc<str> = self.name.unwrap_or(self.address).into();
        let web = self.ws.is_some();
        let load = |tls| Served::load(name.clone(), tls, web);
        let tls = self.tls.map(load).transpose()?;
        let ws = self.ws.map(|policy| WsEndpoint {
            policy,
            upgrade: UpgradeLimits {
                max_head: limits.max_upgrade_size,
            },
            decode: ws::Limits {
                max_message: limits.max_packet_size,
                max_fragments: limits.max_fragments,
                text: self.text,
            },
        });
        Ok(Endpoint {
            name,
            codec: self.codec,
            cipher: self.cipher,
            limits,
            v1_error_topic,
            protocol: self.protocol,
            resume_over_plaintext: self.resume_over_plaintext,
            ws,
            tls,
            proxies: self.proxies,
        })
    }
}
