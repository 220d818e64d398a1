//! The listeners that a configuration stands for.

use tidegate::{Tcp, WebSocket};

use super::model::listener::{TcpConfig, WebSocketConfig};

/// What both kinds of listeners have.
macro_rules! common {
    ($listener:expr, $config:expr) => {{
        let mut listener = $listener.limits($config.limits.limits());
        if let Some(name) = &$config.name {
            listener = listener.name(name.as_str());
        }
        if let Some(tls) = &$config.tls {
            listener = listener.tls(&tls.cert.0, &tls.key.0);
        }
        if let Some(topic) = &$config.v1_error_topic {
            listener = listener.v1_error_topic(topic.as_str());
        }
        listener
    }};
}

impl TcpConfig {
    pub(crate) fn listener(&self) -> Tcp {
        common!(Tcp::bind(self.address.as_str()), self)
    }
}

impl WebSocketConfig {
    /// `own` is a subprotocol that is agreed on where none of the configured ones is.
    pub(crate) fn listener(&self, own: Option<&str>) -> WebSocket {
        let listener = common!(WebSocket::bind(self.address.as_str()), self)
            .path(self.path.as_str())
            .subprotocols(
                self.subprotocols
                    .iter()
                    .map(|name| name.as_str())
                    .chain(own),
            );
        match self.origins.as_deref() {
            None => listener,
            Some([all]) if all.as_str() == "*" => listener.any_origin(),
            Some(list) => listener.origins(list.iter().map(|origin| origin.as_str())),
        }
    }
}
